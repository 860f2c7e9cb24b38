//! Tests of the message codec.

use proptest::prelude::*;

use super::*;
use crate::core::Timestamp;
use crate::core::Value;

const BINARY: Publication = Publication { qos: Qos::AtLeastOnce, retain: false, mode: ContentMode::Binary };

fn origin() -> Origin {
    Origin::new("sensors", "devices".into()).unwrap()
}

fn event() -> Envelope {
    let mut event = Envelope::event(Topic::parse("a/b").unwrap(), "1", "/s", "t");
    event.data = Bytes::from_static(b"data");
    event
}

fn message(topic: &'static str, payload: &'static [u8]) -> Publish {
    Publish { topic: topic.into(), payload: payload.into(), ..Publish::default() }
}

fn with_properties(user: &[(&str, &str)], content_type: Option<&str>) -> Publish {
    let user_properties = user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let properties = PublishProperties {
        user_properties,
        content_type: content_type.map(str::to_owned),
        ..PublishProperties::default()
    };
    Publish { properties: Some(properties), ..message("a/b", b"data") }
}

fn read(publish: Publish) -> Result<Envelope, DecodeError> {
    decode(publish, &mut origin(), false)
}

#[test]
fn binary_attributes_are_user_properties_without_prefix() {
    let mut event = event();
    event.datacontenttype = Some("text/plain".into());
    event.extensions.set("n", 7);
    let publish = encode(&event, &"x/y".into(), BINARY, Version::V5).unwrap();
    let properties = publish.properties.unwrap();
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    let pairs: Vec<_> = properties.user_properties.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t"), ("n", "7")]);
    assert_eq!((&publish.topic[..], &publish.payload[..]), (&b"x/y"[..], &b"data"[..]));
}

#[test]
fn a_message_without_the_three_attributes_is_an_event_of_its_own() {
    let mut origin = origin();
    let mut read = |publish| decode(publish, &mut origin, false).unwrap();
    let plain = read(message("a/b", b"21.5"));
    assert_eq!((&*plain.source, &*plain.kind), ("//mqtt/sensors", "dev.meshbus.message.v1"));
    let marked = read(with_properties(
        &[("id", "7"), ("trace", "1"), ("trace", "2"), ("No-Name", "x"), ("bad", "a\nb")],
        Some("image/png"),
    ));
    assert_ne!(plain.id, marked.id);
    assert_ne!(marked.id, "7");
    assert_eq!(marked.datacontenttype.as_deref(), Some("image/png"));
    assert_eq!(marked.attribute("trace").as_deref(), Some("2"));
    assert_eq!(marked.extensions.len(), 1);
}

#[test]
fn of_duplicate_attributes_the_last_counts_and_impossible_names_are_left_out() {
    let user = [
        ("id", "1"),
        ("source", "/s"),
        ("type", "t"),
        ("id", "2"),
        ("X-Forwarded", "x"),
        ("data", "x"),
        ("time", ""),
    ];
    let event = read(with_properties(&user, None)).unwrap();
    assert_eq!((&*event.id, event.extensions.len()), ("2", 0));
}

#[test]
fn an_event_that_breaks_the_rules_is_an_error_that_names_the_attribute() {
    let whole = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")];
    for (change, word) in [
        (("specversion", "0.3"), "specversion"),
        (("id", ""), "id"),
        (("time", "yesterday"), "time"),
        (("subject", "a\u{7}"), "subject"),
    ] {
        let user: Vec<_> =
            whole.iter().copied().filter(|(name, _)| *name != change.0).chain([change]).collect();
        let error = read(with_properties(&user, None)).unwrap_err();
        assert!(error.reason.contains(word), "{word}: {error}");
    }
    let error = read(with_properties(&whole[..3], None)).unwrap_err();
    assert!(error.reason.contains("type"), "{error}");
    let batch = with_properties(&[], Some("application/cloudevents-batch+json"));
    assert!(read(batch).unwrap_err().reason.contains("application/cloudevents+json"));
    assert!(read(message("a/+/b", b"")).is_err());
    assert!(read(Publish { topic: Bytes::from_static(b"\xff"), ..Publish::default() }).is_err());
}

