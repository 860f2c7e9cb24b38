//! What a filter reads of an event.

use std::borrow::Cow;

use crate::{AttrValue, Attributes, Event};

/// The extension that holds the topic.
const TOPIC: &str = "mbtopic";

impl Event {
    /// An event without optional attributes, seen for the first time: for tests.
    pub fn new(id: &str, source: &str, kind: &str) -> Self {
        let attributes = Attributes {
            id: id.to_owned(),
            source: source.to_owned(),
            type_: kind.to_owned(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: Vec::new(),
        };
        Self { attributes, data: None, attempt: 1 }
    }

    /// The same with this extension: for tests.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<AttrValue>) -> Self {
        self.attributes.extensions.push((name.to_owned(), value.into()));
        self
    }

    /// The same with this data: for tests.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// The attribute `id`.
    pub fn id(&self) -> &str {
        &self.attributes.id
    }

    /// The attribute `source`.
    pub fn source(&self) -> &str {
        &self.attributes.source
    }

    /// The attribute `type`, which is a word of Rust's.
    pub fn kind(&self) -> &str {
        &self.attributes.type_
    }

    /// The attribute `subject`, empty where there is none.
    pub fn subject(&self) -> &str {
        self.attributes.subject.as_deref().unwrap_or_default()
    }

    /// The topic on the bus.
    pub fn topic(&self) -> &str {
        self.text_of(TOPIC)
    }

    /// An extension with its type.
    pub fn extension(&self, name: &str) -> Option<&AttrValue> {
        self.attributes.extensions.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    /// An attribute of any kind as text, `None` where there is none. Binary values and times have no text here.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = match name {
            "id" => Some(self.id()),
            "source" => Some(self.source()),
            "type" => Some(self.kind()),
            "subject" => self.attributes.subject.as_deref(),
            "datacontenttype" => self.attributes.datacontenttype.as_deref(),
            "dataschema" => self.attributes.dataschema.as_deref(),
            _ => return self.extension(name).and_then(AttrValue::text),
        };
        text.map(Cow::Borrowed)
    }

    /// The data, empty where there is none.
    pub fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    /// The data as JSON.
    ///
    /// # Errors
    /// It is none.
    #[cfg(feature = "json")]
    pub fn json(&self) -> Result<serde_json::Value, String> {
        serde_json::from_slice(self.data()).map_err(|error| format!("the data is no JSON: {error}"))
    }

    fn text_of(&self, extension: &str) -> &str {
        match self.extension(extension) {
            Some(AttrValue::Text(text) | AttrValue::Uri(text) | AttrValue::UriRef(text)) => text,
            _ => "",
        }
    }
}

impl AttrValue {
    /// As text; binary values and times have none.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) | Self::Uri(text) | Self::UriRef(text) => Some(Cow::Borrowed(text)),
            Self::Boolean(value) => Some(Cow::Owned(value.to_string())),
            Self::Integer(value) => Some(Cow::Owned(value.to_string())),
            Self::Binary(_) | Self::Time(_) => None,
        }
    }
}

impl From<bool> for AttrValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for AttrValue {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for AttrValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for AttrValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_is_found_by_its_name() {
        let event = Event::new("1", "/s", "t").with("mbtopic", "a/b").with("n", 7).with("yes", true);
        assert_eq!((event.topic(), event.subject(), event.data()), ("a/b", "", &b""[..]));
        assert_eq!(event.attribute("type").as_deref(), Some("t"));
        assert_eq!(event.attribute("n").as_deref(), Some("7"));
        assert_eq!(event.attribute("yes").as_deref(), Some("true"));
        assert_eq!((event.attribute("subject"), event.attribute("none")), (None, None));
    }
}
