//! What an API server sends, read: lines of a watch, pages of a list, and objects cut to what the bus keeps of them.
//!
//! An object is never taken apart and put together again: its members are copied as they stand, `managedFields`
//! left out, behind `apiVersion` and `kind`, which items of lists lack. So a list and a watch give the same bytes.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::event_attributes::EventAttributes;
use crate::core::Timestamp;
use crate::core::error::DecodeError;

/// One line of a watch.
#[derive(Debug, serde::Deserialize)]
pub struct Line<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// The object, or the Status of an error.
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// One page of a list.
#[derive(Debug, serde::Deserialize)]
pub struct Page<'a> {
    /// What it says of itself.
    #[serde(borrow)]
    pub metadata: PageMetadata<'a>,
    /// The objects; some servers send `null` for none.
    #[serde(borrow, default)]
    pub items: Option<Vec<&'a RawValue>>,
}

/// The `metadata` of a list.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageMetadata<'a> {
    /// The position that the list shows.
    #[serde(borrow, default)]
    pub resource_version: Cow<'a, str>,
    /// Where the next page begins; empty at the end.
    #[serde(borrow, default, rename = "continue")]
    pub next: Cow<'a, str>,
}

/// How objects of a kind are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
    /// Whether they are Events.
    pub event: bool,
    /// Whether `managedFields` stay.
    pub managed_fields: bool,
    /// The field manager whose changes are our own.
    pub manager: String,
}

/// An object, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// `metadata.namespace`; empty for a cluster-scoped object.
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub version: String,
    /// When it was last changed, as far as it says.
    pub time: Option<Timestamp>,
    /// Whether the last change of it was made under our own field manager.
    pub own: bool,
    /// What an Event is about.
    pub event: Option<EventAttributes>,
    /// The object as JSON.
    pub data: Bytes,
}

/// Reads a page of a list.
///
/// # Errors
/// Where it is none.
pub fn page(text: &str) -> Result<Page<'_>, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError::new(format!("no list: {error}")))
}

/// Reads a line of a watch.
///
/// # Errors
/// Where it is none.
pub fn line(text: &str) -> Result<Line<'_>, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError::new(format!("no watch event: {error}")))
}

/// The position that an object states, also one that cannot be read as a whole: a bookmark's, say.
pub fn position(object: &RawValue) -> Option<String> {
    let members = Members::read(object).ok()?;
    let metadata = Members::read(members.get("metadata")?).ok()?;
    Some(metadata.text("resourceVersion")?.into_owned()).filter(|version| !version.is_empty())
}

/// Whether a bookmark ends the list that a watch begins with.
pub fn ends_list(bookmark: &RawValue) -> bool {
    let word = || {
        let members = Members::read(bookmark).ok()?;
        let metadata = Members::read(members.get("metadata")?).ok()?;
        Members::read(metadata.get("annotations")?)
            .ok()?
            .text("k8s.io/initial-events-end")
            .map(Cow::into_owned)
    };
    word().as_deref() == Some("true")
}

impl Received {
    /// Reads an object.
    ///
    /// # Errors
    /// Where it is none, or has no name, uid or resourceVersion.
    pub fn read(object: &RawValue, reading: &Reading) -> Result<Self, DecodeError> {
        let members = Members::read(object)?;
        let raw = members.get("metadata").ok_or_else(|| DecodeError::new("the object has no metadata"))?;
        let metadata = Members::read(raw)?;
        let required = |name: &str| {
            let text = metadata.text(name).filter(|text| !text.is_empty());
            text.map(Cow::into_owned)
                .ok_or_else(|| DecodeError::new(format!("the object has no metadata.{name}")))
        };
        let last = metadata.get("managedFields").and_then(LastWritten::read);
        let event = if reading.event { EventAttributes::read(object) } else { None };
        let created = metadata.text("deletionTimestamp").or_else(|| metadata.text("creationTimestamp"));
        let written = last.as_ref().and_then(|last| last.time.clone());
        let time = event.as_ref().and_then(|event| event.time.clone()).or(written);
        Ok(Self {
            name: required("name")?,
            uid: required("uid")?,
            version: required("resourceVersion")?,
            namespace: metadata.text("namespace").unwrap_or_default().into_owned(),
            time: time.or_else(|| Timestamp::parse(created?.into_owned()).ok()),
            own: last.is_some_and(|last| last.only(&reading.manager)),
            event,
            data: write(object.get().len(), &members, &metadata, reading),
        })
    }
}

/// Puts the members together again, without what is not kept.
fn write(room: usize, members: &Members<'_>, metadata: &Members<'_>, reading: &Reading) -> Bytes {
    let mut out = String::with_capacity(room + 64);
    out.push('{');
    push_text(&mut out, "apiVersion", &reading.api_version);
    push_text(&mut out, "kind", &reading.kind);
    for (name, value) in &members.0 {
        match &*name.0 {
            "apiVersion" | "kind" => {}
            "metadata" if !reading.managed_fields => {
                push_name(&mut out, "metadata");
                out.push('{');
                for (name, value) in metadata.0.iter().filter(|(name, _)| name.0 != "managedFields") {
                    push_name(&mut out, &name.0);
                    out.push_str(value.get());
                }
                out.push('}');
            }
            name => {
                push_name(&mut out, name);
                out.push_str(value.get());
            }
        }
    }
    out.push('}');
    Bytes::from(out)
}

