//! Objects of a cluster as envelopes: key, topic, identity and attributes.
//!
//! The identity of a change is `<cluster>/<uid>/<resourceVersion>/<put or delete>`: whoever reads the same cluster
//! gives the same change the same `source` and `id`, however often and from wherever it is read.

use bytestring::ByteString;

use super::event_attributes::{About, EventAttributes};
use super::received::Received;
use crate::core::envelope::{Cause, Change, Envelope, Extensions, Key};
use crate::core::error::DecodeError;
use crate::core::topic::Topic;
use crate::schema::address::topic_of;

/// What all objects of one watch have in common.
#[derive(Clone, Debug)]
pub struct Describing {
    /// Whose state it is.
    pub scope: ByteString,
    /// The type of the keys.
    pub type_url: ByteString,
    /// What names the cluster: the uid of its namespace `kube-system`.
    pub cluster: ByteString,
    /// `apps/v1`
    pub api_version: ByteString,
    /// `Deployment`
    pub kind: ByteString,
    /// `deployments`
    pub plural: String,
    /// Whether types and paths are those that Knative's `ApiServerSource` gives.
    pub knative: bool,
}

/// What was known of an object before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Its uid.
    pub uid: ByteString,
    /// Its version.
    pub version: ByteString,
    /// Of an Event, how often it had happened.
    pub count: i32,
}

impl Describing {
    /// The name of an object's key.
    pub fn name(namespace: &str, name: &str) -> ByteString {
        format!("{namespace}/{name}").into()
    }

    /// The key of that name.
    pub fn key(&self, name: &ByteString) -> Key {
        Key::new(self.scope.clone(), self.type_url.clone(), name.clone())
    }

    /// An object that is there.
    ///
    /// # Errors
    /// Where its name is none that a topic can spell.
    pub fn put(&self, object: &Received, before: Option<&Before>) -> Result<Envelope, DecodeError> {
        let name = Self::name(&object.namespace, &object.name);
        let mut envelope = self.envelope(&name, &object.uid, &object.version, "put")?;
        envelope.change = Change::Put(self.key(&name), object.version.clone().into());
        if self.knative {
            let word = if before.is_some() { "update" } else { "add" };
            envelope.kind = format!("dev.knative.apiserver.resource.{word}").into();
        }
        Self::fill(&mut envelope, object, before);
        Ok(envelope)
    }

