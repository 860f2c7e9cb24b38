//! How the clients of this server stand, by client status discovery (CSDS), and for who debugs as istio's tools do.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::google::{Any, Timestamp};
use meshbus_proto::status::{
    ClientConfig, ClientResourceStatus, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
    GenericXdsConfig, NodeMatcher, StringMatcher, StringPattern, UpdateFailureState,
};
use prost::Message;

use super::Shared;
use super::caller::Caller;
use super::item::name_of;
use super::roster::{Board, Known, Standing};
use crate::core::state::{Held, Snapshot, version_of};
use crate::core::{Key, Record};
use crate::transport::xds::codec::demand::Interest;
use crate::transport::xds::codec::frame::framed;
use crate::transport::xds::codec::kinds::is_secret;
use crate::transport::xds::codec::status::{Code, Status};

pub(super) mod debug;

/// Most resources told in a response.
const RESOURCES_MAX: usize = 10_000;

/// A call of client status discovery.
#[derive(Debug)]
pub(super) struct Clients {
    shared: Arc<Shared>,
    caller: Caller,
}

impl Clients {
    /// # Errors
    /// `PERMISSION_DENIED` for who may not look into the bus.
    pub(super) fn new(shared: Arc<Shared>, caller: Caller) -> Result<Self, Status> {
        caller.check_admin()?;
        Ok(Self { shared, caller })
    }

    /// Answers a request, in a frame.
    ///
    /// # Errors
    /// For what is no request, and for conditions that are not supported.
    pub(super) fn answer(&mut self, bytes: Bytes) -> Result<Bytes, Status> {
        let invalid = |text: String| Status::new(Code::InvalidArgument, text);
        let request = ClientStatusRequest::decode(bytes)
            .map_err(|error| invalid(format!("the request cannot be decoded: {error}")))?;
        if request.node_matchers.iter().any(|matcher| !is_supported(matcher)) {
            let text = "of node_matchers only node_id is supported: exact, prefix, suffix or contains";
            return Err(invalid(text.to_owned()));
        }
        self.caller.renew(&self.shared.bus);
        self.caller.check_admin()?;
        let snapshot = self.shared.bus.snapshot();
        let bytes = if request.exclude_resource_contents { 0 } else { self.shared.config.response_max() };
        let mut room = Room { bytes, resources: RESOURCES_MAX };
        let boards = self.shared.roster.all().into_iter();
        let wanted = boards.filter(|board| {
            request.node_matchers.is_empty()
                || request.node_matchers.iter().any(|matcher| matches(matcher, &board.node.id))
        });
        let mut config = Vec::new();
        for board in wanted {
            if room.resources == 0 || config.len() >= RESOURCES_MAX {
                let text = format!("more than {RESOURCES_MAX} resources of clients: ask by node_matchers");
                return Err(Status::new(Code::ResourceExhausted, text));
            }
            config.push(self::config(&self.caller, &board, &snapshot, &mut room));
        }
        Ok(framed(&ClientStatusResponse { config }))
    }
}

/// What a response may still hold.
pub(super) struct Room {
    /// Of messages.
    pub(super) bytes: usize,
    pub(super) resources: usize,
}

fn config(caller: &Caller, board: &Board, snapshot: &Snapshot, room: &mut Room) -> ClientConfig {
    ClientConfig {
        node: Some(board.node.clone()),
        generic_xds_configs: resources(caller, board, snapshot, room),
        client_scope: board.id.to_string(),
    }
}

/// How a client stands to what it wants: messages of resources as long as there is `room` for their bytes.
fn resources(
    caller: &Caller,
    board: &Board,
    snapshot: &Snapshot,
    room: &mut Room,
) -> Vec<GenericXdsConfig> {
    let mut configs = Vec::new();
    for (type_url, known) in board.types() {
        for interest in known.interests.iter() {
            let left = room.resources;
            if left == 0 {
                return configs;
            }
            look_up(&board.scope, &type_url, interest, (snapshot, left), |found| {
                room.resources -= 1;
                configs.push(resource(caller, &type_url, &known, found, &mut room.bytes));
            });
        }
    }
    configs
}

