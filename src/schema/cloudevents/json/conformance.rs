//! What is written, against the specification's own JSON Schema and the SDK's own reader.
//!
//! The schema is upstream's and not part of this project: it is looked for in `shared/conformance` beside
//! the project or above it, and a test without it says that it is skipped.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::{arbitrary, sdk};
use super::*;

fn schema() -> Option<Json> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = "shared/conformance/cloudevents/cloudevents.schema.json";
    let text = here.ancestors().find_map(|folder| std::fs::read_to_string(folder.join(path)).ok());
    if text.is_none() {
        println!("skipped: cloudevents.schema.json is not in shared/conformance/cloudevents");
    }
    text.map(|text| serde_json::from_str(&text).unwrap())
}

/// Checks the keywords that the schema uses: `required`, `$ref`, `type`, `minLength`, `format: date-time`.
fn check(schema: &Json, event: &Json) -> Result<(), String> {
    let event = event.as_object().ok_or("is no object")?;
    for name in schema["required"].as_array().unwrap() {
        event.get(name.as_str().unwrap()).ok_or(format!("{name} is missing"))?;
    }
    for (name, property) in schema["properties"].as_object().unwrap() {
        let Some(value) = event.get(name) else { continue };
        let reference = property["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
        let rule = schema.pointer(reference).unwrap();
        let kind = match value {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        };
        let allowed = &rule["type"];
        if allowed != kind && !allowed.as_array().is_some_and(|kinds| kinds.contains(&json!(kind))) {
            return Err(format!("{name} is a {kind}, not {allowed}"));
        }
        if let (Some(text), Some(least)) = (value.as_str(), rule["minLength"].as_u64())
            && (text.chars().count() as u64) < least
        {
            return Err(format!("{name} is shorter than {least}"));
        }
        if rule["format"] == "date-time" {
            let time = value.as_str().unwrap_or_default();
            time.parse::<jiff::Timestamp>().map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_check_itself_refuses_what_the_schema_forbids() {
    let Some(schema) = schema() else { return };
    let good = json!({"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": [1]});
    assert_eq!(check(&schema, &good), Ok(()));
    for (name, value) in [
        ("id", json!("")),
        ("source", json!(1)),
        ("subject", json!("")),
        ("time", json!("now")),
        ("data_base64", json!([])),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(check(&schema, &bad).unwrap_err().contains(name));
    }
}

#[test]
fn what_is_written_fits_the_specifications_schema() {
    let Some(schema) = schema() else { return };
    let mut runner = proptest::test_runner::TestRunner::default();
    let run = runner.run(&arbitrary::event(), |event| {
        let json = serde_json::from_slice::<Json>(&encode(&event));
        // The checker's parser refuses numbers beyond an f64, which data may have.
        let Ok(json) = json else { return Ok(()) };
        prop_assert_eq!(check(&schema, &json), Ok(()));
        Ok(())
    });
    run.unwrap();
}

proptest! {
    #[test]
    fn the_sdk_reads_what_is_written_as_the_event_it_is(mut event in arbitrary::event()) {
        event.dataschema = None;
        if event.datacontenttype.as_deref().is_some_and(media::is_json) {
            // The SDK knows JSON media types only in lower case and without parameters.
            event.datacontenttype = Some("application/json".into());
        }
        let bytes = Bytes::from(encode(&event));
        let theirs: cloudevents::Event = serde_json::from_slice(&bytes).unwrap();
        let ours = decode(&bytes, arbitrary::topic()).unwrap();
        let read = sdk::from_event(theirs, arbitrary::topic()).unwrap();
        for name in ["id", "source", "type", "subject"] {
            prop_assert_eq!(read.attribute(name), ours.attribute(name));
        }
        for (name, value) in ours.extensions.iter() {
            prop_assert_eq!(read.extensions.get(name), Some(value));
        }
    }

    #[test]
    fn what_the_sdk_writes_is_read_as_the_event_it_is(mut event in arbitrary::event()) {
        event.dataschema = None;
        let theirs = sdk::to_event(&event).unwrap();
        let bytes = Bytes::from(serde_json::to_vec(&theirs).unwrap());
        let read = decode(&bytes, arbitrary::topic()).unwrap();
        for name in ["id", "source", "type", "subject", "datacontenttype"] {
            if event.datacontenttype.is_some() {
                prop_assert_eq!(read.attribute(name), event.attribute(name));
            }
        }
        for (name, value) in event.extensions.iter() {
            prop_assert_eq!(read.extensions.get(name).map(Value::to_text), Some(value.to_text()));
        }
        if !event.datacontenttype.as_deref().is_none_or(media::is_json) {
            prop_assert_eq!(read.data, event.data);
        }
    }
}
