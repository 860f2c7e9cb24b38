//! CloudEvents in the six forms, written and read by the test itself from the specifications, so that a mistake
//! of the bus in writing is not undone by the same mistake in reading.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::ledger::Attributes;

/// What CloudEvents over HTTP and NATS percent-encode, beside what is no ASCII.
const CE_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The media type of the structured form.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json";

/// An attribute's value as a header value.
pub(crate) fn ce_header(value: &str) -> String {
    utf8_percent_encode(value, CE_HEADER).to_string()
}

/// An event: attributes as text, and data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) attributes: Attributes,
    pub(crate) data: Bytes,
}

impl Event {
    pub(crate) fn id(&self) -> &str {
        self.attributes.get("id").map(String::as_str).unwrap_or_default()
    }

    /// In the JSON format: JSON data as it is, text as a string, the rest in base 64.
    pub(crate) fn structured(&self) -> Bytes {
        let attributes = self.attributes.iter().map(|(name, value)| (name.clone(), json!(value)));
        let mut object: Map<String, Value> = attributes.collect();
        let media_type = self.attributes.get("datacontenttype").map(String::as_str).unwrap_or_default();
        if self.data.is_empty() {
        } else if is_json(media_type) {
            object.insert("data".to_owned(), serde_json::from_slice(&self.data).expect("JSON data"));
        } else if let (true, Ok(text)) = (media_type.starts_with("text/"), std::str::from_utf8(&self.data))
        {
            object.insert("data".to_owned(), json!(text));
        } else {
            object.insert("data_base64".to_owned(), json!(STANDARD.encode(&self.data)));
        }
        serde_json::to_vec(&object).expect("an object").into()
    }

    pub(crate) fn from_structured(body: &[u8]) -> Self {
        let object: Map<String, Value> = serde_json::from_slice(body).expect("a structured event");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let attributes = object.iter().filter(|(name, _)| !matches!(name.as_str(), "data" | "data_base64"));
        let attributes: Attributes = attributes.map(|(name, value)| (name.clone(), text(value))).collect();
        // Without a media type, `data` is JSON.
        let media_type = attributes.get("datacontenttype").map_or("application/json", String::as_str);
        let data = match (object.get("data"), object.get("data_base64")) {
            (None, None) => Vec::new(),
            (None, Some(encoded)) => STANDARD.decode(encoded.as_str().expect("base 64")).expect("base 64"),
            (Some(Value::String(text)), _) if !is_json(media_type) => text.clone().into_bytes(),
            (Some(value), _) => serde_json::to_vec(value).expect("JSON"),
        };
        Self { attributes, data: data.into() }
    }

    /// From `ce-` headers, percent-decoded, in any case of their names. HTTP has the media type in
    /// `content-type`, NATS in `ce-datacontenttype`.
    pub(crate) fn from_headers<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, data: Bytes) -> Self {
        let attributes = headers.filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            if name == "content-type" {
                return Some(("datacontenttype".to_owned(), value.to_owned()));
            }
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            Some((name.strip_prefix("ce-")?.to_owned(), value))
        });
        Self { attributes: attributes.collect(), data }
    }

    /// The same without the attributes a bus adds against loops.
    pub(crate) fn without_loop_guard(mut self) -> Self {
        self.attributes.retain(|name, _| !matches!(name.as_str(), "mborigin" | "mbhops"));
        self
    }

    /// Whether both say the same: JSON data as a value, all other data byte for byte.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let media_type = self.attributes.get("datacontenttype").map(String::as_str).unwrap_or_default();
        let as_json = |data: &[u8]| serde_json::from_slice::<Value>(data).ok();
        let data = self.data == other.data
            || is_json(media_type)
                && as_json(&self.data).is_some()
                && as_json(&self.data) == as_json(&other.data);
        self.attributes == other.attributes && data
    }
}

/// By the media type, without parameters and in any case.
fn is_json(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}
