//! The JSON format against golden events, its own errors, and anything at all.

use proptest::prelude::*;

use super::super::arbitrary;
use super::*;
use crate::core::Timestamp;

const MINIMAL: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

fn event() -> Envelope {
    Envelope::event(arbitrary::topic(), "1", "/s", "t")
}

fn read(text: &str) -> Result<Envelope, DecodeError> {
    decode(&Bytes::from(text.to_owned()), arbitrary::topic())
}

/// The minimal event with more members.
fn with(members: &str) -> String {
    format!("{},{members}}}", MINIMAL.strip_suffix('}').unwrap())
}

fn written(envelope: &Envelope) -> String {
    String::from_utf8(encode(envelope)).unwrap()
}

fn with_data(datacontenttype: Option<&'static str>, data: &'static [u8]) -> Envelope {
    let mut event = event();
    event.datacontenttype = datacontenttype.map(ByteString::from_static);
    event.data = Bytes::from_static(data);
    event
}

#[test]
fn attributes_are_written_in_order_with_their_json_types() {
    let mut event = with_data(Some("text/plain"), "Euro € 😀 \"100%\"\n".as_bytes());
    event.subject = Some("a\\b".into());
    event.time = Some(Timestamp::parse("2026-02-03T04:05:06.5+02:00").unwrap());
    event.dataschema = Some("https://example.com/s".into());
    event.extensions.set("zlast", "Euro € 😀");
    event.extensions.set("abool", true);
    event.extensions.set("bint", -7);
    event.extensions.set("cbytes", Value::Binary(Bytes::from_static(&[0, 255])));
    let golden = concat!(
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"a\\b","#,
        r#""time":"2026-02-03T04:05:06.5+02:00","datacontenttype":"text/plain","#,
        r#""dataschema":"https://example.com/s","abool":true,"bint":-7,"cbytes":"AP8=","#,
        r#""zlast":"Euro € 😀","data":"Euro € 😀 \"100%\"\n"}"#
    );
    assert_eq!(written(&event), golden);
}

