//! The stage against scripted filters: order of keys, what a pause holds up, outputs, panics, reload.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::core::filter::{Filter, FilterFactory, Input, OUTPUTS_MAX, Output, Verdict};
use crate::core::topic::Topic;

/// What a scripted filter was asked: filter, id, attempt.
type Asked = Arc<Mutex<Vec<(&'static str, String, u32)>>>;
type Decide = Arc<dyn Fn(&Input<'_>) -> Verdict + Send + Sync>;

#[derive(Clone)]
struct Scripted {
    name: &'static str,
    decide: Decide,
    asked: Asked,
    built: Arc<Mutex<usize>>,
    /// Verdicts left off, or added, at the end of each answer.
    off_by: isize,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Filter for Scripted {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        let mut asked = self.asked.lock();
        asked.extend(batch.iter().map(|input| (self.name, input.envelope.id.to_string(), input.attempt)));
        drop(asked);
        let mut verdicts: Vec<Verdict> = batch.iter().map(|input| (self.decide)(input)).collect();
        verdicts.resize_with(verdicts.len().saturating_add_signed(self.off_by), || Verdict::Pass);
        verdicts
    }
}

impl FilterFactory for Scripted {
    fn name(&self) -> ByteString {
        self.name.into()
    }

    fn build(&self) -> Result<Box<dyn Filter>, Reason> {
        *self.built.lock() += 1;
        Ok(Box::new(self.clone()))
    }
}

fn scripted(
    name: &'static str,
    decide: impl Fn(&Input<'_>) -> Verdict + Send + Sync + 'static,
) -> Scripted {
    Scripted { name, decide: Arc::new(decide), asked: Asked::default(), built: Arc::default(), off_by: 0 }
}

fn specs(filters: &[&Scripted]) -> Vec<FilterSpec> {
    let spec = |filter: &&Scripted| FilterSpec {
        fingerprint: filter.name.into(),
        factory: Arc::new((*filter).clone()),
    };
    filters.iter().map(spec).collect()
}

fn envelope(topic: &str, id: &str) -> Envelope {
    Envelope::event(Topic::parse(topic.to_owned()).expect("valid"), id.to_owned(), "/test", "t")
}

/// A stage whose tasks are numbered by entry, and which is run in place.
struct Rig {
    stage: Stage,
    now: Instant,
    entered: usize,
    steps: Vec<Step>,
}

impl Rig {
    fn new(filters: &[&Scripted]) -> Self {
        let mut stage = Stage::default();
        stage.set_filters(&specs(filters));
        Self { stage, now: Instant::now(), entered: 0, steps: Vec::new() }
    }

    fn enter(&mut self, topic: &str, id: &str) {
        self.enter_one(envelope(topic, id));
    }

    fn enter_one(&mut self, envelope: Envelope) {
        let seq = Seq(self.entered as u64);
        let entry = Entry { task: self.entered, seq, since: self.now, max_attempts: 3 };
        self.stage.enter(entry, Arc::new(envelope));
        self.entered += 1;
    }

    /// Runs all batches that may be run now.
    fn run(&mut self) {
        self.stage.wake(self.now);
        while let Some(batch) = self.stage.next_batch(64, self.now) {
            assert!(self.stage.next_batch(64, self.now).is_none(), "one batch at a time");
            let pieces = batch.run("r");
            self.stage.returned(pieces, self.now, &mut self.steps);
        }
    }

    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.run();
    }

    /// Ids sent to the main output since the last call.
    fn sent(&mut self) -> Vec<String> {
        let sent = self.steps.drain(..).filter_map(|step| match step {
            Step::Send(_, envelope, None) => Some(envelope.id.to_string()),
            _ => None,
        });
        sent.collect()
    }
}

fn reason(steps: &[Step]) -> String {
    let found = steps.iter().find_map(|step| match step {
        Step::Bury(_, _, reason, _) => Some(reason.to_string()),
        _ => None,
    });
    found.expect("something was buried")
}

#[test]
fn filters_run_in_order_each_on_what_the_one_before_let_through() {
    let first = scripted("first", |input| match &*input.envelope.id {
        "2" => Verdict::Drop(None),
        _ => Verdict::Pass,
    });
    let second = scripted("second", |_| Verdict::Pass);
    let mut rig = Rig::new(&[&first, &second]);
    for id in ["1", "2", "3"] {
        rig.enter("a", id);
    }
    rig.run();
    let asked: Vec<_> = second.asked.lock().iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(asked, ["1", "3"]);
    assert_eq!(rig.steps.iter().filter(|step| matches!(step, Step::End(_))).count(), 3);
    assert_eq!(rig.sent(), ["1", "3"]);
    assert!(rig.stage.lanes.is_empty(), "an idle key takes no memory");
}

#[test]
fn a_retry_holds_up_its_own_key_only_and_earlier_filters_are_not_asked_again() {
    let first = scripted("first", |_| Verdict::Pass);
    let second = scripted("second", |input| match (&*input.envelope.id, input.attempt) {
        ("1", 1) => Verdict::Retry(Duration::from_millis(50)),
        _ => Verdict::Pass,
    });
    let mut rig = Rig::new(&[&first, &second]);
    rig.enter("a", "1");
    rig.enter("a", "2");
    rig.enter("b", "3");
    rig.run();
    assert_eq!(rig.sent(), ["3"], "another key goes on");
    rig.enter("a", "4");
    rig.later(49);
    assert!(rig.sent().is_empty(), "what came later waits too");
    assert_eq!(rig.stage.wake(rig.now), Some(rig.now + Duration::from_millis(1)));
    rig.later(1);
    assert_eq!(rig.sent(), ["1", "2", "4"]);
    let once: Vec<_> = first.asked.lock().iter().map(|(_, id, attempt)| (id.clone(), *attempt)).collect();
    assert_eq!(once, [("1", 1), ("2", 1), ("3", 1), ("4", 1)].map(|(id, at)| (id.to_owned(), at)));
    assert_eq!(rig.stage.take_retried(), 1);
}

#[test]
fn what_is_behind_a_stopped_one_does_not_overtake_it_in_a_later_filter() {
    let first = scripted("first", |input| match (&*input.envelope.id, input.attempt) {
        ("1", 1) => Verdict::Hold(Duration::from_millis(5)),
        _ => Verdict::Pass,
    });
    let second = scripted("second", |_| Verdict::Pass);
    let mut rig = Rig::new(&[&first, &second]);
    (1..=100).for_each(|id| rig.enter("a", &id.to_string()));
    rig.run();
    assert!(second.asked.lock().is_empty());
    rig.later(5);
    let order: Vec<_> = second.asked.lock().iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(order, (1..=100).map(|id: i32| id.to_string()).collect::<Vec<_>>());
    assert_eq!(first.asked.lock().len(), 101, "answers to those behind stood");
}

#[test]
fn retries_end_in_the_dead_letter_and_holds_do_not() {
    let failing = scripted("failing", |_| Verdict::Retry(Duration::from_millis(1)));
    let mut rig = Rig::new(&[&failing]);
    rig.enter("a", "1");
    (0..5).for_each(|_| rig.later(1));
    assert!(matches!(&rig.steps[..], [Step::Bury(0, _, _, 3), Step::End(0)]), "{:?}", rig.steps);
    assert_eq!(reason(&rig.steps), "filter failing: it failed for the last time");
    let holding =
        scripted(
            "holding",
            |input| {
                if input.attempt < 50 { Verdict::Hold(Duration::ZERO) } else { Verdict::Pass }
            },
        );
    let mut rig = Rig::new(&[&holding]);
    rig.enter("a", "1");
    (0..50).for_each(|_| rig.later(1));
    assert_eq!(rig.sent(), ["1"]);
}

#[test]
fn a_short_answer_rejects_the_rest_a_long_one_all_and_a_panic_builds_the_filter_anew() {
    let short = Scripted { off_by: -1, ..scripted("short", |_| Verdict::Pass) };
    let mut rig = Rig::new(&[&short]);
    rig.enter("a", "1");
    rig.enter("a", "2");
    rig.run();
    assert_eq!(reason(&rig.steps), "filter short: it gave 1 verdicts on 2 events");
    assert_eq!(rig.sent(), ["1"]);
    let long = Scripted { off_by: 1, ..scripted("long", |_| Verdict::Pass) };
    let mut rig = Rig::new(&[&long]);
    rig.enter("a", "1");
    rig.run();
    assert!(matches!(&rig.steps[..], [Step::Bury(0, _, _, 1), Step::End(0)]));
    let broken = scripted("broken", |input| match &*input.envelope.id {
        "2" => panic!("on purpose"),
        _ => Verdict::Pass,
    });
    let mut rig = Rig::new(&[&broken]);
    rig.enter("a", "2");
    rig.run();
    assert_eq!(reason(&rig.steps), "filter broken: it panicked: on purpose");
    rig.enter("a", "3");
    rig.run();
    assert_eq!(rig.sent(), ["3"]);
    assert_eq!(*broken.built.lock(), 2);
}

#[test]
fn outputs_get_ids_of_their_own_and_named_ones_go_past_later_filters() {
    let split = scripted("split", |input| {
        let same = Output { name: None, envelope: input.envelope.clone() };
        let other = Output { name: None, envelope: envelope("b", "own") };
        Verdict::Emit(vec![same.clone(), Output { name: Some("alert".into()), ..same }, other])
    });
    let after = scripted("after", |_| Verdict::Pass);
    let mut rig = Rig::new(&[&split, &after]);
    rig.enter("a", "1");
    rig.run();
    let seen: Vec<_> = rig
        .steps
        .iter()
        .map(|step| match step {
            Step::Send(0, envelope, output) => format!("{} {:?}", envelope.id, output.as_deref()),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, ["1/r/1 None", "1/r/2 Some(\"alert\")", "own None", "End(0)"]);
    assert_eq!(
        after.asked.lock().iter().map(|(_, id, _)| id.as_str()).collect::<Vec<_>>(),
        ["1/r/1", "own"]
    );
}

/// What becomes of one event when a filter gives this verdict on it.
fn outcome_of(verdict: impl Fn(&Envelope) -> Verdict + Send + Sync + 'static) -> Vec<Step> {
    let filter = scripted("f", move |input| verdict(input.envelope));
    let mut rig = Rig::new(&[&filter]);
    rig.enter("a", "1");
    rig.run();
    rig.steps
}

fn outputs(n: usize, make: impl Fn(usize, &mut Envelope)) -> Vec<Output> {
    let output = |at| {
        let mut envelope = envelope("a", &format!("o{at}"));
        make(at, &mut envelope);
        Output { name: None, envelope }
    };
    (0..n).map(output).collect()
}

#[test]
fn what_no_sink_could_rely_on_is_rejected() {
    let control = |_: &Envelope| Verdict::Emit(outputs(1, |_, made| made.subject = Some("\u{7}".into())));
    assert!(reason(&outcome_of(control)).contains("subject"), "checked as CloudEvents asks");
    let no_type = |_: &Envelope| Verdict::Emit(outputs(1, |_, made| made.kind = "".into()));
    assert_eq!(reason(&outcome_of(no_type)), "filter f: type of what it made is empty");
    let twice = |_: &Envelope| Verdict::Emit(outputs(2, |_, made| made.id = "x".into()));
    assert_eq!(reason(&outcome_of(twice)), "filter f: two outputs have the source and id \"x\"");
    let many = |_: &Envelope| Verdict::Emit(outputs(OUTPUTS_MAX + 1, |_, _| ()));
    assert_eq!(reason(&outcome_of(many)), "filter f: 257 outputs of one event; at most 256");
    let big = |_: &Envelope| Verdict::Emit(outputs(2, |_, made| made.data = vec![0; 9 << 20].into()));
    assert!(reason(&outcome_of(big)).contains("bytes of outputs"));
    let other_id = |_: &Envelope| Verdict::Change(Box::new(envelope("a", "2")));
    assert!(reason(&outcome_of(other_id)).contains("changed `source` or `id`"));
    let none = outcome_of(|_| Verdict::Emit(Vec::new()));
    assert_eq!(none, [Step::Drop(0, "f".into(), None), Step::End(0)], "no output is a drop");
    let most = outcome_of(|_| Verdict::Emit(outputs(OUTPUTS_MAX, |_, _| ())));
    assert_eq!(most.len(), OUTPUTS_MAX + 1, "the bound itself is allowed");
}

#[test]
fn no_filter_takes_the_loop_guard_away() {
    let strip = scripted("strip", |input| {
        let mut made = input.envelope.clone();
        made.extensions.remove("mborigin");
        made.extensions.set("mbhops", 0);
        Verdict::Change(Box::new(made))
    });
    let mut rig = Rig::new(&[&strip]);
    let mut guarded = envelope("a", "1");
    guarded.extensions.set("mborigin", "edge");
    guarded.extensions.set("mbhops", 3);
    rig.enter_one(guarded.clone());
    rig.run();
    assert_eq!(rig.steps.first(), Some(&Step::Send(0, Arc::new(guarded), None)));
}

#[test]
fn a_reload_keeps_the_filters_it_keeps_and_what_is_inside_ends_with_the_old_ones() {
    let hold = scripted("hold", |input| match (&*input.envelope.id, input.attempt) {
        ("1", 1) => Verdict::Hold(Duration::from_millis(5)),
        _ => Verdict::Pass,
    });
    let (old, new) = (scripted("old", |_| Verdict::Pass), scripted("new", |_| Verdict::Pass));
    let mut rig = Rig::new(&[&hold, &old]);
    rig.enter("a", "1");
    rig.run();
    rig.stage.set_filters(&specs(&[&hold, &new]));
    rig.enter("a", "2");
    rig.enter("b", "3");
    rig.run();
    assert_eq!(rig.sent(), ["3"]);
    rig.later(5);
    assert_eq!(rig.sent(), ["1", "2"]);
    assert_eq!(*hold.built.lock(), 1, "it is in both");
    let seen =
        |filter: &Scripted| filter.asked.lock().iter().map(|(_, id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!((seen(&old), seen(&new)), (vec!["1".to_owned()], vec!["3".to_owned(), "2".to_owned()]));
}

proptest! {
    /// Whatever filters say and whenever the specification changes: each task ends once, after all that was made
    /// of it, and what is sent of one key keeps its order.
    #[test]
    fn every_task_ends_once_and_in_the_order_of_its_key(
        events in proptest::collection::vec((0u8..4, any::<bool>()), 1..80),
        seed in any::<u64>(),
    ) {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        let decide = move |input: &Input<'_>| match random.lock().u8(0..12) {
            0 => Verdict::Drop(None),
            1 => Verdict::Reject("no".into()),
            2 => Verdict::Retry(Duration::from_millis(3)),
            3 => Verdict::Hold(Duration::from_millis(2)),
            4 => Verdict::Emit((0..2).map(|_| Output { name: None, envelope: input.envelope.clone() }).collect()),
            _ => Verdict::Pass,
        };
        let first = scripted("first", decide.clone());
        let second = scripted("second", decide.clone());
        let third = scripted("third", decide);
        let mut rig = Rig::new(&[&first, &second]);
        for (at, (key, reload)) in events.iter().enumerate() {
            if *reload {
                let next = if at % 2 == 0 { [&second, &third] } else { [&first, &third] };
                rig.stage.set_filters(&specs(&next));
            }
            rig.enter(&format!("k{key}"), &at.to_string());
            if at % 5 == 0 {
                rig.later(1);
            }
        }
        (0..4000).for_each(|_| rig.later(1));
        let (mut ended, mut last) = (HashSet::new(), HashMap::new());
        for step in &rig.steps {
            let task = match step {
                Step::Send(task, ..) | Step::Bury(task, ..) | Step::Drop(task, ..) => *task,
                Step::End(task) => {
                    prop_assert!(ended.insert(*task), "task {} ended twice", task);
                    continue;
                }
            };
            prop_assert!(!ended.contains(&task), "something of task {} came after its end", task);
            let before = last.insert(events[task].0, task);
            prop_assert!(before.is_none_or(|before| before <= task), "{:?} before {}", before, task);
        }
        prop_assert_eq!(ended.len(), events.len());
        prop_assert!(rig.stage.lanes.is_empty() && rig.stage.ready.is_empty());
    }
}
