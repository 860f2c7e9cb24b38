//! An object held against its schema; the sentences are those of the API server's `OpenAPI` validation.

use serde_json::{Map, Number, Value};

use super::error::{ERRORS_MAX, FieldError, quote};
use super::format::Format;
use super::meta;
use super::node::{Additional, Checks, Kind, ListType, Node};
use super::number::{bound_text, exceeds, falls_below, is_multiple, is_whole, same};

/// Most steps one validation takes: a node against a value is one, text counts by its length.
const STEPS_MAX: usize = 10_000_000;

/// Bytes of text that a rule about it reads in one step.
const BYTES_PER_STEP: usize = 64;

/// The path of what is about no single field.
const NO_PATH: &str = "<nil>";

/// Validates a whole object.
pub(super) fn validate(root: &Node, object: &Value) -> Vec<FieldError> {
    let mut run = Run { errors: Vec::new(), matched: 0, steps: STEPS_MAX };
    run.node(root, object, "");
    run.embedded(root, object, "", true);
    run.lists(root, object, "");
    run.finish()
}

/// Validates a value that stands at a path.
pub(super) fn value(node: &Node, value: &Value, path: &str) -> Vec<FieldError> {
    let mut run = Run { errors: Vec::new(), matched: 0, steps: STEPS_MAX };
    run.node(node, value, path);
    run.finish()
}

/// One validation, or one alternative within it.
struct Run {
    errors: Vec<FieldError>,
    /// How many rules held: of several alternatives that fail, the closest one is told of.
    matched: usize,
    /// How many steps may still be taken.
    steps: usize,
}

impl Run {
    fn finish(self) -> Vec<FieldError> {
        let mut errors = self.errors;
        if self.steps == 0 {
            errors.push(FieldError::forbidden(
                NO_PATH,
                "the object is too large to be held against this schema",
            ));
        }
        errors.truncate(ERRORS_MAX);
        errors
    }

    fn spend(&mut self, steps: usize) -> bool {
        self.steps = self.steps.saturating_sub(steps);
        self.steps > 0 && self.errors.len() < ERRORS_MAX
    }

    fn fail(&mut self, error: FieldError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }

    /// Notes that a rule was broken, at a path and in the words "<path> in body …".
    fn broken(&mut self, path: &str, value: &Value, rule: &str) {
        self.fail(FieldError::invalid(field(path), value, &format!("{path} in body {rule}")));
    }

    /// Runs an alternative on its own.
    fn apart(&mut self, node: &Node, value: &Value, path: &str) -> Self {
        let mut alternative = Self { errors: Vec::new(), matched: 0, steps: self.steps };
        alternative.node(node, value, path);
        self.steps = alternative.steps;
        alternative
    }

    fn merge(&mut self, other: Self) {
        self.matched = self.matched.saturating_add(other.matched);
        for error in other.errors {
            self.fail(error);
        }
    }

    fn node(&mut self, node: &Node, value: &Value, path: &str) {
        if !self.spend(1) {
            return;
        }
        let before = self.errors.len();
        self.kind(node, value, path);
        let checks = node.checks.as_deref();
        if let Some(checks) = checks {
            if !value.is_null() {
                self.junctors(checks, value, path);
            }
            match value {
                Value::String(text) => self.text(node, checks, text, path),
                Value::Number(number) => self.number(checks, number, path),
                Value::Array(list) => self.list(checks, list, path),
                _ => {}
            }
            self.one_of_values(node, checks, value, path);
        }
        match value {
            Value::Array(list) => {
                if let Some(items) = &node.items {
                    for (at, item) in list.iter().enumerate() {
                        self.node(items, item, &format!("{path}[{at}]"));
                    }
                }
            }
            Value::Object(map) => self.object(node, checks, map, path),
            _ => {}
        }
        if self.errors.len() == before {
            self.matched = self.matched.saturating_add(1);
        }
    }

