//! The rules of selectors; what the API server answered; and what must hold for any text.

use std::borrow::Cow;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::schema::structural::names::{label_key, label_value};

fn label(text: &str) -> LabelSelector {
    text.parse().unwrap()
}

fn label_error(text: &str) -> String {
    text.parse::<LabelSelector>().unwrap_err().to_string()
}

fn field(text: &str) -> FieldSelector {
    text.parse().unwrap()
}

fn field_error(text: &str) -> String {
    text.parse::<FieldSelector>().unwrap_err().to_string()
}

/// Whether labels written as `a=1 b=2` are selected.
fn selects(selector: &str, labels: &str) -> bool {
    let find = |key: &str| {
        labels.split_whitespace().filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == key)
    };
    label(selector).matches(|key| find(key).map(|pair| pair.1))
}

/// The recorded answers, if they are beside the project or above it.
fn recordings() -> Option<Vec<Value>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = "shared/conformance/k8s/recordings.jsonl";
    let text = here.ancestors().find_map(|folder| std::fs::read_to_string(folder.join(path)).ok());
    if text.is_none() {
        println!("skipped: recordings.jsonl is not in shared/conformance/k8s");
    }
    text.map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn a_label_requirement_holds_as_the_table_says() {
    for (selector, labels, expected) in [
        ("", "", true),
        ("a=1", "a=1", true),
        ("a=1", "a=2", false),
        ("a=1", "", false),
        ("a==1", "a=1", true),
        ("a!=1", "a=2", true),
        ("a!=1", "", true),
        ("a!=1", "a=1", false),
        ("a in (1,2)", "a=2", true),
        ("a in (1,2)", "a=3", false),
        ("a in (1,2)", "", false),
        ("a notin (1,2)", "a=3", true),
        ("a notin (1,2)", "", true),
        ("a notin (1,2)", "a=1", false),
        ("a", "a=x", true),
        ("a", "", false),
        ("!a", "", true),
        ("!a", "a=x", false),
        ("a>5", "a=6", true),
        ("a>5", "a=5", false),
        ("a<5", "a=4", true),
        ("a<5", "a=x", false),
        ("a<5", "", false),
        ("a=", "a=", true),
        ("a=,b=2", "a= b=2", true),
        ("a=1,b=2", "a=1", false),
        ("a in (,1)", "a=", true),
        ("a in ()", "a=", true),
    ] {
        assert_eq!(selects(selector, labels), expected, "{selector} on {labels}");
    }
}

#[test]
fn the_canonical_form_sorts_keys_and_values_and_drops_blanks() {
    for (text, shown) in [
        ("", ""),
        (" tier in ( front , back,back ) , app ", "app,tier in (back,front)"),
        ("z==1,a!=2,m=3", "a!=2,m=3,z==1"),
        ("! x", "!x"),
        ("x notin (),y > 4", "x notin (),y>4"),
        ("in in (in,notin),notin", "in in (in,notin),notin"),
        ("example.com/a_b.c=Value-1", "example.com/a_b.c=Value-1"),
    ] {
        assert_eq!(label(text).to_string(), shown, "{text}");
    }
}

#[test]
fn a_label_selector_is_refused_in_the_words_of_the_server() {
    let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                 must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
                 regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    for (text, message) in [
        ("==x", "found '==', expected: !, identifier, or 'end of string'".to_owned()),
        (",a", "found ',', expected: !, identifier, or 'end of string'".to_owned()),
        ("a,", "found '', expected: identifier after ','".to_owned()),
        ("a=b c", "found 'c', expected: ',' or 'end of string'".to_owned()),
        ("!a=b", "found '=', expected: ',' or 'end of string'".to_owned()),
        ("!", "unable to parse requirement: found '', expected: identifier".to_owned()),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt".to_owned()),
        ("a in b", "unable to parse requirement: found 'b' expected: '('".to_owned()),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier".to_owned()),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'".to_owned()),
        ("a in (b,", "unable to parse requirement: found '', expected: ',', or identifier".to_owned()),
        ("a===b", "unable to parse requirement: found '=', expected: identifier".to_owned()),
        ("*bar=1", format!("unable to parse requirement: <nil>: Invalid value: \"*bar\": {name}")),
        ("a=-", format!("unable to parse requirement: values[0][a]: Invalid value: \"-\": {value}")),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value \
             must be an integer"
                .to_owned(),
        ),
        (
            "a in (b.,c,d.)",
            format!(
                "unable to parse requirement: [values[0][a]: Invalid value: \"b.\": {value}, values[2][a]: Invalid \
                 value: \"d.\": {value}]"
            ),
        ),
    ] {
        assert_eq!(label_error(text), message, "{text}");
    }
}

