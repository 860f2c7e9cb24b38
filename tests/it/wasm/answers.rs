//! What each verdict of a guest means, and what it is shown of an event.

use super::*;
use crate::guests;

/// Where the text of a guest lies in its memory.
const TEXT: usize = 1024;

/// A guest that answers one event with `verdict`, built over `text` at [`TEXT`].
fn saying(verdict: &str, text: &str) -> Box<dyn Filter> {
    let data = format!("(data (i32.const {TEXT}) {text:?})");
    let rig = Rig::new(&guests::guest_with(verdict, "", &data), "");
    let filter = rig.filter();
    drop(rig);
    filter
}

/// Stores of a verdict that emits the one output at 256 with `patches` at 512.
fn emitting(patches: usize, body: u32, to: Option<(usize, usize)>) -> String {
    let (present, at, length) = to.map_or((0, 0, 0), |(at, length)| (1, TEXT + at, length));
    format!(
        "(i32.store (local.get $out) (i32.const 2))
         (i32.store offset=4 (local.get $out) (i32.const 256))
         (i32.store offset=8 (local.get $out) (i32.const 1))
         (i32.store (i32.const 256) (i32.const 512)) (i32.store (i32.const 260) (i32.const {patches}))
         (i32.store (i32.const 264) (i32.const {body}))
         (i32.store (i32.const 268) (i32.const {TEXT})) (i32.store (i32.const 272) (i32.const 4))
         (i32.store (i32.const 276) (i32.const {present}))
         (i32.store (i32.const 280) (i32.const {at})) (i32.store (i32.const 284) (i32.const {length}))"
    )
}

/// Stores of patch `index`: the name at `name`, the text at `value`; removed without one.
fn patch(index: usize, name: (usize, usize), value: Option<(usize, usize)>) -> String {
    // tuple<string, option<attr-value>>: 8 bytes of name, then option and variant, aligned to 8.
    let at = 512 + index * 40;
    let mut stores = format!(
        "(i32.store (i32.const {at}) (i32.const {})) (i32.store (i32.const {}) (i32.const {}))",
        TEXT + name.0,
        at + 4,
        name.1
    );
    if let Some((from, length)) = value {
        let text = format!(
            "(i32.store (i32.const {}) (i32.const 1)) (i32.store (i32.const {}) (i32.const 2))
             (i32.store (i32.const {}) (i32.const {})) (i32.store (i32.const {}) (i32.const {length}))",
            at + 8,
            at + 16,
            at + 24,
            TEXT + from,
            at + 28
        );
        stores.push_str(&text);
    }
    stores
}

#[test]
fn the_simple_verdicts_mean_what_they_say() {
    let drop = "(i32.store (local.get $out) (i32.const 1))";
    let retry =
        "(i32.store (local.get $out) (i32.const 3)) (i32.store offset=4 (local.get $out) (i32.const 1500))";
    let dead =
        "(i32.store (local.get $out) (i32.const 4)) (i32.store offset=4 (local.get $out) (i32.const 1024))
        (i32.store offset=8 (local.get $out) (i32.const 7))";
    let nothing = "(i32.store (local.get $out) (i32.const 2))";
    let one = [event(1)];
    assert!(matches!(ask(&mut *saying(drop, ""), &one)[0], Verdict::Drop(_)));
    assert!(matches!(ask(&mut *saying(nothing, ""), &one)[0], Verdict::Drop(_)));
    assert!(
        matches!(ask(&mut *saying(retry, ""), &one)[0], Verdict::Retry(pause) if pause.as_millis() == 1500)
    );
    assert_eq!(reason(&ask(&mut *saying(dead, "too old"), &one)[0]), "too old");
}

#[test]
fn an_output_that_keeps_the_id_is_the_same_occurrence_changed() {
    let text = "typecom.example.xtenantmbtopicold/ones";
    let verdict = emitting(3, 0, None)
        + &patch(0, (0, 4), Some((4, 13)))
        + &patch(1, (17, 6), None)
        + &patch(2, (23, 7), Some((30, 8)));
    let verdicts = ask(&mut *saying(&verdict, text), &[event(1)]);
    let Verdict::Change(changed) = &verdicts[0] else { panic!("{verdicts:?}") };
    let mut expected = event(1);
    expected.kind = "com.example.x".into();
    expected.extensions.remove("tenant");
    expected.topic = Topic::parse("old/ones").unwrap();
    assert_eq!(**changed, expected);
}

