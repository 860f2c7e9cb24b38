//! The protobuf format against bytes of protoc, its own errors, and anything at all.

use proptest::prelude::*;

use super::super::arbitrary;
use super::*;

/// `protoc --deterministic_output --encode=io.cloudevents.v1.CloudEvent cloudevents.proto`, libprotoc 35.1,
/// for the event of [`golden`].
const GOLDEN: &str = concat!(
    "0a013112022f731a03312e302201742a0b0a0561626f6f6c120208012a130a0462696e74120b10f9ffffffffffffffff01",
    "2a0e0a066362797465731204220200ff2a1f0a0f64617461636f6e74656e7474797065120c1a0a746578742f706c61696e",
    "2a250a0a64617461736368656d6112172a1568747470733a2f2f6578616d706c652e636f6d2f732a0c0a04657265661204",
    "32022f652a160a0474696d65120e3a0c0895af85cc061080cab5ee013a0d4575726f20e282ac20f09f9880",
);

fn event() -> Envelope {
    Envelope::event(arbitrary::topic(), "1", "/s", "t")
}

fn golden() -> Envelope {
    let mut event = event();
    event.datacontenttype = Some("text/plain".into());
    event.dataschema = Some("https://example.com/s".into());
    event.time = Some(Timestamp::parse("2026-02-03T02:04:05.5Z").unwrap());
    event.extensions.set("abool", true);
    event.extensions.set("bint", -7);
    event.extensions.set("cbytes", Value::Binary(Bytes::from_static(&[0, 255])));
    event.extensions.set("eref", Value::UriRef("/e".into()));
    event.data = "Euro € 😀".into();
    event
}

fn read(message: &CloudEvent) -> Result<Envelope, DecodeError> {
    decode(&message.encode_to_vec().into(), arbitrary::topic())
}

fn with(name: &str, attr: Attr) -> CloudEvent {
    let mut message = message(&event());
    message.attributes.insert(name.to_owned(), CloudEventAttributeValue { attr: Some(attr) });
    message
}

#[test]
fn the_wire_bytes_are_those_of_the_proto_file() {
    let bytes = data_encoding::HEXLOWER.decode(GOLDEN.as_bytes()).unwrap();
    assert_eq!(encode(&golden()), bytes);
    assert_eq!(decode(&bytes.into(), arbitrary::topic()).unwrap(), golden());
}

#[test]
fn data_is_text_or_binary_by_its_media_type_and_bytes() {
    for (media_type, data, text) in [
        (Some("text/plain"), &b"a"[..], true),
        (Some("application/json; charset=utf-8"), b"{}", true),
        (Some("text/plain"), b"\xff", false),
        (Some("application/octet-stream"), b"a", false),
        (None, b"a", false),
    ] {
        let mut event = event();
        event.datacontenttype = media_type.map(Into::into);
        event.data = Bytes::from_static(data);
        assert_eq!(matches!(message(&event).data, Some(Data::TextData(_))), text, "{media_type:?}");
        assert_eq!(read(&message(&event)).unwrap(), event);
    }
    assert_eq!(message(&event()).data, None);
}

#[test]
fn a_message_in_an_any_becomes_its_bytes_and_is_one_again() {
    let type_url = "type.googleapis.com/google.protobuf.Duration";
    let any = google::Any { type_url: type_url.to_owned(), value: Bytes::from_static(b"\x08\x01") };
    let mut sent = message(&event());
    sent.data = Some(Data::ProtoData(any.clone()));
    let event = read(&sent).unwrap();
    assert_eq!(event.data, &b"\x08\x01"[..]);
    assert_eq!(event.datacontenttype.as_deref(), Some("application/protobuf"));
    assert_eq!(event.dataschema.as_deref(), Some(type_url));
    assert_eq!(message(&event).data, sent.data);

    let mut own = with("dataschema", Attr::CeUri("https://example.com/s".to_owned()));
    own.data = Some(Data::ProtoData(any));
    assert_eq!(read(&own).unwrap().dataschema.as_deref(), Some("https://example.com/s"));
}