    /// An object that is gone: as it was when it went, with the version of its deletion.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(
        &self,
        object: &Received,
        before: Option<&Before>,
        cause: Cause,
    ) -> Result<Envelope, DecodeError> {
        let name = Self::name(&object.namespace, &object.name);
        let mut envelope = self.gone(&name, &object.uid, &object.version, cause)?;
        Self::fill(&mut envelope, object, before);
        Ok(envelope)
    }

    /// An object that is gone and of which no more is known than this; the bus adds its last data.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn gone(
        &self,
        name: &ByteString,
        uid: &str,
        version: &str,
        cause: Cause,
    ) -> Result<Envelope, DecodeError> {
        let mut envelope = self.envelope(name, uid, version, "delete")?;
        envelope.change = Change::Delete(self.key(name), version.into(), cause);
        if self.knative {
            envelope.kind = ByteString::from_static("dev.knative.apiserver.resource.delete");
        }
        Ok(envelope)
    }

    /// What stands in the table for an object of which no more is known than its identity.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn trace(&self, name: &ByteString, before: &Before) -> Result<Envelope, DecodeError> {
        let mut envelope = self.envelope(name, &before.uid, &before.version, "put")?;
        envelope.change = Change::Put(self.key(name), before.version.clone());
        let (namespace, object) = name.split_once('/').unwrap_or(("", name));
        let mut metadata = serde_json::json!({"name": object, "uid": &*before.uid,
            "resourceVersion": &*before.version});
        if let (Some(fields), false) = (metadata.as_object_mut(), namespace.is_empty()) {
            fields.insert("namespace".to_owned(), namespace.into());
        }
        let object = serde_json::json!({"apiVersion": &*self.api_version, "kind": &*self.kind,
            "metadata": metadata});
        envelope.data = object.to_string().into();
        envelope.datacontenttype = Some(ByteString::from_static("application/json"));
        Ok(envelope)
    }

    /// An event that tells how many changes of Events about one object were held back before this one.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn suppressed(&self, object: &Received, held_back: u64) -> Result<Envelope, DecodeError> {
        const KIND: &str = "dev.meshbus.events.suppressed.v1";
        let topic = Topic::from_tokens(["events", KIND]).map_err(|it| DecodeError::new(it.to_string()))?;
        let id = format!("{}/{}/{}/suppressed", self.cluster, object.uid, object.version);
        let mut envelope = Envelope::event(topic, id, self.source(), KIND);
        envelope.subject = Some(self.path(&object.namespace, &object.name).into());
        envelope.time.clone_from(&object.time);
        let Some(event) = &object.event else { return Ok(envelope) };
        let About { api_version, kind, namespace, name, uid } = &event.about;
        let about = serde_json::json!({"apiVersion": api_version, "kind": kind, "namespace": namespace,
            "name": name, "uid": uid});
        envelope.data = serde_json::json!({"count": held_back, "involvedObject": about}).to_string().into();
        envelope.datacontenttype = Some(ByteString::from_static("application/json"));
        let extensions = &mut envelope.extensions;
        set(extensions, "involvedkind", kind);
        set(extensions, "involvedname", name);
        set(extensions, "involvednamespace", namespace);
        let count = i32::try_from(held_back).unwrap_or(i32::MAX);
        extensions.set(ByteString::from_static("eventcount"), count);
        Ok(envelope)
    }

    fn envelope(
        &self,
        name: &ByteString,
        uid: &str,
        version: &str,
        change: &str,
    ) -> Result<Envelope, DecodeError> {
        let topic = topic_of(&self.key(name)).map_err(DecodeError::new)?;
        let id = format!("{}/{uid}/{version}/{change}", self.cluster);
        let mut envelope = Envelope::event(topic, id, self.source(), "");
        let (namespace, object) = name.split_once('/').unwrap_or(("", name));
        envelope.subject = Some(self.path(namespace, object).into());
        name_object(&mut envelope.extensions, &self.api_version, &self.kind, (namespace, object));
        Ok(envelope)
    }

    fn fill(envelope: &mut Envelope, object: &Received, before: Option<&Before>) {
        envelope.time.clone_from(&object.time);
        envelope.data = object.data.clone();
        envelope.datacontenttype = Some(ByteString::from_static("application/json"));
        let Some(event) = &object.event else { return };
        let known = before.filter(|before| *before.uid == *object.uid).map_or(0, |before| before.count);
        describe_event(&mut envelope.extensions, event, known);
    }

    fn source(&self) -> String {
        format!("//{}{}", self.cluster, self.group_path())
    }

    /// `/apis/apps/v1`, `/api/v1`; Knative has `/apis/v1` for the core group.
    fn group_path(&self) -> String {
        let root = if self.api_version.contains('/') || self.knative { "apis" } else { "api" };
        format!("/{root}/{}", self.api_version)
    }

    fn path(&self, namespace: &str, name: &str) -> String {
        let group = self.group_path();
        if namespace.is_empty() {
            format!("{group}/{}/{name}", self.plural)
        } else {
            format!("{group}/namespaces/{namespace}/{}/{name}", self.plural)
        }
    }
}

/// The attributes that say which object it is, by its namespace and name.
pub fn name_object(
    extensions: &mut Extensions,
    api_version: &ByteString,
    kind: &ByteString,
    (namespace, name): (&str, &str),
) {
    extensions.reserve(4);
    for (attribute, text) in [("apiversion", api_version), ("kind", kind)] {
        if !text.is_empty() {
            extensions.set(ByteString::from_static(attribute), text.clone());
        }
    }
    set(extensions, "name", name);
    set(extensions, "namespace", namespace);
}

