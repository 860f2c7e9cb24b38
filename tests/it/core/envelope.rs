//! Envelopes and instants: what is valid, what is kept, what gives the order.

use meshbus::core::{Envelope, Key, Timestamp, Topic, Value};
use proptest::prelude::*;

use super::{event, value};

/// An attribute and how to break it.
type Breakage = (&'static str, fn(&mut Envelope));

#[test]
fn a_context_that_cloudevents_forbids_is_refused_by_attribute() {
    let broken: [Breakage; 7] = [
        ("id", |event| event.id = "".into()),
        ("source", |event| event.source = "".into()),
        ("type", |event| event.kind = "a\u{0}b".into()),
        ("subject", |event| event.subject = Some("line\r\nbreak".into())),
        ("Upper", |event| event.extensions.set("Upper", "x")),
        ("data", |event| event.extensions.set("data", "x")),
        ("reason", |event| event.extensions.set("reason", "\u{85}")),
    ];
    for (attribute, breaks) in broken {
        let mut event = event("a", 1);
        breaks(&mut event);
        let error = event.validate().expect_err("it is broken");
        assert_eq!(error.attribute, attribute);
    }
    let mut good = event("a", 1);
    good.subject = Some("Euro € 😀 %20 \"".into());
    good.validate().expect("any other text is fine");
}

#[test]
fn an_instant_keeps_its_spelling() {
    for text in ["2026-11-22T10:00:00Z", "2026-11-22t10:00:00.123456789+05:30", "1985-04-12T23:20:50.52Z"] {
        assert_eq!(Timestamp::parse(text).expect("valid").text(), text);
    }
    for text in
        ["", "yesterday", "2026-11-22", "2026-11-22T10:00:00", "20261122T100000Z", "2026-13-01T00:00:00Z"]
    {
        assert!(Timestamp::parse(text).is_err(), "{text}");
    }
    let (a, b) = ("2026-11-22T12:00:00+02:00", "2026-11-22T10:00:00Z");
    let nanos = |text| Timestamp::parse(text).expect("valid").unix_nanos();
    assert_eq!(nanos(a), nanos(b));
}

#[test]
fn the_order_key_is_the_state_key_else_the_partition_key_else_the_topic() {
    let (mut a, mut b) = (event("a", 1), event("b", 2));
    assert_ne!(a.order_key(), b.order_key());
    a.extensions.set("partitionkey", "p");
    b.extensions.set("partitionkey", "p");
    assert_eq!(a.order_key(), b.order_key());
    let (mut x, y) = (value("x", "1"), value("y", "1"));
    assert_ne!(x.order_key(), y.order_key());
    x.extensions.set("partitionkey", "p");
    assert_eq!(x.order_key(), value("x", "2").order_key());
}

#[test]
fn an_attribute_is_read_in_its_canonical_text() {
    let mut event = event("a", 1);
    event.extensions.set("flag", true);
    event.extensions.set("count", -5);
    event.extensions.set("raw", Value::Binary(vec![0, 255].into()));
    let read = |name| event.attribute(name).map(|text| text.to_string());
    assert_eq!(read("flag").as_deref(), Some("true"));
    assert_eq!(read("count").as_deref(), Some("-5"));
    assert_eq!(read("raw").as_deref(), Some("AP8="));
    assert_eq!(read("type").as_deref(), Some("test.v1"));
    assert_eq!(read("none"), None);
}

proptest! {
    /// Extensions behave as a map, in order of name.
    #[test]
    fn extensions_are_a_map(operations in proptest::collection::vec(("[a-f]{1,2}", any::<Option<i32>>()), 0..40)) {
        let mut event = event("a", 1);
        let mut map = std::collections::BTreeMap::new();
        for (name, operation) in operations {
            if let Some(n) = operation {
                event.extensions.set(name.clone(), n);
                map.insert(name, Value::Integer(n));
            } else {
                prop_assert_eq!(event.extensions.remove(&name), map.remove(&name));
            }
        }
        let have: Vec<_> = event.extensions.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        prop_assert_eq!(have, map.into_iter().collect::<Vec<_>>());
    }

    /// Any text is taken or refused, never panicked at, and what is taken reads back as the same instant.
    #[test]
    fn no_text_makes_an_instant_panic(text in "[0-9TtZz:.+ -]{0,40}|\\PC{0,30}", seconds in -60_000_000_000_i64..250_000_000_000) {
        if let Ok(time) = Timestamp::parse(text.clone()) {
            prop_assert_eq!(time.text(), &text);
        }
        if let Some(time) = Timestamp::from_unix(seconds, 5) {
            prop_assert_eq!(time.unix_nanos(), i128::from(seconds) * 1_000_000_000 + 5);
        }
    }
}

#[test]
fn a_key_is_shown_whole() {
    let key = Key::new("east", "core/v1/Pod", "web/a b");
    assert_eq!(key.to_string(), "east core/v1/Pod \"web/a b\"");
    assert!(Topic::parse("k8s/east").expect("valid").is_reserved());
}
