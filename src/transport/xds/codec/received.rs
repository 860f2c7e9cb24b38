//! Responses as a client reads them: of both variants the same, each resource with its name, and what is wrong with those
//! that cannot be taken.

use std::fmt::Write as _;

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::{HashMap, HashSet};
use meshbus_proto::google::{self, Any};
use meshbus_proto::xds::{DeltaDiscoveryResponse, DiscoveryResponse, Resource, ResourceError};
use prost::Message;

use super::demand::{ALL, Interest};
use super::mcp;
use super::named::{is_object, name_of};
use super::response::Variant;
use super::status::{Code, Status};
use crate::core::DecodeError;
use crate::schema::protobuf::Descriptors;

/// What wraps a resource of the state of the world, for clients that say that they read it.
pub const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";
/// Most bytes of what a refusal says.
const REFUSAL_MAX: usize = 2048;

/// A response.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The type.
    pub type_url: ByteString,
    /// By which the client's answer names it.
    pub nonce: String,
    /// Of the whole.
    pub version: String,
    /// What there is.
    pub found: Vec<Found>,
    /// Names of what is still there as it was: signs of life without content.
    pub alive: Vec<ByteString>,
    /// Names of what is gone, or never was.
    pub removed: Vec<ByteString>,
    /// Names that the server says why it has nothing for.
    pub errors: Vec<(ByteString, Status)>,
    /// What cannot be taken.
    pub faults: Vec<Fault>,
    /// How much of the first answer to a type was told with this.
    pub mark: Option<Mark>,
}

/// The end of the first answer to a type, by a server that tells it: a resource that is named as all are, without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// There may be more, since the server is not filled yet itself. A second mark will follow.
    More,
    /// That was all there was at the position that is its version.
    All,
}

/// A resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: ByteString,
    /// Its version; `None` where the server gives none.
    pub version: Option<ByteString>,
    /// Its bytes: a part of those of the response.
    pub data: Bytes,
}

/// A resource that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name; `None` where it has none that can be read.
    pub name: Option<ByteString>,
    /// What is wrong with it.
    pub reason: String,
}

impl Received {
    /// Reads a response, in which messages are what `types` say.
    ///
    /// # Errors
    /// It is no response at all; the stream cannot go on.
    pub fn read(variant: Variant, message: Bytes, types: &Descriptors) -> Result<Self, DecodeError> {
        let wrong = |error: prost::DecodeError| DecodeError::new(format!("no response: {error}"));
        let mut reading = match variant {
            Variant::Sotw => Reading::sotw(DiscoveryResponse::decode(message).map_err(wrong)?, types),
            Variant::Delta => {
                Reading::delta(DeltaDiscoveryResponse::decode(message).map_err(wrong)?, types)
            }
        };
        reading.refuse_repeated();
        Ok(reading.received)
    }

    /// What an answer to it needs: type, nonce and version.
    #[must_use]
    pub fn summary(&self) -> Self {
        Self {
            type_url: self.type_url.clone(),
            nonce: self.nonce.clone(),
            version: self.version.clone(),
            ..Self::default()
        }
    }

    /// Names of all that it says is there, taken or not.
    pub fn present(&self) -> impl Iterator<Item = &ByteString> {
        let faulty = self.faults.iter().filter_map(|fault| fault.name.as_ref());
        self.found.iter().map(|found| &found.name).chain(&self.alive).chain(faulty)
    }

    /// Names of all that it says anything of.
    pub fn mentioned(&self) -> impl Iterator<Item = &ByteString> {
        self.present().chain(&self.removed).chain(self.errors.iter().map(|(name, _)| name))
    }

    /// Whether what it does not mention is absent, where it is all there is: not while something in it could not even be
    /// named, or the server says why it cannot tell what there is.
    pub fn tells_absence(&self) -> bool {
        let nameless = self.faults.iter().any(|fault| fault.name.is_none());
        !nameless && !self.unseen().any(|name| Interest::is_pattern(name))
    }

