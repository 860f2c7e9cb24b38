//! Makes the guests that are stored: each answers by the first digit of an event's id, as [`super::expected`] says.

use std::fmt::Write;

use crate::guests;

/// Where a guest's static data begin; what it is given comes from 65536 on.
const DATA: usize = 2048;
/// What a guest wants of the host: all there is in 0.1.0.
const IMPORTS: &str = r#"
  (import "meshbus:filter/log@0.1.0" "enabled" (func $enabled (param i32) (result i32)))
  (import "meshbus:filter/log@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "meshbus:filter/metrics@0.1.0" "counter-add" (func $count (param i32 i32 i64 i32 i32)))
  (import "meshbus:filter/metrics@0.1.0" "gauge-set" (func $set (param i32 i32 f64 i32 i32)))
  (import "meshbus:filter/metrics@0.1.0" "histogram-record" (func $record (param i32 i32 f64 i32 i32)))
  (import "meshbus:filter/clock@0.1.0" "now" (func $now (param i32)))
  (import "meshbus:filter/clock@0.1.0" "monotonic-ns" (func $ticks (result i64)))"#;

/// Bytes of a guest's memory, and where in it they will lie.
struct Memory(Vec<u8>);

impl Memory {
    /// Puts `bytes` where anything may lie; gives the place.
    fn put(&mut self, bytes: &[u8]) -> usize {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = DATA + self.0.len();
        self.0.extend_from_slice(bytes);
        at
    }

    /// The words of a string or list of `count`.
    fn list(&mut self, bytes: &[u8], count: usize) -> [u32; 2] {
        [self.put(bytes) as u32, count as u32]
    }

    fn text(&mut self, text: &[u8]) -> [u32; 2] {
        self.list(text, text.len())
    }

    /// As the text of a module has it.
    fn segment(&self) -> String {
        let bytes = self.0.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").unwrap();
            text
        });
        format!("(data (i32.const {DATA}) \"{bytes}\")")
    }
}

