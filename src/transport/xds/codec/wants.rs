//! What a client wants of one type, and the requests that say so, by the rules of the [xDS transport protocol] for both
//! variants: what is told on a stream, what of it was answered, and what the client says of a response.
//!
//! [xDS transport protocol]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol

use std::collections::{BTreeSet, HashMap};
use std::iter::Peekable;
use std::vec::IntoIter;

use bytestring::ByteString;
use meshbus_proto::google;
use meshbus_proto::xds::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::demand::{ALL, Interest};
use super::frame::framed;
use super::kinds::{Kind, kind_of};
use super::received::Received;
use super::response::Variant;
use super::waiting::Waiting;

/// Most bytes that a name takes beside itself in a request, and a version with its name.
const NAME_EXTRA: usize = 5;
const VERSION_EXTRA: usize = 15;

/// What is wanted of one type, for the time of one stream.
#[derive(Debug)]
pub struct Wants {
    type_url: ByteString,
    kind: Kind,
    /// By the settings.
    own: BTreeSet<ByteString>,
    /// Of those, what names begin with.
    prefixes: Vec<ByteString>,
    /// By what is there.
    followed: BTreeSet<ByteString>,
    /// What of that may have changed since a request told it.
    touched: BTreeSet<ByteString>,
    stream: OnStream,
}

/// What was said of it on a stream.
#[derive(Debug, Default)]
struct OnStream {
    /// All that the server knows to be wanted; `None` where it was told nothing.
    told: Option<BTreeSet<ByteString>>,
    /// What of it was answered.
    waiting: Waiting,
    /// Of the state of the world: the last response, and the last version that was taken.
    nonce: String,
    version: String,
}

/// A request, in the variant it was made for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// State of the world.
    Sotw(DiscoveryRequest),
    /// Incremental.
    Delta(DeltaDiscoveryRequest),
}

impl Wants {
    /// What settings want of a type: names, `ns/*`, or `*`.
    pub fn new(type_url: ByteString, own: impl IntoIterator<Item = ByteString>) -> Self {
        let own: BTreeSet<ByteString> = own.into_iter().collect();
        let prefix = |own: &ByteString| match Interest::of(own.to_string()) {
            Interest::Prefix(prefix) => Some(prefix),
            _ => None,
        };
        Self {
            kind: kind_of(&type_url),
            type_url,
            prefixes: own.iter().filter_map(prefix).collect(),
            own,
            followed: BTreeSet::new(),
            touched: BTreeSet::new(),
            stream: OnStream::default(),
        }
    }

    /// The type.
    pub fn type_url(&self) -> &ByteString {
        &self.type_url
    }

    /// Whether a response of the state of the world is all there is.
    pub fn is_whole(&self) -> bool {
        self.kind.whole
    }

    /// Wants a name that something refers to.
    pub fn follow(&mut self, name: ByteString) {
        if self.followed.insert(name.clone()) {
            self.touched.insert(name);
        }
    }

    /// Nothing refers to a name any more; whether it is wanted no more at all.
    pub fn unfollow(&mut self, name: &ByteString) -> bool {
        if self.followed.remove(name) {
            self.touched.insert(name.clone());
        }
        !self.wants(name)
    }