    /// Names of what may be there but is not shown now.
    pub fn unseen(&self) -> impl Iterator<Item = &ByteString> {
        let errors = self.errors.iter().filter(|(_, status)| status.code != Code::NotFound);
        errors.map(|(name, _)| name)
    }
}

/// The error that refuses resources, each by its name; `None` where none is refused.
pub fn refusal(faults: &[Fault]) -> Option<google::Status> {
    let mut message = String::new();
    for (at, fault) in faults.iter().enumerate() {
        let name = fault.name.as_ref().map_or("a resource without a name", |name| &**name);
        let line = format!("{name}: {}", fault.reason);
        if message.len() + line.len() > REFUSAL_MAX && at > 0 {
            // Writing to a string does not fail.
            let _infallible = write!(message, "; and {} more", faults.len() - at);
            break;
        }
        if at > 0 {
            message.push_str("; ");
        }
        message.push_str(line.get(..line.floor_char_boundary(REFUSAL_MAX)).unwrap_or_default());
    }
    let code = Code::InvalidArgument as i32;
    (!faults.is_empty()).then(|| google::Status { code, message, details: Vec::new() })
}

struct Reading<'a> {
    received: Received,
    types: &'a Descriptors,
}

impl<'a> Reading<'a> {
    fn sotw(response: DiscoveryResponse, types: &'a Descriptors) -> Self {
        let received = Received {
            type_url: response.type_url.into(),
            nonce: response.nonce,
            version: response.version_info,
            errors: errors(response.resource_errors),
            ..Received::default()
        };
        let mut reading = Self { received, types };
        for any in response.resources {
            reading.add_any(any);
        }
        reading
    }

    fn delta(response: DeltaDiscoveryResponse, types: &'a Descriptors) -> Self {
        let located = response.removed_resource_names.into_iter().map(|name| name.name);
        let removed = response.removed_resources.into_iter().chain(located);
        let received = Received {
            type_url: response.type_url.into(),
            nonce: response.nonce,
            version: response.system_version_info,
            removed: removed.map(Into::into).collect(),
            errors: errors(response.resource_errors),
            ..Received::default()
        };
        let mut reading = Self { received, types };
        for resource in response.resources {
            reading.add_resource(resource);
        }
        reading
    }

    fn add_any(&mut self, any: Any) {
        if any.type_url == WRAPPER && *self.received.type_url != *WRAPPER {
            match Resource::decode(any.value) {
                Ok(resource) => self.add_resource(resource),
                Err(error) => self.fault(None, format!("is no Resource: {error}")),
            }
            return;
        }
        if self.is_mcp(&any) {
            match mcp::object(self.types, &self.received.type_url, any.value) {
                Ok(found) => self.received.found.push(found),
                Err(fault) => self.received.faults.push(fault),
            }
            return;
        }
        match self.checked(&any).and_then(|()| name_of(&any.type_url, &any.value)) {
            Ok(name) => {
                let name = ByteString::from(name);
                self.received.found.push(Found { name, version: None, data: any.value });
            }
            Err(reason) => {
                let name = name_of(&self.received.type_url, &any.value).ok().map(ByteString::from);
                self.fault(name, reason);
            }
        }
    }

    fn add_resource(&mut self, resource: Resource) {
        let located = resource.resource_name.map(|name| name.name).unwrap_or_default();
        let mut name = if resource.name.is_empty() { located } else { resource.name };
        let Some(any) = resource.resource else {
            match &*name {
                "" => self.fault(None, "has neither name nor content".to_owned()),
                ALL => {
                    let more = resource.version.is_empty();
                    self.received.mark = Some(if more { Mark::More } else { Mark::All });
                }
                _ => self.received.alive.push(name.into()),
            }
            return;
        };
        if self.is_mcp(&any) {
            return self.add_mcp(name, resource.version, any.value);
        }
        if name.is_empty() {
            name = match name_of(&self.received.type_url, &any.value) {
                Ok(name) => name,
                Err(reason) => return self.fault(None, reason),
            };
        }
        let name = ByteString::from(name);
        if let Err(reason) = self.checked(&any) {
            return self.fault(Some(name), reason);
        }
        let version = (!resource.version.is_empty()).then(|| resource.version.into());
        self.received.found.push(Found { name, version, data: any.value });
    }

