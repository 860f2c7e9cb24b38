//! Who is connected and what they refuse, as state of the bus: a `Connection` for each stream, put before its first
//! response where few connect at a time and deleted at its end, and an Event about it when it refuses resources. What it
//! accepts is told of each type at once the first time, later now and then.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use meshbus_proto::google::{self, Kind, Struct, Value as ProtoValue};
use meshbus_proto::xds::{DiscoveryRequest, Node, UserAgentVersion};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;

use super::of_type::OfType;
use crate::core::{Envelope, Key, Timestamp, Topic, uuid};
use crate::schema::own;
use crate::transport::xds::codec::response::{Variant, nonce_text};
use crate::transport::xds::codec::status::Code;
use crate::transport::xds::server::Shared;
use crate::transport::xds::server::feed::Feed;
use crate::transport::xds::server::roster::Board;

/// Most bytes of a node's metadata that are shown.
const METADATA_MAX: usize = 16 << 10;
/// Most resources named in a refusal.
const NAMED_MAX: usize = 16;

/// The state of one stream on the bus.
pub(super) struct Presence {
    shared: Arc<Shared>,
    id: String,
    peer: SocketAddr,
    variant: Variant,
    /// What does not change; from the first request on.
    spec: Option<Value>,
    board: Option<Arc<Board>>,
    events: Vec<Envelope>,
    /// Whether it is to be told again.
    changed: bool,
    /// When it was told last.
    told: Option<Instant>,
    /// When it is to be told what the client has accepted since.
    due: Option<Instant>,
}

impl Presence {
    pub(super) fn new(shared: &Arc<Shared>, peer: SocketAddr, variant: Variant) -> Self {
        Self {
            shared: Arc::clone(shared),
            id: uuid::timed(),
            peer,
            variant,
            spec: None,
            board: None,
            events: Vec::new(),
            changed: false,
            told: None,
            due: None,
        }
    }

    /// The client has said who it is.
    pub(super) fn met(&mut self, node: &Node, feed: &Feed, principal: Option<&ByteString>) {
        let locality = node
            .locality
            .as_ref()
            .map(|place| json!({"region": place.region, "zone": place.zone, "subZone": place.sub_zone}));
        let metadata =
            node.metadata.as_ref().map(json_of).filter(|json| json.to_string().len() <= METADATA_MAX);
        let version = match &node.user_agent_version {
            Some(UserAgentVersion::Text(text)) => text.clone(),
            Some(UserAgentVersion::Build(build)) => build
                .version
                .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
                .unwrap_or_default(),
            None => String::new(),
        };
        self.spec = Some(json!({
            "transport": "xds",
            "connector": &**self.shared.bus.connector(),
            "variant": match self.variant { Variant::Sotw => "sotw", Variant::Delta => "delta" },
            "address": self.peer.to_string(),
            "principal": principal.map(|name| &**name),
            "scope": &**feed.scope(),
            "node": node.id,
            "cluster": node.cluster,
            "agent": format!("{} {version}", node.user_agent_name).trim(),
            "locality": locality,
            "metadata": metadata,
            "clientFeatures": node.client_features,
            "connectedAt": Timestamp::now().text().to_string(),
        }));
        let board = Board::new(&self.id, node.clone(), feed.scope().clone(), self.peer);
        self.shared.rings.connected(&board.id, node);
        self.board = Some(self.shared.roster.add(board));
        self.changed = true;
    }

    /// The client refuses a response about a type.
    pub(super) fn refused(&mut self, node: &Node, type_url: &str, of: &OfType) {
        let Some(refusal) = of.standing.lock().refused.clone() else { return };
        info!(
            peer = %self.peer, node = node.id, type_url, nonce = refusal.nonce, resources = refusal.names.len(),
            reason = refusal.message, "resources refused"
        );
        if Self::is_told_of(type_url) {
            return;
        }
        self.changed = true;
        self.shared.rings.refused(&DiscoveryRequest {
            node: Some(Node { id: node.id.clone(), ..Node::default() }),
            type_url: type_url.to_owned(),
            resource_names: refusal
                .names
                .iter()
                .take(NAMED_MAX)
                .map(|(name, _)| name.to_string())
                .collect(),
            response_nonce: nonce_text(refusal.nonce),
            error_detail: Some(google::Status {
                code: Code::InvalidArgument as i32,
                message: refusal.message.clone(),
                details: Vec::new(),
            }),
            ..DiscoveryRequest::default()
        });
        let message = format!("node {:?} refuses {type_url}: {}", node.id, refusal.message);
        let about = self.key();
        let warning = own::Warning { reason: "Refused", message: &message };
        let held = self.shared.bus.get(&own::event_key(&about, warning.reason));
        let held = held.as_ref().map(|record| &*record.envelope.data);
        self.events.extend(own::event(self.shared.bus.name(), &about, warning, held, Timestamp::now()));
    }