#[test]
fn a_wrong_attribute_is_an_error_that_names_it() {
    let instant = |seconds, nanos| Attr::CeTimestamp(google::Timestamp { seconds, nanos });
    for (name, attr) in [
        ("id", Attr::CeString("2".into())),
        ("specversion", Attr::CeString("1.0".into())),
        ("subject", Attr::CeInteger(1)),
        ("subject", instant(0, 0)),
        ("time", Attr::CeString("now".into())),
        ("time", instant(i64::MAX, 0)),
        ("time", instant(0, -1)),
        ("time", instant(FIRST_SECOND - 1, 0)),
        ("BadName", Attr::CeBoolean(true)),
        ("control", Attr::CeUri("\n".into())),
        ("data", Attr::CeBytes(Bytes::new())),
    ] {
        let error = read(&with(name, attr)).unwrap_err();
        assert!(error.reason.contains(name), "{name}: {error}");
    }
}

#[test]
fn a_time_as_text_keeps_its_spelling_and_one_before_year_one_is_written_so() {
    let text = "2026-02-03T04:05:06+02:00";
    let event = read(&with("time", Attr::CeString(text.into()))).unwrap();
    assert_eq!(event.time.unwrap().text(), text);
    let year_zero = Timestamp::parse("0000-06-01T00:00:00Z").unwrap();
    assert_eq!(instant(&year_zero), Attr::CeString("0000-06-01T00:00:00Z".into()));
}

#[test]
fn what_is_missing_is_named() {
    for (name, remove) in [
        ("id", (|message| message.id.clear()) as fn(&mut CloudEvent)),
        ("source", |message| message.source.clear()),
        ("type", |message| message.r#type.clear()),
        ("specversion", |message| message.spec_version.clear()),
    ] {
        let mut message = message(&event());
        remove(&mut message);
        let error = read(&message).unwrap_err();
        assert!(error.reason.contains(name), "{error}");
    }
    let mut old = message(&event());
    old.spec_version = "0.3".to_owned();
    assert!(read(&old).unwrap_err().reason.contains("\"0.3\""));
}

#[test]
fn one_bad_event_does_not_spoil_its_batch() {
    let mut bytes = encode_batch([&golden(), &event()]);
    let second = bytes.len();
    bytes.extend([0x0a, 0x02, 0xff, 0xff, 0x12, 0x01, 0x00]);
    let bytes = Bytes::from(bytes);
    let events = decode_batch(&bytes, &arbitrary::topic(), 3).unwrap();
    assert_eq!(events[0].as_ref().unwrap(), &golden());
    assert_eq!(events[1].as_ref().unwrap(), &event());
    assert_eq!(events[2].as_ref().unwrap_err().offset, Some(second));
    assert!(decode_batch(&bytes, &arbitrary::topic(), 2).unwrap_err().reason.contains("at most 2"));
    for bad in [&b"\x0a\x05a"[..], b"\x08\x01", b"\xff", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
        assert!(decode_batch(&Bytes::from_static(bad), &arbitrary::topic(), 2).is_err());
    }
    assert!(decode_batch(&Bytes::new(), &arbitrary::topic(), 0).unwrap().is_empty());
}

/// Instants in the one spelling that seconds and nanoseconds have.
fn respelt(mut event: Envelope) -> Envelope {
    let respell = |time: &Timestamp| match instant(time) {
        Attr::CeTimestamp(time) => Timestamp::from_unix(time.seconds, time.nanos).unwrap(),
        _ => time.clone(),
    };
    event.time = event.time.as_ref().map(respell);
    let extensions: Vec<_> = event.extensions.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    for (name, value) in extensions {
        if let Value::Timestamp(time) = value {
            event.extensions.set(name, Value::Timestamp(respell(&time)));
        }
    }
    event
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(event in arbitrary::event()) {
        let bytes = Bytes::from(encode(&event));
        prop_assert_eq!(decode(&bytes, arbitrary::topic()).unwrap(), respelt(event));
    }

    #[test]
    fn a_batch_is_read_by_the_generated_type_too(events in proptest::collection::vec(arbitrary::event(), 0..5)) {
        let bytes = Bytes::from(encode_batch(&events));
        let generated = meshbus_proto::cloudevents::CloudEventBatch::decode(bytes.clone()).unwrap();
        prop_assert_eq!(generated.events, events.iter().map(message).collect::<Vec<_>>());
        let back = decode_batch(&bytes, &arbitrary::topic(), 5).unwrap();
        let back: Vec<_> = back.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(back, events.into_iter().map(respelt).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_panic_the_decoder(bytes in any::<Vec<u8>>()) {
        let bytes = Bytes::from(bytes);
        decode(&bytes, arbitrary::topic()).ok();
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
        if let Ok(event) = decode(&Bytes::from(bytes), arbitrary::topic()) {
            prop_assert!(event.validate().is_ok());
        }
    }
}
