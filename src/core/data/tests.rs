//! What is read from JSON, against `serde_json` as the judge.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> Result<Json, &'static str> {
    Json::read(&Bytes::copy_from_slice(text.as_bytes()))
}

fn at<'j>(json: &'j Json, path: &str) -> Found<'j> {
    json.at(&Path::parse(path).unwrap())
}

/// Paths of everything in a value, with what is there.
fn all<'v>(value: &'v Value, path: &str, found: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(members) => {
            for (name, below) in members {
                let path = format!("{path}[\"{name}\"]");
                found.push((path.clone(), below));
                all(below, &path, found);
            }
        }
        Value::Array(items) => {
            for (number, below) in items.iter().enumerate() {
                let path = format!("{path}[{number}]");
                found.push((path.clone(), below));
                all(below, &path, found);
            }
        }
        _ => {}
    }
}

fn same(found: &Found<'_>, value: &Value) -> bool {
    match (found, value) {
        (Found::Null, Value::Null) | (Found::List, Value::Array(_)) | (Found::Object, Value::Object(_)) => {
            true
        }
        (Found::Boolean(found), Value::Bool(value)) => found == value,
        (Found::Number(found), Value::Number(value)) => *found == value.to_string(),
        (Found::Text(found), Value::String(value)) => found == value,
        _ => false,
    }
}

#[test]
fn each_kind_of_value_is_found_at_its_path() {
    let text =
        r#" {"a" : {"b.c": [1.50, "x\ny", true, null, {"": -0}]}, "é": "€", "a\u0062": 1e2, "l": [] } "#;
    let json = read(text).unwrap();
    for (path, expected) in [
        ("a", Found::Object),
        ("a['b.c']", Found::List),
        ("a['b.c'][0]", Found::Number("1.50")),
        ("a[\"b.c\"][1]", Found::Text("x\ny".into())),
        ("a['b.c'][2]", Found::Boolean(true)),
        ("a['b.c'][3]", Found::Null),
        ("a['b.c'][4]['']", Found::Number("-0")),
        ("a['b.c'][5]", Found::Missing),
        ("a['b.c'].x", Found::Missing),
        ("a[0]", Found::Missing),
        ("é", Found::Text("€".into())),
        ("ab", Found::Number("1e2")),
        ("l[0]", Found::Missing),
        ("x", Found::Missing),
        ("é.x", Found::Missing),
    ] {
        assert_eq!(at(&json, path), expected, "{path}");
    }
    assert_eq!(read("17").unwrap().at(&Path::default()), Found::Number("17"));
}

#[test]
fn of_a_name_given_twice_the_first_counts() {
    let text = r#"{"a": 1, "b": {"x": 2}, "a": 3, "b": {"x": 4, "y": 5}}"#;
    let json = read(text).unwrap();
    assert_eq!(at(&json, "a"), Found::Number("1"));
    assert_eq!((at(&json, "b.x"), at(&json, "b.y")), (Found::Number("2"), Found::Missing));
}

#[test]
fn what_is_no_json_or_beyond_the_bounds_is_refused() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for text in
        ["", "{", "{\"a\": 1, broken", "[1,]", "01", "1.", "nul", "\"\\x\"", "\"\u{1}\"", "1 2", "{'a': 1}"]
    {
        assert_eq!(read(text).unwrap_err(), "the data is no JSON", "{text}");
    }
    assert!(read(&nested(DEPTH_MAX)).is_ok());
    assert!(read(&nested(DEPTH_MAX + 1)).unwrap_err().contains("64 levels"));
    assert!(read(&nested(100_000)).is_err());
    assert!(read(&format!("{}1", " ".repeat(DATA_MAX))).unwrap_err().contains("1 MiB"));
    assert!(Json::read(&Bytes::from_static(b"\"\xff\"")).is_err());
}

#[test]
fn members_beyond_the_index_are_found_too() {
    let member = |n: usize| (format!("m{n}"), json!({"n": n, "deep": {"n": [n, {"x": n}]}}));
    let value = Value::Object((0..500).map(member).collect());
    let json = read(&value.to_string()).unwrap();
    let mut paths = Vec::new();
    all(&value, "", &mut paths);
    for (path, expected) in paths {
        assert!(same(&at(&json, &path), expected), "{path}");
    }
    assert_eq!(at(&json, "m500"), Found::Missing);
}

#[test]
fn a_wrong_path_says_what_is_wrong() {
    for (path, expected) in [
        ("", "a name is empty"),
        ("a..b", "a name is empty"),
        ("a.", "a name is empty"),
        ("a]", "] closes nothing"),
        ("a[x]", "write [0]"),
        ("a[+1]", "write [0]"),
        ("a[", "write [0]"),
        ("a['b]", "not closed"),
        ("a[0]b", "after ] comes"),
        (&"a.".repeat(40), "32 steps"),
    ] {
        let reason = Path::parse(path).unwrap_err();
        assert!(reason.contains(expected) || path.len() > 40, "{path}: {reason}");
    }
}

#[test]
fn media_types_of_json_are_known_in_any_case() {
    for (kind, expected) in [
        (None, true),
        (Some("application/json"), true),
        (Some("Application/JSON; charset=utf-8"), true),
        (Some("application/vnd.x+Json"), true),
        (Some("text/json"), true),
        (Some("text/plain"), false),
        (Some("application/x-json-stream"), false),
        (Some("json"), false),
        (Some(""), false),
    ] {
        assert_eq!(is_json(kind), expected, "{kind:?}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[ -~é€😀\n\\\\\"]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 200, 12, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map("[a-cé.\\\\]{0,12}", inner, 0..12)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_path_finds_what_is_there(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        let json = read(&text).unwrap();
        prop_assert!(same(&json.at(&Path::default()), &value));
        let mut paths = Vec::new();
        all(&value, "", &mut paths);
        for (path, expected) in paths {
            let Ok(path) = Path::parse(&path) else { continue };
            prop_assert!(same(&json.at(&path), expected), "{path:?} {text}");
        }
    }

    #[test]
    fn exactly_json_is_taken(value in any_json(), at in any::<prop::sample::Index>(), with in "[\\[\\]{},:\"0-9a-z.eE+ \\\\-]{0,2}") {
        let mut text = value.to_string();
        let at = at.index(text.len() + 1);
        if text.is_char_boundary(at) {
            text.replace_range(at..text.ceil_char_boundary((at + 1).min(text.len())), &with);
        }
        let judged = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(read(&text).is_ok(), judged, "{}", text);
    }

    #[test]
    fn readers_never_panic(bytes in any::<Vec<u8>>(), path in "[a-c.\\[\\]'\"0-9]{0,12}") {
        if let (Ok(json), Ok(path)) = (Json::read(&bytes.into()), Path::parse(&path)) {
            drop(json.at(&path));
        }
    }
}