fn look_up(
    scope: &ByteString,
    type_url: &ByteString,
    interest: &Interest,
    (snapshot, most): (&Snapshot, usize),
    mut found: impl FnMut(Result<Arc<Record>, &ByteString>),
) {
    let key = |name: &ByteString| Key::new(scope.clone(), type_url.clone(), name.clone());
    let (after, prefix) = match interest {
        Interest::Name(name) => return found(snapshot.get(&key(name)).ok_or(name)),
        Interest::All => (None, None),
        Interest::Prefix(prefix) => (Some(key(prefix)), Some(prefix)),
    };
    snapshot
        .range(Some(scope), Some(type_url), after.as_ref())
        .map(Held::record)
        .take_while(|record| prefix.is_none_or(|prefix| name_of(record).starts_with(&**prefix)))
        .take(most)
        .for_each(|record| found(Ok(record)));
}

fn resource(
    caller: &Caller,
    type_url: &ByteString,
    known: &Known,
    found: Result<Arc<Record>, &ByteString>,
    room: &mut usize,
) -> GenericXdsConfig {
    let record = match found {
        Ok(record) => record,
        Err(name) => {
            return GenericXdsConfig {
                type_url: type_url.to_string(),
                name: name.to_string(),
                config_status: ConfigStatus::NotSent as i32,
                client_status: ClientResourceStatus::DoesNotExist as i32,
                ..GenericXdsConfig::default()
            };
        }
    };
    let name = name_of(&record);
    let standing = &known.standing;
    let refused = standing
        .refused
        .as_ref()
        .and_then(|refused| Some((refused, refused.names.iter().find(|(refused, _)| refused == name)?)));
    let (config_status, client_status) = match standing {
        _ if refused.is_some() => (ConfigStatus::Error, ClientResourceStatus::Nacked),
        Standing { sent: 0, .. } => (ConfigStatus::NotSent, ClientResourceStatus::Requested),
        Standing { sent, accepted, .. } if accepted == sent => {
            (ConfigStatus::Synced, ClientResourceStatus::Acked)
        }
        _ => (ConfigStatus::Stale, ClientResourceStatus::Requested),
    };
    let data = &record.envelope.data;
    let shown = data.len() <= *room && !is_secret(type_url) && caller.may_see(&record.envelope.topic);
    if shown {
        *room -= data.len();
    }
    GenericXdsConfig {
        type_url: type_url.to_string(),
        name: name.to_string(),
        version_info: version_of(&record).to_string(),
        xds_config: shown.then(|| Any { type_url: type_url.to_string(), value: data.clone() }),
        last_updated: record.envelope.time.as_ref().map(|time| timestamp(time.unix_nanos())),
        config_status: config_status as i32,
        client_status: client_status as i32,
        error_state: refused.map(|(refused, (_, version))| UpdateFailureState {
            details: refused.message.clone(),
            version_info: version.to_string(),
        }),
    }
}

fn timestamp(nanos: i128) -> Timestamp {
    const SECOND: i128 = 1_000_000_000;
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default();
    let nanos = i32::try_from(nanos.rem_euclid(SECOND)).unwrap_or_default();
    Timestamp { seconds, nanos }
}

fn is_supported(matcher: &NodeMatcher) -> bool {
    let pattern = matcher.node_id.as_ref().map(|id| &id.pattern);
    matcher.node_metadatas.is_empty() && pattern.is_none_or(Option::is_some)
}

fn matches(matcher: &NodeMatcher, id: &str) -> bool {
    let Some(StringMatcher { pattern: Some(pattern), ignore_case }) = &matcher.node_id else { return true };
    let cased = |text: &str| if *ignore_case { text.to_lowercase() } else { text.to_owned() };
    let id = cased(id);
    match pattern {
        StringPattern::Exact(text) => id == cased(text),
        StringPattern::Prefix(text) => id.starts_with(&cased(text)),
        StringPattern::Suffix(text) => id.ends_with(&cased(text)),
        StringPattern::Contains(text) => id.contains(&cased(text)),
    }
}
