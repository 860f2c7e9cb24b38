//! Every example file loads, the reference has every option, and the schema file is that of this build.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meshbus::app::App;
use meshbus::config::{Config, ConfigError, TestCase, TestInput};
use meshbus::core::Topic;
use meshbus::schema::cloudevents::json;
use meshbus::transport::TRANSPORTS;
use serde_json::Value;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files
}

fn load(path: &Path) -> Config {
    Config::load(&[path.to_owned()], &|_| None, TRANSPORTS).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ConfigError::render).collect::<Vec<_>>().join("\n"))
    })
}

#[test]
fn every_example_loads_without_any_variable_set() {
    for path in files() {
        let config = load(&path);
        assert!(!config.connectors.is_empty(), "{}", path.display());
        for test in &config.tests {
            if let TestInput::File(input) = &test.input {
                assert!(input.is_file(), "{} names {}", path.display(), input.display());
            }
        }
    }
}

#[test]
fn every_example_printed_loads_as_the_same() {
    for path in files() {
        let config = load(&path);
        let printed = config.print_redacted();
        let name = path.display().to_string();
        let again = Config::read(&[(name.clone(), printed.clone())], &|_| None, TRANSPORTS).unwrap();
        assert_eq!(again.print_redacted(), printed, "{name}");
        for connector in &config.connectors {
            let fingerprint = config.fingerprint_connector(&connector.name);
            assert_eq!(
                again.fingerprint_connector(&connector.name),
                fingerprint,
                "{name} {}",
                connector.name
            );
        }
    }
}

#[test]
fn every_example_passes_its_own_tests() {
    let mut run = 0;
    for path in files() {
        let app = App::prepare(load(&path), TRANSPORTS).unwrap();
        for test in &app.config().tests {
            let came: Vec<Option<String>> = deliveries(&app, test);
            let expected: Vec<_> = test.expect.iter().map(|to| to.address().map(str::to_owned)).collect();
            assert_eq!(came, expected, "{}: {}", path.display(), test.name);
            run += 1;
        }
    }
    assert!(run >= 4);
}

/// The addresses a route sends the test's event to, which comes in by its first source.
fn deliveries(app: &App, test: &TestCase) -> Vec<Option<String>> {
    let event = match &test.input {
        TestInput::File(path) => std::fs::read(path).unwrap(),
        TestInput::Event(event) => serde_json::to_vec(event).unwrap(),
    };
    let config = app.config();
    let source = config.route(&test.route).unwrap().from.first();
    let topic = source.and_then(|source| source.topic.as_ref()?.literal_topic());
    let topic = topic.unwrap_or_else(|| Topic::parse("alerts/in").unwrap());
    let connector = source.and_then(|source| source.connector.clone()).unwrap_or_default();
    let envelope = json::decode(&event.into(), topic).unwrap();
    let routes = app.routes_of(&envelope, &connector);
    let route = routes.into_iter().find(|route| *route.route == *test.route).unwrap();
    let sent = route.sinks.into_iter().filter(|sink| sink.refused.is_none());
    sent.map(|sink| sink.address.map(|address| address.to_string())).collect()
}

#[test]
fn the_schema_file_is_that_of_this_build() {
    let schema = format!("{:#}\n", Config::schema(TRANSPORTS));
    let path = directory().join("schema.json");
    if std::env::var_os("MESHBUS_BLESS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        have == schema,
        "config/schema.json is out of date: run the tests with MESHBUS_BLESS=1 and look at it"
    );
}

#[test]
fn the_schema_knows_every_field_of_every_example() {
    let schema = Config::schema(TRANSPORTS);
    for path in files() {
        let unknown = Walk::of(&schema, &path).unknown;
        assert!(unknown.is_empty(), "{}: the schema does not know {unknown:?}", path.display());
    }
}

#[test]
fn the_reference_has_every_option() {
    let schema = Config::schema(TRANSPORTS);
    let used = Walk::of(&schema, &directory().join("reference.yaml")).used;
    let mut all = BTreeSet::new();
    options(&schema, "#", &mut all);
    // A type that several transports share is one: `mqtt.client.Secret` and `http.client.Secret`.
    let shared = |pointer: &String| match pointer.strip_prefix("#/$defs/").map(|rest| rest.split_once('/'))
    {
        Some(Some((name, rest))) => match name.splitn(3, '.').nth(2) {
            Some(shared) => format!("#/$defs/{shared}/{rest}"),
            None => pointer.clone(),
        },
        _ => pointer.clone(),
    };
    let used: BTreeSet<String> = used.iter().map(shared).collect();
    let all: BTreeSet<String> = all.iter().map(shared).collect();
    let missing: Vec<_> = all.difference(&used).collect();
    assert!(missing.is_empty(), "config/reference.yaml lacks {missing:#?}");
}

