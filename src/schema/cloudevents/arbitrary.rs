//! Envelopes for property tests: every attribute type, every kind of data, awkward text.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::core::{Envelope, Timestamp, Topic, Value};

/// Any valid event: optional attributes are absent or not empty.
pub(crate) fn event() -> impl Strategy<Value = Envelope> {
    let context = (text(), text(), text(), option::of(text()), option::of(time()), option::of(text()));
    let extensions = btree_map("x[a-z0-9]{0,12}", value(), 0..6);
    (context, extensions, payload()).prop_map(|(context, extensions, (datacontenttype, data))| {
        let (id, source, kind, subject, time, dataschema) = context;
        let mut event = Envelope::event(topic(), id, source, kind);
        event.subject = subject.map(Into::into);
        event.time = time;
        event.dataschema = dataschema.map(Into::into);
        event.datacontenttype = datacontenttype.map(Into::into);
        for (name, value) in extensions {
            event.extensions.set(name, value);
        }
        event.data = data;
        event
    })
}

/// The topic of every arbitrary event.
pub(crate) fn topic() -> Topic {
    Topic::parse("events/test").unwrap()
}

/// Attribute text: not empty, any plane of Unicode, without what CloudEvents forbids.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,24}",
        "[ -~\u{a0}-\u{d7ff}\u{e000}-\u{fdcf}\u{fdf0}-\u{fffd}\u{10000}-\u{1fffd}]{1,12}",
        Just("Euro € 😀 \"100%\" \\".to_owned()),
        Just("\u{2028}\u{feff}é".to_owned()),
    ]
}

/// A time, in its sender's spelling.
pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    ((0i64..4_000_000_000), 0u32..1_000_000_000, -14i32 * 60..14 * 60).prop_map(
        |(seconds, nanos, offset)| {
            let utc = Timestamp::from_unix(seconds, nanos.cast_signed()).unwrap();
            let utc = utc.text().trim_end_matches('Z');
            let (sign, minutes) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
            let text = match offset {
                0 => format!("{utc}Z"),
                _ => format!("{utc}{sign}{:02}:{:02}", minutes / 60, minutes % 60),
            };
            Timestamp::parse(text).unwrap()
        },
    )
}

/// An extension's value, of any type.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Integer),
        text().prop_map(|text| Value::String(text.into())),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Binary(bytes.into())),
        text().prop_map(|text| Value::Uri(text.into())),
        text().prop_map(|text| Value::UriRef(text.into())),
        time().prop_map(Value::Timestamp),
    ]
}

/// A media type and data that fits it, or does not.
pub(crate) fn payload() -> impl Strategy<Value = (Option<String>, Bytes)> {
    let media_type = option::of(prop_oneof![
        Just("application/json".to_owned()),
        Just("Application/Problem+JSON; charset=utf-8".to_owned()),
        Just("text/plain".to_owned()),
        Just("text/plain; charset=iso-8859-1".to_owned()),
        Just("application/xml".to_owned()),
        Just("application/octet-stream".to_owned()),
        text(),
    ]);
    let data = prop_oneof![
        Just(Bytes::new()),
        json().prop_map(Bytes::from),
        ".*".prop_map(Bytes::from),
        vec(any::<u8>(), 0..64).prop_map(Bytes::from),
        // Large enough to be shared with the message rather than copied.
        "[ -~é\n]{3000,6000}".prop_map(Bytes::from),
    ];
    (media_type, data)
}

/// JSON on one line, without space around it.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Into::into),
            btree_map(".{0,6}", inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    });
    value.prop_map(|value| value.to_string())
}