#[test]
fn structured_events_are_known_by_content_type_or_by_specversion() {
    let json = br#"{"specversion":"1.0","id":"9","source":"/s","type":"t","data":{"a":1}}"#;
    let mut declared = message("a/b", json);
    declared.properties = Some(PublishProperties {
        content_type: Some("Application/CloudEvents+JSON; charset=utf-8".into()),
        ..PublishProperties::default()
    });
    assert_eq!(read(declared).unwrap().id, "9");
    assert_eq!(read(message("a/b", json)).unwrap().id, "9");
    // What only looks like one is data.
    let nested = br#"{"inner":{"specversion":"1.0"}}"#;
    let plain = read(message("a/b", nested)).unwrap();
    assert_eq!((&*plain.kind, &plain.data[..]), (MESSAGE_TYPE, &nested[..]));
    let broken = with_properties(&[], Some("application/cloudevents+json"));
    assert!(read(broken).is_err());
}

#[test]
fn a_retained_message_is_a_value_and_an_empty_one_its_end() {
    let mut origin = origin();
    let put = decode(message("a/b", b"on"), &mut origin, true).unwrap();
    let key = Key::new("devices", Key::VALUE, "a/b");
    let Change::Put(found, version) = &put.change else { panic!("{put:?}") };
    assert_eq!((found, version.len()), (&key, 32));
    assert_eq!(state_version(&message("c", b"on")), *version, "of the content only");
    assert_ne!(state_version(&message("a/b", b"off")), *version);
    let empty = Publish { properties: Some(PublishProperties::default()), ..message("a/b", b"on") };
    assert_eq!(state_version(&empty), *version, "no properties and empty ones are the same");
    let gone = decode(message("a/b", b""), &mut origin, true).unwrap();
    assert_eq!(gone.change, Change::Delete(key, "".into(), Cause::Deleted));
}

#[test]
fn deletions_clear_what_is_retained_and_nothing_else_may() {
    let key = Key::new("x", Key::VALUE, "a/b");
    let retain = Publication { retain: true, ..BINARY };
    let mut delete = Envelope::delete(Topic::parse("a/b").unwrap(), key, "1", Cause::Deleted);
    (delete.id, delete.source, delete.kind) = ("1".into(), "/s".into(), "gone".into());
    delete.data = Bytes::from_static(b"last value");
    for mode in [ContentMode::Binary, ContentMode::Structured, ContentMode::Data] {
        let publish = encode(&delete, &"a/b".into(), Publication { mode, ..retain }, Version::V5).unwrap();
        assert!(publish.payload.is_empty() && publish.retain, "{mode:?}");
    }
    let told = encode(&delete, &"a/b".into(), BINARY, Version::V5).unwrap();
    assert_eq!(told.payload, "last value");
    let empty = Envelope { data: Bytes::new(), ..event() };
    assert!(encode(&empty, &"a/b".into(), retain, Version::V5).unwrap_err().contains("structured"));
    assert!(encode(&empty, &"a/b".into(), BINARY, Version::V5).unwrap().payload.is_empty());
}

#[test]
fn what_would_end_the_connection_is_refused_by_name() {
    for topic in ["", "a/+", "a/#", "$SYS/x", "a\u{0}", "a\u{85}b", "a\u{fffe}", &"x".repeat(70_000)] {
        assert!(encode(&event(), &topic.into(), BINARY, Version::V5).is_err(), "{topic:?}");
    }
    let mut long = event();
    long.extensions.set("long", "x".repeat(65_536));
    assert!(encode(&long, &"a".into(), BINARY, Version::V5).unwrap_err().contains("attribute long"));
    let mut long = event();
    long.datacontenttype = Some("x".repeat(65_536).into());
    for mode in [ContentMode::Binary, ContentMode::Data] {
        let publication = Publication { mode, ..BINARY };
        assert!(
            encode(&long, &"a".into(), publication, Version::V5).unwrap_err().contains("datacontenttype")
        );
    }
}

