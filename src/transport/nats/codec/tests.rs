//! Every event comes back from every form, and nothing that comes in makes a decoder panic.

use proptest::prelude::*;

use super::*;
use crate::core::Value;
use crate::core::spelling::to_subject;

fn context() -> Context {
    Context { id: "EVENTS/7".into(), source: "//nats/hub/EVENTS".into(), time: None }
}

fn read(subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<Envelope, DecodeError> {
    let headers = map(headers);
    let payload = Bytes::copy_from_slice(payload);
    let message = Message { subject, headers: Some(&headers), payload: &payload };
    Decoder::default().decode(message, context)
}

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    map
}

const MINIMAL: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];

fn full() -> Envelope {
    let mut envelope = Envelope::event(Topic::parse("a/b.c").unwrap(), "1", "/s p", "t");
    envelope.subject = Some("Euro € 😀".into());
    envelope.time = Some(Timestamp::parse("2026-01-01T00:00:00.5+01:00").unwrap());
    envelope.datacontenttype = Some("application/json".into());
    envelope.dataschema = Some("https://example.com/s?a=b%20c".into());
    envelope.extensions.set("quote", "say \"hi\" 100%");
    envelope.extensions.set("partitionkey", "ключ");
    envelope.data = Bytes::from_static(br#"{"a":1}"#);
    envelope
}

fn back(envelope: &Envelope, mode: ContentMode) -> Envelope {
    let encoded = Encoder::default().encode(envelope, mode).unwrap();
    let subject = to_subject(&envelope.topic).unwrap();
    let message = Message { subject: &subject, headers: Some(&encoded.headers), payload: &encoded.payload };
    Decoder::default().decode(message, context).unwrap()
}

#[test]
fn every_attribute_comes_back_from_binary_and_structured() {
    for mode in [ContentMode::Binary, ContentMode::Structured] {
        assert_eq!(back(&full(), mode), full(), "{mode:?}");
        let mut empty = full();
        empty.data = Bytes::new();
        assert_eq!(back(&empty, mode), empty, "{mode:?}");
    }
}

#[test]
fn a_decoder_keeps_nothing_of_one_message_for_the_next() {
    let mut decoder = Decoder::default();
    let payload = Bytes::new();
    for (subject, extra, extensions) in
        [("a.b", ("ce-x", "1"), 1), ("a.b", ("other", "1"), 0), ("c", ("CE-Y", "2"), 1)]
    {
        let mut headers = map(&MINIMAL);
        headers.insert(extra.0, extra.1);
        let message = Message { subject, headers: Some(&headers), payload: &payload };
        let envelope = decoder.decode(message, context).unwrap();
        assert_eq!(envelope.topic, from_subject(subject).unwrap());
        assert_eq!(envelope.extensions.len(), extensions);
    }
}

#[test]
fn binary_headers_are_spelt_as_the_binding_says() {
    let encoded = Encoder::default().encode(&full(), ContentMode::Binary).unwrap();
    let text = |name: &str| encoded.headers.get(name).map(HeaderValue::as_str);
    assert_eq!(text("ce-specversion"), Some("1.0"));
    assert_eq!(text("ce-subject"), Some("Euro%20%E2%82%AC%20%F0%9F%98%80"));
    assert_eq!(text("ce-datacontenttype"), Some("application/json"));
    assert_eq!(text("content-type"), None);
    assert_eq!(encoded.payload, full().data);
}

#[test]
fn the_data_mode_carries_the_origin_and_nothing_else() {
    let mut envelope = full();
    envelope.extensions.set("mborigin", "edge 1");
    envelope.extensions.set("mbhops", 2);
    let encoded = Encoder::default().encode(&envelope, ContentMode::Data).unwrap();
    assert_eq!(encoded.headers.len(), 2);
    let read = back(&envelope, ContentMode::Data);
    assert_eq!(read.kind, MESSAGE_TYPE);
    assert_eq!(read.extensions.get("mborigin"), Some(&Value::from("edge 1")));
    assert_eq!(read.extensions.get("mbhops"), Some(&Value::from("2")));
    assert!(Encoder::default().encode(&full(), ContentMode::Data).unwrap().headers.is_empty());
}

#[test]
fn an_attribute_name_that_is_none_is_refused_not_sent() {
    let mut envelope = full();
    envelope.extensions.set("Bad-Name\r\n", "x");
    assert!(Encoder::default().encode(&envelope, ContentMode::Binary).is_err());
}

#[test]
fn header_names_are_read_in_any_case_and_quoted_values_unquoted() {
    let read = read(
        "a",
        &[("CE-SpecVersion", "1.0"), ("Ce-Id", "1"), ("ce-SOURCE", "/s"), ("ce-type", "\"a \\\"t\\\"\"")],
        b"",
    );
    let read = read.unwrap();
    assert_eq!((&*read.id, &*read.kind), ("1", "a \"t\""));
}

#[test]
fn a_cloudevent_that_breaks_the_binding_is_malformed() {
    let broken: [&[(&str, &str)]; 6] = [
        &MINIMAL[1..],
        &[("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")],
        &[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s")],
        &[("ce-specversion", "1.0"), ("ce-id", "%C0%A0"), ("ce-source", "/s"), ("ce-type", "t")],
        &[("ce-specversion", "1.0"), ("ce-id", "1"), ("CE-ID", "2"), ("ce-source", "/s"), ("ce-type", "t")],
        &[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "a%0D%0Ab")],
    ];
    for headers in broken {
        assert!(read("a", headers, b"").is_err(), "{headers:?}");
    }
    let twice = map(&[("ce-x", "1"), ("ce-x", "2")]);
    let mut headers = map(&MINIMAL);
    twice
        .iter()
        .for_each(|(name, values)| values.iter().for_each(|v| headers.append(name.clone(), v.clone())));
    let message = Message { subject: "a", headers: Some(&headers), payload: &Bytes::new() };
    assert!(Decoder::default().decode(message, context).is_err());
    for content_type in ["application/cloudevents-batch+json", "application/cloudevents+avro"] {
        let error = read("a", &[("Content-Type", content_type)], b"[]").unwrap_err();
        assert!(error.to_string().contains("not taken over NATS"), "{error}");
    }
    assert!(read("a", &[("content-type", "application/cloudevents+json")], b"{").is_err());
}

#[test]
fn a_json_event_without_headers_is_structured_and_other_json_is_data() {
    let event = br#" {"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"x":1}}"#;
    assert_eq!(&*read("a", &[], event).unwrap().kind, "t");
    assert_eq!(&*read("a", &[("Nats-Msg-Id", "x")], event).unwrap().kind, "t");
    for payload in [&br#"{"specversion":"1.0"}"#[..], br#"{"a":"specversion"}"#, b"{", b"hello", b""] {
        let read = read("a", &[], payload).unwrap();
        assert_eq!((&*read.kind, &read.data[..]), (MESSAGE_TYPE, payload));
    }
    let plain = read("a", &[("Content-Type", "application/json")], event).unwrap();
    assert_eq!(&*plain.kind, MESSAGE_TYPE);
    assert_eq!(plain.datacontenttype.as_deref(), Some("application/json"));
}

#[test]
fn a_plain_message_keeps_the_headers_that_can_be_attributes() {
    let read =
        read("a.b", &[("Tenant", "blue sky"), ("X-Other", "1"), ("id", "9"), ("Nats-Msg-Id", "z")], b"x");
    let read = read.unwrap();
    assert_eq!((&*read.id, &*read.source), ("EVENTS/7", "//nats/hub/EVENTS"));
    assert_eq!(read.topic.as_str(), "a/b");
    let kept: Vec<_> =
        read.extensions.iter().map(|(name, value)| format!("{name}={}", value.to_text())).collect();
    assert_eq!(kept, ["tenant=blue sky"]);
    assert!(read.validate().is_ok());
}

#[test]
fn a_subject_that_is_no_topic_or_a_reserved_one_cannot_be_read() {
    for subject in ["a/b", "k8s.east.core.v1.Pod", "bus.x", "a..b", ""] {
        assert!(read(subject, &[], b"x").is_err(), "{subject}");
    }
}

#[test]
fn a_dead_letter_is_valid_whatever_it_stands_for() {
    let payload = Bytes::from_static(b"\xff\x00");
    let headers = map(&[("Tenant", "blue")]);
    for subject in ["a b\u{7}", "a.b"] {
        let message = Message { subject, headers: Some(&headers), payload: &payload };
        let topic = Topic::parse("dead/x").unwrap();
        let envelope = undecodable(message, topic, context(), "bad\r\n\u{1}thing");
        envelope.validate().unwrap();
        assert_eq!(envelope.extensions.get(REASON), Some(&Value::from("badthing")));
        assert_eq!(envelope.data, payload);
    }
}

#[test]
fn the_message_id_tells_source_id_subject_and_change_apart() {
    let one = full();
    let id = message_id(&one, "a");
    assert_eq!(id.len(), 32);
    assert_eq!(id, message_id(&one.clone(), "a"));
    let mut other = one.clone();
    other.id = "2".into();
    let mut moved = one.clone();
    // The boundary between source and id counts.
    (moved.source, moved.id) = ("/s p1".into(), "".into());
    let key = crate::core::Key::new("s", "t", "n");
    let mut put = one.clone();
    put.change = Change::Put(key.clone(), "5".into());
    let mut put_again = one.clone();
    put_again.change = Change::Put(key.clone(), "6".into());
    let mut gone = one.clone();
    gone.change = Change::Delete(key, "5".into(), crate::core::Cause::Deleted);
    let mut all: Vec<_> = [&other, &moved, &put, &put_again, &gone].map(|e| message_id(e, "a")).to_vec();
    all.push(message_id(&one, "b"));
    all.push(id);
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}\u{fdd0}-\u{fdef}\u{fffe}\u{ffff}]{1,12}"
        .prop_filter("no non-characters", |text| !text.chars().any(|c| u32::from(c) & 0xfffe == 0xfffe))
}

