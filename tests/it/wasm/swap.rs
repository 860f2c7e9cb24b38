//! A changed file is taken up between two batches, or not at all.

use std::time::Duration;

use meshbus::app::App;
use meshbus::config::Config;
use meshbus::core::Outcome;
use meshbus::runtime::watch::Signals;
use meshbus::transport::TRANSPORTS;

use super::*;
use crate::guests;

/// Drops the first event of a batch.
const DROP: &str = "(i32.store (local.get $out) (i32.const 1))";

fn is_passed(filter: &mut dyn Filter) -> bool {
    match &ask(filter, &[event(1)])[..] {
        [Verdict::Pass] => true,
        [Verdict::Drop(_)] => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_filter_changes_to_a_new_version_that_is_sound() {
    let rig = Rig::new(&guests::guest(guests::PASS), "");
    let mut filter = rig.filter();
    assert!(is_passed(&mut *filter));
    std::fs::write(rig.path(), guests::guest(DROP)).unwrap();
    assert!(is_passed(&mut *filter), "changed before it was told");
    // A reload reads the configuration anew: another factory, the same plugin.
    factory(rig.home.path(), "").prepare().unwrap();
    assert!(!is_passed(&mut *filter));
}

#[test]
fn a_bad_version_keeps_the_old() {
    let rig = Rig::new(&guests::guest(guests::PASS), "");
    let mut filter = rig.filter();
    for bad in [b"nonsense".to_vec(), guests::dummy(guests::TYPED), guests::refusing("not that")] {
        std::fs::write(rig.path(), bad).unwrap();
        factory(rig.home.path(), "").prepare().expect_err("a bad plugin was taken");
        assert!(is_passed(&mut *filter));
        assert!(is_passed(&mut *rig.factory.build().unwrap()));
    }
}

#[test]
fn a_new_version_is_tried_at_once_in_all_routes_however_bad_the_old_was() {
    let rig = Rig::new(&guests::guest(guests::TRAP), "");
    let (mut filter, mut other) = (rig.filter(), rig.filter());
    ask(&mut *filter, &(0..100).map(event).collect::<Vec<_>>());
    std::fs::write(rig.path(), guests::guest(guests::PASS)).unwrap();
    factory(rig.home.path(), "").prepare().unwrap();
    assert!(is_passed(&mut *filter) && is_passed(&mut *other));
}

#[test]
fn no_event_is_lost_while_versions_change_under_load() {
    let rig = Rig::new(&guests::guest(guests::PASS), "");
    let mut filter = rig.filter();
    let events: Vec<Envelope> = (0..64).map(event).collect();
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for i in 0..10 {
                let plugin = if i % 2 == 0 { guests::guest(DROP) } else { guests::guest(guests::PASS) };
                std::fs::write(rig.path(), plugin).unwrap();
                factory(rig.home.path(), "").prepare().unwrap();
            }
        });
        while !swapping.is_finished() {
            let verdicts = ask(&mut *filter, &events);
            let passed = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Pass)).count();
            let dropped = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Drop(_))).count();
            assert!((passed, dropped) == (64, 0) || (passed, dropped) == (63, 1), "{passed} {dropped}");
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_bus_takes_up_a_changed_file_by_itself_and_no_bad_one() {
    let home = tempfile::tempdir().unwrap();
    let (file, plugin) = (home.path().join("meshbus.yaml"), home.path().join("plugin.wasm"));
    let text = "name: swap\nroutes: {r: {from: [{topic: \"in/#\"}], filters: [{wasm: {path: plugin.wasm, cache: ''}}], \
                to: [{bus: out}]}}\n";
    std::fs::write(&file, text).unwrap();
    std::fs::write(&plugin, guests::guest(guests::PASS)).unwrap();
    let config = Config::load(std::slice::from_ref(&file), &|_| None, TRANSPORTS).unwrap();
    config.prepare_filters().unwrap();
    let signals = Signals::new([file.clone(), plugin.clone()]).unwrap();
    assert_eq!(config.filter_files(), std::slice::from_ref(&plugin));
    let app = App::new(config, vec![file], TRANSPORTS, None);
    app.start().await.unwrap();
    let running = tokio::spawn({
        let app = app.clone();
        async move { app.run(signals).await }
    });
    assert_eq!(fate(&app).await, Outcome::Delivered);
    for (bytes, expected) in
        [(guests::guest(DROP), Outcome::Filtered), (guests::guest(guests::PASS), Outcome::Delivered)]
    {
        std::fs::write(&plugin, bytes).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while fate(&app).await != expected {
            assert!(Instant::now() < deadline, "the change was not taken up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    std::fs::write(&plugin, b"nonsense").unwrap();
    let errors = app.reload().await.expect_err("a bad plugin was taken");
    assert!(errors[0].to_string().contains("is no Wasm file"), "{errors:?}");
    assert_eq!(fate(&app).await, Outcome::Delivered);
    running.abort();
}

/// What becomes of an event that the route takes.
async fn fate(app: &App) -> Outcome {
    let mut event = event(1);
    event.topic = Topic::parse("in/x").unwrap();
    let receipts = app.bus().publish(vec![event]).await;
    tokio::time::timeout(Duration::from_secs(30), receipts[0].delivered()).await.expect("an answer")
}