/// A value an attribute is set to.
enum Set {
    Boolean(bool),
    Integer(i32),
    Text(u8, &'static [u8]),
    Time(i64, u32),
}

/// What the guests patch: each type once, then the topic; `subject` is removed.
const PATCHES: [(&str, Option<Set>); 9] = [
    ("aboolean", Some(Set::Boolean(true))),
    ("aninteger", Some(Set::Integer(-7))),
    ("atext", Some(Set::Text(2, b"text"))),
    ("abinary", Some(Set::Text(3, b"\x00\xff"))),
    ("auri", Some(Set::Text(4, b"https://example.com/a"))),
    ("auriref", Some(Set::Text(5, b"../b"))),
    ("atime", Some(Set::Time(1_700_000_000, 5))),
    ("mbtopic", Some(Set::Text(2, b"old/ones"))),
    ("subject", None),
];
const SECOND: [(&str, Option<Set>); 1] = [("id", Some(Set::Text(2, b"second")))];

/// The text of a component of the world `filter-plugin`.
pub(super) fn typed() -> String {
    let mut memory = Memory(Vec::new());
    let name = memory.text(b"seen")[0];
    let table = typed_verdicts(&mut memory);
    let process = format!(
        "{}
        (loop $next
          (local.set $digit (i32.sub (i32.load8_u (i32.load (local.get $in))) (i32.const 48)))
          (memory.copy (local.get $at)
            (i32.add (i32.const {table}) (i32.mul (local.get $digit) (i32.const 16))) (i32.const 16))
          (if (i32.eq (local.get $digit) (i32.const 6)) (then
            (i32.store offset=4 (local.get $at) (i32.load offset=100 (local.get $in)))
            (i32.store offset=8 (local.get $at) (i32.load offset=104 (local.get $in)))))
          (if (i32.eq (local.get $digit) (i32.const 7)) (then
            (local.set $last (i32.add (i32.load offset=88 (local.get $in))
              (i32.mul (i32.sub (i32.load offset=92 (local.get $in)) (i32.const 1)) (i32.const 32))))
            (i32.store offset=4 (local.get $at) (i32.load offset=16 (local.get $last)))
            (i32.store offset=8 (local.get $at) (i32.load offset=20 (local.get $last)))))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (local.set $in (i32.add (local.get $in) (i32.const 112)))
          (br_if $next (i32.lt_u (local.get $at)
            (i32.add (local.get $out) (i32.mul (local.get $n) (i32.const 16))))))",
        calls(name)
    );
    let module = guests::module(
        &format!("(local.set $at (local.get $out)) {process}"),
        "(i32.const 0)",
        IMPORTS,
        &memory.segment(),
    );
    let module = module.replacen(
        "#process\") (param $in i32) (param $n i32) (result i32) (local $out i32)",
        "#process\") (param $in i32) (param $n i32) (result i32) (local $out i32) (local $at i32) (local $digit i32) (local $last i32)",
        1,
    );
    print(&guests::component(guests::TYPED, &module))
}

/// The text of a component of the world `packed-filter-plugin`.
pub(super) fn packed() -> String {
    let mut memory = Memory(Vec::new());
    let name = memory.text(b"seen")[0];
    let table = packed_verdicts(&mut memory);
    // The id is the first attribute: 10 bytes of head, its name and a tag before it, its length.
    let answer = format!(
        "(local $at i32) (local $from i32) (local $digit i32) (local $entry i32)
        (local.set $out (i32.const 1048576))
        (if (i32.lt_u (memory.size) (i32.const 40)) (then (drop (memory.grow (i32.const 37)))))
        {}
        (i32.store8 (local.get $out) (i32.const 1))
        (local.set $at (i32.add (local.get $out) (i32.const 1)))
        (local.set $from (i32.add (local.get $in) (i32.const 1)))
        (block $done (loop $next
          (br_if $done (i32.eqz (local.get $n)))
          (local.set $digit (i32.sub (i32.load8_u offset=18 (local.get $from)) (i32.const 48)))
          (local.set $entry (i32.add (i32.const {table}) (i32.mul (local.get $digit) (i32.const 8))))
          (memory.copy (local.get $at) (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)))
          (local.set $at (i32.add (local.get $at) (i32.load offset=4 (local.get $entry))))
          (if (i32.eq (local.get $digit) (i32.const 8)) (then
            (local.set $digit (i32.add (i32.load (local.get $from)) (i32.const 4)))
            (i32.store (local.get $at) (local.get $digit))
            (memory.copy (i32.add (local.get $at) (i32.const 4)) (local.get $from) (local.get $digit))
            (i32.store8 (i32.add (local.get $at) (i32.add (local.get $digit) (i32.const 4))) (i32.const 0))
            (local.set $at (i32.add (local.get $at) (i32.add (local.get $digit) (i32.const 5))))))
          (local.set $from (i32.add (local.get $from) (i32.add (i32.load (local.get $from)) (i32.const 4))))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $next)))
        (local.set $size (i32.sub (local.get $at) (local.get $out)))",
        calls(name)
    );
    print(&guests::packed_with(&answer, IMPORTS, &memory.segment()))
}

/// One call of each import, with the name at `name`.
fn calls(name: u32) -> String {
    let named = format!("(i32.const {name}) (i32.const 4)");
    let none = "(i32.const 0) (i32.const 0)";
    format!(
        "(drop (call $enabled (i32.const 4)))
        (call $log (i32.const 0) {named} {none})
        (call $count {named} (i64.const 3) {none})
        (call $set {named} (f64.const 2.5) {none})
        (call $record {named} (f64.const 1.5) {none})
        (call $now (i32.const 376))
        (if (i64.lt_u (i64.load (i32.const 376)) (i64.const 1700000000)) (then unreachable))
        (if (i64.eqz (call $ticks)) (then unreachable))"
    )
}