    /// The client wants something else of a type.
    pub(super) fn wants(&self, type_url: &ByteString, of: &OfType) {
        if let Some(board) = &self.board {
            board.wants(type_url, &of.demand, &of.standing);
        }
    }

    /// The client accepts what it had refused of a type.
    pub(super) fn recovered(&mut self, type_url: &str) {
        self.changed |= !Self::is_told_of(type_url);
    }

    /// Whether the client's answers about a type would be told under it: who answers those, too, would go on for ever.
    fn is_told_of(type_url: &str) -> bool {
        matches!(type_url, own::CONNECTION | own::EVENT)
    }

    /// The client accepts a response about a type; `first`: it has accepted none of that type before.
    pub(super) fn accepted(&mut self, type_url: &str, first: bool) {
        // Whoever follows connections would be told of each answer, and answer that.
        if type_url == own::CONNECTION {
            return;
        }
        if first {
            self.changed = true;
        } else if let Some(told) = self.told.filter(|_| self.due.is_none()) {
            self.due = Some(told + self.shared.config.status_interval.0);
        }
    }

    /// When there is something to tell though nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Tells the bus what has changed.
    pub(super) async fn tell(&mut self, types: &HashMap<ByteString, OfType>) {
        let due = self.due.is_some_and(|due| due <= Instant::now());
        if !std::mem::take(&mut self.changed) && !due {
            return;
        }
        self.due = None;
        let (Some(spec), Some(topic)) = (&self.spec, self.topic()) else { return };
        let data = json!({"spec": spec, "status": status(types)});
        let mut batch = vec![own::put(topic, self.key(), &data, Timestamp::now())];
        batch.append(&mut self.events);
        self.told = Some(Instant::now());
        self.shared.roll.tell(batch).await;
    }

    fn key(&self) -> Key {
        own::key("Connection", self.id.clone())
    }

    fn topic(&self) -> Option<Topic> {
        own::connection_topic("xds", &self.id).ok()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(board) = &self.board {
            self.shared.roster.remove(board);
            self.shared.rings.disconnected(&board.id, &board.node);
        }
        if let Some(topic) = self.topic().filter(|_| self.told.is_some()) {
            self.shared.roll.leave(own::delete(topic, self.key()));
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("id", &self.id).finish_non_exhaustive()
    }
}

fn status(types: &HashMap<ByteString, OfType>) -> Value {
    let mut types: Vec<_> = types.iter().collect();
    types.sort_by_key(|(type_url, _)| (*type_url).clone());
    let refused: Vec<&str> = types
        .iter()
        .filter(|(_, of)| of.standing.lock().refused.is_some())
        .map(|(type_url, _)| type_url.rsplit(['/', '.']).next().unwrap_or_default())
        .collect();
    let of_types: Vec<Value> = types.iter().map(|(type_url, of)| type_status(type_url, of)).collect();
    json!({"refused": refused.join(","), "types": of_types})
}

fn type_status(type_url: &str, of: &OfType) -> Value {
    let nonce = |n: u32| (n > 0).then(|| nonce_text(n));
    let standing = of.standing.lock();
    let refused = standing.refused.as_ref().map(|refusal| {
        let names = refusal.names.iter().take(NAMED_MAX);
        let named: Vec<_> =
            names.map(|(name, version)| json!({"name": &**name, "version": &**version})).collect();
        json!({"nonce": nonce_text(refusal.nonce), "message": refusal.message, "resources": named, "count": refusal.names.len()})
    });
    json!({
        "type": type_url,
        "sent": nonce(standing.sent),
        "accepted": nonce(standing.accepted),
        "refused": refused,
    })
}

fn json_of(fields: &Struct) -> Value {
    Value::Object(fields.fields.iter().map(|(name, value)| (name.clone(), json_value(value))).collect())
}

fn json_value(value: &ProtoValue) -> Value {
    match &value.kind {
        None | Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Number(number)) => json!(number),
        Some(Kind::String(text)) => json!(text),
        Some(Kind::Bool(bool)) => json!(bool),
        Some(Kind::Struct(fields)) => json_of(fields),
        Some(Kind::List(list)) => Value::Array(list.values.iter().map(json_value).collect()),
    }
}
