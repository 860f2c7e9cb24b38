//! Label and field selectors, as LIST, WATCH and DELETE of a collection take them.

use serde_json::Value;

use super::kinds::{EVENT, EVENTS_V1_FIELDS, Kind};
use super::status::Refusal;

/// What objects must be to be seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<(String, Test)>,
    /// Path, value, and whether they must be equal.
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone)]
enum Test {
    In(Vec<String>),
    /// Objects without the key pass too.
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// Most requirements in one selector.
const REQUIREMENTS_MAX: usize = 1_000;

impl Selector {
    /// Reads both; `events_v1` takes the field names of that API.
    pub(crate) fn parse(
        kinds: &[Kind],
        kind: usize,
        events_v1: bool,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Refusal> {
        let labels = split_outside_parentheses(labels)
            .into_iter()
            .map(|requirement| requirement_of(requirement.trim()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut tests = Vec::new();
        for requirement in fields.split(',').filter(|part| !part.is_empty()).take(REQUIREMENTS_MAX) {
            let (path, value, equal) = field_requirement(requirement)?;
            tests.push((
                field_path(&kinds[kind], kind == EVENT && events_v1, path)?,
                value.to_owned(),
                equal,
            ));
        }
        Ok(Self { labels, fields: tests })
    }

    /// Lets only this name through.
    pub(crate) fn require_name(&mut self, name: &str) {
        self.fields.push(("metadata.name".to_owned(), name.to_owned(), true));
    }

    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether this object is seen.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |(key, test): &(String, Test)| {
            let value = labels.get(key).and_then(Value::as_str);
            match test {
                Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        };
        let field = |(path, wanted, equal): &(String, String, bool)| {
            (field_value(object, path) == *wanted) == *equal
        };
        self.labels.iter().all(label) && self.fields.iter().all(field)
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.retain(|part| !part.trim().is_empty());
    parts.truncate(REQUIREMENTS_MAX);
    parts
}

fn requirement_of(text: &str) -> Result<(String, Test), Refusal> {
    let one = |key: &str, value: &str, test: fn(Vec<String>) -> Test| {
        let key = label_key(key, text)?;
        Ok((key, test(vec![value.trim().to_owned()])))
    };
    if let Some((key, value)) = text.split_once("!=") {
        return one(key, value, Test::NotIn);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return one(key, value, Test::In);
    }
    if let Some(key) = text.strip_prefix('!') {
        return Ok((label_key(key, text)?, Test::Absent));
    }
    let words = text.split_once('(').and_then(|(head, rest)| Some((head.trim(), rest.strip_suffix(')')?)));
    if let Some((head, values)) = words {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => Ok((label_key(key, text)?, Test::In(values))),
            [key, "notin"] => Ok((label_key(key, text)?, Test::NotIn(values))),
            _ => Err(Refusal::bad_request(format!("unable to parse requirement: {text}"))),
        };
    }
    Ok((label_key(text, text)?, Test::Exists))
}

fn label_key(key: &str, requirement: &str) -> Result<String, Refusal> {
    let key = key.trim();
    if key.is_empty() {
        let operator: String = requirement.chars().take_while(|c| matches!(c, '=' | '!')).collect();
        let message = format!("found '{operator}', expected: !, identifier, or 'end of string'");
        return Err(Refusal::bad_request(message));
    }
    if key.contains(char::is_whitespace) {
        return Err(Refusal::bad_request(format!("unable to parse requirement: {requirement}")));
    }
    Ok(key.to_owned())
}

fn field_requirement(text: &str) -> Result<(&str, &str, bool), Refusal> {
    let split = |operator: &str| text.split_once(operator);
    if let Some((path, value)) = split("!=") {
        return Ok((path, value, false));
    }
    let Some((path, value)) = split("==").or_else(|| split("=")) else {
        let message = format!("invalid selector: '{text}'; can't understand '{text}'");
        return Err(Refusal::bad_request(message));
    };
    Ok((path, value, true))
}

fn field_path(kind: &Kind, events_v1: bool, path: &str) -> Result<String, Refusal> {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return Ok(path.to_owned());
    }
    let unknown = || Refusal::bad_request(format!("field label not supported: {path}"));
    if events_v1 {
        let found = EVENTS_V1_FIELDS.iter().find(|(name, _)| *name == path);
        return found.map(|(_, core)| (*core).to_owned()).ok_or_else(unknown);
    }
    if kind.selectable.iter().any(|field| field == path) {
        return Ok(path.to_owned());
    }
    if kind.selectable.is_empty() && !kind.custom {
        return Err(Refusal::bad_request(format!(
            "\"{path}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )));
    }
    Err(unknown())
}

/// A field as text; what is absent is empty. `source` of an Event is its component, or who reports.
fn field_value(object: &Value, path: &str) -> String {
    if path == "source" {
        let component = object["source"]["component"].as_str().filter(|name| !name.is_empty());
        return component.or_else(|| object["reportingComponent"].as_str()).unwrap_or_default().to_owned();
    }
    let mut value = object;
    for part in path.split('.') {
        value = &value[part];
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
