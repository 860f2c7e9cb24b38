//! The bus's own things as state: their keys, and Events about them as Kubernetes has those. Pure.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::{Value, json};

use super::address::topic_of;
use super::kinds::OWN;
use crate::core::topic::InvalidTopic;
use crate::core::{Cause, Envelope, Key, Timestamp, Topic, uuid};

/// The type of connections to servers of the bus.
pub const CONNECTION: &str = "meshbus.dev/v1/Connection";
/// The type of Events.
pub const EVENT: &str = "core/v1/Event";
/// The namespace of Events about what has none.
const NAMESPACE: &str = "default";

/// What an Event says.
#[derive(Clone, Copy, Debug)]
pub struct Warning<'a> {
    /// In one word, as programs compare it.
    pub reason: &'a str,
    /// For people.
    pub message: &'a str,
}

/// The key of one of the bus's own things.
pub fn key(kind: &str, name: impl Into<ByteString>) -> Key {
    Key::new(Key::LOCAL, format!("{OWN}/{kind}"), name)
}

/// The topic of a connection to a server of the bus.
///
/// # Errors
/// For an identity that no topic spells.
pub fn connection_topic(transport: &str, id: &str) -> Result<Topic, InvalidTopic> {
    Topic::from_tokens(["bus", "connections", transport, id])
}

/// The topic of a connection to a server outside the bus, as that tells it to the connector whose scope this is.
///
/// # Errors
/// For an identity that no topic spells.
pub fn foreign_connection_topic(transport: &str, scope: &str, id: &str) -> Result<Topic, InvalidTopic> {
    Topic::from_tokens(["bus", "connections", transport, scope, id])
}

/// The state of a key as JSON.
pub fn put(topic: Topic, key: Key, data: &Value, now: Timestamp) -> Envelope {
    let mut envelope = Envelope::put(topic, key, "", Bytes::from(data.to_string()));
    envelope.datacontenttype = Some(ByteString::from_static("application/json"));
    envelope.time = Some(now);
    envelope
}

/// The end of a key.
pub fn delete(topic: Topic, key: Key) -> Envelope {
    Envelope::delete(topic, key, "", Cause::Deleted)
}

/// The key of the Event about a thing: one for each reason, which counts.
pub fn event_key(about: &Key, reason: &str) -> Key {
    Key::new(Key::LOCAL, EVENT, format!("{NAMESPACE}/{}.{}", about.name, reason.to_lowercase()))
}

/// The Event about a thing, counted on from the one that is held under its key. `None` only for a name that no topic
/// spells.
pub fn event(
    bus: &str,
    about: &Key,
    warning: Warning<'_>,
    held: Option<&[u8]>,
    now: Timestamp,
) -> Option<Envelope> {
    let key = event_key(about, warning.reason);
    let held: Option<Value> = held.and_then(|held| serde_json::from_slice(held).ok());
    let count = held.as_ref().and_then(|held| held.get("count")?.as_u64()).unwrap_or(0) + 1;
    let time = now.text().to_string();
    let kept = |name: &str| held.as_ref().and_then(|held| held.get(name).cloned());
    let name = key.name.split_once('/').map_or(&*key.name, |(_, name)| name);
    let uid = || uuid::of(&[&key.to_string(), &time]);
    let metadata = kept("metadata").unwrap_or_else(
        || json!({"name": name, "namespace": NAMESPACE, "uid": uid(), "creationTimestamp": time}),
    );
    let kind = about.type_url.rsplit('/').next().unwrap_or_default();
    let data = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": metadata,
        "involvedObject": {"apiVersion": OWN, "kind": kind, "name": &*about.name, "namespace": ""},
        "reason": warning.reason,
        "message": warning.message,
        "type": "Warning",
        "count": count,
        "firstTimestamp": kept("firstTimestamp").unwrap_or_else(|| json!(time)),
        "lastTimestamp": time,
        "source": {"component": "meshbus"},
        "reportingComponent": "meshbus.dev/bus",
        "reportingInstance": bus,
    });
    let topic = topic_of(&key).ok()?;
    Some(put(topic, key, &data, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_of_the_type_that_says_so() {
        assert_eq!(*key("Connection", "1").type_url, *CONNECTION);
    }

    #[test]
    fn an_event_about_the_same_counts_on_and_keeps_its_first_time() {
        let (about, warning) = (key("Route", "r"), Warning { reason: "Failed", message: "no" });
        let first =
            event("bus", &about, warning, None, Timestamp::parse("2026-01-01T00:00:00Z").unwrap()).unwrap();
        let later = Timestamp::parse("2026-01-02T00:00:00Z").unwrap();
        let second = event("bus", &about, warning, Some(&first.data), later).unwrap();
        let read = |envelope: &Envelope| serde_json::from_slice::<Value>(&envelope.data).unwrap();
        let (first, second) = (read(&first), read(&second));
        assert_eq!((&first["count"], &second["count"]), (&json!(1), &json!(2)));
        assert_eq!(first["metadata"], second["metadata"]);
        assert_eq!(second["firstTimestamp"], json!("2026-01-01T00:00:00Z"));
        assert_eq!(second["lastTimestamp"], json!("2026-01-02T00:00:00Z"));
    }
}