/// A table of verdicts of 16 bytes, one for each digit; gives its place.
fn typed_verdicts(memory: &mut Memory) -> usize {
    let verdict = |words: &[u32]| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(16, 0);
        bytes
    };
    let why = memory.text(b"why");
    let reason = memory.text(b"too old");
    let body = memory.text(b"changed");
    let alert = memory.text(b"alert");
    let (patches, second) = (typed_patches(memory, &PATCHES), typed_patches(memory, &SECOND));
    let output = |patches: [u32; 2], body: [u32; 3], to: [u32; 3]| -> Vec<u8> {
        [&patches[..], &body, &to].concat().iter().flat_map(|word| word.to_le_bytes()).collect()
    };
    let changed = memory.list(&output(patches, [2, body[0], body[1]], [0; 3]), 1);
    let both =
        [output([0; 2], [1, 0, 0], [1, alert[0], alert[1]]), output(second, [0; 3], [0; 3])].concat();
    let split = memory.list(&both, 2);
    let table = [
        verdict(&[0]),
        verdict(&[1, 1, why[0], why[1]]),
        verdict(&[2, changed[0], changed[1]]),
        verdict(&[3, 1500]),
        verdict(&[4, reason[0], reason[1]]),
        verdict(&[2, split[0], split[1]]),
        verdict(&[4]),
        verdict(&[4]),
    ];
    memory.put(&table.concat())
}

fn typed_patches(memory: &mut Memory, patches: &[(&str, Option<Set>)]) -> [u32; 2] {
    let mut bytes = Vec::new();
    for (name, set) in patches {
        let words = |words: [u32; 2]| words.map(u32::to_le_bytes).concat();
        let mut patch = words(memory.text(name.as_bytes()));
        let (tag, payload) = match set {
            None => (0, Vec::new()),
            Some(Set::Boolean(value)) => (0, vec![u8::from(*value)]),
            Some(Set::Integer(value)) => (1, value.to_le_bytes().to_vec()),
            Some(Set::Text(tag, text)) => (*tag, words(memory.text(text))),
            Some(Set::Time(seconds, nanoseconds)) => {
                (6, [&seconds.to_le_bytes()[..], &nanoseconds.to_le_bytes()].concat())
            }
        };
        patch.extend([u8::from(set.is_some()), 0, 0, 0, 0, 0, 0, 0, tag, 0, 0, 0, 0, 0, 0, 0]);
        patch.extend(payload);
        patch.resize(40, 0);
        bytes.extend(patch);
    }
    memory.list(&bytes, patches.len())
}

/// A table of places and lengths of verdicts, one for each digit; gives its place.
fn packed_verdicts(memory: &mut Memory) -> usize {
    let str32 = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
    let mut typed_only = vec![4];
    typed_only.extend(str32(b"typed only"));
    let changed = [&[2, 1, 0][..], &packed_patches(&PATCHES), &[2], &str32(b"changed"), &[0]].concat();
    let split = [&[2, 2, 0][..], &[0, 0, 1, 5], b"alert", &packed_patches(&SECOND), &[0, 0]].concat();
    let verdicts = [
        vec![0],
        [&[1][..], &str32(b"why")].concat(),
        changed,
        [&[3][..], &1500_u32.to_le_bytes()].concat(),
        [&[4][..], &str32(b"too old")].concat(),
        split,
        typed_only.clone(),
        typed_only,
        // What it was given is written behind this as the data of an output.
        vec![2, 1, 0, 0, 0, 2],
    ];
    let mut table = Vec::new();
    for verdict in verdicts {
        let [at, length] = memory.text(&verdict);
        table.extend([at.to_le_bytes(), length.to_le_bytes()].concat());
    }
    memory.put(&table)
}

fn packed_patches(patches: &[(&str, Option<Set>)]) -> Vec<u8> {
    let mut bytes = (patches.len() as u16).to_le_bytes().to_vec();
    for (name, set) in patches {
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
        bytes.push(u8::from(set.is_some()));
        match set {
            None => {}
            Some(Set::Boolean(value)) => bytes.extend([0, u8::from(*value)]),
            Some(Set::Integer(value)) => bytes.extend([&[1][..], &value.to_le_bytes()].concat()),
            Some(Set::Text(tag, text)) => {
                bytes.push(*tag);
                bytes.extend((text.len() as u32).to_le_bytes());
                bytes.extend(*text);
            }
            Some(Set::Time(seconds, nanoseconds)) => {
                bytes.push(6);
                bytes.extend(seconds.to_le_bytes());
                bytes.extend(nanoseconds.to_le_bytes());
            }
        }
    }
    bytes
}

fn print(component: &[u8]) -> String {
    wasmprinter::print_bytes(component).expect("a component") + "\n"
}
