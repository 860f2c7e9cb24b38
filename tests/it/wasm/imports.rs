//! What a guest may call of our own: a log, figures and a clock.

use meshbus::filter::wasm;

use super::*;
use crate::guests;

/// The figures of the plugin `name`.
fn series(name: &str) -> Vec<(String, u64, f64)> {
    let figures =
        wasm::figures().into_iter().find(|figures| &*figures.plugin == name).expect("a plugin in use");
    figures.series.into_iter().map(|series| (series.name, series.count, series.value)).collect()
}

#[test]
fn a_guest_counts_logs_and_reads_the_clock() {
    let imports = r#"
      (import "meshbus:filter/log@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
      (import "meshbus:filter/log@0.1.0" "enabled" (func $enabled (param i32) (result i32)))
      (import "meshbus:filter/metrics@0.1.0" "counter-add" (func $count (param i32 i32 i64 i32 i32)))
      (import "meshbus:filter/metrics@0.1.0" "histogram-record" (func $record (param i32 i32 f64 i32 i32)))
      (import "meshbus:filter/clock@0.1.0" "now" (func $now (param i32)))
      (import "meshbus:filter/clock@0.1.0" "monotonic-ns" (func $ticks (result i64)))"#;
    let process = r"
      (call $log (i32.const 2) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0))
      (drop (call $enabled (i32.const 0)))
      (call $count (i32.const 1024) (i32.const 4) (i64.const 3) (i32.const 0) (i32.const 0))
      (call $record (i32.const 1028) (i32.const 4) (f64.const 1.5) (i32.const 0) (i32.const 0))
      (call $count (i32.const 1032) (i32.const 4) (i64.const 3) (i32.const 0) (i32.const 0))
      (call $now (i32.const 376))
      (if (i64.lt_u (i64.load (i32.const 376)) (i64.const 1700000000)) (then unreachable))
      (if (i64.eqz (call $ticks)) (then unreachable))";
    let plugin = guests::guest_with(process, imports, r#"(data (i32.const 1024) "seensizebad ")"#);
    let rig = Rig::named("imports.wasm", &plugin, "");
    let mut filter = rig.filter();
    assert!(matches!(ask(&mut *filter, &[event(1)])[..], [Verdict::Pass]));
    assert!(matches!(ask(&mut *filter, &[event(2)])[..], [Verdict::Pass]));
    // A name with a space is none, and is not kept.
    assert_eq!(series("imports.wasm"), [("seen".to_owned(), 2, 6.0), ("size".to_owned(), 2, 3.0)]);
}

#[test]
fn a_plugin_has_a_bounded_number_of_series() {
    let imports = r#"(import "meshbus:filter/metrics@0.1.0" "counter-add" (func $count (param i32 i32 i64 i32 i32)))"#;
    // Names of two letters, of which there are 676.
    let process = r"
      (loop $first
        (i32.store8 (i32.const 1025) (i32.const 97))
        (loop $second
          (call $count (i32.const 1024) (i32.const 2) (i64.const 1) (i32.const 0) (i32.const 0))
          (i32.store8 (i32.const 1025) (i32.add (i32.load8_u (i32.const 1025)) (i32.const 1)))
          (br_if $second (i32.le_u (i32.load8_u (i32.const 1025)) (i32.const 122))))
        (i32.store8 (i32.const 1024) (i32.add (i32.load8_u (i32.const 1024)) (i32.const 1)))
        (br_if $first (i32.le_u (i32.load8_u (i32.const 1024)) (i32.const 122))))";
    let plugin = guests::guest_with(process, imports, r#"(data (i32.const 1024) "aa")"#);
    let rig = Rig::named("series.wasm", &plugin, "");
    let mut filter = rig.filter();
    assert!(matches!(ask(&mut *filter, &[event(1)])[..], [Verdict::Pass]));
    assert_eq!(series("series.wasm").len(), 256);
}