    /// Whether a resource of the name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.own.contains(ALL)
            || self.own.contains(name)
            || self.followed.contains(name)
            || self.prefixes.iter().any(|prefix| name.starts_with(&**prefix))
    }

    /// Whether anything is wanted.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.followed.is_empty()
    }

    /// Whether the server was told nothing of it.
    pub fn is_unasked(&self) -> bool {
        self.stream.told.is_none()
    }

    /// Whether what is wanted has changed since the last [`requests`](Self::requests).
    pub fn has_changed(&self) -> bool {
        !self.touched.is_empty() || self.is_unasked() && !self.is_empty()
    }

    /// What was asked for and is not answered yet.
    pub fn waiting(&self) -> &Waiting {
        &self.stream.waiting
    }

    /// Nothing more came in time: what has not come is not there.
    pub fn rest(&mut self) {
        self.stream.waiting.rest();
    }

    /// About how long the first request would be with these versions.
    pub fn len_with(&self, known: &HashMap<String, String>) -> usize {
        let names: usize = self.wanted().iter().map(|name| name.len() + NAME_EXTRA).sum();
        let entry = |(name, version): (&String, &String)| name.len() + version.len() + VERSION_EXTRA;
        names + known.iter().map(entry).sum::<usize>()
    }

    /// The requests that tell what has changed of what is wanted; none where nothing has. Incremental ones are not much
    /// longer than `max` bytes, beside the versions: subscriptions add up.
    ///
    /// `known` are the versions of what is there, which an incremental request tells where it is the first on a stream.
    pub fn requests(
        &mut self,
        variant: Variant,
        known: HashMap<String, String>,
        max: usize,
    ) -> Vec<Request> {
        let touched = std::mem::take(&mut self.touched);
        let first = self.stream.told.is_none();
        let (added, dropped) = self.difference(touched);
        // Nothing at all may mean all.
        if added.is_empty() && dropped.is_empty() {
            return Vec::new();
        }
        let waiting = &mut self.stream.waiting;
        for name in &dropped {
            waiting.forget(name);
        }
        if variant == Variant::Sotw {
            waiting.ask(&added);
            return vec![Request::Sotw(self.sotw())];
        }
        let (mut added, mut dropped) = (added.into_iter().peekable(), dropped.into_iter().peekable());
        let texts = |names: &[ByteString]| names.iter().map(ToString::to_string).collect();
        let mut requests = Vec::new();
        while added.peek().is_some() || dropped.peek().is_some() {
            let mut room = max;
            let subscribe = fitting(&mut added, &mut room);
            waiting.ask(&subscribe);
            requests.push(DeltaDiscoveryRequest {
                type_url: self.type_url.to_string(),
                resource_names_subscribe: texts(&subscribe),
                resource_names_unsubscribe: texts(&fitting(&mut dropped, &mut room)),
                ..DeltaDiscoveryRequest::default()
            });
        }
        if let Some(request) = requests.first_mut().filter(|_| first) {
            for name in known.keys() {
                // The server says nothing of what has not changed.
                waiting.forget(name);
            }
            request.initial_resource_versions = known;
        }
        requests.into_iter().map(Request::Delta).collect()
    }

    /// What is to be told as wanted, and as wanted no more; from now on it is told.
    fn difference(&mut self, touched: BTreeSet<ByteString>) -> (Vec<ByteString>, Vec<ByteString>) {
        let Some(told) = &mut self.stream.told else {
            let wanted = self.wanted();
            // First what is wanted by patterns, which the first request has to name.
            let (mut added, names): (Vec<_>, Vec<_>) =
                wanted.iter().cloned().partition(|name| self.own.contains(name));
            added.extend(names);
            self.stream.told = (!wanted.is_empty()).then_some(wanted);
            return (added, Vec::new());
        };
        let (mut added, mut dropped) = (Vec::new(), Vec::new());
        let all = self.own.contains(ALL);
        for name in touched {
            let wanted = self.own.contains(&name) || !all && self.followed.contains(&name);
            if wanted && told.insert(name.clone()) {
                added.push(name);
            } else if !wanted && told.remove(&name) {
                dropped.push(name);
            }
        }
        (added, dropped)
    }

    /// Notes what a response answers.
    pub fn heard(&mut self, variant: Variant, received: &Received) {
        self.stream.nonce.clone_from(&received.nonce);
        self.stream.waiting.heard(variant, self.kind.whole, received);
    }

    /// What is said of the last response: that it was taken, or by `error` what of it was not.
    pub fn answer(
        &mut self,
        variant: Variant,
        received: &Received,
        error: Option<google::Status>,
    ) -> Request {
        match variant {
            Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: self.type_url.to_string(),
                response_nonce: received.nonce.clone(),
                error_detail: error,
                ..DeltaDiscoveryRequest::default()
            }),
            Variant::Sotw => {
                if error.is_none() {
                    self.stream.version.clone_from(&received.version);
                }
                let response_nonce = received.nonce.clone();
                Request::Sotw(DiscoveryRequest { response_nonce, error_detail: error, ..self.sotw() })
            }
        }
    }

    fn sotw(&self) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: self.type_url.to_string(),
            resource_names: self.told(),
            version_info: self.stream.version.clone(),
            response_nonce: self.stream.nonce.clone(),
            ..DiscoveryRequest::default()
        }
    }

    /// All that is wanted; what something refers to is not named beside all.
    fn wanted(&self) -> BTreeSet<ByteString> {
        let mut wanted = self.own.clone();
        if !wanted.contains(ALL) {
            wanted.extend(self.followed.iter().cloned());
        }
        wanted
    }

    /// The names of a request of the state of the world: all that was told, where all of some types is told by no name.
    fn told(&self) -> Vec<String> {
        let Some(told) = &self.stream.told else { return Vec::new() };
        if self.kind.legacy_wildcard && told.len() == 1 && told.contains(ALL) {
            return Vec::new();
        }
        told.iter().map(ToString::to_string).collect()
    }
}