    fn kind(&mut self, node: &Node, value: &Value, path: &str) {
        let wanted = match (node.int_or_string, node.kind) {
            (true, _) => "integer,string",
            (false, Some(kind)) => kind.name(),
            (false, None) => return,
        };
        let (found, fits) = match value {
            Value::Null => ("null", node.nullable),
            Value::Bool(_) => ("boolean", node.kind == Some(Kind::Boolean)),
            Value::String(_) => {
                // The API server takes a text with a format for a value of that format, whatever the type is.
                let formatted = node.checks.as_ref().is_some_and(|checks| checks.format.is_some());
                let numeric = matches!(node.kind, Some(Kind::Number | Kind::Integer));
                ("string", node.int_or_string || node.kind == Some(Kind::String) || formatted && !numeric)
            }
            Value::Array(_) => ("array", node.kind == Some(Kind::Array)),
            Value::Object(_) => ("object", node.kind == Some(Kind::Object)),
            Value::Number(number) => {
                let whole = is_whole(number);
                let fits = match node.kind {
                    _ if node.int_or_string => whole,
                    Some(Kind::Integer) => whole,
                    Some(Kind::Number) => true,
                    _ => false,
                };
                (if number.is_f64() { "number" } else { "integer" }, fits)
            }
        };
        if fits {
            self.matched = self.matched.saturating_add(1);
            return;
        }
        let detail = format!("{path} in body must be of type {wanted}: {}", quote(found));
        self.fail(FieldError::type_invalid(field(path), &Value::from(found), &detail));
    }

    fn junctors(&mut self, checks: &Checks, value: &Value, path: &str) {
        if !checks.any_of.is_empty() {
            self.any_of(&checks.any_of, value, path);
        }
        if !checks.one_of.is_empty() {
            self.one_of(&checks.one_of, value, path);
        }
        if !checks.all_of.is_empty() {
            let mut held = 0usize;
            for node in &checks.all_of {
                let run = self.apart(node, value, path);
                held = held.saturating_add(usize::from(run.errors.is_empty()));
                self.merge(run);
            }
            if held < checks.all_of.len() {
                let more = if held == 0 { ". None validated" } else { "" };
                self.junctor(&format!("{} must validate all the schemas (allOf){more}", quote(path)));
            }
        }
        if let Some(not) = &checks.not
            && self.apart(not, value, path).errors.is_empty()
        {
            self.junctor(&format!("{} must not validate the schema (not)", quote(path)));
        }
    }

    fn any_of(&mut self, nodes: &[Node], value: &Value, path: &str) {
        let mut closest: Option<Self> = None;
        for node in nodes {
            let run = self.apart(node, value, path);
            if run.errors.is_empty() {
                self.merge(run);
                return;
            }
            if closest.as_ref().is_none_or(|closest| run.matched > closest.matched) {
                closest = Some(run);
            }
        }
        self.junctor(&format!("{} must validate at least one schema (anyOf)", quote(path)));
        if let Some(closest) = closest {
            self.merge(closest);
        }
    }

    fn one_of(&mut self, nodes: &[Node], value: &Value, path: &str) {
        let mut closest: Option<Self> = None;
        let mut held = 0usize;
        for node in nodes {
            let run = self.apart(node, value, path);
            if run.errors.is_empty() {
                held = held.saturating_add(1);
                self.matched = self.matched.saturating_add(run.matched);
            } else if closest.as_ref().is_none_or(|closest| run.matched > closest.matched) {
                closest = Some(run);
            }
        }
        let found = match held {
            1 => return,
            0 => "Found none valid".to_owned(),
            several => format!("Found {several} valid alternatives"),
        };
        self.junctor(&format!("{} must validate one and only one schema (oneOf). {found}", quote(path)));
        if let Some(closest) = closest.filter(|_| held == 0) {
            self.merge(closest);
        }
    }

    fn junctor(&mut self, detail: &str) {
        self.fail(FieldError::invalid_text(NO_PATH, "", detail));
    }