#[test]
fn json_data_is_embedded_byte_for_byte() {
    let data = br#"{"b":1.0,"a":1e400,"a":"\u00e9\ud800","n":12345678901234567890123}"#;
    for media_type in [Some("application/json"), Some("TEXT/JSON; v=1"), Some("application/x+json"), None] {
        let event = with_data(media_type, data);
        let text = written(&event);
        assert!(text.ends_with(&format!(r#","data":{}}}"#, str::from_utf8(data).unwrap())), "{text}");
        assert_eq!(read(&text).unwrap().data, event.data);
    }
}

#[test]
fn an_event_is_one_line_whatever_its_data() {
    let event = with_data(Some("application/json"), b" {\r\n\t\"a\\n\": [1,\n2]\n}\n");
    let text = written(&event);
    assert!(text.ends_with(",\"data\":{  \t\"a\\n\": [1, 2] }}"), "{text}");
    let text = written(&with_data(Some("text/plain"), b"a\r\nb"));
    assert!(text.ends_with(r#""data":"a\r\nb"}"#), "{text}");
}

#[test]
fn what_is_no_json_and_no_text_goes_into_data_base64() {
    for (media_type, data, base64) in [
        (None, &b"\xff\x00"[..], "/wA="),
        (None, b"hello", "aGVsbG8="),
        (None, b"null", "bnVsbA=="),
        (Some("application/json"), b"{\"a\":", "eyJhIjo="),
        (Some("application/json"), b"\"\xff\"", "Iv8i"),
        (Some("text/plain"), b"\xff", "/w=="),
        (Some("text/plain; charset=latin1"), b"a", "YQ=="),
        (Some("image/png"), b"a", "YQ=="),
    ] {
        let event = with_data(media_type, data);
        let text = written(&event);
        assert!(text.ends_with(&format!(r#","data_base64":"{base64}"}}"#)), "{text}");
        assert_eq!(read(&text).unwrap(), event);
    }
}

#[test]
fn no_data_has_no_member_and_null_is_data_only_of_a_json_type() {
    assert_eq!(written(&event()), MINIMAL);
    assert_eq!(read(MINIMAL).unwrap(), event());
    assert_eq!(read(&with(r#""data":null"#)).unwrap(), event());
    assert!(read(&with(r#""datacontenttype":"text/plain","data":null"#)).unwrap().data.is_empty());
    let null = with_data(Some("application/json"), b"null");
    assert_eq!(read(&with(r#""datacontenttype":"application/json","data":null"#)).unwrap(), null);
    assert_eq!(read(&written(&null)).unwrap(), null);
}

#[test]
fn data_of_no_declared_type_is_json_and_is_said_to_be() {
    let read = read(&with(r#""data" : "I'm just a string" "#)).unwrap();
    assert_eq!(read.data, r#""I'm just a string""#);
    assert_eq!(read.datacontenttype.as_deref(), Some("application/json"));
}

#[test]
fn data_of_another_type_is_the_text_of_its_string_or_else_raw() {
    for (json, data) in [
        (r#""<much wow=\"xml\"/>""#, r#"<much wow="xml"/>"#),
        (r#""""#, ""),
        (r#""\ud83d\ude00""#, "😀"),
        (r#"{"a": 1}"#, r#"{"a": 1}"#),
    ] {
        let text = with(&format!(r#""datacontenttype":"application/xml","data":{json}"#));
        assert_eq!(read(&text).unwrap().data, data);
    }
}

#[test]
fn base64_is_read_with_and_without_padding() {
    for text in ["AP8=", "AP8"] {
        assert_eq!(read(&with(&format!(r#""data_base64":"{text}""#))).unwrap().data, &[0u8, 255][..]);
    }
    assert!(read(&with(r#""data_base64":"AP8_""#)).unwrap_err().reason.contains("base64"));
    assert!(read(&with(r#""data_base64":7"#)).unwrap_err().reason.contains("string"));
    let both = read(&with(r#""data":1,"data_base64":"AP8=""#)).unwrap_err();
    assert!(both.reason.contains("both"), "{both}");
    assert_eq!(read(&with(r#""data":null,"data_base64":"AP8=""#)).unwrap().data.len(), 2);
    assert_eq!(read(&with(r#""data":1,"data_base64":null"#)).unwrap().data, "1");
}

#[test]
fn extensions_keep_their_type_and_null_is_absent() {
    let event =
        read(&with(r#""a":true,"b":-2147483648,"c":"x","d":null,"subject":null,"time":null"#)).unwrap();
    assert_eq!(event.extensions.get("a"), Some(&Value::Boolean(true)));
    assert_eq!(event.extensions.get("b"), Some(&Value::Integer(i32::MIN)));
    assert_eq!(event.extensions.get("c"), Some(&Value::from("x")));
    assert_eq!((event.extensions.len(), event.subject, event.time), (3, None, None));
}

#[test]
fn an_error_names_the_attribute_and_its_byte() {
    let offset = MINIMAL.len();
    for (members, word) in [
        (r#""a":1.5"#, "\"a\""),
        (r#""a":2147483648"#, "32-bit"),
        (r#""a":[]"#, "\"a\""),
        (r#""a":{"b":1}"#, "\"a\""),
        (r#""A":"b""#, "\"A\""),
        (r#""a_b":"b""#, "a-z"),
        (r#""":"b""#, "1 to 64"),
        (r#""a":"\u0007""#, "control"),
        (r#""a":"\ud800""#, "escape"),
        (r#""id":"2""#, "twice"),
        (r#""\u0069d":"2""#, "twice"),
        (r#""a":null,"a":null"#, "twice"),
        (r#""subject":3"#, "string"),
        (r#""time":"yesterday""#, "RFC 3339"),
    ] {
        let error = read(&with(members)).unwrap_err();
        assert!(error.reason.contains(word), "{members}: {error}");
        assert!(error.offset.unwrap() > offset, "{members}: {error}");
    }
}

#[test]
fn a_required_attribute_that_is_missing_is_named() {
    for (name, member) in [
        ("specversion", r#""specversion":"1.0","#),
        ("id", r#""id":"1","#),
        ("source", r#""source":"/s","#),
        ("type", r#","type":"t""#),
    ] {
        for (without, new) in [(member, ""), (member, "null")] {
            let text = match new {
                "" => MINIMAL.replace(without, ""),
                _ => MINIMAL.replace(&format!("\"{name}\":\""), &format!("\"{name}\":null,\"x{name}\":\"")),
            };
            let error = read(&text).unwrap_err();
            assert!(error.reason.contains(&format!("{name:?}")), "{text}: {error}");
        }
    }
    assert!(read(&MINIMAL.replace("\"/s\"", "\"\"")).unwrap_err().reason.contains("source"));
}

#[test]
fn another_specversion_is_told_before_anything_else() {
    let old = r#"{"type":"t","ID":7,"specversion":"0.3","data":1,"data_base64":""}"#;
    let error = read(old).unwrap_err();
    assert!(error.reason.contains("\"0.3\""), "{error}");
    // As a number it would be 1 for some parsers: only the string is right.
    assert!(read(&MINIMAL.replace("\"1.0\"", "1.0")).is_err());
}

#[test]
fn what_is_no_event_is_an_error_at_its_byte() {
    for (text, at) in [
        ("", Some(0)),
        ("[]", Some(0)),
        ("{\"id\":\"1\",\n \"a\" 1}", Some(16)),
        ("\u{feff}{}", Some(0)),
        ("{} x", Some(3)),
    ] {
        assert_eq!(read(text).unwrap_err().offset, at, "{text:?}: {}", read(text).unwrap_err());
    }
    let bad_utf8 = decode(&Bytes::from_static(b"{\"a\xff"), arbitrary::topic()).unwrap_err();
    assert_eq!(bad_utf8.offset, Some(3));
}

#[test]
fn deep_data_and_many_members_are_bounded_without_recursion() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(read(&with(&format!("\"data\":{deep}"))).unwrap().data, deep);
    assert!(read(&with(&format!("\"a\":{deep}"))).is_err());
    assert!(read(&"[".repeat(200_000)).is_err());
    let many: Vec<_> = (0..300).map(|n| format!("\"x{n}\":1")).collect();
    assert!(read(&with(&many.join(","))).unwrap_err().reason.contains("at most"));
}

#[test]
fn small_data_is_copied_out_of_its_message_and_large_data_is_shared() {
    let large = "x".repeat(10_000);
    for (data, shared) in [("x", false), (large.as_str(), true)] {
        let message = Bytes::from(with(&format!(r#""datacontenttype":"text/plain","data":"{data}""#)));
        let event = decode(&message, arbitrary::topic()).unwrap();
        assert_eq!(message.as_ptr_range().contains(&event.data.as_ptr()), shared);
    }
}

#[test]
fn one_bad_event_does_not_spoil_its_batch() {
    let batch = Bytes::from(format!(r#"[{MINIMAL}, {{"id":1}}, 7, {MINIMAL}]"#));
    let events = decode_batch(&batch, &arbitrary::topic(), 4).unwrap();
    let ok: Vec<_> = events.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, false, true]);
    assert!(events[1].as_ref().unwrap_err().offset.unwrap() > MINIMAL.len());
    assert_eq!(events[2].as_ref().unwrap_err().offset, Some(MINIMAL.len() + 13));
    assert!(decode_batch(&batch, &arbitrary::topic(), 3).unwrap_err().reason.contains("at most 3"));
    assert!(decode_batch(&Bytes::from_static(b"[1,"), &arbitrary::topic(), 3).is_err());
    assert!(decode_batch(&Bytes::from(MINIMAL), &arbitrary::topic(), 3).is_err());
    assert!(decode_batch(&Bytes::from_static(b"[]"), &arbitrary::topic(), 3).unwrap().is_empty());
    assert_eq!(encode_batch([]), b"[]");
}

/// What the format can carry of an event: its types as JSON has them, an implied media type said.
fn flattened(mut event: Envelope) -> Envelope {
    let extensions: Vec<_> = event.extensions.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    for (name, value) in extensions {
        if !matches!(value, Value::Boolean(_) | Value::Integer(_)) {
            event.extensions.set(name, value.to_text());
        }
    }
    if event.datacontenttype.is_none()
        && event.data != "null"
        && serde_json::from_slice::<&RawValue>(&event.data).is_ok()
    {
        event.datacontenttype = Some("application/json".into());
    }
    event
}

/// JSON embedded by the encoder loses space around it and line breaks between its tokens.
fn trimmed(mut event: Envelope) -> Envelope {
    if event.datacontenttype.as_deref().is_some_and(media::is_json) && valid_json(&event.data).is_some() {
        let data: Vec<u8> = event.data.trim_ascii().to_vec();
        event.data = data.into_iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }).collect();
    }
    event
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(event in arbitrary::event()) {
        let bytes = Bytes::from(encode(&event));
        prop_assert!(!bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
        prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok());
        prop_assert_eq!(decode(&bytes, arbitrary::topic()).unwrap(), trimmed(flattened(event)));
    }

    #[test]
    fn decoding_undoes_encoding_of_batches(events in proptest::collection::vec(arbitrary::event(), 0..5)) {
        let bytes = Bytes::from(encode_batch(&events));
        let back = decode_batch(&bytes, &arbitrary::topic(), 5).unwrap();
        let back: Vec<_> = back.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(back, events.into_iter().map(|e| trimmed(flattened(e))).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_panic_the_decoder(bytes in any::<Vec<u8>>()) {
        let bytes = Bytes::from(bytes);
        prop_assert!(decode(&bytes, arbitrary::topic()).is_err());
        decode_batch(&bytes, &arbitrary::topic(), 10).ok();
    }

    #[test]
    fn no_mutation_of_an_event_panics_the_decoder(
        event in arbitrary::event(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = encode(&event);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let bytes = Bytes::from(bytes);
        if let Ok(event) = decode(&bytes, arbitrary::topic()) {
            prop_assert!(event.validate().is_ok());
        }
    }
}
