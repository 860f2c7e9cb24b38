//! The Rust SDK's `Event`, both ways: for programs that embed the bus and speak
//! [`cloudevents-sdk`](https://docs.rs/cloudevents-sdk/0.9.0).
//!
//! The SDK's event holds less than an envelope: no topic and no change, JSON as values, times in UTC,
//! `dataschema` as an absolute URL, extensions of three types. [`to_event`] says what becomes of the rest.
//! No transport of the bus goes through it.

use bytes::Bytes;
use bytestring::ByteString;
use cloudevents::event::{EventBuilderError, ExtensionValue, TryIntoUrl};
use cloudevents::{AttributesReader, AttributesWriter, Data, Event, EventBuilder, EventBuilderV10};

use super::attributes::{self, check_required, set_extension, set_text};
use super::media;
use crate::core::{DecodeError, Envelope, Timestamp, Topic, Value};

/// Makes the SDK's event. Topic and change are not in it.
///
/// Data that is declared JSON, or of no declared type, becomes JSON where it parses (at most 128 levels
/// deep), text becomes a string, the rest stays bytes. Extensions of other types than the SDK's three become
/// strings, as in every text form.
///
/// # Errors
/// A `time` the SDK cannot hold, or a `dataschema` that is no absolute URL.
pub fn to_event(envelope: &Envelope) -> Result<Event, EventBuilderError> {
    let mut builder =
        EventBuilderV10::new().id(&*envelope.id).source(&*envelope.source).ty(&*envelope.kind);
    if let Some(subject) = &envelope.subject {
        builder = builder.subject(&**subject);
    }
    if let Some(time) = &envelope.time {
        builder = builder.time(&**time.text());
    }
    for (name, value) in envelope.extensions.iter() {
        builder = builder.extension(
            name,
            match value {
                Value::Boolean(value) => ExtensionValue::Boolean(*value),
                Value::Integer(value) => ExtensionValue::Integer((*value).into()),
                _ => ExtensionValue::String(value.to_text().into()),
            },
        );
    }
    let mut event = builder.build()?;
    if let Some(schema) = &envelope.dataschema {
        let url = (&**schema).into_url();
        let url =
            url.map_err(|source| EventBuilderError::ParseUrlError { attribute_name: "dataschema", source });
        event.set_dataschema(Some(url?));
    }
    event.set_datacontenttype(envelope.datacontenttype.as_deref());
    if !envelope.data.is_empty() {
        event.set_data_unchecked(data(envelope));
    }
    Ok(event)
}

/// Makes an envelope that occurs at `topic`.
///
/// JSON data is written anew from the SDK's values; without a media type it is declared `application/json`,
/// as the JSON format says.
///
/// # Errors
/// A required attribute that is empty, an attribute with a wrong name or with control characters, an integer
/// of more than 32 bits, a time outside the years 1 to 9999.
pub fn from_event(event: Event, topic: Topic) -> Result<Envelope, DecodeError> {
    let mut envelope = Envelope::event(topic, "", "", "");
    let mut set = |name, text: Option<&str>| match text {
        Some(text) => set_text(&mut envelope, name, text.into()),
        None => Ok(()),
    };
    set("id", Some(event.id()))?;
    set("source", Some(event.source()))?;
    set("type", Some(event.ty()))?;
    set("subject", event.subject())?;
    set("datacontenttype", event.datacontenttype())?;
    set("dataschema", event.dataschema().map(AsRef::as_ref))?;
    if let Some(time) = event.time() {
        let instant = Timestamp::from_unix(time.timestamp(), time.timestamp_subsec_nanos().cast_signed());
        let reason = "attribute \"time\" is outside the years 1 to 9999";
        envelope.time = Some(instant.ok_or_else(|| DecodeError::new(reason))?);
    }
    for (name, value) in event.iter_extensions() {
        let value = match value {
            ExtensionValue::String(text) => Value::String(text.as_str().into()),
            ExtensionValue::Boolean(value) => Value::Boolean(*value),
            ExtensionValue::Integer(value) => Value::Integer(i32::try_from(*value).map_err(|_| {
                DecodeError::new(format!("attribute {name:?} must be a 32-bit integer, not {value}"))
            })?),
        };
        set_extension(&mut envelope, name, value)?;
    }
    check_required(&envelope)?;
    let mut event = event;
    let (_, _, data) = event.take_data();
    envelope.data = match data {
        None => Bytes::new(),
        Some(Data::Binary(bytes)) => bytes.into(),
        Some(Data::String(text)) => text.into(),
        Some(Data::Json(value)) => {
            envelope.datacontenttype.get_or_insert(ByteString::from_static("application/json"));
            value.to_string().into()
        }
    };
    Ok(envelope)
}

