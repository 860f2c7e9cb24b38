//! Bodies as typed clients send them.

use proptest::prelude::*;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::json;

use super::*;

/// A field that has a length.
fn part(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn number(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::Varint, &mut out);
    encode_varint(value, &mut out);
    out
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [part(1, api_version.as_bytes()), part(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), part(1, &meta), part(2, raw), part(3, b""), part(4, b"")].concat()
}

#[test]
fn a_review_is_read_as_the_json_it_stands_for() {
    let attributes =
        [part(1, b"default"), part(2, b"list"), part(3, b"example.com"), part(5, b"widgets"), part(7, b"")];
    let raw = [part(1, &part(1, b"")), part(2, &part(1, &attributes.concat()))].concat();
    let read = decode(&body("authorization.k8s.io/v1", "SelfSubjectAccessReview", &raw)).unwrap();
    let expected =
        json!({"namespace": "default", "verb": "list", "group": "example.com", "resource": "widgets"});
    assert_eq!(read["spec"]["resourceAttributes"], expected);
    assert_eq!(read["kind"], "SelfSubjectAccessReview");
}

#[test]
fn maps_times_and_numbers_are_read() {
    let entry = |key: &[u8], value: &[u8]| [part(1, key), part(2, value)].concat();
    let meta = [
        part(1, b"a"),
        part(8, &[number(1, 1_763_791_200), number(2, 5)].concat()),
        part(11, &entry(b"k", b"v")),
    ];
    let raw = [
        part(1, &meta.concat()),
        part(2, &entry(b"n", b"1")),
        part(3, &entry(b"b", b"\x00\xff")),
        number(4, 1),
    ];
    let read = decode(&body("v1", "ConfigMap", &raw.concat())).unwrap();
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "creationTimestamp": "2025-11-22T06:00:00Z", "labels": {"k": "v"}},
        "data": {"n": "1"}, "binaryData": {"b": "AP8="}, "immutable": true,
    });
    assert_eq!(read, expected);
    let raw = [
        part(1, &part(1, b"e")),
        number(8, 3),
        part(10, &[number(1, 1_763_791_200), number(2, 5000)].concat()),
    ];
    let event = decode(&body("v1", "Event", &raw.concat())).unwrap();
    assert_eq!((&event["count"], &event["eventTime"]), (&json!(3), &json!("2025-11-22T06:00:00.000005Z")));
}

#[test]
fn zero_is_said_where_it_is_not_none() {
    let spec = [part(1, b""), number(2, 15), number(5, 0)].concat();
    let raw = [part(1, &[part(1, b"l"), number(7, 0)].concat()), part(2, &spec)].concat();
    let lease = decode(&body("coordination.k8s.io/v1", "Lease", &raw)).unwrap();
    let expected = json!({"holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 0});
    assert_eq!(lease["spec"], expected);
    assert_eq!(lease["metadata"], json!({"name": "l"}));
    let at_once = decode(&body("v1", "DeleteOptions", &number(1, 0))).unwrap();
    assert_eq!(at_once["gracePeriodSeconds"], 0);
}

#[test]
fn what_is_not_known_is_said() {
    assert_eq!(decode(b"{}"), Err(ProtoError::NoMagic));
    let unknown = decode(&body("v1", "Pod", b"")).unwrap_err();
    assert!(unknown.to_string().contains("send JSON"), "{unknown}");
    assert!(matches!(decode(b"k8s\0\x0a\xff\x01"), Err(ProtoError::Malformed(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), kind in 0..3_usize) {
        let (api_version, kind) = [("v1", "Event"), ("v1", "ConfigMap"), ("coordination.k8s.io/v1", "Lease")][kind];
        drop(decode(&body(api_version, kind, &bytes)));
        drop(decode(&[MAGIC, &bytes].concat()));
    }
}
