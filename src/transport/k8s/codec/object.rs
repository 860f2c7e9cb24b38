//! A stored object as it is served: the version of the API asked for and the server's own metadata are put into
//! its JSON, and everything else stays the text it is.
//!
//! One pass checks the whole text and finds the members of the object and of its metadata; no tree is built. What
//! is no object of the API (another protocol may have written it) is told by [`Spliced::No`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of objects and lists that is served as it is; readers of JSON bound it, too.
pub const DEPTH_MAX: usize = 128;
/// The annotation that keeps the version of the source a key comes from.
pub const SOURCE_VERSION: &str = "meshbus.dev/source-version";
/// What metadata-only readers get objects as.
const PARTIAL: &str = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

/// What the server says of an object.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// `apps/v1`
    pub api_version: &'a str,
    /// `Deployment`
    pub kind: &'a str,
    /// The namespace; empty for none.
    pub namespace: &'a str,
    /// The name, as it stands in a path.
    pub name: &'a str,
    /// The sequence of the key's last change.
    pub resource_version: u64,
    /// What the source calls the version, where another than the bus owns the object.
    pub source_version: Option<&'a str>,
}

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spliced {
    /// The object was written.
    Yes,
    /// It is no object with metadata: nothing was written.
    No,
}

/// How much of an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its metadata, as a `PartialObjectMetadata`.
    Metadata,
}

/// Writes the object in `data`, stamped, to the end of `out`.
pub fn splice(out: &mut Vec<u8>, data: &[u8], stamp: &Stamp<'_>, part: Part) -> Spliced {
    if too_deep(data) {
        return Spliced::No;
    }
    let Ok(object) = serde_json::from_slice::<Members<'_>>(data) else { return Spliced::No };
    let Some(metadata) = object.one("metadata") else { return Spliced::No };
    let Ok(metadata) = serde_json::from_str::<Members<'_>>(metadata.get()) else { return Spliced::No };
    if object.is_doubtful(&["apiVersion", "kind"])
        || metadata.is_doubtful(&["name", "namespace", "resourceVersion", "annotations"])
    {
        return Spliced::No;
    }
    let annotations = match metadata.one("annotations").filter(|_| stamp.source_version.is_some()) {
        Some(raw) if raw.get() != "null" => match serde_json::from_str::<Members<'_>>(raw.get()) {
            Ok(annotations) => annotations,
            Err(_) => return Spliced::No,
        },
        _ => Members(Vec::new()),
    };
    if part == Part::Metadata {
        out.extend_from_slice(PARTIAL.as_bytes());
        put_metadata(out, &metadata, &annotations, stamp);
        out.push(b'}');
        return Spliced::Yes;
    }
    out.extend_from_slice(b"{\"apiVersion\":");
    put_text(out, stamp.api_version);
    out.extend_from_slice(b",\"kind\":");
    put_text(out, stamp.kind);
    for (name, value) in &object.0 {
        match &**name {
            "apiVersion" | "kind" => {}
            "metadata" => {
                out.extend_from_slice(b",\"metadata\":");
                put_metadata(out, &metadata, &annotations, stamp);
            }
            _ => put_member(out, name, value),
        }
    }
    out.push(b'}');
    Spliced::Yes
}

/// The labels of the object in `data`; none where it has none or is no object.
pub fn labels(data: &[u8]) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let read = || -> Option<Vec<_>> {
        let object: Members<'_> = serde_json::from_slice(data).ok()?;
        let metadata: Members<'_> = serde_json::from_str(object.last("metadata")?.get()).ok()?;
        let labels: Members<'_> = serde_json::from_str(metadata.last("labels")?.get()).ok()?;
        let text = |raw: &'_ RawValue| {
            serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0.into_owned())
        };
        Some(labels.0.into_iter().filter_map(|(name, raw)| Some((name, Cow::Owned(text(raw)?)))).collect())
    };
    read().unwrap_or_default()
}

