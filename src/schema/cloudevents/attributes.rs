//! Attributes one by one, as text: what the binary modes of all bindings share.
//!
//! An optional attribute with empty text counts as absent both ways, because CloudEvents allows none that
//! is empty and some peers send them.

use bytestring::ByteString;

use super::{EXTENSIONS_MAX, media};
use crate::core::envelope::check_name;
use crate::core::error::InvalidEnvelope;
use crate::core::{DecodeError, Envelope, Timestamp, Value};

/// Sets one attribute from its text, as binary modes carry it: `name` in any case and without the binding's
/// prefix. An extension becomes a string, since no binary mode carries types. A second call for a name
/// replaces the first: a transport that must refuse duplicates looks for them itself.
///
/// A missing required attribute only shows when all are set: see [`Envelope::validate`].
///
/// # Errors
/// A name that is none of CloudEvents', a `specversion` other than 1.0, an empty required attribute, a
/// control character, a `time` that is no RFC 3339, one extension more than [`EXTENSIONS_MAX`].
pub fn set_attribute(envelope: &mut Envelope, name: &str, text: ByteString) -> Result<(), DecodeError> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        set_text(envelope, &name.to_ascii_lowercase(), text)
    } else {
        set_text(envelope, name, text)
    }
}

/// Calls `each` with name and canonical text of every attribute that is set: `specversion` first, then the
/// other context attributes with `datacontenttype`, then the extensions by name.
pub fn for_each_attribute(envelope: &Envelope, mut each: impl FnMut(&str, &str)) {
    each("specversion", "1.0");
    for (name, text) in context(envelope) {
        if !text.is_empty() {
            each(name, text);
        }
    }
    for (name, value) in envelope.extensions.iter() {
        match value {
            Value::String(text) | Value::Uri(text) | Value::UriRef(text) => each(name, text),
            _ => each(name, &value.to_text()),
        }
    }
}

/// The context attributes in the order they are written, unset ones as empty text.
pub(super) fn context(envelope: &Envelope) -> [(&'static str, &str); 7] {
    [
        ("id", &envelope.id),
        ("source", &envelope.source),
        ("type", &envelope.kind),
        ("subject", envelope.subject.as_deref().unwrap_or_default()),
        ("time", envelope.time.as_ref().map_or("", |time| time.text())),
        ("datacontenttype", envelope.datacontenttype.as_deref().unwrap_or_default()),
        ("dataschema", envelope.dataschema.as_deref().unwrap_or_default()),
    ]
}

/// Whether `name` is one of the attributes that CloudEvents itself defines.
pub(super) fn is_context(name: &str) -> bool {
    matches!(
        name,
        "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema" | "specversion"
    )
}

/// As [`set_attribute`], for a name that is in lower case already; upper case is an error.
pub(super) fn set_text(envelope: &mut Envelope, name: &str, text: ByteString) -> Result<(), DecodeError> {
    if matches!(name, "id" | "source" | "type") && text.is_empty() {
        return Err(InvalidEnvelope::new(name, "is required and must not be empty").into());
    }
    match name {
        "specversion" => return check_specversion(&text),
        "time" => {
            envelope.time = if text.is_empty() { None } else { Some(Timestamp::parse(text)?) };
            return Ok(());
        }
        _ => check_text(name, &text)?,
    }
    let optional = |text: ByteString| (!text.is_empty()).then_some(text);
    match name {
        "id" => envelope.id = text,
        "source" => envelope.source = text,
        "type" => envelope.kind = text,
        "subject" => envelope.subject = optional(text),
        "datacontenttype" => envelope.datacontenttype = optional(text),
        "dataschema" => envelope.dataschema = optional(text),
        _ => return set_extension(envelope, name, Value::String(text)),
    }
    Ok(())
}

/// Sets an extension after checking its name, its text and how many there are.
pub(super) fn set_extension(envelope: &mut Envelope, name: &str, value: Value) -> Result<(), DecodeError> {
    check_name(name)?;
    if let Value::String(text) | Value::Uri(text) | Value::UriRef(text) = &value {
        check_text(name, text)?;
    }
    if envelope.extensions.len() >= EXTENSIONS_MAX && envelope.extensions.get(name).is_none() {
        return Err(DecodeError::new(format!(
            "an event has at most {EXTENSIONS_MAX} extension attributes"
        )));
    }
    envelope.extensions.set(name, value);
    Ok(())
}

/// What every decoder checks last: that the required attributes are there.
pub(super) fn check_required(envelope: &Envelope) -> Result<(), DecodeError> {
    for (name, text) in [("id", &envelope.id), ("source", &envelope.source), ("type", &envelope.kind)] {
        if text.is_empty() {
            return Err(InvalidEnvelope::new(name, "is required and must not be empty").into());
        }
    }
    Ok(())
}

pub(super) fn check_specversion(found: &str) -> Result<(), DecodeError> {
    if found == "1.0" {
        return Ok(());
    }
    let found: String = found.chars().take(40).collect();
    Err(DecodeError::new(format!("specversion {found:?} is not supported: only \"1.0\" is")))
}

/// Whether the data is text or JSON by its media type and by its bytes.
pub(super) fn as_text(envelope: &Envelope) -> Option<&str> {
    let declared = envelope.datacontenttype.as_deref()?;
    if !media::is_text(declared) && !media::is_json(declared) {
        return None;
    }
    str::from_utf8(&envelope.data).ok()
}

fn check_text(name: &str, text: &str) -> Result<(), InvalidEnvelope> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || !text.contains(is_forbidden) {
        return Ok(());
    }
    Err(InvalidEnvelope::new(name, "holds a control character, which CloudEvents forbids"))
}