#[test]
fn a_dead_letter_keeps_the_data_and_says_why() {
    let letter = dead_letter(&mut origin(), b"a/\xff", Bytes::from_static(b"data"), "bad\nthing");
    assert_eq!((letter.topic.as_str(), &letter.data[..]), ("dead/sensors", &b"data"[..]));
    assert_eq!(letter.attribute("mbreason").as_deref(), Some("badthing"));
    letter.validate().unwrap();
}

#[test]
fn filters_match_as_mqtt_says() {
    for (filter, topic, wanted) in [
        ("a/b", "a/b", true),
        ("a/+", "a/b", true),
        ("a/+", "a/b/c", false),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("#", "a", true),
        ("#", "$SYS/a", false),
        ("+/a", "$SYS/a", false),
        ("$SYS/#", "$SYS/a", true),
        ("+", "ä", true),
        ("a/+/c", "a//c", true),
        ("a/b", "a/b/", false),
    ] {
        assert_eq!(matches(filter, topic), wanted, "{filter} {topic}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äπ日]{1,12}"
}

prop_compose! {
    fn any_event()(
        id in text(), source in "[a-z/:]{1,12}", kind in text(), subject in proptest::option::of(text()),
        media in proptest::option::of(prop_oneof![Just("text/plain"), Just("application/json"), Just("image/png")]),
        time in any::<bool>(), schema in proptest::option::of("https://x/[a-z]{1,5}"),
        extensions in proptest::collection::vec(("[a-z][a-z0-9]{0,8}", text()), 0..5),
        data in proptest::collection::vec(any::<u8>(), 0..64),
    ) -> Envelope {
        let mut event = Envelope::event(Topic::parse("a/b").unwrap(), id, source, kind);
        event.subject = subject.map(Into::into);
        event.datacontenttype = media.map(Into::into);
        event.dataschema = schema.map(Into::into);
        event.time = time.then(|| Timestamp::parse("2026-01-02T03:04:05.6+07:00").unwrap());
        for (name, value) in extensions {
            if check_name(&name).is_ok() {
                event.extensions.set(name, Value::String(value.into()));
            }
        }
        event.data = data.into();
        event
    }
}

proptest! {
    #[test]
    fn binary_mode_loses_nothing(event in any_event()) {
        let publish = encode(&event, &"a/b".into(), BINARY, Version::V5).unwrap();
        prop_assert_eq!(read(publish).unwrap(), event);
    }

    #[test]
    fn structured_mode_loses_nothing(mut event in any_event(), version in prop_oneof![Just(Version::V5), Just(Version::V311)]) {
        // The JSON format takes data without a type for JSON, and JSON has to be JSON.
        event.datacontenttype.get_or_insert("image/png".into());
        if event.datacontenttype.as_deref() == Some("application/json") {
            event.data = Bytes::from_static(b"{\"a\":1}");
        }
        let publication = Publication { mode: ContentMode::Structured, ..BINARY };
        let publish = encode(&event, &"a/b".into(), publication, version).unwrap();
        prop_assert_eq!(read(publish).unwrap(), event);
    }

    #[test]
    fn no_message_makes_the_decoder_panic(
        topic in proptest::collection::vec(any::<u8>(), 0..20),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        user in proptest::collection::vec((prop_oneof![
            Just("id".to_owned()), Just("source".to_owned()), Just("type".to_owned()), Just("specversion".to_owned()),
            ".{0,10}",
        ], ".{0,10}"), 0..6),
        content_type in proptest::option::of(prop_oneof![".{0,20}", Just("application/cloudevents+json".to_owned()), Just("application/cloudevents+protobuf".to_owned())]),
        state in any::<bool>(),
    ) {
        let properties = PublishProperties { user_properties: user, content_type, ..PublishProperties::default() };
        let publish = Publish {
            topic: topic.into(), payload: payload.into(), properties: Some(properties), ..Publish::default()
        };
        if let Ok(envelope) = decode(publish, &mut origin(), state) {
            prop_assert!(envelope.validate().is_ok());
        }
    }
}
