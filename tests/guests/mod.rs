//! Filter plugins made here, of text: what a test needs of a guest without a toolchain for one.
#![allow(dead_code, reason = "each test binary uses some of them")]
#![allow(clippy::expect_used, reason = "what is wrong here is the test itself")]

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// The world of all guests here that do not say otherwise.
pub(crate) const TYPED: &str = "filter-plugin";
/// The world of guests that take events packed.
pub(crate) const PACKED: &str = "packed-filter-plugin";

/// Puts `pass` verdicts on all `$n` events at `$out`.
pub(crate) const PASS: &str = "";
/// Never ends.
pub(crate) const LOOP: &str = "(loop $l (br $l))";
/// Asks for four gigabytes.
pub(crate) const HOG: &str = "(drop (memory.grow (i32.const 65535)))";
/// Fails.
pub(crate) const TRAP: &str = "unreachable";
/// Fails on the tenth event of an instance.
pub(crate) const TENTH: &str = "(global.set $seen (i32.add (global.get $seen) (local.get $n)))
    (if (i32.ge_u (global.get $seen) (i32.const 10)) (then unreachable))";
/// Verdicts of a case that does not exist.
pub(crate) const UNKNOWN_CASE: &str =
    "(memory.fill (local.get $out) (i32.const 17) (i32.mul (local.get $n) (i32.const 16)))";
/// A list that lies outside of the memory.
pub(crate) const OUTSIDE: &str = "(local.set $out (i32.const -64))";
/// One verdict too many.
pub(crate) const TOO_MANY: &str = "(local.set $n (i32.add (local.get $n) (i32.const 1)))";
/// No verdict at all.
pub(crate) const TOO_FEW: &str = "(local.set $n (i32.const 0))";
/// Calls itself until the stack is used up.
pub(crate) const RECURSE: &str = "(call $again)";
/// Divides by zero.
pub(crate) const DIVIDE: &str = "(drop (i32.div_u (local.get $n) (i32.const 0)))";

/// A component of the world `world` of which every export traps.
pub(crate) fn dummy(world: &str) -> Vec<u8> {
    let (resolve, world) = wit(&wit_text(), world);
    let module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    encode(module, &resolve, world)
}

/// A component whose `process` runs `process` before it answers: there are the locals `$in` and `$n`, the events and
/// their number, and `$out`, verdicts that are all `pass`, 16 bytes each.
pub(crate) fn guest(process: &str) -> Vec<u8> {
    component(TYPED, &module(process, "(i32.const 0)", "", ""))
}

/// A [`guest`] with `extra` definitions at its end, imports before.
pub(crate) fn guest_with(process: &str, imports: &str, extra: &str) -> Vec<u8> {
    component(TYPED, &module(process, "(i32.const 0)", imports, extra))
}

/// A guest that refuses its configuration with `reason`.
pub(crate) fn refusing(reason: &str) -> Vec<u8> {
    let init = format!(
        "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 40) (i32.const 1024))
         (i32.store (i32.const 44) (i32.const {})) (i32.const 0)",
        reason.len()
    );
    component(TYPED, &module("", &init, "", &format!("(data (i32.const 1024) {reason:?})")))
}

/// A guest that passes all events on, packed.
pub(crate) fn packed() -> Vec<u8> {
    packed_answer(
        "(memory.fill (local.get $out) (i32.const 0) (i32.add (local.get $n) (i32.const 1)))
         (i32.store8 (local.get $out) (i32.const 1))
         (local.set $size (i32.add (local.get $n) (i32.const 1)))",
    )
}

/// A guest that answers packed events with what `answer` writes to `$out` and says is `$size` long.
pub(crate) fn packed_answer(answer: &str) -> Vec<u8> {
    let room = "(local.set $out (call $alloc (i32.add (local.get $n) (i32.const 4096))))";
    packed_with(&format!("{room} {answer}"), "", "")
}

/// As [`packed_answer`] with `extra` definitions at its end, imports before.
pub(crate) fn packed_with(answer: &str, imports: &str, extra: &str) -> Vec<u8> {
    // Locals come first in a function, those of `answer` behind ours.
    let extra = format!(
        r#"(func (export "meshbus:filter/packed@0.1.0#process-packed") (param $n i32) (param $in i32) (param $length i32)
             (result i32) (local $out i32) (local $size i32)
             {answer}
             (i32.store (i32.const 16) (local.get $out)) (i32.store (i32.const 20) (local.get $size))
             (i32.const 16))
           (func (export "cabi_post_meshbus:filter/packed@0.1.0#process-packed") (param i32)
             (global.set $heap (i32.const 65536)))
           {extra}"#
    );
    component(PACKED, &module("", "(i32.const 0)", imports, &extra))
}

/// A component of `world` made of the core module `wat`.
pub(crate) fn component(world: &str, wat: &str) -> Vec<u8> {
    component_of(&wit_text(), world, wat)
}

/// As [`component`] with another WIT than ours.
pub(crate) fn component_of(text: &str, world: &str, wat: &str) -> Vec<u8> {
    let (resolve, world) = wit(text, world);
    encode(wat::parse_str(wat).expect("a module"), &resolve, world)
}

/// The text of `plugins/wit/meshbus-filter.wit`.
pub(crate) fn wit_text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/wit/meshbus-filter.wit");
    std::fs::read_to_string(path).expect("the WIT file")
}

/// A core module that does what a guest must; see [`guest`]. `init` leaves the case of its result.
pub(crate) fn module(process: &str, init: &str, imports: &str, extra: &str) -> String {
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 3)
  (global $heap (mut i32) (i32.const 65536))
  (global $seen (mut i32) (i32.const 0))
  (func $again (call $again) (call $again))
  (func $alloc (param $size i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))))
    (local.get $at))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32) (call $alloc (local.get $size)))
  (func (export "meshbus:filter/filter@0.1.0#init") (param $in i32) (param $n i32) (result i32)
    (drop {init})
    (global.set $heap (i32.const 65536))
    (i32.const 32))
  (func (export "meshbus:filter/filter@0.1.0#process") (param $in i32) (param $n i32) (result i32) (local $out i32)
    (local.set $out (call $alloc (i32.mul (local.get $n) (i32.const 16))))
    (memory.fill (local.get $out) (i32.const 0) (i32.mul (local.get $n) (i32.const 16)))
    (if (local.get $n) (then {process}))
    (i32.store (i32.const 16) (local.get $out)) (i32.store (i32.const 20) (local.get $n))
    (i32.const 16))
  (func (export "cabi_post_meshbus:filter/filter@0.1.0#process") (param i32) (global.set $heap (i32.const 65536)))
  {extra})"#
    )
}

fn wit(text: &str, world: &str) -> (Resolve, wit_parser::WorldId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("meshbus-filter.wit", text).expect("WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world");
    (resolve, world)
}

fn encode(mut module: Vec<u8>, resolve: &Resolve, world: wit_parser::WorldId) -> Vec<u8> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder =
        ComponentEncoder::default().validate(true).module(&module).expect("a module of the world");
    encoder.encode().expect("a component")
}