fn push_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_json(out, name);
    out.push(':');
}

fn push_text(out: &mut String, name: &str, text: &str) {
    push_name(out, name);
    push_json(out, text);
}

fn push_json(out: &mut String, text: &str) {
    // A text is always JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Who changed an object last, as `managedFields` tell it: to the second.
struct LastWritten<'a> {
    time: Option<Timestamp>,
    /// Those whose change is the last, of which there may be several in one second.
    by: Vec<Cow<'a, str>>,
}

#[derive(serde::Deserialize)]
struct Managed<'a> {
    #[serde(borrow, default)]
    manager: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

impl<'a> LastWritten<'a> {
    fn read(raw: &'a RawValue) -> Option<Self> {
        let all: Vec<Managed<'a>> = serde_json::from_str(raw.get()).ok()?;
        // The server writes all in UTC and to the second: their text has the order of their time.
        let time = all.iter().map(|managed| managed.time.clone()).max()?;
        let last = all.into_iter().filter(|managed| managed.time == time).map(|managed| managed.manager);
        Some(Self { by: last.collect(), time: Timestamp::parse(time.into_owned()).ok() })
    }

    fn only(&self, manager: &str) -> bool {
        !self.by.is_empty() && self.by.iter().all(|by| by == manager)
    }
}

/// The members of an object in their order, values as they stand.
pub(super) struct Members<'a>(pub(super) Vec<(Text<'a>, &'a RawValue)>);

/// Text that is borrowed where it holds no escapes.
#[derive(PartialEq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'a> Members<'a> {
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, DecodeError> {
        serde_json::from_str(raw.get()).map_err(|error| DecodeError::new(format!("no object: {error}")))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(have, _)| have.0 == name).map(|(_, value)| *value)
    }

    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Text<'a>>(self.get(name)?.get()).ok().map(|text| text.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        Reading {
            api_version: "example.com/v1".into(),
            kind: "Widget".into(),
            event: false,
            managed_fields: false,
            manager: "meshbus".into(),
        }
    }

    fn read(text: &str) -> Result<Received, DecodeError> {
        Received::read(&RawValue::from_string(text.to_owned()).unwrap(), &reading())
    }

    #[test]
    fn a_list_and_a_watch_give_the_same_bytes() {
        let metadata = r#""metadata":{"name":"a","namespace":"d","uid":"u","resourceVersion":"7","managedFields":[{"manager":"x","time":"2026-01-01T00:00:00Z"}],"labels":{"a\"b":"c"}}"#;
        let rest = r#""spec":{"n":1.50,"big":12345678901234567890}"#;
        let item = read(&format!("{{{metadata},{rest}}}")).unwrap();
        let whole = format!(r#"{{"kind":"Widget","apiVersion":"example.com/v1",{metadata},{rest}}}"#);
        assert_eq!(item, read(&whole).unwrap());
        assert_eq!(
            item.data,
            r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","namespace":"d","uid":"u","resourceVersion":"7","labels":{"a\"b":"c"}},"spec":{"n":1.50,"big":12345678901234567890}}"#
        );
        assert_eq!(item.time.unwrap().text(), "2026-01-01T00:00:00Z");
        assert!(!item.own);
    }

    #[test]
    fn a_change_is_our_own_when_nobody_else_wrote_in_that_second() {
        let own = |managers: &str| {
            read(&format!(
                r#"{{"metadata":{{"name":"a","uid":"u","resourceVersion":"7","managedFields":[{managers}]}}}}"#
            ))
            .unwrap()
            .own
        };
        let entry = |manager: &str, second: u8| {
            format!(r#"{{"manager":"{manager}","time":"2026-01-01T00:00:0{second}Z"}}"#)
        };
        assert!(own(&[entry("kubectl", 1), entry("meshbus", 2)].join(",")));
        assert!(!own(&[entry("meshbus", 1), entry("kubectl", 2)].join(",")));
        assert!(!own(&[entry("meshbus", 2), entry("kubectl", 2)].join(",")));
        assert!(!own(""));
    }

    #[test]
    fn a_bookmark_ends_a_list_where_it_says_so() {
        let ends = |metadata: &str| {
            ends_list(&RawValue::from_string(format!(r#"{{"metadata":{metadata}}}"#)).unwrap())
        };
        assert!(ends(r#"{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}"#));
        assert!(!ends(r#"{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"false"}}"#));
        assert!(!ends(r#"{"resourceVersion":"7","annotations":null}"#) && !ends("{}") && !ends("7"));
    }

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        for (text, reason) in [
            ("[]", "no object"),
            ("{}", "no metadata"),
            (r#"{"metadata":{"uid":"u","resourceVersion":"1"}}"#, "metadata.name"),
            (r#"{"metadata":{"name":"","uid":"u","resourceVersion":"1"}}"#, "metadata.name"),
            (r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#, "metadata.uid"),
            (r#"{"metadata":{"name":"a","uid":"u"}}"#, "metadata.resourceVersion"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        assert!(line("{").is_err() && line("{}").is_err() && page("[]").is_err());
    }

    #[test]
    fn a_bookmark_says_where_it_is() {
        let text = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        let line = line(text).unwrap();
        assert_eq!((&*line.kind, position(line.object).as_deref()), ("BOOKMARK", Some("12")));
    }
}