impl Request {
    /// The type it is about.
    pub fn type_url(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.type_url,
            Self::Delta(request) => &request.type_url,
        }
    }

    /// As it stands on the wire, with the node where it is the first of a stream.
    pub fn frame(self, node: Option<&meshbus_proto::xds::Node>) -> bytes::Bytes {
        match self {
            Self::Sotw(request) => framed(&DiscoveryRequest { node: node.cloned(), ..request }),
            Self::Delta(request) => framed(&DeltaDiscoveryRequest { node: node.cloned(), ..request }),
        }
    }
}

/// Takes names for one request, until its room is used up.
fn fitting(names: &mut Peekable<IntoIter<ByteString>>, room: &mut usize) -> Vec<ByteString> {
    let mut taken = Vec::new();
    while *room > 0
        && let Some(name) = names.next()
    {
        *room = room.saturating_sub(name.len() + NAME_EXTRA);
        taken.push(name);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{CLUSTER, ENDPOINTS};
    use super::super::received::Found;
    use super::super::waiting::Answered;
    use super::*;

    const MAX: usize = 1 << 20;

    fn wants(type_url: &'static str, names: &[&'static str]) -> Wants {
        let names = names.iter().map(|name| ByteString::from_static(name));
        Wants::new(ByteString::from_static(type_url), names)
    }

    fn delta(wants: &mut Wants, known: &[(&str, &str)]) -> Option<DeltaDiscoveryRequest> {
        let known = known.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect();
        match wants.requests(Variant::Delta, known, MAX).pop() {
            Some(Request::Delta(request)) => Some(request),
            None => None,
            Some(Request::Sotw(_)) => panic!("of the other variant"),
        }
    }

    fn sotw(wants: &mut Wants) -> Option<DiscoveryRequest> {
        match wants.requests(Variant::Sotw, HashMap::new(), MAX).pop() {
            Some(Request::Sotw(request)) => Some(request),
            None => None,
            Some(Request::Delta(_)) => panic!("of the other variant"),
        }
    }

    fn response(nonce: &str, names: &[&str]) -> Received {
        let found = |name: &&str| Found { name: (*name).to_owned().into(), version: None, data: "".into() };
        Received {
            nonce: nonce.into(),
            version: format!("v{nonce}"),
            found: names.iter().map(found).collect(),
            ..Received::default()
        }
    }

    #[test]
    fn incremental_requests_tell_the_difference_and_versions_once() {
        let mut wants = wants(ENDPOINTS, &["a"]);
        wants.follow("b".into());
        let first = delta(&mut wants, &[("a", "1")]).unwrap();
        assert_eq!(first.resource_names_subscribe, ["a", "b"]);
        assert_eq!(first.initial_resource_versions.len(), 1);
        assert!(!wants.has_changed() && delta(&mut wants, &[]).is_none());
        wants.follow("c".into());
        assert!(wants.unfollow(&"b".into()), "wanted no more");
        let second = delta(&mut wants, &[("a", "1")]).unwrap();
        assert_eq!(second.resource_names_subscribe, ["c"]);
        assert_eq!(second.resource_names_unsubscribe, ["b"]);
        assert!(second.initial_resource_versions.is_empty());
    }

    #[test]
    fn the_state_of_the_world_is_asked_for_by_a_whole_list() {
        let mut wants = wants(ENDPOINTS, &["a"]);
        assert_eq!(sotw(&mut wants).unwrap().resource_names, ["a"]);
        wants.heard(Variant::Sotw, &response("1", &["a"]));
        let Request::Sotw(answer) = wants.answer(Variant::Sotw, &response("1", &["a"]), None) else {
            panic!()
        };
        assert_eq!((&*answer.version_info, &*answer.response_nonce), ("v1", "1"));
        wants.follow("b".into());
        let more = sotw(&mut wants).unwrap();
        assert_eq!(more.resource_names, ["a", "b"]);
        assert_eq!((&*more.version_info, &*more.response_nonce), ("v1", "1"));
    }

    #[test]
    fn a_refusal_tells_the_version_that_was_taken_last() {
        let mut wants = wants(CLUSTER, &["*"]);
        assert!(sotw(&mut wants).unwrap().resource_names.is_empty(), "all clusters have no name");
        wants.answer(Variant::Sotw, &response("1", &[]), None);
        let error = Some(google::Status { code: 3, message: "bad".into(), details: vec![] });
        let Request::Sotw(answer) = wants.answer(Variant::Sotw, &response("2", &[]), error.clone()) else {
            panic!()
        };
        assert_eq!((&*answer.version_info, &*answer.response_nonce), ("v1", "2"));
        assert_eq!(answer.error_detail, error);
    }

    #[test]
    fn nothing_is_asked_for_where_nothing_would_mean_all() {
        for variant in [Variant::Sotw, Variant::Delta] {
            let mut wants = wants(CLUSTER, &[]);
            assert_eq!(wants.requests(variant, HashMap::new(), MAX), []);
            assert!(wants.is_unasked());
            wants.follow("a".into());
            assert_eq!(wants.requests(variant, HashMap::new(), MAX).len(), 1);
            wants.unfollow(&"a".into());
            // Named once, no names mean none.
            assert_eq!(wants.requests(variant, HashMap::new(), MAX).len(), 1);
        }
    }

    #[test]
    fn what_is_referred_to_is_not_named_beside_all() {
        let mut wants = wants(CLUSTER, &["*"]);
        wants.follow("a".into());
        assert_eq!(delta(&mut wants, &[]).unwrap().resource_names_subscribe, ["*"]);
        assert!(!wants.unfollow(&"a".into()), "all are wanted");
        assert_eq!(delta(&mut wants, &[]), None);
    }

    #[test]
    fn all_that_begins_so_is_wanted_by_a_prefix() {
        let wants = wants("apps/v1/Deployment", &["web/*", "x/y"]);
        assert!(wants.wants("web/a") && wants.wants("x/y"));
        assert!(!wants.wants("webs/a") && !wants.wants("x/z"));
    }

    #[test]
    fn what_was_asked_for_is_waited_for_until_it_is_answered() {
        let mut whole = wants(CLUSTER, &["a", "b"]);
        sotw(&mut whole);
        whole.heard(Variant::Sotw, &response("1", &["a"]));
        assert_eq!(whole.waiting().answered(), Answered::Whole, "what is absent does not exist");
        whole.follow("c".into());
        sotw(&mut whole);
        whole.heard(Variant::Sotw, &response("2", &["a"]));
        assert_eq!(whole.waiting().answered(), Answered::Perhaps, "it may have been sent before");
        whole.rest();
        assert_eq!(whole.waiting().answered(), Answered::Whole);

        let mut all = wants(CLUSTER, &["*", "d"]);
        delta(&mut all, &[("d", "1")]);
        assert_eq!(all.waiting().answered(), Answered::Partly);
        all.heard(Variant::Delta, &response("1", &[]));
        assert_eq!(all.waiting().answered(), Answered::Perhaps, "what is known may go unanswered");
    }

    #[test]
    fn what_is_let_go_is_not_waited_for() {
        let mut wants = wants(ENDPOINTS, &[]);
        wants.follow("a".into());
        delta(&mut wants, &[]);
        wants.unfollow(&"a".into());
        delta(&mut wants, &[]);
        assert_eq!(wants.waiting().answered(), Answered::Whole);
    }

    #[test]
    fn names_are_told_by_several_requests_where_one_would_be_too_long() {
        let names = ["eeeeeeeeee", "dddddddddd", "cccccccccc", "x/*"];
        let mut wants = wants(ENDPOINTS, &names);
        wants.follow("bbbbbbbbbb".into());
        wants.follow("aaaaaaaaaa".into());
        let known = HashMap::from([("dddddddddd".to_owned(), "1".to_owned())]);
        assert!((6 * 10..200).contains(&wants.len_with(&known)));
        let told = |requests: Vec<Request>| {
            let delta = |request| match request {
                Request::Delta(request) => request,
                Request::Sotw(_) => panic!("of the other variant"),
            };
            requests.into_iter().map(delta).collect::<Vec<_>>()
        };
        let first = told(wants.requests(Variant::Delta, known, 30));
        let asked: Vec<_> =
            first.iter().map(|request| request.resource_names_subscribe.join(" ")).collect();
        assert_eq!(asked, ["cccccccccc dddddddddd", "eeeeeeeeee x/* aaaaaaaaaa", "bbbbbbbbbb"]);
        let versions: Vec<_> =
            first.iter().map(|request| request.initial_resource_versions.len()).collect();
        assert_eq!(versions, [1, 0, 0], "only the first request may tell some");
        wants.unfollow(&"aaaaaaaaaa".into());
        wants.unfollow(&"bbbbbbbbbb".into());
        wants.follow("ffffffffff".into());
        let next = told(wants.requests(Variant::Delta, HashMap::new(), 15));
        let dropped: Vec<_> =
            next.iter().map(|request| request.resource_names_unsubscribe.join(" ")).collect();
        assert_eq!(dropped, ["", "aaaaaaaaaa", "bbbbbbbbbb"]);
        let mut whole = self::wants(ENDPOINTS, &names);
        assert_eq!(whole.requests(Variant::Sotw, HashMap::new(), 15).len(), 1, "one has to name all");
    }
}
