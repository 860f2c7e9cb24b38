//! Tests of the codec: the binding's own examples, what must be refused, and round trips by property.

use proptest::prelude::*;

use super::*;
use crate::core::{Timestamp, Value};

fn topic() -> Topic {
    Topic::parse("events/t").unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

const REQUIRED: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];

fn with(more: &[(&str, &str)]) -> HeaderMap {
    headers(&[&REQUIRED[..], more].concat())
}

fn read(headers: &HeaderMap, body: &'static [u8]) -> Result<Message, Unreadable> {
    decode(headers, &Bytes::from_static(body), &topic(), Compat::Spec, 10)
}

fn read_one(headers: &HeaderMap) -> Envelope {
    match read(headers, b"data").unwrap() {
        Message::Event(envelope) => *envelope,
        other => panic!("{other:?}"),
    }
}

fn reason(headers: &HeaderMap) -> String {
    read(headers, b"").unwrap_err().to_string()
}

#[test]
fn binary_mode_reads_every_attribute() {
    let envelope = read_one(&with(&[
        ("content-type", "application/json"),
        ("ce-subject", "a%20b"),
        ("ce-time", "2026-01-02T03:04:05.600+02:00"),
        ("ce-dataschema", "https://example.com/s"),
        ("ce-myext", "x"),
    ]));
    assert_eq!((&*envelope.id, &*envelope.source, &*envelope.kind), ("1", "/s", "t"));
    assert_eq!(envelope.subject.as_deref(), Some("a b"));
    assert_eq!(envelope.time.unwrap().text(), "2026-01-02T03:04:05.600+02:00");
    assert_eq!(envelope.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(envelope.extensions.get("myext"), Some(&Value::from("x")));
    assert_eq!(envelope.data, "data");
}

#[test]
fn values_are_percent_decoded_once_and_raw_utf8_and_quotes_are_taken() {
    let subject = |value: &str| read_one(&with(&[("ce-subject", value)])).subject.unwrap();
    assert_eq!(subject("Euro%20%E2%82%AC%20%F0%9F%98%80"), "Euro € 😀");
    assert_eq!(subject("Euro € 😀"), "Euro € 😀");
    assert_eq!(subject("%2541"), "%41");
    assert_eq!(subject(r#""a \"b\" c""#), "a \"b\" c");
    assert_eq!(subject(r#"say "hi""#), r#"say "hi""#);
    assert_eq!(subject("100%"), "100%");
}

#[test]
fn compat_raw_decodes_and_encodes_nothing() {
    let mut envelope = Envelope::event(topic(), "1", "/s", "t");
    envelope.subject = Some("100%25 \"€\"".into());
    let (headers, body) = encode(&envelope, Mode::Binary, Format::Json, Compat::Raw).unwrap();
    assert_eq!(headers["ce-subject"].as_bytes(), "100%25 \"€\"".as_bytes());
    let message = decode(&headers, &body, &topic(), Compat::Raw, 10).unwrap();
    assert_eq!(message, Message::Event(Box::new(envelope)));
}

#[test]
fn an_event_is_written_with_strict_percent_encoding() {
    let mut envelope = Envelope::event(topic(), "1", "/s", "t");
    envelope.subject = Some("Euro € \"😀\" 100%".into());
    let (headers, _) = encode(&envelope, Mode::Binary, Format::Json, Compat::Spec).unwrap();
    assert_eq!(headers["ce-subject"], "Euro%20%E2%82%AC%20%22%F0%9F%98%80%22%20100%25");
    assert_eq!(headers["ce-specversion"], "1.0");
    assert!(!headers.contains_key("content-type"));
}

#[test]
fn a_missing_required_attribute_is_named_by_its_header() {
    for missing in REQUIRED {
        let rest: Vec<_> = REQUIRED.iter().filter(|pair| **pair != missing).copied().collect();
        let reason = reason(&headers(&rest));
        assert!(reason.contains(missing.0), "{reason}");
    }
    assert!(reason(&with(&[("ce-id", "2")])).contains("ce-id is given more than once"));
}

#[test]
fn other_spec_versions_bad_names_and_bad_times_are_refused() {
    let mut wrong = with(&[]);
    wrong.insert("ce-specversion", HeaderValue::from_static("0.3"));
    assert!(reason(&wrong).contains("0.3"));
    assert!(reason(&with(&[("ce-my_ext", "x")])).contains("ce-my_ext"));
    assert!(reason(&with(&[("ce-time", "yesterday")])).contains("ce-time"));
    assert!(reason(&with(&[("content-type", "a/b"), ("content-type", "a/c")])).contains("content-type"));
}

#[test]
fn control_characters_and_invalid_utf8_are_refused() {
    for value in ["a%0Ab", "a%0D%0Ab", "a%00b"] {
        assert!(read(&with(&[("ce-subject", value)]), b"").is_err(), "{value}");
        assert!(read(&with(&[("ce-myext", value)]), b"").is_err(), "{value}");
        assert!(read(&with(&[("ce-id", value)]), b"").is_err());
    }
    assert!(reason(&with(&[("ce-subject", "%C3%28")])).contains("ce-subject"));
    let mut raw = with(&[]);
    raw.insert("ce-subject", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    assert!(reason(&raw).contains("ce-subject"));
}

#[test]
fn media_types_are_compared_without_case_and_unknown_ones_refused() {
    let structured = |content_type: &str| {
        let event = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        read(&headers(&[("content-type", content_type)]), event)
    };
    assert!(matches!(structured("Application/CloudEvents+JSON; Charset=\"UTF-8\""), Ok(Message::Event(_))));
    assert!(matches!(structured("application/json"), Ok(Message::Plain)));
    for unknown in [
        "application/cloudevents+xml",
        "application/cloudevents",
        "application/cloudevents+json; charset=utf-16",
    ] {
        assert!(matches!(structured(unknown), Err(Unreadable::MediaType(_))), "{unknown}");
    }
}

#[test]
fn a_header_bomb_is_refused() {
    let names: Vec<String> = (0..HEADERS_MAX).map(|i| format!("ce-x{i}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(read(&with(&many), b""), Err(Unreadable::Headers));
    let long = "x".repeat(HEADER_BYTES_MAX);
    assert_eq!(read(&with(&[("ce-x", &long)]), b""), Err(Unreadable::Headers));
}

#[test]
fn what_no_header_can_hold_is_an_error_and_not_a_panic() {
    let mut envelope = Envelope::event(topic(), "1", "/s", "t");
    envelope.extensions.set("long", "x".repeat(HEADER_BYTES_MAX));
    let error = encode(&envelope, Mode::Binary, Format::Json, Compat::Spec).unwrap_err();
    assert!(error.to_string().contains("structured"));
    envelope.extensions.set("long", "a\r\nb".to_owned());
    assert!(encode(&envelope, Mode::Binary, Format::Json, Compat::Raw).is_err());
    envelope.extensions.remove("long");
    envelope.datacontenttype = Some("text/plain\r\nx: y".into());
    assert!(encode(&envelope, Mode::Data, Format::Json, Compat::Spec).is_err());
}

#[test]
fn a_plain_body_becomes_an_event_with_its_media_type() {
    let headers = headers(&[("content-type", "text/plain")]);
    assert_eq!(read(&headers, b"hello"), Ok(Message::Plain));
    let envelope =
        plain(&headers, &Bytes::from_static(b"hello"), topic(), "7", "//meshbus/http/in").unwrap();
    assert_eq!(&*envelope.kind, PLAIN_TYPE);
    assert_eq!(envelope.datacontenttype.as_deref(), Some("text/plain"));
    assert_eq!(envelope.data, "hello");
}

#[test]
fn a_batch_over_the_limit_is_refused() {
    let event = Envelope::event(topic(), "1", "/s", "t");
    for format in [Format::Json, Format::Protobuf] {
        let (headers, body) = encode_batch([&event, &event, &event], format);
        assert!(
            matches!(decode(&headers, &body, &topic(), Compat::Spec, 3), Ok(Message::Batch(batch)) if batch.len() == 3)
        );
        assert!(decode(&headers, &body, &topic(), Compat::Spec, 2).is_err());
    }
}

/// Text CloudEvents allows: no control and no non-characters.
fn text() -> impl Strategy<Value = String> {
    let allowed = |c: &char| {
        !c.is_control() && !(0xfdd0..=0xfdef).contains(&u32::from(*c)) && u32::from(*c) & 0xfffe != 0xfffe
    };
    prop::collection::vec(any::<char>().prop_filter("forbidden", allowed), 1..20)
        .prop_map(|chars| chars.into_iter().collect())
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let context =
        (text(), text(), text(), prop::option::of(text()), prop::option::of(0..4_000_000_000_i64));
    let extensions = prop::collection::vec(("x[a-z0-9]{1,8}", text()), 0..4);
    let media_type = prop::option::of("application/[a-z]{1,8}");
    (context, extensions, media_type, prop::collection::vec(any::<u8>(), 0..64)).prop_map(
        |((id, source, kind, subject, time), extensions, media_type, data)| {
            let mut envelope = Envelope::event(topic(), id, source, kind);
            envelope.subject = subject.map(Into::into);
            envelope.time = time.and_then(|seconds| Timestamp::from_unix(seconds, 0));
            envelope.datacontenttype = media_type.map(Into::into);
            for (name, value) in extensions {
                envelope.extensions.set(name, value);
            }
            envelope.data = data.into();
            envelope
        },
    )
}

proptest! {
    #[test]
    fn binary_mode_gives_back_what_was_written(envelope in envelope()) {
        let (headers, body) = encode(&envelope, Mode::Binary, Format::Json, Compat::Spec).unwrap();
        let message = decode(&headers, &body, &topic(), Compat::Spec, 10).unwrap();
        prop_assert_eq!(message, Message::Event(Box::new(envelope)));
    }

    #[test]
    fn structured_and_batch_modes_give_back_what_was_written(envelope in envelope(), json in any::<bool>()) {
        let format = if json { Format::Json } else { Format::Protobuf };
        let (headers, body) = encode(&envelope, Mode::Structured, format, Compat::Spec).unwrap();
        let Message::Event(back) = decode(&headers, &body, &topic(), Compat::Spec, 10).unwrap() else {
            panic!("no event");
        };
        prop_assert_eq!((&back.id, &back.source, &back.subject), (&envelope.id, &envelope.source, &envelope.subject));
        prop_assert_eq!(&back.extensions, &envelope.extensions);
        prop_assert_eq!(&back.data, &envelope.data);
        let (headers, body) = encode_batch([&envelope, &envelope], format);
        let Message::Batch(batch) = decode(&headers, &body, &topic(), Compat::Spec, 10).unwrap() else {
            panic!("no batch");
        };
        prop_assert_eq!(batch, vec![Ok(*back.clone()), Ok(*back)]);
    }

    #[test]
    fn nothing_a_peer_sends_panics(
        pairs in prop::collection::vec(("(ce-)?[a-z0-9_]{1,12}|ce-id|ce-source|ce-type|content-type", prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        structured in prop::option::of(0..4_usize),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
        for (name, value) in pairs {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
        }
        if let Some(at) = structured {
            let media_type = ["+json", "-batch+json", "+protobuf", "-batch+protobuf"][at];
            headers.insert(CONTENT_TYPE, format!("application/cloudevents{media_type}").parse().unwrap());
        }
        drop(decode(&headers, &Bytes::from(body), &topic(), Compat::Spec, 10));
    }
}
