//! Guests of a stock `wasm32-wasip2` toolchain: what they import of WASI is there and grants nothing.

use super::*;
use crate::guests;

/// The part of WASI 0.2 that these guests use, in the words of its own WIT.
const WASI: &str = "
package wasi:io@0.2.3 {
  interface error { resource error; }
  interface streams {
    use error.{error};
    variant stream-error { last-operation-failed(error), closed }
    resource output-stream {
      check-write: func() -> result<u64, stream-error>;
      blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
      splice: func(length: u64) -> result<u64, stream-error>;
    }
  }
}
package wasi:cli@0.2.3 {
  interface environment { get-environment: func() -> list<tuple<string, string>>; }
  interface exit { exit: func(status: result); }
  interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
}
package wasi:clocks@0.2.3 {
  interface monotonic-clock { now: func() -> u64; }
  interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
}
package wasi:filesystem@0.2.3 {
  interface types { resource descriptor { sync: func(); } }
  interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }
}
package wasi:random@0.2.3 {
  interface random { get-random-u64: func() -> u64; get-random-bytes: func(length: u64) -> list<u8>; }
}
package wasi:sockets@0.2.3 {
  interface network { resource network; }
}
";
const WORLD: &str = "
world stock {
  include filter-plugin;
  import wasi:io/streams@0.2.3;
  import wasi:cli/environment@0.2.3;
  import wasi:cli/exit@0.2.3;
  import wasi:cli/stdout@0.2.3;
  import wasi:clocks/monotonic-clock@0.2.3;
  import wasi:clocks/wall-clock@0.2.3;
  import wasi:filesystem/types@0.2.3;
  import wasi:filesystem/preopens@0.2.3;
  import wasi:random/random@0.2.3;
  import wasi:sockets/network@0.2.3;
}
";

/// A guest that imports `imports` of WASI and runs `process`.
fn stock(process: &str, imports: &str) -> Vec<u8> {
    let text = guests::wit_text() + WORLD + WASI;
    guests::component_of(&text, "stock", &guests::module(process, "(i32.const 0)", imports, ""))
}

fn said(process: &str, imports: &str) -> Verdict {
    ask(&mut *Rig::new(&stock(process, imports), "").filter(), &[event(1)]).remove(0)
}

#[test]
fn output_clocks_and_random_numbers_work_and_there_is_nothing_else() {
    let imports = r#"
      (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
      (import "wasi:io/streams@0.2.3" "[method]output-stream.check-write" (func $check (param i32 i32)))
      (import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))
      (import "wasi:io/streams@0.2.3" "[resource-drop]output-stream" (func $drop (param i32)))
      (import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
      (import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $ticks (result i64)))
      (import "wasi:clocks/wall-clock@0.2.3" "now" (func $clock (param i32)))
      (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32)))
      (import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))
      (import "wasi:random/random@0.2.3" "get-random-bytes" (func $bytes (param i64 i32)))"#;
    // Whatever is not as it should be is a trap.
    let process = r"
      (i64.store (i32.const 256) (i64.const 0x0a6f6c6c6568))
      (i32.store (i32.const 300) (call $stdout))
      (call $check (i32.load (i32.const 300)) (i32.const 320))
      (if (i32.load8_u (i32.const 320)) (then unreachable))
      (call $write (i32.load (i32.const 300)) (i32.const 256) (i32.const 6) (i32.const 340))
      (if (i32.load8_u (i32.const 340)) (then unreachable))
      (call $drop (i32.load (i32.const 300)))
      (call $environment (i32.const 360))
      (if (i32.load (i32.const 364)) (then unreachable))
      (call $directories (i32.const 368))
      (if (i32.load (i32.const 372)) (then unreachable))
      (call $clock (i32.const 376))
      (if (i64.lt_u (i64.load (i32.const 376)) (i64.const 1700000000)) (then unreachable))
      (if (i64.eqz (call $ticks)) (then unreachable))
      (if (i64.eq (call $random) (call $random)) (then unreachable))
      (call $bytes (i64.const 32) (i32.const 400))
      (if (i32.ne (i32.load (i32.const 404)) (i32.const 32)) (then unreachable))";
    assert!(matches!(said(process, imports), Verdict::Pass), "{:?}", said(process, imports));
}

#[test]
fn whatever_else_is_called_is_a_trap_that_names_it() {
    let exit = r#"(import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))"#;
    let verdict = said("(call $exit (i32.const 0))", exit);
    assert!(
        reason(&verdict).contains("it called wasi:cli/exit#exit, which filters are not granted"),
        "{verdict:?}"
    );
    let bytes = r#"(import "wasi:random/random@0.2.3" "get-random-bytes" (func $bytes (param i64 i32)))"#;
    let verdict = said("(call $bytes (i64.const 1000000000000) (i32.const 400))", bytes);
    assert!(reason(&verdict).contains("random bytes; at most"), "{verdict:?}");
}

#[test]
fn an_interface_of_wasi_that_grants_something_is_refused() {
    let sockets =
        r#"(import "wasi:sockets/network@0.2.3" "[resource-drop]network" (func $drop (param i32)))"#;
    let refused = Rig::new(&stock("", sockets), "").refused();
    assert!(
        refused.contains("imports wasi:sockets/network@0.2.3, which filters are not granted"),
        "{refused}"
    );
}
