//! What a plugin's faults cost: the event, then its turn; nothing else.

use data_encoding::HEXLOWER;
use meshbus::filter::wasm;
use sha2::{Digest, Sha256};

use super::*;
use crate::guests;

/// Faults that open a breaker.
const FAULTS: usize = 10;

#[test]
fn each_fault_rejects_its_event_with_the_reason() {
    for (process, why) in [
        (guests::LOOP, "ran longer than its deadline of 10ms"),
        (guests::HOG, "needs more memory than its limit of 67108864 bytes"),
        (guests::TRAP, "trapped: unreachable"),
        (guests::DIVIDE, "trapped: integer divide by zero"),
        (guests::RECURSE, "trapped: call stack exhausted"),
        (guests::UNKNOWN_CASE, "failed: unexpected discriminant"),
        (guests::OUTSIDE, "failed: "),
        (guests::TOO_MANY, "gave 2 verdicts on 1 events"),
        (guests::TOO_FEW, "gave 0 verdicts on 1 events"),
    ] {
        let verdicts = ask(&mut *Rig::new(&guests::guest(process), "").filter(), &[event(1)]);
        let reason = reason(&verdicts[0]);
        assert!(reason.contains(why) && reason.contains("plugin.wasm"), "{why}: {reason}");
    }
}

#[test]
fn a_thousand_events_reach_each_bad_plugin_and_each_is_answered() {
    for process in [guests::LOOP, guests::HOG, guests::UNKNOWN_CASE, guests::OUTSIDE, guests::RECURSE] {
        let events: Vec<Envelope> = (0..1000).map(event).collect();
        let rig = Rig::new(&guests::guest(process), "deadline: 2ms\n");
        let verdicts = ask(&mut *rig.filter(), &events);
        assert_eq!(verdicts.len(), events.len());
        let off = verdicts.iter().filter(|verdict| reason(verdict).contains("is off for having failed"));
        assert_eq!(off.count(), events.len() - FAULTS, "{process}");
    }
}

#[test]
fn a_trap_on_every_tenth_event_costs_every_tenth_event_until_the_breaker_opens() {
    let events: Vec<Envelope> = (0..1000).map(event).collect();
    let verdicts = ask(&mut *Rig::new(&guests::guest(guests::TENTH), "").filter(), &events);
    let passed = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Pass)).count();
    let trapped =
        verdicts.iter().filter(|v| matches!(v, Verdict::Reject(r) if r.contains("trapped"))).count();
    // What follows the last of a batch is the first of the next instance but one.
    assert!(passed >= 9 * FAULTS, "{passed} passed");
    assert_eq!((trapped, verdicts.len()), (FAULTS, 1000));
}

#[test]
fn while_the_breaker_is_open_on_fault_says_what_becomes_of_events() {
    let events: Vec<Envelope> = (0..100).map(event).collect();
    for (word, is_right) in [
        ("pass", (|verdict| matches!(verdict, Verdict::Pass)) as fn(&Verdict) -> bool),
        ("stop", |verdict| matches!(verdict, Verdict::Hold(pause) if pause.as_secs_f64() <= 1.0)),
        ("dead_letter", |verdict| matches!(verdict, Verdict::Reject(reason) if reason.contains("is off"))),
    ] {
        let rig = Rig::new(&guests::guest(guests::TRAP), &format!("on_fault: {word}\n"));
        let verdicts = ask(&mut *rig.filter(), &events);
        assert!(verdicts[FAULTS..].iter().all(is_right), "{word}: {verdicts:?}");
    }
}

