//! The packed form against its document, and against strangers' bytes.

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::core::Seq;
use crate::core::topic::Topic;

fn envelope() -> Envelope {
    let mut envelope = Envelope::event(Topic::parse("a/b").unwrap(), "1", "/s", "t");
    envelope.time = Some(Timestamp::from_unix(-1, 5).unwrap());
    envelope.dataschema = Some("urn:x".into());
    envelope.extensions.set("bool", true);
    envelope.extensions.set("int", -2);
    envelope.extensions.set("bin", Value::Binary(Bytes::from_static(b"\0\xff")));
    envelope.data = Bytes::from_static(b"data");
    envelope
}

fn input(envelope: &Envelope) -> Input<'_> {
    let now = Instant::now();
    Input { envelope, attempt: 3, seq: Seq(1), route: "r", since: now, now }
}

fn decoded(answer: &[u8]) -> Result<Verdict, String> {
    let envelope = envelope();
    let mut answers = decode(&[input(&envelope)], Bytes::copy_from_slice(answer))?;
    match answers.wrong.pop() {
        Some((_, wrong)) => Err(wrong),
        None => Ok(answers.verdicts.pop().expect("one")),
    }
}

#[test]
fn an_event_is_written_as_documented() {
    let envelope = envelope();
    let mut frames = b"what was there before".to_vec();
    encode(&[input(&envelope)], &Shown::default(), &mut frames);
    let body: &[u8] = b"\x03\0\0\0\x09\0\
        \x02id\x02\x01\0\0\x001\
        \x06source\x05\x02\0\0\0/s\
        \x04type\x02\x01\0\0\0t\
        \x04time\x06\xff\xff\xff\xff\xff\xff\xff\xff\x05\0\0\0\
        \x0adataschema\x04\x05\0\0\0urn:x\
        \x03bin\x03\x02\0\0\0\0\xff\
        \x04bool\0\x01\
        \x03int\x01\xfe\xff\xff\xff\
        \x07mbtopic\x02\x03\0\0\0a/b\
        \x01\x04\0\0\0data";
    assert_eq!(frames, [&[1][..], &(body.len() as u32).to_le_bytes(), body].concat());
}

#[test]
fn what_is_not_shown_is_not_written() {
    let envelope = envelope();
    let mut frames = Vec::new();
    encode(&[input(&envelope)], &Shown::new(Some(vec!["type".into()]), Body::None), &mut frames);
    assert_eq!(frames, b"\x01\x12\0\0\0\x03\0\0\0\x01\0\x04type\x02\x01\0\0\0t\0");
}

#[test]
fn each_verdict_is_read_as_documented() {
    assert!(matches!(decoded(b"\x01\0"), Ok(Verdict::Pass)));
    assert!(matches!(decoded(b"\x01\x01\x03\0\0\0why"), Ok(Verdict::Drop(Some(why))) if *why == *"why"));
    assert!(matches!(decoded(b"\x01\x01\0\0\0\0"), Ok(Verdict::Drop(None))));
    assert!(matches!(decoded(b"\x01\x02\0\0"), Ok(Verdict::Drop(None))));
    assert!(matches!(decoded(b"\x01\x03\xe8\x03\0\0"), Ok(Verdict::Retry(pause)) if pause.as_secs() == 1));
    assert!(matches!(decoded(b"\x01\x04\x03\0\0\0why"), Ok(Verdict::Reject(why)) if *why == *"why"));
    let changed = decoded(b"\x01\x02\x01\0\x03\0\x03int\0\x04type\x01\x02\x01\0\0\0u\x01x\x01\x06\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01\0\0\0d\0");
    let Ok(Verdict::Change(changed)) = changed else { panic!("{changed:?}") };
    assert_eq!((&*changed.kind, &*changed.data), ("u", &b"d"[..]));
    assert_eq!(changed.extensions.get("int"), None);
    assert_eq!(changed.attribute("x").as_deref(), Some("1970-01-01T00:00:00Z"));
    let emitted = decoded(b"\x01\x02\x02\0\0\0\0\x05alert\0\0\x01\0");
    let Ok(Verdict::Emit(outputs)) = emitted else { panic!("{emitted:?}") };
    assert_eq!((outputs[0].name.as_deref(), outputs[1].name.as_deref()), (Some("alert"), None));
    assert!(outputs[1].envelope.data.is_empty());
}

#[test]
fn an_answer_that_does_not_follow_the_layout_says_where() {
    for (answer, why) in [
        (&b""[..], "ends where a byte more should follow"),
        (b"\x02\0", "is not of version 1"),
        (b"\x01", "ends where a byte more"),
        (b"\x01\x09", "a verdict of the unknown tag 9"),
        (b"\x01\0\0", "1 bytes follow the last verdict"),
        (b"\x01\x04\xff\xff\xff\xffx", "ends where 4294967295 more bytes should follow, 1 do"),
        (b"\x01\x04\x01\0\0\0\xff", "not UTF-8"),
        (b"\x01\x02\xff\xff", "65535 outputs of one event; at most 256"),
        (b"\x01\x02\x01\0\x01\0\x01x\x02", "a patch of the unknown tag 2"),
        (b"\x01\x02\x01\0\x01\0\x01x\x01\x07", "a value of the unknown tag 7"),
        (b"\x01\x02\x01\0\0\0\x03", "a body of the unknown tag 3"),
    ] {
        let error = decoded(answer).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(answer in prop::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..64)) {
        drop(decoded(&[&[1], &*answer].concat()));
    }
}