#[test]
fn a_key_is_a_name_behind_an_optional_domain() {
    for good in ["a", "A.b_c-9", "example.com/a", "a.b-c.d/X", &"a".repeat(63)] {
        assert_eq!(label_key(good), Vec::<String>::new(), "{good}");
    }
    for (bad, start) in [
        ("", "name part must be non-empty"),
        ("/a", "prefix part must be non-empty"),
        ("a/", "name part must be non-empty"),
        ("a/b/c", "a valid label key must consist"),
        ("Upper.com/a", "prefix part a lowercase RFC 1123 subdomain"),
        ("a..b/c", "prefix part a lowercase RFC 1123 subdomain"),
        (&"a".repeat(64), "name part must be no more than 63 bytes"),
        (&format!("{}/c", "a".repeat(254)), "prefix part must be no more than 253 bytes"),
        ("-a", "name part must consist"),
        ("a\u{e9}", "name part must consist"),
    ] {
        assert!(label_key(bad).iter().any(|error| error.starts_with(start)), "{bad}: {start}");
    }
    assert_eq!(label_value(""), Vec::<String>::new());
    assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
}

#[test]
fn an_exact_label_is_found_for_a_look_up() {
    assert_eq!(label("b,a=1").exact("a"), Some("1"));
    assert_eq!(label("a in (1)").exact("a"), Some("1"));
    assert_eq!(label("a in (1,2)").exact("a"), None);
    assert_eq!(label("a!=1").exact("a"), None);
}