/// Control characters and the 66 non-characters of Unicode.
fn is_forbidden(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::*;

    fn set(name: &str, text: &str) -> Result<Envelope, DecodeError> {
        let mut envelope = Envelope::event(arbitrary::topic(), "1", "/s", "t");
        set_attribute(&mut envelope, name, text.into())?;
        Ok(envelope)
    }

    #[test]
    fn names_are_taken_in_any_case_and_extensions_become_strings() {
        assert_eq!(set("ID", "7").unwrap().id, "7");
        assert_eq!(set("Type", "x").unwrap().kind, "x");
        assert_eq!(set("dataContentType", "a/b").unwrap().datacontenttype.as_deref(), Some("a/b"));
        assert_eq!(
            set("Time", "2026-01-02T03:04:05+01:00").unwrap().time.unwrap().text(),
            "2026-01-02T03:04:05+01:00"
        );
        assert_eq!(set("Number", "7").unwrap().extensions.get("number"), Some(&Value::from("7")));
        assert_eq!(set("specversion", "1.0").unwrap(), set("subject", "").unwrap());
    }

    #[test]
    fn a_wrong_name_or_value_is_an_error_that_names_it() {
        for (name, text, word) in [
            ("specversion", "0.3", "\"0.3\""),
            ("id", "", "required"),
            ("subject", "a\nb", "control"),
            ("myext", "\u{fffe}", "myext"),
            ("time", "now", "RFC 3339"),
            ("data", "x", "data"),
            ("a-b", "x", "a-z"),
            ("é", "x", "a-z"),
            ("", "x", "1 to 64"),
        ] {
            let error = set(name, text).unwrap_err();
            assert!(error.reason.contains(word), "{name}: {error}");
        }
    }

    #[test]
    fn extensions_are_bounded_and_a_second_value_replaces_the_first() {
        let mut envelope = set("a", "1").unwrap();
        for at in 1..EXTENSIONS_MAX {
            set_attribute(&mut envelope, &format!("x{at}"), "1".into()).unwrap();
        }
        assert!(set_attribute(&mut envelope, "onemore", "1".into()).is_err());
        set_attribute(&mut envelope, "a", "2".into()).unwrap();
        assert_eq!(envelope.extensions.get("a"), Some(&Value::from("2")));
    }

    proptest! {
        #[test]
        fn setting_what_was_listed_gives_the_same_attributes(event in arbitrary::event()) {
            let mut listed = Vec::new();
            for_each_attribute(&event, |name, text| listed.push((name.to_owned(), text.to_owned())));
            prop_assert_eq!(&listed[0], &("specversion".to_owned(), "1.0".to_owned()));
            let mut back = Envelope::event(arbitrary::topic(), "", "", "");
            for (name, text) in &listed {
                set_attribute(&mut back, name, text.as_str().into()).unwrap();
                prop_assert_eq!(event.attribute(name).unwrap(), text.as_str());
            }
            prop_assert!(back.validate().is_ok());
            let mut again = Vec::new();
            for_each_attribute(&back, |name, text| again.push((name.to_owned(), text.to_owned())));
            prop_assert_eq!(again, listed);
        }
    }
}
