//! YAML as the program writes it.

use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use serde_json::Value;

/// One YAML document of a JSON value, without a mark of its beginning, ended by a line break.
pub fn to_yaml(value: Value) -> String {
    let mut text = String::new();
    if YamlEmitter::new(&mut text).dump(&yaml(value)).is_err() {
        // Writing to a string does not fail.
        text.clear();
    }
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    format!("{text}\n")
}

fn yaml(value: Value) -> Yaml<'static> {
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(value) => Yaml::Value(Scalar::Boolean(value)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Yaml::Value(Scalar::Integer(number)),
            (None, Some(number)) => Yaml::Value(Scalar::FloatingPoint(number.into())),
            (None, None) => Yaml::Value(Scalar::String(number.to_string().into())),
        },
        Value::String(text) => Yaml::Value(Scalar::String(text.into())),
        Value::Array(items) => Yaml::Sequence(items.into_iter().map(yaml).collect()),
        Value::Object(fields) => {
            let mut map = Mapping::new();
            for (key, field) in fields {
                map.insert(Yaml::Value(Scalar::String(key.into())), yaml(field));
            }
            Yaml::Mapping(map)
        }
    }
}