/// `text` with what it holds as a comment, because a plugin's file would have to be there: it, and its outputs.
fn uncommented(text: &str) -> String {
    let mut inside = false;
    let mut line = |line: &str| {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let part = rest.strip_prefix("# ").unwrap_or_default();
        let begins = part.starts_with("- wasm:") || part.starts_with("- {") && part.contains("output:");
        inside = begins || inside && part.starts_with("    ");
        if inside { format!("{indent}{part}\n") } else { format!("{line}\n") }
    };
    text.lines().map(&mut line).collect()
}

/// Which fields of the schema a file uses, and which of its own the schema does not know.
struct Walk<'s> {
    schema: &'s Value,
    used: BTreeSet<String>,
    unknown: Vec<String>,
}

impl<'s> Walk<'s> {
    fn of(schema: &'s Value, path: &Path) -> Self {
        let text = uncommented(&std::fs::read_to_string(path).unwrap());
        let section = meshbus::config::Section::read("f", &text, &|_| None).unwrap();
        let mut walk = Self { schema, used: BTreeSet::new(), unknown: Vec::new() };
        walk.value(&section.to_json(), "#", "");
        walk
    }

    /// Whether the part of the schema at `pointer` knows all of `value`.
    fn value(&mut self, value: &Value, pointer: &str, path: &str) -> bool {
        let part = self.schema.pointer(pointer.trim_start_matches('#')).unwrap();
        if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
            return self.value(value, reference, path);
        }
        for word in ["anyOf", "oneOf"] {
            let alternatives = part.get(word).and_then(Value::as_array).map_or(0, Vec::len);
            if alternatives > 0 {
                let before = self.unknown.len();
                let known = (0..alternatives).any(|at| {
                    self.unknown.truncate(before);
                    self.value(value, &format!("{pointer}/{word}/{at}"), path)
                });
                self.unknown.truncate(if known { before } else { self.unknown.len() });
                return known;
            }
        }
        match value {
            Value::Object(fields) => {
                let wrong_type = part.get("type").is_some_and(|kind| !kind.to_string().contains("object"));
                let lacks = part.get("required").and_then(Value::as_array).is_some_and(|required| {
                    required.iter().any(|key| !fields.contains_key(key.as_str().unwrap()))
                });
                if wrong_type || lacks {
                    return false;
                }
                // All of them, so that each is marked: `fold`, not `all`.
                fields
                    .iter()
                    .fold(true, |known, (key, field)| self.field(part, key, field, pointer, path) & known)
            }
            Value::Array(items) => {
                let below = format!("{pointer}/items");
                let lists = part.get("type").is_none_or(|kind| kind.to_string().contains("array"));
                lists && items.iter().fold(true, |known, item| self.value(item, &below, path) & known)
            }
            Value::String(_) => {
                part.get("type").is_none_or(|kind| kind.to_string().contains("string"))
                    && part.get("enum").is_none_or(|words| words.as_array().unwrap().contains(value))
                    && part.get("const").is_none_or(|word| word == value)
            }
            _ => true,
        }
    }

    fn field(&mut self, part: &Value, key: &str, field: &Value, pointer: &str, path: &str) -> bool {
        let path = format!("{path}.{key}");
        let escaped = key.replace('~', "~0").replace('/', "~1");
        if part.get("properties").is_some_and(|properties| properties.get(key).is_some()) {
            let below = format!("{pointer}/properties/{escaped}");
            self.used.insert(below.clone());
            return self.value(field, &below, &path);
        }
        match part.get("additionalProperties") {
            Some(Value::Object(_)) => self.value(field, &format!("{pointer}/additionalProperties"), &path),
            Some(Value::Bool(true)) | None => true,
            _ => {
                self.unknown.push(path);
                false
            }
        }
    }
}

/// The pointers of all properties.
fn options(schema: &Value, pointer: &str, all: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, below) in fields {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                if key == "properties" {
                    for (name, below) in below.as_object().unwrap() {
                        let pointer = format!("{pointer}/{name}");
                        options(below, &pointer, all);
                        all.insert(pointer);
                    }
                } else {
                    options(below, &pointer, all);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                options(item, &format!("{pointer}/{at}"), all);
            }
        }
        _ => {}
    }
}