/// The attributes that say what an Event is about; `known` is how often it had happened before.
pub fn describe_event(extensions: &mut Extensions, event: &EventAttributes, known: i32) {
    extensions.reserve(7);
    set(extensions, "reason", &event.reason);
    set(extensions, "eventtype", &event.kind);
    extensions.set(ByteString::from_static("eventcount"), event.count);
    extensions.set(ByteString::from_static("eventdelta"), event.count.saturating_sub(known).max(0));
    set(extensions, "involvedkind", &event.about.kind);
    set(extensions, "involvedname", &event.about.name);
    set(extensions, "involvednamespace", &event.about.namespace);
}

/// An attribute, where there is something to say.
fn set(extensions: &mut Extensions, name: &'static str, text: &str) {
    if !text.is_empty() {
        extensions.set(ByteString::from_static(name), ByteString::from(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describing() -> Describing {
        Describing {
            scope: "east".into(),
            type_url: "core/v1/Event".into(),
            cluster: "c-1".into(),
            api_version: "v1".into(),
            kind: "Event".into(),
            plural: "events".into(),
            knative: false,
        }
    }

    fn event(count: i32) -> Received {
        let about =
            About { kind: "Pod".into(), name: "p".into(), namespace: "web".into(), ..About::default() };
        Received {
            namespace: "web".into(),
            name: "e".into(),
            uid: "u".into(),
            version: "7".into(),
            time: None,
            own: false,
            event: Some(EventAttributes {
                reason: "BackOff".into(),
                kind: "Warning".into(),
                count,
                time: None,
                about,
            }),
            data: "{}".into(),
        }
    }

    #[test]
    fn b1_a_change_has_the_same_id_wherever_it_is_read() {
        let put = describing().put(&event(1), None).unwrap();
        assert_eq!((&*put.id, &*put.source), ("c-1/u/7/put", "//c-1/api/v1"));
        assert_eq!(put.subject.as_deref(), Some("/api/v1/namespaces/web/events/e"));
        assert_eq!(put.topic.as_str(), "k8s/east/core/v1/Event/web/e");
        put.validate().unwrap();
        let knative = Describing { knative: true, ..describing() };
        let put = knative.put(&event(1), None).unwrap();
        assert_eq!(put.subject.as_deref(), Some("/apis/v1/namespaces/web/events/e"));
        assert_eq!(&*put.kind, "dev.knative.apiserver.resource.add");
        let again = knative.put(&event(1), Some(&Before::default())).unwrap();
        assert_eq!(&*again.kind, "dev.knative.apiserver.resource.update");
    }

    #[test]
    fn b4_a_repeated_event_tells_its_count_and_what_is_new_of_it() {
        let before = Before { uid: "u".into(), version: "6".into(), count: 3 };
        let put = describing().put(&event(5), Some(&before)).unwrap();
        let attribute = |name: &str| put.attribute(name).unwrap().to_string();
        assert_eq!((attribute("eventcount"), attribute("eventdelta")), ("5".into(), "2".into()));
        assert_eq!((attribute("reason"), attribute("involvedname")), ("BackOff".into(), "p".into()));
        let other = Before { uid: "other".into(), ..before };
        let put = describing().put(&event(5), Some(&other)).unwrap();
        assert_eq!(put.attribute("eventdelta").unwrap(), "5");
    }

    #[test]
    fn a_trace_is_an_object_with_its_identity_only() {
        let before = Before { uid: "u".into(), version: "6".into(), count: 0 };
        let trace = describing().trace(&"web/e".into(), &before).unwrap();
        assert_eq!(
            trace.data,
            r#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"e","uid":"u","resourceVersion":"6","namespace":"web"}}"#
        );
    }
}
