//! The Update service: writes of state by who follows it.
//!
//! A write goes to the owner of its key, as one by HTTP does: the bus checks what must hold when it applies it, a
//! connector writes through to its source. Each name has a result of its own, so that one that is refused stops no other.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{StreamExt, stream};
use meshbus_proto::google;
use meshbus_proto::meshbus::{UpdateRequest, UpdateResponse, UpdateResult};
use meshbus_proto::xds::{Node, Resource};
use prost::Message;
use tracing::debug;

use self::refusal::refusal;
use super::Shared;
use super::caller::Caller;
use super::feeds::scope_of;
use crate::core::write::{Operation, Parameters, Precondition};
use crate::core::{Envelope, Key, Topic};
use crate::schema::kinds::proto_name;
use crate::schema::{address, aliases, protobuf, ttl};
use crate::transport::xds::codec::frame::framed;
use crate::transport::xds::codec::status::{Code, Status};

mod object;
mod refusal;

/// Most writes of a request that are under way at a time.
const IN_FLIGHT: usize = 16;

/// Most writes of a request: of short names, one of the longest requests could hold millions.
const WRITES_MAX: usize = 10_000;

/// The writes of one call.
#[derive(Debug)]
pub(super) struct Updates {
    shared: Arc<Shared>,
    caller: Caller,
    peer: SocketAddr,
    /// The key space that is written, from the first request on.
    scope: Option<ByteString>,
}

/// What all writes of a request have in common.
struct Batch {
    scope: ByteString,
    type_url: ByteString,
    expected: HashMap<String, String>,
    parameters: Parameters,
    dry_run: bool,
}

/// One write that may be carried out.
struct Planned {
    key: Key,
    operation: Operation,
    precondition: Precondition,
    parameters: Parameters,
    dry_run: bool,
}

impl Updates {
    pub(super) fn new(shared: Arc<Shared>, caller: Caller, peer: SocketAddr) -> Self {
        Self { shared, caller, peer, scope: None }
    }

