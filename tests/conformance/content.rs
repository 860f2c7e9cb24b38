//! What is carried: every attribute in its canonical text form, and data byte for byte.

use bytes::Bytes;
use meshbus::core::{Envelope, Timestamp, Value};

use super::probe::Answering;
use super::world::{LIMIT, event};
use super::{Bench, Verdict};

pub(super) async fn carries_every_attribute(bench: &Bench<'_>) -> Verdict {
    let text = |text: &str| Value::String(text.to_owned().into());
    let mut all = event("id with spaces € 😀");
    all.source = "https://example.com/a%20b?c=d&e=%E2%82%AC#f".into();
    all.kind = "dev.meshbus.test.v1".into();
    all.subject = Some("Euro € 😀".into());
    all.time = Some(Timestamp::parse("2018-04-05T17:31:00.123456789+02:00").expect("a time"));
    all.dataschema = Some("https://example.com/schema#/a".into());
    for (name, value) in [
        ("quotes", text(r#"a "quoted" \ and 'single'"#)),
        ("percent", text("100% %41 %E2%82%AC %")),
        ("spaces", text(" led, two  inside, trailed ")),
        ("separators", text("a+b=c;d,e:f/g{h}")),
        ("combining", text("a\u{301}\u{200d}٣")),
        ("long", text(&"x".repeat(2000))),
        ("yes", Value::Boolean(true)),
        ("no", Value::Boolean(false)),
        ("least", Value::Integer(i32::MIN)),
        ("uri", Value::Uri("https://example.com/%20".into())),
        ("reference", Value::UriRef("../a?b#c".into())),
        ("moment", Value::Timestamp(Timestamp::parse("1999-12-31T23:59:59.5-11:30").expect("a time"))),
        ("binary", Value::Binary(Bytes::from_static(&[0, 1, 254, 255]))),
    ] {
        all.extensions.set(name, value);
    }
    let mut least = event("least");
    least.datacontenttype = None;
    least.data = Bytes::new();
    arrive_the_same(bench, vec![all, least]).await
}

pub(super) async fn carries_empty_and_binary_data(bench: &Bench<'_>) -> Verdict {
    let cases: [(&str, Option<&str>, Bytes); 9] = [
        ("empty", None, Bytes::new()),
        ("empty-json", Some("application/json"), Bytes::new()),
        ("zeros", Some("application/octet-stream"), Bytes::from_static(&[0, 0, 0])),
        ("every-byte", Some("application/octet-stream"), (0..=255).collect()),
        ("odd-json", Some("application/json"), Bytes::from_static(b" {\"a\" :\t1.50 ,\r\n\"b\":[ ]}\n")),
        ("no-json", Some("application/json"), Bytes::from_static(b"{not json")),
        ("null", Some("application/json"), Bytes::from_static(b"null")),
        ("text", Some("text/plain; charset=utf-8"), Bytes::from("Euro € 😀\r\n \"quoted\" \u{0}")),
        ("xml", Some("application/xml"), Bytes::from_static(b"<a b='c'>\n</a>")),
    ];
    let envelopes = cases.into_iter().map(|(id, datacontenttype, data)| {
        let mut envelope = event(id);
        envelope.datacontenttype = datacontenttype.map(Into::into);
        envelope.data = data;
        envelope
    });
    arrive_the_same(bench, envelopes.collect()).await
}

/// Sends them and compares all that arrived with what was sent.
async fn arrive_the_same(bench: &Bench<'_>, sent: Vec<Envelope>) -> Verdict {
    let world = bench.open(Answering::Take).await;
    let receipts = world.publish(sent.clone()).await;
    for (receipt, envelope) in receipts.iter().zip(&sent) {
        assert!(receipt.stored().is_ok(), "{}: {receipt:?}", envelope.id);
    }
    let wanted = sent.len();
    world
        .probe
        .until(&format!("{wanted} events arrive"), LIMIT, |arrived, _| arrived.len() >= wanted)
        .await;
    let arrived = world.probe.arrived();
    let exact = bench.subject.traits().exact_json;
    let mut wrong = Vec::new();
    for envelope in &sent {
        match arrived.iter().find(|found| found.id == envelope.id) {
            Some(found) => differences(envelope, found, exact, &mut wrong),
            None => wrong.push(format!("{:?} is not there by its id", &*envelope.id)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.close().await;
    Verdict::Holds
}

fn differences(sent: &Envelope, found: &Envelope, exact: bool, wrong: &mut Vec<String>) {
    let own = |name: &str| name.starts_with("mb");
    let context = ["source", "type", "subject", "time", "datacontenttype", "dataschema"];
    let named = |envelope: &Envelope| -> Vec<String> {
        let extensions = envelope.extensions.iter().map(|(name, _)| name.to_string());
        extensions.filter(|name| !own(name)).collect()
    };
    let mut names: Vec<String> = context.map(str::to_owned).to_vec();
    names.extend(named(sent));
    names.extend(named(found));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, after) = (sent.attribute(&name), found.attribute(&name));
        if before != after {
            wrong.push(format!("{:?}: {name} was {before:?} and became {after:?}", &*sent.id));
        }
    }
    if sent.data != found.data && (exact || !same_json(&sent.data, &found.data)) {
        wrong.push(format!("{:?}: data was {:?} and became {:?}", &*sent.id, sent.data, found.data));
    }
}

fn same_json(a: &[u8], b: &[u8]) -> bool {
    let value = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    value(a).is_some_and(|a| Some(a) == value(b))
}
