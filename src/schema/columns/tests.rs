//! The rules of columns, paths and durations; what the API server put into its tables; that no path panics.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// 2026-11-22T06:35:00Z
const NOW: i64 = 1_795_329_300;

fn path(text: &str) -> JsonPath {
    text.parse().unwrap()
}

fn shown(kind: ColumnKind, text: &str, object: &Value) -> Value {
    cell(&Column::path("X", kind, text).unwrap(), object, NOW)
}

fn widget() -> Value {
    json!({
        "metadata": {"name": "one", "labels": {"example.com/tier": "front"},
                     "creationTimestamp": "2026-11-22T06:34:00Z"},
        "spec": {"size": 4, "ratio": 0.5, "big": 1e6, "on": true, "none": null, "tags": ["p", "q", "r"],
                 "map": {"b": 1, "a": [true, null]}},
        "status": {"conditions": [
            {"type": "Synced", "status": "False", "generation": 1},
            {"type": "Ready", "status": "True", "generation": 2}
        ]}
    })
}

#[test]
fn a_path_selects_as_the_table_says() {
    let widget = widget();
    for (text, expected) in [
        (".spec.size", json!([4])),
        ("{.spec.size}", json!([4])),
        ("$.spec.size", json!([4])),
        ("{$.spec.size}", json!([4])),
        ("@.spec.size ", json!([4])),
        (".spec['size']", json!([4])),
        ("['spec'].size", json!([4])),
        ("['spec.size']", json!([4])),
        (r".metadata.labels.example\.com/tier", json!(["front"])),
        (r".metadata.labels['example\.com/tier']", json!(["front"])),
        (".metadata.labels['example.com/tier']", json!([])),
        (".metadata.labels.*", json!(["front"])),
        (".spec.tags[0]", json!(["p"])),
        (".spec.tags[-1]", json!(["r"])),
        (".spec.tags[*]", json!(["p", "q", "r"])),
        (".spec.tags.*", json!(["p", "q", "r"])),
        (".spec.tags[1:]", json!(["q", "r"])),
        (".spec.tags[:-1]", json!(["p", "q"])),
        (".spec.tags[::2]", json!(["p", "r"])),
        (".spec.tags[3]", json!([])),
        (".spec.tags[-4]", json!([])),
        (".spec.tags[2:1]", json!([])),
        (".spec.tags.p", json!([])),
        (".spec.size[0]", json!([])),
        (".spec.none", json!([null])),
        (".spec.none.x", json!([])),
        (".spec.none[*]", json!([])),
        (".nope.x.y", json!([])),
        (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
        (".status.conditions[?(@.type == 'Ready')].status", json!(["True"])),
        (".status.conditions[?(@.type!=\"Ready\")].status", json!(["False"])),
        (".status.conditions[?(@.generation>1)].type", json!(["Ready"])),
        (".status.conditions[?(@.generation>=1)].type", json!(["Synced", "Ready"])),
        (".status.conditions[?(@.generation<2)].type", json!(["Synced"])),
        (".status.conditions[?(@.generation<=2)].type", json!(["Synced", "Ready"])),
        (".status.conditions[?(@.status)].type", json!(["Synced", "Ready"])),
        (".status.conditions[?(@.nope)].type", json!([])),
        (".status.conditions[?(@['type']==\"Ready\")].status", json!(["True"])),
        // One comparison that cannot be made spoils the whole, as it does there.
        (".status.conditions[?(@.nope==\"x\")].type", json!([])),
        (".status.conditions[?(@.type==1)].type", json!([])),
        (".status.conditions[?(@.generation==1.0)].type", json!([])),
        (".status[?(@.type==\"Ready\")]", json!([])),
        ("", json!([widget])),
    ] {
        let path = path(text);
        assert_eq!(json!(path.find(&widget)), expected, "{text}");
        assert_eq!(path.first(&widget), expected.get(0), "{text}");
        assert_eq!(path.to_string(), text);
    }
}

#[test]
fn a_path_that_cannot_be_read_says_which_part() {
    for (text, why) in [
        ("spec.size", "`s` is not expected here"),
        ("..name", "`..` is not supported"),
        (".a[", "`[` without `]`"),
        (".a[0,1]", "`[0,1]` is no index"),
        (".a[\"b\"]", "no key in single quotes"),
        (".a[1:2:0]", "no slice"),
        (".a[9223372036854775807]", "is no index"),
        (".a[?(@.b==1", "without `)]`"),
        (".a[?(@.b==1)", "`[?(…)` without `]`"),
        (".a[?(@.b=1)]", "`=` is no comparison"),
        (".a[?(@.b==)]", "two sides"),
        (".a[?(@.b==\"x)]", "without"),
        (".a[?(@.b==\"\\x\")]", "escape"),
        (".a}", "`}` is not expected"),
    ] {
        let error = text.parse::<JsonPath>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert!(".a".repeat(3000).parse::<JsonPath>().is_err());
}

#[test]
fn a_cell_has_the_form_of_its_column() {
    use ColumnKind::{Boolean, Date, Integer, Number, String};
    let widget = widget();
    for (kind, text, expected) in [
        (String, ".metadata.name", json!("one")),
        (String, ".spec.size", json!("4")),
        (String, ".spec.ratio", json!("0.5")),
        (String, ".spec.big", json!("1e+06")),
        (String, ".spec.on", json!("true")),
        (String, ".spec.none", json!("<no value>")),
        (String, ".spec.nope", json!(null)),
        (String, ".spec.map", json!(r#"{"a":[true,null],"b":1}"#)),
        (String, ".spec.tags", json!(r#"["p","q","r"]"#)),
        (String, ".spec.tags[*]", json!("p")),
        (Integer, ".spec.size", json!(4)),
        (Integer, ".spec.ratio", json!(0)),
        (Integer, ".spec.big", json!(1_000_000)),
        (Integer, ".metadata.name", json!(null)),
        (Integer, ".spec.none", json!(null)),
        (Number, ".spec.size", json!(4)),
        (Number, ".spec.ratio", json!(0.5)),
        (Number, ".spec.on", json!(null)),
        (Boolean, ".spec.on", json!(true)),
        (Boolean, ".spec.size", json!(null)),
        (Date, ".metadata.creationTimestamp", json!("60s")),
        (Date, ".metadata.name", json!("<invalid>")),
        (Date, ".spec.size", json!(null)),
        (Date, ".metadata.deletionTimestamp", json!(null)),
    ] {
        assert_eq!(shown(kind, text, &widget), expected, "{kind:?} {text}");
    }
    let name = |object: &Value, now: i64| json!(format!("{} at {now}", object["metadata"]["name"]));
    let column = Column::computed("Name", String, "", name);
    assert_eq!(cell(&column, &widget, 7), json!("\"one\" at 7"));
}

#[test]
fn a_float_is_written_as_the_servers_language_does() {
    for (value, expected) in [
        (0.1, "0.1"),
        (123_456.7, "123456.7"),
        (1_234_567.5, "1.2345675e+06"),
        (0.0001, "0.0001"),
        (0.000_012, "1.2e-05"),
        (-2.5e30, "-2.5e+30"),
        (3.0, "3"),
        (0.0, "0"),
    ] {
        assert_eq!(text(&json!(value)), expected);
    }
}

#[test]
fn an_age_is_unknown_without_a_time_and_invalid_without_a_date() {
    for (time, expected) in [
        ("2026-11-22T06:35:00Z", "0s"),
        ("2026-11-22T08:34:59.5+02:00", "1s"),
        ("2026-11-22T06:35:01Z", "0s"),
        ("2026-11-22T06:35:02Z", "<invalid>"),
        ("", "<unknown>"),
        ("null", "<unknown>"),
        ("0001-01-01T00:00:00Z", "<unknown>"),
        ("2026-11-22", "<invalid>"),
        ("2026-11-22 06:35:00Z", "<invalid>"),
        ("2026-11-22t06:35:00z", "<invalid>"),
        ("2026-11-22T06:35:00", "<invalid>"),
        ("2026-11-22T06:35Z", "<invalid>"),
        ("2026-13-22T06:35:00Z", "<invalid>"),
        ("T\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "<invalid>"),
    ] {
        assert_eq!(age(time, NOW), expected, "{time}");
    }
}

#[test]
fn a_duration_has_two_or_three_figures() {
    let (minute, hour, day) = (60, 3600, 86_400);
    for (seconds, expected) in [
        (i64::MIN, "<invalid>"),
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * minute, "2m"),
        (9 * minute + 59, "9m59s"),
        (10 * minute, "10m"),
        (3 * hour - 1, "179m"),
        (3 * hour, "3h"),
        (7 * hour + 59 * minute + 59, "7h59m"),
        (8 * hour, "8h"),
        (48 * hour - 1, "47h"),
        (2 * day, "2d"),
        (8 * day - 1, "7d23h"),
        (8 * day, "8d"),
        (730 * day - 1, "729d"),
        (730 * day, "2y"),
        (731 * day, "2y1d"),
        (8 * 365 * day - 1, "7y364d"),
        (8 * 365 * day, "8y"),
        (i64::MAX, "292y"),
    ] {
        assert_eq!(human_duration(seconds), expected, "{seconds}");
    }
}

#[test]
fn a_definition_needs_name_type_and_path() {
    let definition = json!({"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1, "format": "int32"});
    let column = Column::from_definition(&definition).unwrap();
    assert_eq!((column.priority, column.format.as_str(), column.kind), (1, "int32", ColumnKind::Integer));
    assert_eq!(column.description, "Custom resource definition column (in JSONPath format): .spec.size");
    for (field, value) in
        [("name", json!(1)), ("type", json!("text")), ("jsonPath", json!("[")), ("type", Value::Null)]
    {
        let mut wrong = definition.clone();
        wrong[field] = value;
        assert!(Column::from_definition(&wrong).is_err(), "{field}");
    }
}

/// The columns and the rows of a recorded table of widgets, and the server's time.
#[test]
fn the_recorded_cells_of_widgets_come_from_their_definition() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = "shared/conformance/k8s/recordings.jsonl";
    let Some(text) = here.ancestors().find_map(|folder| std::fs::read_to_string(folder.join(file)).ok())
    else {
        println!("skipped: recordings.jsonl is not in shared/conformance/k8s");
        return;
    };
    let recordings: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let body =
        |recording: &Value, name: &str| serde_json::from_str::<Value>(recording[name].as_str()?).ok();
    let definition = recordings.iter().filter_map(|recording| body(recording, "request_body"));
    let definition =
        definition.into_iter().find(|body| body["kind"] == "CustomResourceDefinition").unwrap();
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let columns: Vec<_> = columns.iter().map(|column| Column::from_definition(column).unwrap()).collect();
    let list = recordings.iter().find(|recording| recording["scenario"] == "raw:list").unwrap();
    let objects = body(list, "response_body").unwrap()["items"].as_array().unwrap().clone();
    let table = recordings.iter().find(|recording| recording["scenario"] == "raw:list-table").unwrap();
    let table = body(table, "response_body").unwrap();
    for (column, header) in columns.iter().zip(&table["columnDefinitions"].as_array().unwrap()[1..]) {
        let ours =
            json!([column.name, column.kind.as_str(), column.format, column.description, column.priority]);
        let names = ["name", "type", "format", "description", "priority"];
        assert_eq!(ours, names.iter().map(|name| header[name].clone()).collect::<Value>());
    }
    let rows = table["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.len() == objects.len());
    for (row, object) in rows.iter().zip(&objects) {
        let created = unix_time(object["metadata"]["creationTimestamp"].as_str().unwrap()).unwrap();
        let age = row["cells"][3].as_str().unwrap().trim_end_matches('s').parse::<i64>().unwrap();
        let cells: Value = columns.iter().map(|column| cell(column, object, created + age)).collect();
        assert_eq!(cells.as_array().unwrap(), &row["cells"].as_array().unwrap()[1..]);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn path_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(".a"),
        Just(".b"),
        Just(".*"),
        Just("[0]"),
        Just("[*]"),
        Just("[-1:]"),
        Just("[?(@.a=="),
        Just("\"x\""),
        Just("'"),
        Just(")]"),
        Just("['a"),
        Just("']"),
        Just("\\"),
        Just("{"),
        Just("}"),
        Just("-9223372036854775808"),
        Just("[:9223372036854775807]")
    ];
    prop_oneof![any::<String>(), proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())]
}

proptest! {
    #[test]
    fn no_path_panics_and_first_is_the_first(text in path_text(), object in any_json()) {
        if let Ok(path) = text.parse::<JsonPath>() {
            prop_assert_eq!(path.first(&object), path.find(&object).first().copied());
        }
    }

    #[test]
    fn no_cell_panics(object in any_json(), now in any::<i64>(), time in any::<String>()) {
        use ColumnKind::{Boolean, Date, Integer, Number, String};
        for kind in [String, Integer, Number, Boolean, Date] {
            cell(&Column::path("X", kind, ".a").unwrap(), &object, now);
        }
        age(&time, now);
    }
}