    /// Whether it is an object as istio's configuration servers tell it.
    fn is_mcp(&self, any: &Any) -> bool {
        any.type_url == mcp::RESOURCE && is_object(&self.received.type_url)
    }

    /// What the response says of the object goes before what is within.
    fn add_mcp(&mut self, name: String, version: String, message: Bytes) {
        let named = (!name.is_empty()).then(|| ByteString::from(name));
        match mcp::object(self.types, &self.received.type_url, message) {
            Ok(found) if named.as_ref().is_some_and(|name| *name != found.name) => {
                self.fault(named, format!("holds {}: an object has one name", found.name));
            }
            Ok(found) => {
                let given = (!version.is_empty()).then(|| version.into());
                self.received.found.push(Found { version: given.or(found.version), ..found });
            }
            Err(Fault { name, reason }) => self.fault(named.or(name), reason),
        }
    }

    /// Whether it is what the response is about.
    fn checked(&self, any: &Any) -> Result<(), String> {
        if *any.type_url != *self.received.type_url {
            return Err(format!("is a {}", any.type_url));
        }
        if is_object(&any.type_url) {
            let object = serde_json::from_slice::<&serde_json::value::RawValue>(&any.value);
            let object = object.map_err(|error| format!("is no JSON: {error}"))?;
            return if object.get().starts_with('{') {
                Ok(())
            } else {
                Err("is no JSON object".to_owned())
            };
        }
        self.types.check(&any.type_url, &any.value).map_err(|reason| format!("cannot be decoded: {reason}"))
    }

    fn fault(&mut self, name: Option<ByteString>, reason: String) {
        self.received.faults.push(Fault { name, reason });
    }

    /// Of what comes twice, or is there and gone in one response, nobody knows which is meant.
    fn refuse_repeated(&mut self) {
        let received = &mut self.received;
        let mut times: HashMap<ByteString, usize> = HashMap::with_capacity(received.found.len());
        for name in received.found.iter().map(|found| &found.name).chain(&received.removed) {
            *times.entry(name.clone()).or_default() += 1;
        }
        if times.len() == received.found.len() + received.removed.len() {
            return;
        }
        let found: HashSet<ByteString> = received.found.iter().map(|found| found.name.clone()).collect();
        times.retain(|name, times| *times > 1 && found.contains(name));
        received.found.retain(|found| !times.contains_key(&found.name));
        received.removed.retain(|name| !times.contains_key(name));
        let mut repeated: Vec<ByteString> = times.into_keys().collect();
        repeated.sort_unstable();
        for name in repeated {
            self.fault(Some(name), "comes more than once in one response".to_owned());
        }
    }
}

fn errors(errors: Vec<ResourceError>) -> Vec<(ByteString, Status)> {
    let error = |error: ResourceError| {
        let status = error.error_detail.unwrap_or_default();
        let status = Status::new(Code::of(status.code), status.message);
        (error.resource_name.unwrap_or_default().name.into(), status)
    };
    errors.into_iter().map(error).collect()
}

#[cfg(test)]
mod tests {
    use meshbus_proto::xds::ResourceName;
    use proptest::prelude::*;
    use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

    use super::super::kinds::{CLUSTER, ENDPOINTS};
    use super::*;

    fn any_of(type_url: &str, value: &[u8]) -> Any {
        Any { type_url: type_url.into(), value: value.to_vec().into() }
    }

