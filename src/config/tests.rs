//! What the located tree, merging, sections and values promise.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::tree::parse;
use super::values::{Duration, Secret, Size};
use super::*;

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[ \\n\\t:\\-\\[\\]{}&*!|>'\"%@#?,.$a-c0-9é]{0,60}") {
        if let Err(errors) = Section::read("f", &text, &|_| Some("x: [".to_owned())) {
            prop_assert!(!errors.is_empty());
            prop_assert!(errors.iter().all(|error| error.render().starts_with("f:")));
        }
    }

    #[test]
    fn a_place_is_where_the_text_stands(before in "[a-zé]{1,6}", at in 0_usize..6) {
        let text = format!("{before}:\n{}{before}: 'é {before}'\n", " ".repeat(at + 1));
        let whole = section(&text);
        let path = format!("[{before:?}][{before:?}]");
        let error = whole.error(&path, "x");
        prop_assert_eq!((error.line, error.column), (2, at + 4 + before.chars().count()));
        prop_assert_eq!(whole.error(&path, "column 3: x").column, error.column + 3);
    }
}

fn section(text: &str) -> Section {
    Section::from_yaml("f.yaml", text).unwrap()
}

fn no_yaml(text: &str) -> String {
    Section::from_yaml("f.yaml", text).unwrap_err().to_string()
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    url: String,
    port: u16,
    qos: Option<u8>,
    retain: bool,
    label_selector: String,
    subscribe: Vec<Subscription>,
    mode: Mode,
    timeout: Option<Duration>,
    max: Option<Size>,
    token: Option<Secret>,
    names: BTreeMap<String, i64>,
    any: serde_json::Value,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscription {
    topic: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Mode {
    #[default]
    Binary,
    Structured,
    Custom {
        header: String,
    },
}

#[test]
fn a_section_reads_as_a_type() {
    let sample: Sample = section(
        "url: a\nport: 0x50\nqos: 1\nretain: true\nsubscribe: [{topic: x}, {topic: \"1\"}]\nmode: {custom: {header: h}}\n\
         timeout: 1h30m\nmax: 64KiB\nnames: {a: 1, b: -2}\nany: [1.5, ~, {k: v}]\n",
    )
    .parse()
    .unwrap();
    assert_eq!(sample.port, 80);
    assert_eq!(sample.qos, Some(1));
    assert_eq!(sample.subscribe.len(), 2);
    assert_eq!(sample.mode, Mode::Custom { header: "h".into() });
    assert_eq!(sample.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(sample.max, Some(Size(65536)));
    assert_eq!(sample.names["b"], -2);
    assert_eq!(sample.any, serde_json::json!([1.5, null, {"k": "v"}]));
}

#[test]
fn an_error_stands_at_the_field_it_is_about() {
    for (text, expected) in [
        (
            "url: a\nport: 70000\n",
            "f.yaml:2:7: port: expected a whole number from 0 to 65535, found the number 70000",
        ),
        (
            "port: \"80\"\n",
            "f.yaml:1:7: port: expected a whole number from 0 to 65535, found the text \"80\"\n  hint: write a number without quotes",
        ),
        (
            "url: 5\n",
            "f.yaml:1:6: url: expected text, found the number 5\n  hint: put it in quotes to make it text",
        ),
        (
            "a: 1\nlabelSelector: x\n",
            "f.yaml:1:1: a: is no field known here\n  hint: allowed here: url, port, qos, retain, label_selector, subscribe, mode, timeout, max, token, names, any",
        ),
        (
            "url: x\nlabelSelector: x\n",
            "f.yaml:2:1: labelSelector: is no field known here\n  hint: did you mean `label_selector`?",
        ),
        (
            "subscribe:\n  - topic: a\n  - {tpoic: b}\n",
            "f.yaml:3:6: subscribe[1].tpoic: is no field known here\n  hint: did you mean `topic`?",
        ),
        ("subscribe:\n  - {}\n", "f.yaml:2:5: subscribe[0]: the field `topic` is missing"),
        (
            "mode: binry\n",
            "f.yaml:1:7: mode: \"binry\" is none of the words allowed here\n  hint: did you mean `binary`?",
        ),
        (
            "mode: {custom: {hdr: x}}\n",
            "f.yaml:1:17: mode.custom.hdr: is no field known here\n  hint: allowed here: header",
        ),
        ("mode: {a: 1, b: 2}\n", "f.yaml:1:1: mode: expected exactly one of: binary, structured, custom"),
        (
            "subscribe: a\n",
            "f.yaml:1:12: subscribe: expected a list, found the text \"a\"\n  hint: write a list, even for one: [value]",
        ),
        (
            "retain: yes\n",
            "f.yaml:1:9: retain: expected true or false, found the text \"yes\"\n  hint: write true or false, without quotes",
        ),
        ("url:\n  x: y\n", "f.yaml:1:1: url: expected text, found a map"),
    ] {
        assert_eq!(section(text).parse::<Sample>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_error_in_a_value_says_what_would_be_right() {
    for (text, expected) in [
        (
            "timeout: 30\n",
            "f.yaml:1:10: timeout: \"30\" is a duration without a unit\n  hint: 30s, 30ms or 30m",
        ),
        (
            "timeout: 30 s\n",
            "f.yaml:1:10: timeout: \"30 s\" is no duration\n  hint: a number and a unit: 100ms, 30s, 5m, 1h30m",
        ),
        ("max: 64mb\n", "f.yaml:1:6: max: \"64mb\" is no size\n  hint: did you mean `64MiB`?"),
        ("max: -1\n", "f.yaml:1:6: max: expected a size such as 64KiB, found the number -1"),
        (
            "token: hunter2\n",
            "f.yaml:1:8: token: a secret does not stand in the file\n  hint: {file: PATH} or {env: NAME}",
        ),
        (
            "token: {file: a, env: b}\n",
            "f.yaml:1:1: token: expected exactly one of: file, env, found a map",
        ),
        (
            "token: {fil: a}\n",
            "f.yaml:1:9: token.fil: is no field known here\n  hint: did you mean `file`?",
        ),
        (
            "names: {a: x}\n",
            "f.yaml:1:12: names.a: expected a whole number, found the text \"x\"\n  hint: write a number without quotes",
        ),
        (
            "names: {ä: 1, ö.x: x}\n",
            "f.yaml:1:20: names[\"ö.x\"]: expected a whole number, found the text \"x\"\n  hint: write a number without quotes",
        ),
        ("- a\n", "f.yaml:1:1: expected a map of fields, found a list"),
    ] {
        assert_eq!(section(text).parse::<Sample>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_rendered_error_shows_the_line_and_a_caret() {
    let error = section("url: a\nlabelSelector: x\n").parse::<Sample>().unwrap_err();
    assert_eq!(
        error.render(),
        "f.yaml:2:1: labelSelector: is no field known here\n   |\n 2 | labelSelector: x\n   | ^\n  hint: did you mean `label_selector`?"
    );
}

#[test]
fn text_that_is_no_yaml_is_refused_at_its_place() {
    for (text, place, what) in [
        ("a:\n\tb: 1\n", "f.yaml:2:", "tabs"),
        ("a: [1, 2\nb: 3\n", "f.yaml:", "is no YAML"),
        ("a: 1\na: 2\n", "f.yaml:2:1: a: ", "is set twice in this map\n  hint: the first is at f.yaml:1:1"),
        ("x:\n  - a: 1\n    a: 2\n", "f.yaml:3:5: x[0].a: ", "is set twice"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: ", "a second document"),
        ("a: !secret x\n", "f.yaml:1:", "the tag !secret does not fit here"),
        ("a: !!int x\n", "f.yaml:1:", "does not fit here"),
        ("? [a]\n: b\n", "f.yaml:1:", "a key of a map is a single word or text"),
        ("a: &x [*x]\n", "f.yaml:1:", "an alias within what it stands for"),
        ("a: *x\n", "f.yaml:1:", "is no YAML"),
        ("a: {b: ${X}}\n", "f.yaml:1:", "put text with a variable in quotes"),
        ("a:\n  b: ${X}\n", "f.yaml:2:6: a.b: ", "variable X is not set"),
    ] {
        let error = no_yaml(text);
        assert!(error.starts_with(place) && error.contains(what), "{text:?} gives {error}");
    }
}

#[test]
fn every_bad_variable_and_repeated_key_is_told_at_once() {
    let errors = parse("f", "a: ${A}\nb: ${B}\nb: 1\nc: ${C}\n", &|name| (name == "A").then(String::new));
    let errors: Vec<_> = errors.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn a_plain_scalar_has_its_type_after_expansion_and_a_quoted_one_is_text() {
    let env = |name: &str| match name {
        "PORT" => Some("8080".to_owned()),
        "ON" => Some("true".to_owned()),
        _ => None,
    };
    let read =
        Section::read("f", "a: ${PORT}\nb: \"${PORT}\"\nc: ${ON}\nd: ${NONE:-}\ne: $${PORT}\n", &env);
    let expected = serde_json::json!({"a": 8080, "b": "8080", "c": true, "d": null, "e": "${PORT}"});
    assert_eq!(read.unwrap().to_json(), expected);
}

#[test]
fn scalars_follow_the_core_schema() {
    let json = section("[yes, no, on, 012, 0o14, 1e3, .5, ~, null, '', 1_000, 08:30, +1, .inf]").to_json();
    let expected = serde_json::json!([
        "yes", "no", "on", 12, 12, 1000.0, 0.5, null, null, "", "1_000", "08:30", 1, null
    ]);
    assert_eq!(json, expected);
}

#[test]
fn aliases_share_and_are_bounded() {
    let json = section("base: &b {x: 1}\nu: *b\nv: [*b, *b]\n").to_json();
    assert_eq!(json["v"][1]["x"], 1);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb.extend([format!("a{level}: &a{level} [{below}]\n")]);
    }
    assert!(no_yaml(&bomb).contains("too many values"), "{}", no_yaml(&bomb));
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Section::from_yaml("f", &nested(DEPTH_MAX)).is_ok());
    assert!(
        no_yaml(&nested(DEPTH_MAX + 1)).starts_with("f.yaml:1:65: "),
        "{}",
        no_yaml(&nested(DEPTH_MAX + 1))
    );
    assert!(no_yaml(&nested(200)).contains("nested too deep"));
    // The scanner has a bound of its own.
    assert!(no_yaml(&nested(500_000)).contains("is no YAML"));
    let deep = format!("a: &a {}\nb: [*a]\n", nested(DEPTH_MAX - 1));
    assert!(no_yaml(&deep).contains("nested too deep"));
    assert!(no_yaml(&" ".repeat(FILE_MAX + 1)).contains("too large"));
}

#[test]
fn a_large_or_hostile_file_comes_to_an_end() {
    let line = "- {name: abcdefgh, value: 12345678, list: [1, 2, 3]}\n";
    let within = line.repeat(NODES_MAX / 8);
    assert!(within.len() < FILE_MAX && Section::from_yaml("f", &within).is_ok());
    for hostile in
        ["- a\n", "a ", "[", "k: &a\n", "? ", "\"a\" ", "# x\n", "a: {b: c}\n", "'", "\u{e9}: &x 1\n"]
    {
        let text = hostile.repeat(FILE_MAX / 16 / hostile.len());
        drop(Section::from_yaml("f", &text));
    }
}

#[test]
fn an_empty_file_is_an_empty_map_and_a_byte_order_mark_is_skipped() {
    assert!(section("").is_null());
    assert!(section("# only a comment\n").is_null());
    assert_eq!(section("").parse::<Sample>().unwrap(), Sample::default());
    assert_eq!(section("\u{feff}url: a\r\nport: 1\r\n").parse::<Sample>().unwrap().port, 1);
}

#[test]
fn files_merge_by_maps_and_nothing_is_set_twice() {
    let read = |file: &str, text: &str| Section::from_yaml(file, text).unwrap();
    let one = read("a.yaml", "name: x\nconnectors:\n  a: {nats: {}}\nroutes:\n");
    let two = read("b.yaml", "connectors:\n  b: {mqtt: {}}\nroutes: {r: {}}\n");
    let mut errors = Vec::new();
    let merged = one.merged(&two, &mut errors);
    assert!(errors.is_empty());
    let expected = serde_json::json!({
        "name": "x", "connectors": {"a": {"nats": {}}, "b": {"mqtt": {}}}, "routes": {"r": {}}
    });
    assert_eq!(merged.to_json(), expected);
    let keys: Vec<_> = merged.entries().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["name", "connectors", "routes"]);

    let three = read("c.yaml", "x: [1]\nconnectors:\n  a:\n    nats: 5\nname: y\n");
    let four = read("d.yaml", "x: [2]\n");
    let mut errors = Vec::new();
    let merged = one.merged(&three, &mut errors).merged(&four, &mut errors);
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "c.yaml:4:5: connectors.a.nats: is set in two files\n  hint: the first is at a.yaml:3:7; files merge by maps only, keep one",
            "c.yaml:5:1: name: is set in two files\n  hint: the first is at a.yaml:1:1; files merge by maps only, keep one",
            "d.yaml:1:1: x: is set in two files\n  hint: the first is at c.yaml:1:1; files merge by maps only, keep one",
        ]
    );
    assert_eq!(merged.to_json()["name"], "x");
}

#[test]
fn parts_of_a_section_keep_their_place() {
    let whole = section("connectors:\n  my.hub:\n    nats:\n      client:\n        urls: [a, b]\n");
    let client = whole.get("connectors[\"my.hub\"].nats.client").unwrap();
    assert_eq!(client.path(), "connectors[\"my.hub\"].nats.client");
    let error = client.error_with_hint("urls[1]", "is no URL", "nats://HOST");
    assert_eq!(
        error.to_string(),
        "f.yaml:5:19: connectors[\"my.hub\"].nats.client.urls[1]: is no URL\n  hint: nats://HOST"
    );
    assert_eq!((client.error("", "x").line, client.error("", "x").column), (4, 7));
    assert_eq!((client.error("tls.cert", "x").line, client.error("tls.cert", "x").column), (4, 7));
    assert_eq!(client.error_at_key("urls", "x").column, 9);
    assert!(client.get("urls[2]").is_none() && client.get("url").is_none());
    assert_eq!(client.get("urls").unwrap().items().len(), 2);
    let rest = section("connector: a\nsubject: b\n").without(&["connector"]);
    assert_eq!(rest.to_json(), serde_json::json!({"subject": "b"}));
}

#[test]
fn durations_and_sizes_read_back_as_they_are_written() {
    for text in ["100ms", "30s", "5m", "1h30m", "1d", "0s", "1us", "999ns"] {
        assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
    }
    assert_eq!("90m".parse::<Duration>().unwrap().to_string(), "1h30m");
    for text in ["", "s", "1", "1x", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
        assert!(text.parse::<Duration>().is_err(), "{text}");
    }
    for text in ["64KiB", "1MiB", "1GiB", "3TiB", "0B", "1000B"] {
        assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
    }
    assert_eq!("10MB".parse::<Size>().unwrap(), Size(10_000_000));
    for text in ["", "KiB", "1 KiB", "1.5MiB", "-1", "16777216TiB"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[derive(Serialize)]
struct Printed {
    token: Secret,
}

#[test]
fn a_secret_is_read_when_asked_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "hunter2\n").unwrap();
    let secret = Secret::File(path.clone());
    assert_eq!(secret.read().unwrap(), "hunter2");
    std::fs::write(&path, "hunter3").unwrap();
    assert_eq!(secret.read().unwrap(), "hunter3");
    assert_eq!(format!("{secret:?}"), "Secret(…)");

    let printed = Printed { token: Secret::Env("MESHBUS_NO_SUCH".into()) };
    assert_eq!(serde_json::to_string(&printed).unwrap(), r#"{"token":{"env":"MESHBUS_NO_SUCH"}}"#);
    assert_eq!(printed.token.read().unwrap_err(), "variable MESHBUS_NO_SUCH is not set");
    assert!(Secret::File("/no/such".into()).read().unwrap_err().starts_with("/no/such: "));
}