    /// Carries out a request, and gives the response to it in its frame.
    ///
    /// # Errors
    /// The status with which the call ends: for what is no request or too many writes, and for a node without a key
    /// space.
    pub(super) async fn answer(&mut self, bytes: Bytes) -> Result<Bytes, Status> {
        let mut request = UpdateRequest::decode(bytes).map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the request cannot be decoded: {error}"))
        })?;
        let writes = request.resources.len() + request.removed_resources.len();
        if writes.max(request.expected_versions.len()) > WRITES_MAX {
            let text =
                format!("a request holds at most {WRITES_MAX} writes, this one {writes}: send several");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        // A call may be long, and the rules change meanwhile.
        self.caller.renew(&self.shared.bus);
        let scope = self.meet(request.node.take())?;
        let nonce = std::mem::take(&mut request.nonce);
        let shared = Arc::clone(&self.shared);
        let writes = stream::iter(self.plan(scope, request))
            .map(move |(name, planned)| carry_out(Arc::clone(&shared), name, planned));
        let results: Vec<UpdateResult> = writes.buffered(IN_FLIGHT).collect().await;
        Ok(framed(&UpdateResponse { nonce, results }))
    }

    /// Takes the node of the first request; the key space it writes.
    fn meet(&mut self, node: Option<Node>) -> Result<ByteString, Status> {
        if let Some(scope) = &self.scope {
            return Ok(scope.clone());
        }
        let node = node.unwrap_or_default();
        let scope = ByteString::from(scope_of(&self.shared, &node, self.caller.principal())?);
        debug!(peer = %self.peer, node = node.id, %scope, "writes");
        self.scope = Some(scope.clone());
        Ok(scope)
    }

    /// The writes of a request by name, in order, or why one cannot be.
    fn plan(&self, scope: ByteString, request: UpdateRequest) -> Vec<(String, Result<Planned, Status>)> {
        let mut parameters = Parameters::new();
        if !request.field_manager.is_empty() {
            let manager = ByteString::from(request.field_manager);
            parameters.push((ByteString::from_static("fieldManager"), manager));
        }
        let batch = Batch {
            scope,
            type_url: request.type_url.into(),
            expected: request.expected_versions,
            parameters,
            dry_run: request.dry_run,
        };
        let puts = request.resources.into_iter().map(|mut resource| {
            let name = std::mem::take(&mut resource.name);
            (name, Some(resource))
        });
        let deletes = request.removed_resources.into_iter().map(|name| (name, None));
        let mut seen = HashSet::new();
        let mut all: Vec<_> = puts
            .chain(deletes)
            .map(|(name, resource)| {
                let planned = if seen.insert(name.clone()) {
                    self.planned(&batch, &name, resource)
                } else {
                    Err(invalid("the request names it twice: send one after the other"))
                };
                (name, planned)
            })
            .collect();
        let idle = batch.expected.into_keys().filter(|name| !seen.contains(name));
        all.extend(idle.map(|name| {
            let text = "expected_versions names it, but the request neither writes nor removes it";
            (name, Err(invalid(text)))
        }));
        all
    }

    fn planned(&self, batch: &Batch, name: &str, resource: Option<Resource>) -> Result<Planned, Status> {
        if batch.type_url.is_empty() {
            return Err(invalid("type_url is required"));
        }
        if name.is_empty() {
            return Err(invalid("a resource has a name"));
        }
        let key = Key::new(batch.scope.clone(), batch.type_url.clone(), name);
        let topic = match self.shared.bus.get(&key) {
            Some(record) => record.envelope.topic.clone(),
            None => address::topic_of(&key).map_err(|why| invalid(&why))?,
        };
        self.caller.check_write(&topic)?;
        let precondition = match batch.expected.get(name) {
            None => Precondition::Any,
            Some(version) if !version.is_empty() => Precondition::Version(version.as_str().into()),
            Some(_) if resource.is_none() => {
                return Err(invalid("is removed, but must not exist by expected_versions"));
            }
            Some(_) => Precondition::Absent,
        };
        let operation = match resource {
            None => Operation::Delete,
            Some(resource) => Operation::Put(Box::new(self.envelope(&key, topic, resource)?)),
        };
        let parameters = batch.parameters.clone();
        Ok(Planned { key, operation, precondition, parameters, dry_run: batch.dry_run })
    }

    /// What a resource becomes, checked as far as its type is known.
    fn envelope(&self, key: &Key, topic: Topic, resource: Resource) -> Result<Envelope, Status> {
        let body = resource.resource.ok_or_else(|| invalid("has no resource: its message is required"))?;
        if !body.type_url.is_empty() && body.type_url != *key.type_url {
            return Err(invalid(&format!("is of type {:?}, not of {:?}", body.type_url, &*key.type_url)));
        }
        let mut envelope = Envelope::event(topic, "", "", "");
        if let Some(ttl) = &resource.ttl {
            set_ttl(&mut envelope, ttl)?;
        }
        aliases::set(&mut envelope.extensions, &resource.aliases).map_err(|why| invalid(&why))?;
        if let Some(message) = proto_name(&key.type_url) {
            let checked = self.shared.kinds.descriptors().check(&key.type_url, &body.value);
            checked.map_err(|error| invalid(&format!("is no {message}: {error}")))?;
            envelope.datacontenttype = Some(protobuf::MEDIA_TYPE.into());
        } else if &*key.type_url != Key::VALUE {
            object::check(key, &body.value).map_err(|why| invalid(&why))?;
            envelope.datacontenttype = Some(ByteString::from_static("application/json"));
        }
        envelope.data = body.value;
        Ok(envelope)
    }
}

async fn carry_out(shared: Arc<Shared>, name: String, planned: Result<Planned, Status>) -> UpdateResult {
    let result = |version: String, status: Status| UpdateResult {
        name,
        version,
        status: Some(google::Status {
            code: status.code as i32,
            message: status.message,
            details: Vec::new(),
        }),
    };
    let planned = match planned {
        Ok(planned) => planned,
        Err(status) => return result(String::new(), status),
    };
    shared.stats.received.add(1);
    let Planned { key, operation, precondition, parameters, dry_run } = planned;
    let absent = precondition == Precondition::Absent;
    match shared.bus.write_with(key, operation, precondition, dry_run, parameters).await {
        Ok(stored) => result(stored.version.to_string(), Status::ok()),
        Err(refused) => {
            let (version, status) = refusal(&refused, absent);
            result(version.to_string(), status)
        }
    }
}

fn set_ttl(envelope: &mut Envelope, ttl: &google::Duration) -> Result<(), Status> {
    let (seconds, nanos) = (u64::try_from(ttl.seconds), u32::try_from(ttl.nanos));
    let (Ok(seconds), Ok(nanos @ 0..=999_999_999)) = (seconds, nanos) else {
        return Err(invalid(&format!("has a ttl of {}s and {}ns", ttl.seconds, ttl.nanos)));
    };
    ttl::set(&mut envelope.extensions, Duration::new(seconds, nanos)).map_err(|why| invalid(&why))
}

fn invalid(text: &str) -> Status {
    Status::new(Code::InvalidArgument, text)
}