    fn resource(name: &str, version: &str, value: &[u8]) -> Resource {
        let resource = Some(any_of(CLUSTER, value));
        Resource { name: name.into(), version: version.into(), resource, ..Resource::default() }
    }

    /// What makes bytes no message of the type.
    const CUT: &[u8] = b"\x12\x7f";

    /// Of the types here, clusters are known.
    fn types() -> Descriptors {
        let message = DescriptorProto { name: Some("Cluster".to_owned()), ..DescriptorProto::default() };
        let file = FileDescriptorProto {
            name: Some("cluster.proto".to_owned()),
            package: Some("envoy.config.cluster.v3".to_owned()),
            message_type: vec![message],
            ..FileDescriptorProto::default()
        };
        let set = FileDescriptorSet { file: vec![file] };
        (*Descriptors::with(&[set.encode_to_vec()]).unwrap()).clone()
    }

    fn delta(response: DeltaDiscoveryResponse) -> Received {
        let response = DeltaDiscoveryResponse { type_url: CLUSTER.into(), ..response };
        Received::read(Variant::Delta, response.encode_to_vec().into(), &types()).unwrap()
    }

    fn sotw(resources: Vec<Any>) -> Received {
        let response = DiscoveryResponse { type_url: CLUSTER.into(), resources, ..Default::default() };
        Received::read(Variant::Sotw, response.encode_to_vec().into(), &types()).unwrap()
    }

    fn names(received: &Received) -> Vec<&str> {
        received.found.iter().map(|found| &*found.name).collect()
    }

    fn faults(received: &Received) -> Vec<(Option<&str>, &str)> {
        received.faults.iter().map(|fault| (fault.name.as_deref(), fault.reason.as_str())).collect()
    }

    #[test]
    fn what_is_wrong_is_told_by_name_and_the_rest_is_taken() {
        let nameless = Resource { resource: Some(any_of(CLUSTER, b"")), ..Resource::default() };
        let other = Resource {
            resource: Some(any_of(ENDPOINTS, b"")),
            resource_name: Some(ResourceName { name: "d".into() }),
            ..Resource::default()
        };
        let resources = vec![resource("a", "1", b"\x0a\x01a"), resource("b", "", CUT), nameless, other];
        let received = delta(DeltaDiscoveryResponse { resources, ..Default::default() });
        assert_eq!(names(&received), ["a"]);
        let wrong = format!("is a {ENDPOINTS}");
        let (cut, others) = received.faults.split_first().unwrap();
        assert!(cut.reason.starts_with("cannot be decoded: "), "{cut:?}");
        assert_eq!((cut.name.as_deref(), others.len()), (Some("b"), 2));
        assert_eq!(faults(&received)[1..], [(None, "has no name"), (Some("d"), &*wrong)]);
        assert!(!received.tells_absence());
    }

    #[test]
    fn what_comes_twice_is_refused_and_what_is_gone_twice_is_gone() {
        let resources = vec![resource("a", "1", b""), resource("a", "2", b""), resource("b", "1", b"")];
        let removed_resources = vec!["b".into(), "c".into(), "c".into()];
        let received = delta(DeltaDiscoveryResponse { resources, removed_resources, ..Default::default() });
        assert_eq!((names(&received), &*received.removed), (vec![], &["c".into(), "c".into()][..]));
        let twice = "comes more than once in one response";
        assert_eq!(faults(&received), [(Some("a"), twice), (Some("b"), twice)]);
        assert!(received.tells_absence());
    }

    #[test]
    fn a_sign_of_life_has_no_content() {
        let alive = Resource { name: "a".into(), version: "1".into(), ..Resource::default() };
        let received =
            delta(DeltaDiscoveryResponse { resources: vec![alive.clone()], ..Default::default() });
        assert_eq!((&*received.alive, names(&received)), (&["a".into()][..], vec![]));
        let received = sotw(vec![any_of(WRAPPER, &alive.encode_to_vec())]);
        assert_eq!(received.present().collect::<Vec<_>>(), ["a"]);
        let nothing =
            delta(DeltaDiscoveryResponse { resources: vec![Resource::default()], ..Default::default() });
        assert_eq!(faults(&nothing), [(None, "has neither name nor content")]);
    }

