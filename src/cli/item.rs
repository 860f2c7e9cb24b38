//! One piece of state as the bus tells it: its key, version and place, and the row it is in a table.

use bytes::Bytes;
use serde_json::Value;

use super::event::decode;
use super::output;
use crate::core::{Envelope, Key, Topic};
use crate::schema::address::topic_of;
use crate::schema::kinds::proto_name;
use crate::schema::protobuf::Descriptors;

/// The columns of every table of state, and those that `wide` adds.
pub(super) const COLUMNS: [&str; 5] = ["NAME", "SCOPE", "VERSION", "SEQ", "AGE"];
pub(super) const WIDE: [&str; 3] = ["TYPE", "TOPIC", "SIZE"];

/// A key with its last change.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) version: String,
    pub(super) seq: String,
    pub(super) envelope: Envelope,
    /// The change as one line of JSON, as the bus wrote it.
    pub(super) json: Bytes,
}

impl Item {
    /// From the event that tells a change.
    pub(super) fn read(json: Bytes) -> Result<Self, String> {
        let envelope = decode(&json)?;
        let text = |name: &str| envelope.attribute(name).map(|text| text.to_string());
        let part = |name: &str| text(name).ok_or_else(|| format!("a change of state without {name}"));
        let key = Key::new(part("mbscope")?, part("resourcetype")?, part("resourcename")?);
        let version = text("resourceversion").unwrap_or_default();
        let seq = text("mbseq").unwrap_or_default();
        Ok(Self { key, version, seq, envelope, json })
    }

    /// Its cells.
    pub(super) fn row(&self, wide: bool) -> Vec<String> {
        let age =
            self.envelope.time.as_ref().map_or_else(|| "<unknown>".to_owned(), |time| age(time.elapsed()));
        let mut row = vec![
            self.key.name.to_string(),
            self.key.scope.to_string(),
            self.version.clone(),
            self.seq.clone(),
            age,
        ];
        if wide {
            let topic = match topic_of(&self.key) {
                Ok(topic) => topic.to_string(),
                Err(_) => self.own_topic().map_or_else(|| "<unknown>".to_owned(), ToString::to_string),
            };
            row.extend([self.key.type_url.to_string(), topic, self.envelope.data.len().to_string()]);
        }
        row
    }

    /// The topic the event itself tells, where it does.
    fn own_topic(&self) -> Option<&Topic> {
        self.envelope.extensions.get(super::event::TOPIC).map(|_| &self.envelope.topic)
    }

    /// As a JSON value; a protobuf message that this program knows is shown as its JSON.
    pub(super) fn value(&self) -> Result<Value, super::Failure> {
        let mut value: Value = serde_json::from_slice(&self.json)
            .map_err(|error| super::Failure::failed(format!("state: {error}")))?;
        if proto_name(&self.key.type_url).is_some()
            && let Some(event) = value.as_object_mut()
            && event.contains_key("data_base64")
        {
            let known = Descriptors::built_in();
            if known.knows(&self.key.type_url) {
                event.remove("data_base64");
                let shown = known.show(&self.key.type_url, &self.envelope.data);
                event.insert("data".to_owned(), shown.json);
            }
        }
        Ok(value)
    }
}

/// How messages name a key: `meshbus.dev/v1/Value alerts/x`.
pub(super) fn shown(key: &Key) -> String {
    let scope = if &*key.scope == Key::LOCAL { String::new() } else { format!(" in scope {}", key.scope) };
    output::shown(&format!("{} {}{scope}", key.type_url, key.name))
}

/// How old, in the two largest units that matter: `5s`, `3m20s`, `7h`, `12d`.
pub(super) fn age(age: std::time::Duration) -> String {
    let seconds = age.as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, 0..=1) => format!("{seconds}s"),
        (0, 0, minutes @ 2..=9) => format!("{minutes}m{}s", seconds % 60),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours @ 1..=7, minutes) => format!("{hours}h{}m", minutes % 60),
        (0 | 1, hours, _) => format!("{hours}h"),
        (days, ..) => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_age_is_told_as_kubectl_does() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (200, "3m20s"),
            (3599, "59m"),
            (3660, "1h1m"),
            (90_000, "25h"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_change_is_a_row() {
        let json = br#"{"specversion":"1.0","id":"1","source":"//meshbus/local","type":"dev.meshbus.resource.added.v1",
            "mbscope":"local","resourcetype":"meshbus.dev/v1/Value","resourcename":"a/b","resourceversion":"17","mbseq":"17","data":{"x":1}}"#;
        let item = Item::read(Bytes::from_static(json)).unwrap();
        assert_eq!(
            item.row(true),
            ["a/b", "local", "17", "17", "<unknown>", "meshbus.dev/v1/Value", "a/b", "7"]
        );
        assert!(Item::read(Bytes::from_static(b"{}")).is_err());
    }
}
