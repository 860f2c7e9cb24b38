//! Each native filter by its settings in YAML: what it does, and what it refuses to be configured as.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::core::filter::{Filter, Input, Verdict};
use crate::core::{Envelope, Seq, Topic, Value};

fn kind(name: &str) -> &'static dyn Kind {
    *KINDS.iter().find(|kind| kind.name() == name).expect("it is in the table")
}

fn read(yaml: &str) -> Result<Arc<dyn FilterFactory>, ConfigError> {
    let section = Section::from_yaml("f.yaml", yaml)?;
    let (name, settings) = section.entries().swap_remove(0);
    kind(&name).read(&settings)
}

fn built(yaml: &str) -> Box<dyn Filter> {
    read(yaml).expect(yaml).build().expect("built")
}

/// What is wrong with settings, as the operator reads it.
fn mistake(yaml: &str) -> String {
    read(yaml).expect_err(yaml).to_string()
}

fn event(id: &str, data: &str) -> Envelope {
    let mut event = Envelope::event(Topic::parse("in/x").expect("valid"), id.to_owned(), "/test", "t");
    event.subject = Some("s".into());
    event.extensions.set("reason", "BackOff");
    event.extensions.set("count", 3);
    event.data = data.to_owned().into();
    event
}

/// A filter with a clock.
struct Rig {
    filter: Box<dyn Filter>,
    start: Instant,
    now: Instant,
}

impl Rig {
    fn new(yaml: &str) -> Self {
        let now = Instant::now();
        Self { filter: built(yaml), start: now, now }
    }