    #[test]
    fn a_sign_of_life_of_all_is_the_end_of_an_answer() {
        for (version, mark) in [("7", Mark::All), ("", Mark::More)] {
            let all = Resource { name: ALL.into(), version: version.into(), ..Resource::default() };
            let received = delta(DeltaDiscoveryResponse { resources: vec![all], ..Default::default() });
            assert_eq!((received.mark, received.mentioned().count()), (Some(mark), 0));
        }
    }

    #[test]
    fn what_is_not_shown_is_not_known_to_be_absent() {
        let tells = |name: &str, code: i32| {
            let resource_errors = vec![ResourceError {
                resource_name: Some(ResourceName { name: name.into() }),
                error_detail: Some(google::Status { code, ..Default::default() }),
            }];
            delta(DeltaDiscoveryResponse { resource_errors, ..Default::default() }).tells_absence()
        };
        // 5 is NOT_FOUND, 7 PERMISSION_DENIED.
        assert!(tells("a", 7) && tells("*", 5) && !tells("*", 7) && !tells("a/*", 7));
    }

    #[test]
    fn in_the_state_of_the_world_a_resource_stands_alone_or_wrapped() {
        let wrapped = resource("named", "7", b"\x0a\x01w").encode_to_vec();
        let received =
            sotw(vec![any_of(CLUSTER, b"\x0a\x01a"), any_of(WRAPPER, &wrapped), any_of(WRAPPER, b"\xff")]);
        assert_eq!(names(&received), ["a", "named"]);
        let versions: Vec<_> = received.found.iter().map(|found| found.version.as_deref()).collect();
        assert_eq!(versions, [None, Some("7")]);
        assert_eq!(received.faults.len(), 1);
        assert!(!received.tells_absence());
    }

    #[test]
    fn an_object_of_kubernetes_has_to_be_json() {
        let type_url = "apps/v1/Deployment";
        let read = |value: &[u8]| {
            let resources = vec![any_of(type_url, value)];
            let response = DiscoveryResponse { type_url: type_url.into(), resources, ..Default::default() };
            Received::read(Variant::Sotw, response.encode_to_vec().into(), &types()).unwrap()
        };
        assert_eq!(names(&read(br#"{"metadata":{"name":"a","namespace":"n"}}"#)), ["n/a"]);
        assert_eq!(faults(&read(b"[]")), [(None, "is no JSON object")]);
        assert!(read(b"{").faults[0].reason.starts_with("is no JSON: "));
    }

    #[test]
    fn a_refusal_names_what_it_can_and_counts_the_rest() {
        assert_eq!(refusal(&[]), None);
        let fault = |name: &str| Fault { name: Some(name.to_owned().into()), reason: "is bad".into() };
        let few = refusal(&[fault("a"), Fault { name: None, reason: "x".into() }]).unwrap();
        assert_eq!((few.code, &*few.message), (3, "a: is bad; a resource without a name: x"));
        let many: Vec<_> = (0..1000).map(|n| fault(&format!("cluster-{n}"))).collect();
        let message = refusal(&many).unwrap().message;
        assert!(message.len() < REFUSAL_MAX + 100 && message.contains("; and 8"), "{message}");
        let long = refusal(&[fault(&"ä".repeat(5000))]).unwrap().message;
        assert!(long.len() <= REFUSAL_MAX, "{}", long.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            for variant in [Variant::Sotw, Variant::Delta] {
                if let Ok(received) = Received::read(variant, bytes.clone().into(), &types()) {
                    drop(refusal(&received.faults));
                }
            }
        }
    }
}