prop_compose! {
    fn event()(
        id in text(), source in text(), kind in text(), subject in proptest::option::of(text()),
        extensions in proptest::collection::btree_map("x[a-z0-9]{1,8}", text(), 0..5),
        data in proptest::collection::vec(any::<u8>(), 0..64),
        topic in "[a-z.]{1,4}(/[a-zé.%]{0,4}){0,3}",
    ) -> Envelope {
        let mut envelope = Envelope::event(Topic::parse(topic).unwrap(), id, source, kind);
        envelope.subject = subject.map(Into::into);
        for (name, value) in extensions {
            envelope.extensions.set(name, value);
        }
        envelope.datacontenttype = Some("application/octet-stream".into());
        envelope.data = data.into();
        envelope
    }
}

proptest! {
    #[test]
    fn any_event_comes_back_from_binary_and_structured(envelope in event()) {
        prop_assume!(!envelope.topic.is_reserved());
        for mode in [ContentMode::Binary, ContentMode::Structured] {
            prop_assert_eq!(&back(&envelope, mode), &envelope);
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused(
        subject in "[ -~é./]{0,12}",
        headers in proptest::collection::vec(
            ("(ce-)?(id|type|source|specversion|time|content-type|[a-z]{1,5})", "[ -~é%]{0,12}"), 0..6),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if let Ok(envelope) = read(&subject, &headers, &payload) {
            prop_assert!(envelope.validate().is_ok());
        }
    }
}