    fn text(&mut self, node: &Node, checks: &Checks, text: &str, path: &str) {
        if !self.spend(text.len() / BYTES_PER_STEP) {
            return;
        }
        let value = || Value::from(text);
        let characters = text.chars().count() as u64;
        if let Some(max) = checks.max_length.filter(|max| characters > *max) {
            self.fail(FieldError::too_long(field(path), max));
        }
        if let Some(min) = checks.min_length.filter(|min| characters < *min) {
            self.broken(path, &value(), &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.1.is_match(text)) {
            self.broken(path, &value(), &format!("should match '{}'", pattern.0));
        }
        let numeric = matches!(node.kind, Some(Kind::Number | Kind::Integer));
        if let Some((name, format)) = checks.format.as_ref().filter(|_| !numeric) {
            self.format(name, *format, text, path);
        }
    }

    fn format(&mut self, name: &str, format: Format, text: &str, path: &str) {
        if !format.accepts(text) {
            let detail = format!("{path} in body must be of type {name}: {}", quote(text));
            self.fail(FieldError::type_invalid(field(path), &Value::from(text), &detail));
        }
    }

    fn number(&mut self, checks: &Checks, number: &Number, path: &str) {
        let value = Value::Number(number.clone());
        if let Some(factor) = checks.multiple_of.filter(|factor| !is_multiple(number, *factor)) {
            self.broken(path, &value, &format!("should be a multiple of {}", bound_text(number, factor)));
        }
        if let Some(bound) = checks.maximum.filter(|bound| exceeds(number, *bound)) {
            let than = if bound.exclusive { "less than" } else { "less than or equal to" };
            self.broken(path, &value, &format!("should be {than} {}", bound_text(number, bound.value)));
        }
        if let Some(bound) = checks.minimum.filter(|bound| falls_below(number, *bound)) {
            let than = if bound.exclusive { "greater than" } else { "greater than or equal to" };
            self.broken(path, &value, &format!("should be {than} {}", bound_text(number, bound.value)));
        }
    }

    fn list(&mut self, checks: &Checks, list: &[Value], path: &str) {
        let items = list.len() as u64;
        if let Some(min) = checks.min_items.filter(|min| items < *min) {
            self.broken(path, &Value::from(items), &format!("should have at least {min} items"));
        }
        if let Some(max) = checks.max_items.filter(|max| items > *max) {
            self.fail(FieldError::too_many(field(path), list.len(), max));
        }
        if checks.unique_items && self.first_duplicate(list).is_some() {
            self.broken(path, &Value::from(""), "shouldn't contain duplicates");
        }
    }

    fn one_of_values(&mut self, node: &Node, checks: &Checks, value: &Value, path: &str) {
        if checks.allowed.is_empty() || !self.spend(checks.allowed.len()) {
            return;
        }
        if checks.allowed.iter().any(|allowed| same(allowed, value)) || value.is_null() && !node.nullable {
            return;
        }
        let supported: Vec<String> = checks
            .allowed
            .iter()
            .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
            .collect();
        self.fail(FieldError::not_supported(field(path), value, &supported));
    }

    fn object(&mut self, node: &Node, checks: Option<&Checks>, map: &Map<String, Value>, path: &str) {
        if let Some(checks) = checks {
            let fields = map.len() as u64;
            if let Some(min) = checks.min_properties.filter(|min| fields < *min) {
                let rule = format!("should have at least {min} properties");
                self.broken(path, &Value::from(fields), &rule);
                return;
            }
            if let Some(max) = checks.max_properties.filter(|max| fields > *max) {
                self.fail(FieldError::too_many(field(path), map.len(), max));
                return;
            }
        }
        for (name, value) in map {
            match (node.properties.get(name), &node.additional) {
                (Some(property), _) => self.node(property, value, &below(path, name)),
                (None, Additional::Each(each)) => self.node(each, value, &below(path, name)),
                (None, Additional::None) => {
                    let detail = format!("{path}.{name} in body is a forbidden property");
                    self.fail(FieldError::invalid_text(field(path), name, &detail));
                }
                (None, Additional::Any | Additional::Unsaid) => {}
            }
        }
        for name in checks.iter().flat_map(|checks| &checks.required) {
            if !self.spend(1) {
                return;
            }
            if !map.contains_key(name) {
                self.fail(FieldError::required(below(path, name), ""));
            }
        }
    }

    /// Holds the metadata of the object, and of objects within it, to the types of `ObjectMeta`.
    fn embedded(&mut self, node: &Node, value: &Value, path: &str, root: bool) {
        if !self.spend(1) {
            return;
        }
        match value {
            Value::Object(map) => {
                if root || node.embedded {
                    self.own_meta(map, path, root);
                }
                for (name, value) in map {
                    let inner = match (node.properties.get(name), &node.additional) {
                        (Some(property), _) => property,
                        (None, Additional::Each(each)) => each,
                        (None, _) => continue,
                    };
                    self.embedded(inner, value, &below(path, name), false);
                }
            }
            Value::Array(list) => {
                for (at, item) in list.iter().enumerate() {
                    let Some(items) = &node.items else { return };
                    self.embedded(items, item, &format!("{path}[{at}]"), false);
                }
            }
            _ => {}
        }
    }

    fn own_meta(&mut self, map: &Map<String, Value>, path: &str, root: bool) {
        if let Some(metadata) = map.get("metadata") {
            self.node(meta::node(), metadata, &below(path, "metadata"));
        }
        if root {
            return;
        }
        for name in ["apiVersion", "kind"] {
            match map.get(name) {
                Some(Value::String(text)) if !text.is_empty() => {}
                None | Some(Value::String(_)) => {
                    self.fail(FieldError::required(below(path, name), "must not be empty"));
                }
                Some(other) => {
                    self.fail(FieldError::type_invalid(below(path, name), other, "must be a string"));
                }
            }
        }
    }

    /// Holds sets and maps that are written as lists to having each entry once.
    fn lists(&mut self, node: &Node, value: &Value, path: &str) {
        if !self.spend(1) {
            return;
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    match (node.properties.get(name), &node.additional) {
                        (Some(property), _) => self.lists(property, value, &below(path, name)),
                        (None, Additional::Each(each)) => {
                            self.lists(each, value, &format!("{path}[{name}]"));
                        }
                        (None, _) => {}
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &node.items else { return };
                let repeated = match node.list_type {
                    ListType::Atomic => None,
                    ListType::Set => self.first_duplicate(list).map(|(at, value)| (at, value.clone())),
                    ListType::Map => {
                        let keys: Vec<Value> =
                            list.iter().map(|item| entry_key(&node.list_map_keys, items, item)).collect();
                        self.first_duplicate(&keys).map(|(at, value)| (at, value.clone()))
                    }
                };
                if let Some((at, value)) = repeated {
                    self.fail(FieldError::duplicate(format!("{path}[{at}]"), &value));
                }
                for (at, item) in list.iter().enumerate() {
                    self.lists(items, item, &format!("{path}[{at}]"));
                }
            }
            _ => {}
        }
    }

    /// The first value that was there before.
    fn first_duplicate<'v>(&mut self, list: &'v [Value]) -> Option<(usize, &'v Value)> {
        let mut seen = std::collections::HashSet::with_capacity(list.len());
        for (at, value) in list.iter().enumerate() {
            // Objects compare whatever the order of their fields.
            let text = canonical(value);
            if !self.spend(text.len() / BYTES_PER_STEP) {
                return None;
            }
            if !seen.insert(text) {
                return Some((at, value));
            }
        }
        None
    }
}

/// The text of a value with the fields of objects in order.
fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

/// What tells an entry of a map apart; a default stands for a key that is missing.
fn entry_key(keys: &[String], items: &Node, item: &Value) -> Value {
    let of = |key: &String| {
        let default = || items.properties.get(key).and_then(|property| property.default.clone());
        item.get(key).cloned().or_else(default).map(|value| (key.clone(), value))
    };
    Value::Object(keys.iter().filter_map(of).collect())
}

/// The path of an error: that of the object itself is `<nil>`.
fn field(path: &str) -> &str {
    if path.is_empty() { NO_PATH } else { path }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
