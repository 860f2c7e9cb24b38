//! CloudEvents SQL against the specification's own conformance kit.
//!
//! The kit is upstream's and not part of this project: it is looked for in `shared/conformance` beside the
//! project or above it, and the test without it says that it is skipped.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use meshbus::config::Section;
use meshbus::core::cesql::{ErrorKind, Expression};
use meshbus::core::view::View;
use meshbus::core::{Envelope, Topic};
use meshbus::schema::cloudevents::json;
use serde_json::{Value, json};

/// The kit as it was handed over: a part of the 18 files and 275 cases there are upstream.
const FILES: usize = 13;
const CASES: usize = 168;

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn kit() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = here.ancestors().map(|folder| folder.join("shared/conformance/cesql_tck"));
    let found = folders.find(|folder| folder.is_dir());
    if found.is_none() {
        println!("skipped: the CESQL conformance kit is not in shared/conformance/cesql_tck");
    }
    found
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    Section::read(&path.display().to_string(), &text, &|_| None).unwrap().to_json()
}

/// The event of a case: its own, or the kit's usual one with what the case says otherwise.
fn event(case: &Value) -> Envelope {
    let mut event = json!({
        "specversion": "1.0", "id": "myId", "source": "localhost.localdomain", "type": "myType",
    });
    if let Some(own) = case.get("event") {
        event = own.clone();
    }
    for (name, value) in case.get("eventOverrides").and_then(Value::as_object).into_iter().flatten() {
        event[name] = value.clone();
    }
    json::decode(&Bytes::from(event.to_string()), Topic::parse("t").unwrap()).unwrap()
}

/// Value and kind of error, as the kit writes them.
fn outcome(expression: &str, event: &Envelope) -> (Value, Option<&'static str>) {
    match Expression::parse(expression) {
        Ok(expression) => {
            let view = View::of(event);
            let outcome = expression.evaluate(&view);
            (outcome.value.to_json(), outcome.error.map(|error| error.kind.as_str()))
        }
        Err(_) => (json!(false), Some(ErrorKind::Parse.as_str())),
    }
}

#[test]
fn every_case_of_the_conformance_kit_passes() {
    let Some(kit) = kit() else { return };
    let files: Vec<PathBuf> = std::fs::read_dir(kit).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (mut cases, mut failed) = (0, Vec::new());
    for file in &files {
        let suite = read(file);
        for case in suite["tests"].as_array().unwrap() {
            cases += 1;
            // The kit writes a number or a keyword without quotes, too.
            let text = &case["expression"];
            let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
            let (value, error) = outcome(&text, &event(case));
            let wanted = case.get("error").and_then(Value::as_str);
            let same = case.get("result").is_none_or(|result| *result == value);
            if !same || error != wanted {
                failed.push(format!(
                    "{}: {}: {text} gives {value} {error:?}",
                    file.display(),
                    case["name"]
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!((files.len(), cases), (FILES, CASES));
}