#[test]
fn a_field_selector_reads_operators_and_escapes() {
    let selector = field(r"b!=2,a==x\,y\=z\\,,c=");
    assert_eq!(selector.to_string(), r"a=x\,y\=z\\,b!=2,c=");
    assert_eq!(selector.exact("a"), Some(r"x,y=z\"));
    assert_eq!(selector.exact("b"), None);
    assert_eq!(selector.exact("c"), Some(""));
    let fields = |a: &'static str, b: &'static str| {
        selector.matches(move |field| match field {
            "a" => Some(Cow::Borrowed(a)),
            "b" => Some(Cow::Owned(b.to_owned())),
            _ => None,
        })
    };
    assert!(fields(r"x,y=z\", "3"));
    assert!(!fields(r"x,y=z\", "2"));
    assert!(!fields("x", "3"));
}

#[test]
fn a_name_or_namespace_is_pinned_only_by_equality() {
    let selector = field("metadata.namespace=ns,metadata.name==web-0,spec.color!=red");
    assert_eq!((selector.namespace(), selector.name()), (Some("ns"), Some("web-0")));
    assert_eq!(field("metadata.name!=web-0").name(), None);
    assert_eq!(field("").name(), None);
}

#[test]
fn a_field_selector_is_refused_in_the_words_of_the_server() {
    for (text, message) in [
        ("a=1,b", "invalid selector: 'a=1,b'; can't understand 'b'"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        (r"a=\", r"invalid field selector: invalid escape sequence: \"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ] {
        assert_eq!(field_error(text), message);
    }
    assert!(field_error(&"a".repeat(SELECTOR_MAX + 1)).contains("bytes"));
}

#[test]
fn what_the_server_refused_is_refused_with_its_message() {
    let Some(recordings) = recordings() else { return };
    let mut refusals = 0;
    for recording in recordings {
        let (path, status) = (recording["path"].as_str().unwrap(), &recording["status"]);
        let selectors = path.split(['?', '&']).filter_map(|part| part.split_once("elector="));
        for (kind, text) in selectors {
            let text = text.replace('+', " ");
            let text = percent_encoding::percent_decode_str(&text).decode_utf8().unwrap();
            let refused = if kind == "labelS" {
                text.parse::<LabelSelector>().err().map(|error| error.to_string())
            } else {
                let requirements = text.parse::<FieldSelector>().unwrap();
                let unknown = ["spec.nope", "involvedObject.nope"];
                let mut fields = requirements.requirements().iter().map(|requirement| &*requirement.field);
                fields.find(|field| unknown.contains(field)).map(unsupported)
            };
            let Some(message) = refused else {
                assert_eq!(*status, 200, "{path}");
                continue;
            };
            let answer: Value = serde_json::from_str(recording["response_body"].as_str().unwrap()).unwrap();
            assert_eq!(
                (status.as_u64(), answer["message"].as_str()),
                (Some(400), Some(&*message)),
                "{path}"
            );
            refusals += 1;
        }
    }
    assert!(refusals >= 3, "the recordings hold a bad label selector and unknown fields");
}

/// Texts near the grammar: random ones hardly ever parse.
fn selector_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("in"),
        Just("notin"),
        Just("a"),
        Just("example.com/b"),
        Just("7"),
        Just("("),
        Just(")"),
        Just(","),
        Just("="),
        Just("!"),
        Just(">"),
        Just("<"),
        Just(" "),
        Just("\\"),
        Just("\u{e9}")
    ];
    prop_oneof![any::<String>(), proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())]
}

fn label_requirement() -> impl Strategy<Value = LabelRequirement> {
    let key = "([a-z]{1,3}\\.[a-z]{1,3}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,4}[A-Za-z0-9])?";
    let value = "([A-Za-z0-9]([A-Za-z0-9_.-]{0,4}[A-Za-z0-9])?)?";
    (key, 0..9, proptest::collection::vec(value, 1..4), any::<u32>()).prop_map(
        |(key, which, values, bound)| {
            let one = vec![values[0].clone()];
            let (operator, values) = match which {
                0 => (Operator::Equals, one),
                1 => (Operator::DoubleEquals, one),
                2 => (Operator::NotEquals, one),
                3 => (Operator::In, values),
                4 => (Operator::NotIn, values),
                5 => (Operator::GreaterThan, vec![bound.to_string()]),
                6 => (Operator::LessThan, vec![bound.to_string()]),
                7 => (Operator::Exists, Vec::new()),
                _ => (Operator::DoesNotExist, Vec::new()),
            };
            LabelRequirement::new(&key, operator, values).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same_label_selector(text in selector_text()) {
        if let Ok(selector) = text.parse::<LabelSelector>() {
            prop_assert_eq!(&label(&selector.to_string()), &selector);
            selector.matches(|_| Some("7"));
        }
    }

    #[test]
    fn any_requirement_reads_back(requirement in label_requirement()) {
        let selector = label(&requirement.to_string());
        prop_assert_eq!(selector.requirements(), &[requirement]);
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_field_selector(text in selector_text()) {
        if let Ok(selector) = text.parse::<FieldSelector>() {
            prop_assert_eq!(&field(&selector.to_string()), &selector);
            selector.matches(|_| None);
        }
    }

    #[test]
    fn any_field_value_can_be_selected(value in any::<String>()) {
        let requirement = FieldRequirement { field: "a.b".to_owned(), negated: false, value };
        let selector = field(&requirement.to_string());
        prop_assert_eq!(selector.exact("a.b"), Some(&*requirement.value));
    }
}