fn put_metadata(out: &mut Vec<u8>, metadata: &Members<'_>, annotations: &Members<'_>, stamp: &Stamp<'_>) {
    out.extend_from_slice(b"{\"name\":");
    put_text(out, stamp.name);
    if !stamp.namespace.is_empty() {
        out.extend_from_slice(b",\"namespace\":");
        put_text(out, stamp.namespace);
    }
    out.extend_from_slice(b",\"resourceVersion\":\"");
    out.extend_from_slice(stamp.resource_version.to_string().as_bytes());
    out.push(b'"');
    for (name, value) in &metadata.0 {
        match &**name {
            "name" | "namespace" | "resourceVersion" => {}
            "annotations" if stamp.source_version.is_some() => {}
            _ => put_member(out, name, value),
        }
    }
    if let Some(version) = stamp.source_version {
        out.extend_from_slice(b",\"annotations\":{");
        put_text(out, SOURCE_VERSION);
        out.push(b':');
        put_text(out, version);
        for (name, value) in annotations.0.iter().filter(|(name, _)| name != SOURCE_VERSION) {
            put_member(out, name, value);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn put_member(out: &mut Vec<u8>, name: &str, value: &RawValue) {
    out.push(b',');
    put_text(out, name);
    out.push(b':');
    out.extend_from_slice(value.get().as_bytes());
}

/// A JSON string.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    // Text becomes JSON, and a vector takes all that is written to it.
    drop(serde_json::to_writer(out, text));
}

/// Whether a text nests deeper than is served. Brackets are counted as they stand outside of strings; whether they
/// fit each other is for the parser to say.
fn too_deep(data: &[u8]) -> bool {
    // So many brackets that none closes do not fit in less.
    if data.len() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in data {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A string, borrowed unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The members of an object in their order, their values as text.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    fn last(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(have, _)| have == name).map(|(_, value)| *value)
    }

    /// The member of that name, where there is exactly one.
    fn one(&self, name: &str) -> Option<&'a RawValue> {
        let mut found = self.0.iter().filter(|(have, _)| have == name).map(|(_, value)| *value);
        found.next().filter(|_| found.next().is_none())
    }

    /// Whether one of these names is there more than once, so that readers may differ about it.
    fn is_doubtful(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.iter().filter(|(have, _)| have == name).nth(1).is_some())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const STAMP: Stamp<'static> = Stamp {
        api_version: "v1",
        kind: "ConfigMap",
        namespace: "web",
        name: "a",
        resource_version: 7,
        source_version: None,
    };

    fn whole(data: &str, stamp: &Stamp<'_>) -> Option<Value> {
        let mut out = Vec::new();
        (splice(&mut out, data.as_bytes(), stamp, Part::Whole) == Spliced::Yes)
            .then(|| serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn the_servers_own_is_put_in_and_the_rest_kept() {
        let data = r#"{ "kind":"X", "metadata":{"uid":"u","resourceVersion":"99","annotations":{"k":"v"}},
            "data":{"n": 1.50, "t":"\u00e9"} }"#;
        let stamp = Stamp { source_version: Some("99"), ..STAMP };
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "web", "resourceVersion": "7", "uid": "u",
                "annotations": {"meshbus.dev/source-version": "99", "k": "v"}},
            "data": {"n": 1.5, "t": "é"}});
        assert_eq!(whole(data, &stamp), Some(expected.clone()));
        let mut out = Vec::new();
        splice(&mut out, data.as_bytes(), &stamp, Part::Whole);
        assert!(String::from_utf8(out).unwrap().contains(r#"{"n": 1.50, "t":"\u00e9"}"#), "text is kept");
        let mut out = Vec::new();
        assert_eq!(splice(&mut out, data.as_bytes(), &stamp, Part::Metadata), Spliced::Yes);
        let partial: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(partial["metadata"], expected["metadata"]);
        assert_eq!(partial["kind"], "PartialObjectMetadata");
    }

    #[test]
    fn what_is_no_object_with_metadata_is_refused() {
        let deep = format!("{{\"metadata\":{{}},\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for data in [
            "",
            "1",
            "[]",
            "{}",
            r#"{"metadata":1}"#,
            r#"{"metadata":{}} x"#,
            "{\"metadata\":{\"a\":}}",
            r#"{"metadata":{},"metadata":{}}"#,
            r#"{"metadata":{"name":"a","name":"b"}}"#,
            "{\"metadata\":{},\"a\":\"\u{1}\"}",
            &deep,
        ] {
            assert_eq!(whole(data, &STAMP), None, "{data}");
        }
        let flat = format!("{{\"metadata\":{{}},\"a\":\"{}\"}}", "[".repeat(200));
        assert!(whole(&flat, &STAMP).is_some(), "brackets in text nest nothing");
    }

    #[test]
    fn labels_are_read_without_the_rest() {
        let data = r#"{"spec":{"labels":{"x":"y"}},"metadata":{"labels":{"a":"1","b\n":"\u00e9","n":3}}}"#;
        let read = labels(data.as_bytes());
        let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(read, [("a", "1"), ("b\n", "é")]);
        assert!(labels(b"{}").is_empty() && labels(b"x").is_empty());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// It says what a tree of the whole object would.
        #[test]
        fn it_is_what_the_slow_way_makes(object in prop::collection::hash_map("[a-z]{1,4}|kind|apiVersion|spec", values(), 0..5), metadata in prop::collection::hash_map("[a-z]{1,4}|name|uid|resourceVersion", values(), 0..5), sourced in any::<bool>()) {
            let stamp = Stamp { source_version: sourced.then_some("s"), ..STAMP };
            let mut object = Value::Object(object.into_iter().collect());
            object["metadata"] = Value::Object(metadata.into_iter().collect());
            let text = object.to_string();
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("ConfigMap");
            object["metadata"]["name"] = json!("a");
            object["metadata"]["namespace"] = json!("web");
            object["metadata"]["resourceVersion"] = json!("7");
            if sourced {
                object["metadata"]["annotations"][SOURCE_VERSION] = json!("s");
            }
            prop_assert_eq!(whole(&text, &stamp), Some(object));
        }

        #[test]
        fn it_never_panics(data in any::<Vec<u8>>(), text in "[{}\\[\\]\",:a-z0-9]{0,40}") {
            let mut out = Vec::new();
            splice(&mut out, &data, &STAMP, Part::Whole);
            splice(&mut out, text.as_bytes(), &STAMP, Part::Metadata);
        }
    }
}