impl TryFrom<&Envelope> for Event {
    type Error = EventBuilderError;

    /// See [`to_event`].
    fn try_from(envelope: &Envelope) -> Result<Self, Self::Error> {
        to_event(envelope)
    }
}

fn data(envelope: &Envelope) -> Data {
    if envelope.datacontenttype.as_deref().is_none_or(media::is_json)
        && let Ok(value) = serde_json::from_slice(&envelope.data)
    {
        return Data::Json(value);
    }
    match attributes::as_text(envelope) {
        Some(text) => Data::String(text.to_owned()),
        None => Data::Binary(envelope.data.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::arbitrary;
    use super::*;

    #[test]
    fn an_sdk_event_becomes_an_envelope_and_is_itself_again() {
        let event = EventBuilderV10::new()
            .id("1")
            .source("/s")
            .ty("t")
            .subject("x")
            .time("2026-02-03T04:05:06.25Z")
            .extension("abool", true)
            .extension("bint", 7)
            .extension("ctext", "Euro € 😀")
            .data_with_schema("application/json", "https://example.com/s", json!({"b": 1, "a": [null]}))
            .build()
            .unwrap();
        let envelope = from_event(event.clone(), arbitrary::topic()).unwrap();
        assert_eq!(envelope.data, r#"{"b":1,"a":[null]}"#);
        assert_eq!(envelope.time.as_ref().unwrap().text(), "2026-02-03T04:05:06.25Z");
        assert_eq!(envelope.extensions.get("bint"), Some(&Value::Integer(7)));
        assert_eq!(Event::try_from(&envelope).unwrap(), event);
    }

    #[test]
    fn each_kind_of_data_keeps_its_kind() {
        for (media_type, data) in [
            ("text/plain", Data::String("a".into())),
            ("image/png", Data::Binary(vec![0, 255])),
            ("application/json", Data::Json(json!("a"))),
        ] {
            let event = EventBuilderV10::new().id("1").source("/s").ty("t").data(media_type, data);
            let event = event.build().unwrap();
            let envelope = from_event(event.clone(), arbitrary::topic()).unwrap();
            assert_eq!(to_event(&envelope).unwrap(), event);
        }
    }

    #[test]
    fn what_the_other_side_cannot_hold_is_an_error_that_names_it() {
        let build = || EventBuilderV10::new().id("1").source("/s").ty("t");
        for (event, word) in [
            (build().extension("big", i64::MAX), "big"),
            (build().extension("Upper", "x"), "Upper"),
            (build().subject("a\nb"), "subject"),
            (build().id(""), "id"),
        ] {
            let error = from_event(event.build().unwrap(), arbitrary::topic()).unwrap_err();
            assert!(error.reason.contains(word), "{error}");
        }
        let mut envelope = Envelope::event(arbitrary::topic(), "1", "/s", "t");
        envelope.dataschema = Some("relative".into());
        assert!(to_event(&envelope).unwrap_err().to_string().contains("dataschema"));
    }

    proptest! {
        #[test]
        fn any_envelope_passes_through_the_sdk(mut sent in arbitrary::event()) {
            sent.dataschema = None;
            let back = from_event(to_event(&sent).unwrap(), sent.topic.clone()).unwrap();
            for name in ["id", "source", "type", "subject"] {
                prop_assert_eq!(back.attribute(name), sent.attribute(name));
            }
            let nanos = |envelope: &Envelope| envelope.time.as_ref().map(Timestamp::unix_nanos);
            prop_assert_eq!(nanos(&back), nanos(&sent));
            for (name, value) in sent.extensions.iter() {
                prop_assert_eq!(back.extensions.get(name).map(Value::to_text), Some(value.to_text()));
            }
            if !back.datacontenttype.as_deref().is_some_and(media::is_json) {
                prop_assert_eq!(&back.data, &sent.data);
            }
        }
    }
}