    fn ask(&mut self, envelope: &Envelope, seq: u64, attempt: u32) -> Verdict {
        let input =
            Input { envelope, attempt, seq: Seq(seq), route: "r", since: self.start, now: self.now };
        let mut verdicts = self.filter.process(&[input]);
        assert_eq!(verdicts.len(), 1);
        verdicts.remove(0)
    }

    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

fn judged(yaml: &str, envelope: &Envelope) -> Verdict {
    Rig::new(yaml).ask(envelope, 1, 1)
}

fn changed(yaml: &str, envelope: &Envelope) -> Envelope {
    match judged(yaml, envelope) {
        Verdict::Change(changed) => *changed,
        other => panic!("{yaml}: {other:?}"),
    }
}

fn data(yaml: &str, before: &str) -> String {
    let made = changed(yaml, &event("1", before));
    String::from_utf8(made.data.to_vec()).expect("text")
}

#[test]
fn set_renders_templates_of_what_came_in_and_keeps_types_of_constants() {
    let yaml = "set: {summary: 'pod {data.pod}: {reason}', reason: '{subject}', urgent: true, level: 7, subject: 'a/b', type: 'x.{type}'}";
    let made = changed(yaml, &event("1", r#"{"pod":"web 1/2"}"#));
    assert_eq!(made.extensions.get("summary"), Some(&Value::from("pod web 1/2: BackOff".to_owned())));
    assert_eq!(made.attribute("reason").as_deref(), Some("s"), "of what came in, whatever the order");
    assert_eq!(made.extensions.get("urgent"), Some(&Value::Boolean(true)));
    assert_eq!(made.extensions.get("level"), Some(&Value::Integer(7)));
    assert_eq!((made.subject.as_deref(), &*made.kind), (Some("a/b"), "x.t"));
    assert!(matches!(judged("set: {a: '{nothere}'}", &event("1", "")), Verdict::Reject(_)));
    assert_eq!(changed("set: {subject: '{nothere|}'}", &event("1", "")).subject, None, "nothing removes");
    assert!(matches!(judged("set: {time: yesterday}", &event("1", "")), Verdict::Reject(_)));
    assert!(matches!(judged("set: {type: '{nothere|}'}", &event("1", "")), Verdict::Reject(_)));
}

#[test]
fn attributes_are_removed_and_renamed_with_their_types() {
    let made = changed("remove: [reason, subject, nothere]", &event("1", ""));
    assert!(made.attribute("reason").is_none() && made.subject.is_none());
    assert!(matches!(judged("remove: [nothere]", &event("1", "")), Verdict::Pass));
    let made = changed("rename: {count: total, reason: subject, subject: reason}", &event("1", ""));
    assert_eq!(made.extensions.get("total"), Some(&Value::Integer(3)));
    assert_eq!(made.subject.as_deref(), Some("BackOff"));
    assert_eq!(made.attribute("reason").as_deref(), Some("s"), "two exchange their names");
    assert!(made.extensions.get("count").is_none());
    assert!(matches!(judged("rename: {nothere: else}", &event("1", "")), Verdict::Pass));
}

#[test]
fn topic_is_rendered_token_by_token() {
    assert_eq!(
        changed("topic: 'alerts/{reason}/{topic.1}'", &event("1", "")).topic.as_str(),
        "alerts/BackOff/x"
    );
    assert!(matches!(judged("topic: '{topic}'", &event("1", "")), Verdict::Pass));
    assert!(matches!(judged("topic: 'a/{nothere}'", &event("1", "")), Verdict::Reject(_)));
}

#[test]
fn fields_stay_as_they_came_or_go() {
    let json = r#"{ "b" : 1.50, "a": {"x": 1e400, "y": [1, {"z": "é\u0041"}, 3]}, "b": 2, "n": null}"#;
    assert_eq!(
        data("pick: [data.a.x, 'data.a.y[1].z']", json),
        r#"{"a":{"x":1e400,"y":[{"z":"é\u0041"}]}}"#
    );
    assert_eq!(data("pick: [data.b]", json), r#"{"b":1.50,"b":2}"#, "twice there, twice kept");
    assert_eq!(data("pick: [data.nothere.a, data.n.a]", json), "{}");
    assert_eq!(
        data("drop_fields: [data.b]", json),
        r#"{"a":{"x": 1e400, "y": [1, {"z": "é\u0041"}, 3]},"n":null}"#
    );
    assert_eq!(
        data("drop_fields: ['data.a.y[0]', 'data.a.y[1].z', data.n, data.nothere.x, data.b.c]", json),
        r#"{"b":1.50,"a":{"x":1e400,"y":[{},3]},"b":2}"#
    );
    assert_eq!(data("pick: ['data[1]']", "[1, 2]"), "[2]");
    assert_eq!(data("pick: [data.a]", "7"), "null", "what is no object has no field");
    assert!(matches!(judged("drop_fields: [data.a]", &event("1", "7")), Verdict::Pass));
    assert!(matches!(judged("pick: [data.a]", &event("1", "")), Verdict::Pass), "no data, nothing to pick");
    for yaml in ["pick: [data.a]", "drop_fields: [data.a]"] {
        assert!(
            matches!(judged(yaml, &event("1", "{\"a\":")), Verdict::Reject(_)),
            "nothing slips through"
        );
        assert!(matches!(judged(yaml, &event("1", &"[".repeat(10_000))), Verdict::Reject(_)));
        let big = format!("\"{}\"", "x".repeat(1 << 20));
        assert!(matches!(judged(yaml, &event("1", &big)), Verdict::Reject(_)));
    }
}

fn passes(rig: &mut Rig, envelope: &Envelope) -> bool {
    match rig.ask(envelope, 1, 1) {
        Verdict::Pass => true,
        Verdict::Drop(_) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rate_has_a_burst_refills_evenly_and_is_of_each_key() {
    let mut rig = Rig::new("rate_limit: {rate: 10, burst: 3, key: '{subject|none}'}");
    let (one, mut other) = (event("1", ""), event("2", ""));
    other.subject = None;
    assert_eq!([0; 5].map(|_| passes(&mut rig, &one)), [true, true, true, false, false]);
    assert!(passes(&mut rig, &other), "another key has a rate of its own");
    rig.later(99);
    assert!(!passes(&mut rig, &one));
    rig.later(1);
    assert_eq!([0; 2].map(|_| passes(&mut rig, &one)), [true, false], "what is dropped takes no token");
    rig.later(60_000);
    assert_eq!(
        [0; 4].map(|_| passes(&mut rig, &one)),
        [true, true, true, false],
        "never more than the burst"
    );
    assert!(matches!(judged("rate_limit: {rate: 1, key: '{nothere}'}", &one), Verdict::Reject(_)));
}

#[test]
fn what_waits_for_its_rate_goes_in_turn_once() {
    let mut rig = Rig::new("rate_limit: {rate: 10, burst: 1, over: wait}");
    let one = event("1", "");
    assert!(passes(&mut rig, &one));
    for turn in 1..=5 {
        let Verdict::Hold(pause) = rig.ask(&one, 1, 1) else { panic!("it waits") };
        assert_eq!(pause, Duration::from_millis(100 * turn));
    }
    rig.later(100);
    assert!(matches!(rig.ask(&one, 1, 2), Verdict::Pass), "its token was taken when it came");
}

#[test]
fn a_rate_limit_remembers_no_more_keys_than_it_may() {
    let mut rig = Rig::new("rate_limit: {rate: 1, per: 1h, burst: 2, key: '{id}', max_keys: 8}");
    let busy = event("busy", "");
    assert_eq!([0; 3].map(|_| passes(&mut rig, &busy)), [true, true, false]);
    for n in 0..100 {
        assert!(passes(&mut rig, &event(&n.to_string(), "")));
    }
    assert!(!passes(&mut rig, &busy), "those that used least are forgotten first");
}

#[test]
fn a_repetition_waits_for_the_first_and_takes_its_place_only_where_that_failed() {
    let mut rig = Rig::new("dedupe: {window: 10s, max: 4}");
    let (one, two) = (event("1", ""), event("2", ""));
    assert!(matches!(rig.ask(&one, 1, 1), Verdict::Pass));
    assert!(matches!(rig.ask(&one, 2, 1), Verdict::Hold(_)), "the first is under way");
    assert!(matches!(rig.ask(&one, 1, 1), Verdict::Drop(_)), "twice of one record");
    rig.filter.settled(Seq(1), true);
    assert!(matches!(rig.ask(&one, 2, 2), Verdict::Drop(_)));
    assert!(matches!(rig.ask(&two, 3, 1), Verdict::Pass), "another id");
    assert!(matches!(rig.ask(&two, 4, 1), Verdict::Hold(_)));
    rig.filter.settled(Seq(3), false);
    assert!(matches!(rig.ask(&two, 4, 2), Verdict::Pass), "what failed is not remembered");
    rig.later(10_000);
    assert!(matches!(rig.ask(&one, 5, 1), Verdict::Pass), "the window is over");
    let mut elsewhere = one.clone();
    elsewhere.source = "/tes".into();
    elsewhere.id = "t1".into();
    assert!(matches!(rig.ask(&elsewhere, 6, 1), Verdict::Pass), "source and id are told apart");
}

#[test]
fn dedupe_remembers_no_more_than_it_may() {
    let mut rig = Rig::new("dedupe: {window: 1h, max: 3}");
    for n in 1..=4 {
        assert!(matches!(rig.ask(&event(&n.to_string(), ""), n, 1), Verdict::Pass));
        rig.filter.settled(Seq(n), true);
    }
    assert!(matches!(rig.ask(&event("4", ""), 9, 1), Verdict::Drop(_)));
    assert!(matches!(rig.ask(&event("1", ""), 10, 1), Verdict::Pass), "the oldest is forgotten");
}

#[test]
fn a_delay_ends_so_long_after_the_bus_took_it_in() {
    let mut rig = Rig::new("delay: 5s");
    let one = event("1", "");
    rig.later(2000);
    let Verdict::Hold(pause) = rig.ask(&one, 1, 1) else { panic!("it is held") };
    assert_eq!(pause, Duration::from_secs(3));
    rig.later(3000);
    assert!(matches!(rig.ask(&one, 1, 2), Verdict::Pass));
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    for (yaml, wrong) in [
        ("set: {}", "names no attribute"),
        ("set: [a]", "expected a map"),
        ("set: {id: x}", "no filter changes it"),
        ("set: {mbhops: 0}", "guards against loops"),
        ("set: {Upper: x}", "a-z and 0-9"),
        ("set: {a: '{'}", "is not closed"),
        ("set: {a: 5000000000}", "32 bits"),
        ("set: {a: [1]}", "expected text"),
        ("set: {subject: true}", "is text"),
        ("remove: [type]", "type is required"),
        ("remove: []", "names no attribute"),
        ("rename: {a: type}", "type is required"),
        ("rename: {a: a}", "the same name"),
        ("topic: 'a/#'", "wildcard"),
        ("pick: []", "names 0 fields"),
        ("pick: [a.b]", "no path into the data"),
        ("pick: [subject]", "no path into the data"),
        ("drop_fields: [data]", "no path into the data"),
        ("rate_limit: {}", "rate"),
        ("rate_limit: {rate: 0}", "0 is out of bounds"),
        ("rate_limit: {rate: 1, per: 0s}", "out of bounds"),
        ("rate_limit: {rate: 1, over: explode}", "explode"),
        ("rate_limit: {rate: 1, max_keys: 0}", "out of bounds"),
        ("dedupe: {window: 48h}", "2d is out of bounds"),
        ("dedupe: {max: 0}", "0 is out of bounds"),
        ("dedupe: {size: 1}", "size"),
        ("delay: 0s", "out of bounds"),
        ("delay: 25h", "out of bounds"),
    ] {
        let told = mistake(yaml);
        assert!(told.contains(wrong), "{yaml}: {told}");
    }
}