#[test]
fn an_open_breaker_tries_again_and_closes_when_that_goes_well() {
    // Fails on the first ten events and never again, which only the host can know: by the id's length.
    let short = "(if (i32.lt_u (i32.load (i32.add (local.get $in) (i32.const 4))) (i32.const 3)) (then unreachable))";
    let rig = Rig::new(&guests::guest(short), "");
    let (mut filter, mut other) = (rig.filter(), rig.filter());
    let bad: Vec<Envelope> = (0..FAULTS).map(event).collect();
    ask(&mut *filter, &bad);
    let good = [event(1000)];
    assert!(reason(&ask(&mut *filter, &good)[0]).contains("is off"));
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    while !matches!(ask(&mut *filter, &good)[0], Verdict::Pass) {
        assert!(Instant::now() < deadline, "never tried again");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let many: Vec<Envelope> = (1000..1100).map(event).collect();
    assert!(ask(&mut *other, &many).iter().all(|verdict| matches!(verdict, Verdict::Pass)));
    assert!(ask(&mut *filter, &many).iter().all(|verdict| matches!(verdict, Verdict::Pass)));
}

/// Whether the plugin `name` is shown as off.
fn is_off(name: &str) -> bool {
    wasm::figures().into_iter().find(|figures| &*figures.plugin == name).expect("a plugin in use").off
}

#[test]
fn a_plugin_found_bad_in_one_route_is_off_in_all_and_no_other_plugin_is() {
    let bad = guests::guest(guests::TRAP);
    let rig = Rig::named("shared.wasm", &bad, "");
    let digest = format!("digest: 'sha256:{}'\n", HEXLOWER.encode(&Sha256::digest(&bad)));
    // The same file with other settings, and its digest written down.
    let again = [String::from("deadline: 20ms\n"), digest].map(|settings| {
        let factory = factory_of("shared.wasm", rig.home.path(), &settings);
        factory.prepare().unwrap();
        (factory.build().unwrap(), factory)
    });
    // The same bytes in another file are another plugin.
    let twin = Rig::named("twin.wasm", &bad, "");
    let mut twin_filter = twin.filter();
    let events: Vec<Envelope> = (0..FAULTS).map(event).collect();
    assert!(!is_off("shared.wasm"));
    ask(&mut *rig.filter(), &events);
    assert!(is_off("shared.wasm") && !is_off("twin.wasm"));
    for (mut filter, factory) in again {
        assert!(reason(&ask(&mut *filter, &events)[0]).contains("is off"), "{factory:?}");
    }
    assert!(reason(&ask(&mut *twin_filter, &events)[0]).contains("trapped"));
}

#[test]
fn what_is_only_tried_turns_off_nothing() {
    let rig = Rig::named("tried.wasm", &guests::guest(guests::TRAP), "");
    let mut filter = rig.filter();
    let events: Vec<Envelope> = (0..2 * FAULTS).map(event).collect();
    let verdicts = ask(&mut *rig.factory.build_apart().unwrap(), &events);
    assert!(reason(verdicts.last().unwrap()).contains("is off"), "it has a breaker of its own");
    assert!(!is_off("tried.wasm"));
    assert!(reason(&ask(&mut *filter, &events)[0]).contains("trapped"));
}

#[test]
fn a_batch_too_slow_for_the_deadline_is_asked_in_smaller_ones_and_loses_nothing() {
    // About a millisecond for each event.
    let slow = "(local $i i32)";
    let body = "(local.set $i (i32.mul (local.get $n) (i32.const 1000000)))
        (loop $l (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $l (local.get $i)))";
    let wat = guests::module(body, "(i32.const 0)", "", "")
        .replace("(local $out i32)\n    (local.set", &format!("(local $out i32) {slow}\n    (local.set"));
    let rig = Rig::new(&guests::component(guests::TYPED, &wat), "deadline: 40ms\n");
    let mut filter = rig.filter();
    let events: Vec<Envelope> = (0..192).map(event).collect();
    let verdicts = ask(&mut *filter, &events);
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Pass)), "{verdicts:?}");
}

#[test]
fn one_bad_event_of_a_batch_costs_no_other() {
    // The id of two characters.
    let odd = "(loop $l
        (if (i32.eq (i32.load (i32.add (local.get $in) (i32.const 4))) (i32.const 2)) (then unreachable))
        (local.set $in (i32.add (local.get $in) (i32.const 112)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $l (local.get $n)))";
    let keep = "(global.set $seen (local.get $n))".to_owned() + odd + "(local.set $n (global.get $seen))";
    let rig = Rig::new(&guests::guest(&keep), "");
    let events: Vec<Envelope> = (100..150).chain([42]).chain(200..213).map(event).collect();
    let verdicts = ask(&mut *rig.filter(), &events);
    for (event, verdict) in events.iter().zip(&verdicts) {
        assert_eq!(matches!(verdict, Verdict::Pass), event.id.len() == 3, "{}: {verdict:?}", event.id);
    }
}

#[test]
fn an_answer_that_would_fill_the_hosts_memory_is_refused() {
    // One verdict that emits a million outputs, each in the same sixteen bytes.
    let bomb = "(i32.store (local.get $out) (i32.const 2))
        (i32.store offset=4 (local.get $out) (i32.const 0))
        (i32.store offset=8 (local.get $out) (i32.const 1000000))
        (drop (memory.grow (i32.const 600)))";
    let verdicts = ask(&mut *Rig::new(&guests::guest(bomb), "").filter(), &[event(1)]);
    assert!(reason(&verdicts[0]).contains("fuel"), "{verdicts:?}");
}