#[test]
fn an_output_may_go_elsewhere_with_other_data() {
    let verdict = emitting(0, 2, Some((4, 5)));
    let verdicts = ask(&mut *saying(&verdict, "bodyalert"), &[event(1)]);
    let Verdict::Emit(outputs) = &verdicts[0] else { panic!("{verdicts:?}") };
    assert_eq!(outputs[0].name.as_deref(), Some("alert"));
    assert_eq!(&*outputs[0].envelope.data, b"body");
}

#[test]
fn an_output_that_is_no_event_rejects_the_input_and_says_why() {
    for (text, name, value, why) in [
        ("idx", (0, 2), Some((2, 0)), "\"id\", which must not be empty"),
        ("sourcex", (0, 6), None, "\"source\", which must not be empty"),
        ("Bad-x", (0, 4), Some((4, 1)), "\"Bad-\", which an attribute name has only a-z and 0-9"),
        ("mborigin1", (0, 8), Some((8, 1)), "belongs to the guard against loops"),
        ("mbtopica/#", (0, 7), Some((7, 3)), "wildcard"),
        ("timenoon", (0, 4), Some((4, 4)), "RFC 3339"),
        ("subjecta\u{7}b", (0, 7), Some((7, 3)), "control character"),
    ] {
        let verdict = emitting(1, 0, None) + &patch(0, name, value);
        let verdicts = ask(&mut *saying(&verdict, text), &[event(1)]);
        assert!(reason(&verdicts[0]).contains(why), "{why}: {verdicts:?}");
    }
}

/// What a guest that copies the text at `offset` of its first event into a dead letter was shown.
fn shown(offset: usize, settings: &str) -> String {
    let echo = format!(
        "(i32.store (local.get $out) (i32.const 4))
         (i32.store offset=4 (local.get $out) (i32.load offset={offset} (local.get $in)))
         (i32.store offset=8 (local.get $out) (i32.load offset={} (local.get $in)))",
        offset + 4
    );
    let verdicts = ask(&mut *Rig::new(&guests::guest(&echo), settings).filter(), &[event(77)]);
    reason(&verdicts[0]).to_owned()
}

#[test]
fn a_guest_is_shown_the_attributes_the_route_passes() {
    assert_eq!(shown(0, ""), "77");
    assert_eq!(shown(8, ""), "/shop");
    assert_eq!(shown(16, ""), "com.example.order");
    assert_eq!(shown(100, ""), r#"{"total": 7}"#);
    assert_eq!(shown(0, "attributes: [type]\n"), "");
    assert_eq!(shown(16, "attributes: [type]\n"), "com.example.order");
    assert_eq!(shown(100, "attributes: [type]\n"), r#"{"total": 7}"#);
    assert_eq!(shown(100, "body: none\n"), "");
}

#[test]
fn a_packed_guest_is_shown_the_documented_frame() {
    // Answers with a dead letter that holds the frame as it came, from byte 11: after head, before the first name.
    let echo = "(i32.store8 (local.get $out) (i32.const 1)) (i32.store8 offset=1 (local.get $out) (i32.const 4))
        (local.set $length (i32.sub (local.get $length) (i32.const 11)))
        (i32.store offset=2 (local.get $out) (local.get $length))
        (memory.copy (i32.add (local.get $out) (i32.const 6)) (i32.add (local.get $in) (i32.const 11)) (local.get $length))
        (local.set $size (i32.add (local.get $length) (i32.const 6)))";
    let rig = Rig::new(&guests::packed_answer(echo), "attributes: [id, subject]\nbody: none\n");
    let mut filter = rig.filter();
    let verdicts = ask(&mut *filter, &[event(7)]);
    assert_eq!(reason(&verdicts[0]), "\u{2}id\u{2}\u{1}\0\0\0\u{37}\u{7}subject\u{2}\u{7}\0\0\0order 7\0");
}
