//! Byte strings that are no plugins are refused, and never more than that.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Rig, long};
use crate::guests;

/// Bytes of a component in which some are others, or that end early, or none of it.
fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    let whole = guests::guest(guests::PASS);
    let length = whole.len();
    let broken = (prop::collection::vec((0..length, any::<u8>()), 1..8), 0..=length).prop_map(
        move |(changes, end)| {
            let mut bytes = whole.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            // Half of them keep their length.
            if end % 2 == 0 {
                bytes.truncate(end);
            }
            bytes
        },
    );
    let header =
        prop::collection::vec(any::<u8>(), 0..256).prop_map(|tail| [b"\0asm\x0d\0\x01\0", &*tail].concat());
    prop_oneof![prop::collection::vec(any::<u8>(), 0..256), header, broken]
}

#[test]
fn no_bytes_make_the_loader_panic() {
    let rig = Rig::new(b"", "memory: 1MiB\n");
    let mut runner = TestRunner::new(Config {
        cases: long(500, 1_000_000),
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&spoiled(), |bytes| {
            std::fs::write(rig.path(), bytes).unwrap();
            // Some are sound: a changed byte may be one of a name nobody reads.
            if let Err(reason) = rig.factory.prepare() {
                prop_assert!(reason.len() < 4096, "{}", reason);
            }
            Ok(())
        })
        .unwrap();
}
