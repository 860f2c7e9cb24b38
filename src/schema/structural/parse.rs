//! From the JSON of a schema to its nodes; what is wrong is collected on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{ERRORS_MAX, FieldError};
use super::format::Format;
use super::node::{Additional, Bound, Checks, Kind, ListType, Node, Pattern};
use super::{DEPTH_MAX, NODES_MAX, pattern, rules};

/// Most different patterns of one schema.
const PATTERNS_MAX: usize = 2_000;

/// Whose schema it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// A custom resource's: structural, and silent about metadata.
    Custom,
    /// The server's own.
    BuiltIn,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Item,
    Field,
}

/// What holds for a node because of where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) level: Level,
    /// Below `allOf`, `anyOf`, `oneOf` or `not`, where only values are restricted.
    pub(super) nested: bool,
    /// Whether the type pair of an integer or string may stand here.
    pub(super) int_or_string_pair: bool,
    /// Whether it is `apiVersion`, `kind` or `metadata`, of an embedded object or the object itself.
    pub(super) inside_meta: bool,
    /// Why no default may be here.
    pub(super) no_default: Option<&'a str>,
    depth: usize,
}

impl Place<'_> {
    fn below(self) -> Self {
        Self { depth: self.depth.saturating_add(1), int_or_string_pair: false, ..self }
    }
}

/// What is found out on the way.
pub(super) struct Parser {
    pub(super) rules: Rules,
    /// Breaches of structurality, which the API server tells first and sorted.
    structural: Vec<FieldError>,
    /// What else the API server refuses.
    refused: Vec<FieldError>,
    /// Whether something stands in the schema that no structural schema can have.
    pub(super) unstructured: bool,
    nodes: usize,
    patterns: BTreeMap<String, Option<Pattern>>,
}

/// Compiles a whole schema.
pub(super) fn parse(schema: &Value, path: &str, rules: Rules) -> Result<Node, Vec<FieldError>> {
    let mut parser = Parser {
        rules,
        structural: Vec::new(),
        refused: Vec::new(),
        unstructured: false,
        nodes: 0,
        patterns: BTreeMap::new(),
    };
    let place = Place {
        level: Level::Root,
        nested: false,
        int_or_string_pair: false,
        inside_meta: false,
        no_default: None,
        depth: 0,
    };
    let root = parser.node(schema, path, place);
    let Parser { mut structural, refused, unstructured, .. } = parser;
    if unstructured {
        structural.clear();
    }
    structural.sort_by_cached_key(ToString::to_string);
    structural.extend(refused);
    structural.truncate(ERRORS_MAX);
    if structural.is_empty() { rules::defaults(&root, path, rules).map(|()| root) } else { Err(structural) }
}

impl Parser {
    /// Notes a breach of structurality.
    pub(super) fn not_structural(&mut self, error: FieldError) {
        if self.rules == Rules::Custom && self.structural.len() < ERRORS_MAX {
            self.structural.push(error);
        }
    }

    /// Notes what else is refused.
    pub(super) fn refuse(&mut self, error: FieldError) {
        if self.refused.len() < ERRORS_MAX {
            self.refused.push(error);
        }
    }

    fn node(&mut self, schema: &Value, path: &str, place: Place<'_>) -> Node {
        self.nodes = self.nodes.saturating_add(1);
        if place.depth > DEPTH_MAX || self.nodes > NODES_MAX {
            if self.refused.is_empty() {
                let limits = format!("a schema has at most {DEPTH_MAX} levels and {NODES_MAX} nodes");
                self.refuse(FieldError::forbidden(path, &limits));
            }
            return Node::default();
        }
        let Value::Object(map) = schema else {
            self.refuse(FieldError::type_invalid(path, schema, "must be an object"));
            return Node::default();
        };
        rules::before(self, map, path, place);
        let flag = |parser: &mut Self, name: &str| parser.boolean(map, path, name);
        let int_or_string = flag(self, "x-kubernetes-int-or-string");
        let preserve_unknown = flag(self, "x-kubernetes-preserve-unknown-fields");
        let embedded = flag(self, "x-kubernetes-embedded-resource");
        let nullable = flag(self, "nullable");
        let mut node = Node {
            kind: self.kind(map, path, place),
            int_or_string,
            preserve_unknown,
            embedded,
            nullable,
            wide: map.get("format").is_some_and(|format| format == "int64"),
            default: map.get("default").filter(|default| !default.is_null()).cloned(),
            properties: BTreeMap::new(),
            additional: Additional::Unsaid,
            items: None,
            list_type: self.list_type(map, path),
            list_map_keys: self.strings(map, path, "x-kubernetes-list-map-keys"),
            checks: None,
        };
        node.properties = self.properties(map, path, place, embedded);
        node.additional = self.additional(map, path, place);
        if let Some(items) = map.get("items").filter(|items| !items.is_array()) {
            let below = Place { level: Level::Item, ..place.below() };
            node.items = Some(Box::new(self.node(items, &child(path, "items"), below)));
        }
        node.checks = self.checks(map, path, place, int_or_string);
        rules::after(self, map, &node, path, place);
        // The server's own decoder takes a null for a field that is not there.
        node.nullable |= self.rules == Rules::BuiltIn;
        node
    }

    fn kind(&mut self, map: &Map<String, Value>, path: &str, place: Place<'_>) -> Option<Kind> {
        let name = self.text(map, path, "type")?;
        if place.nested && !place.int_or_string_pair && !name.is_empty() {
            self.not_structural(FieldError::forbidden(
                child(path, "type"),
                "must be empty to be structural",
            ));
        }
        match (Kind::from_name(name), name) {
            (Some(kind), _) => Some(kind),
            (None, "") => None,
            (None, "null") => {
                let hint = "type cannot be set to null, use nullable as an alternative";
                self.refuse(FieldError::forbidden(child(path, "type"), hint));
                None
            }
            (None, other) => {
                let error =
                    FieldError::not_supported(child(path, "type"), &Value::from(other), &Kind::NAMES);
                self.refuse(error);
                None
            }
        }
    }

    fn properties(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        place: Place<'_>,
        embedded: bool,
    ) -> BTreeMap<String, Node> {
        let Some(properties) = self.object(map, path, "properties") else { return BTreeMap::new() };
        let mut nodes = BTreeMap::new();
        for (name, schema) in properties {
            let at = format!("{path}.properties[{name}]");
            let meta = (place.level == Level::Root && !place.nested || embedded)
                && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
            let reason = format!("in top-level {name}");
            let top = meta && place.level == Level::Root;
            let below = Place {
                level: Level::Field,
                inside_meta: place.inside_meta || meta,
                no_default: if top { Some(reason.as_str()) } else { place.no_default },
                ..place.below()
            };
            nodes.insert(name.clone(), self.node(schema, &at, below));
        }
        nodes
    }

    fn additional(&mut self, map: &Map<String, Value>, path: &str, place: Place<'_>) -> Additional {
        let at = child(path, "additionalProperties");
        match map.get("additionalProperties") {
            None | Some(Value::Null) => Additional::Unsaid,
            Some(Value::Bool(true)) => Additional::Any,
            Some(Value::Bool(false)) => Additional::None,
            Some(schema) => {
                let inside = "inside additionalProperties applying to object metadata";
                let below = Place {
                    level: Level::Field,
                    no_default: if place.inside_meta { Some(inside) } else { place.no_default },
                    ..place.below()
                };
                Additional::Each(Box::new(self.node(schema, &at, below)))
            }
        }
    }

    fn list_type(&mut self, map: &Map<String, Value>, path: &str) -> ListType {
        match self.text(map, path, "x-kubernetes-list-type") {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        }
    }

    fn checks(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        place: Place<'_>,
        int_or_string: bool,
    ) -> Option<Box<Checks>> {
        const NAMES: [&str; 20] = [
            "maximum",
            "minimum",
            "multipleOf",
            "maxLength",
            "minLength",
            "maxItems",
            "minItems",
            "maxProperties",
            "minProperties",
            "uniqueItems",
            "pattern",
            "format",
            "required",
            "enum",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "exclusiveMaximum",
            "exclusiveMinimum",
        ];
        if !NAMES.iter().any(|name| map.contains_key(*name)) {
            return None;
        }
        let pair =
            place.int_or_string_pair || int_or_string && rules::is_int_or_string_pair(map.get("anyOf"));
        let first_pair = int_or_string
            && map
                .get("allOf")
                .and_then(|all| all.get(0))
                .is_some_and(|first| rules::is_int_or_string_pair(first.get("anyOf")));
        let below = Place { nested: true, ..place.below() };
        let format = self
            .text(map, path, "format")
            .and_then(|name| Some((name.to_owned(), Format::from_name(name)?)));
        Some(Box::new(Checks {
            maximum: self.bound(map, path, "maximum", "exclusiveMaximum"),
            minimum: self.bound(map, path, "minimum", "exclusiveMinimum"),
            multiple_of: self.number(map, path, "multipleOf"),
            max_length: self.count(map, path, "maxLength"),
            min_length: self.count(map, path, "minLength"),
            max_items: self.count(map, path, "maxItems"),
            min_items: self.count(map, path, "minItems"),
            max_properties: self.count(map, path, "maxProperties"),
            min_properties: self.count(map, path, "minProperties"),
            unique_items: self.boolean(map, path, "uniqueItems"),
            pattern: self.pattern(map, path),
            format,
            required: self.strings(map, path, "required"),
            allowed: self.list(map, path, "enum").cloned().unwrap_or_default(),
            all_of: self.nested(map, path, "allOf", below, |at| first_pair && at == 0),
            any_of: self.nested(map, path, "anyOf", Place { int_or_string_pair: pair, ..below }, |_| pair),
            one_of: self.nested(map, path, "oneOf", below, |_| false),
            not: map
                .get("not")
                .filter(|not| !not.is_null())
                .map(|not| Box::new(self.node(not, &child(path, "not"), below))),
        }))
    }

    /// The schemas of a junctor; `paired` says which of them may have, or contain, the type pair.
    fn nested(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        name: &str,
        place: Place<'_>,
        paired: impl Fn(usize) -> bool,
    ) -> Vec<Node> {
        let Some(list) = self.list(map, path, name) else { return Vec::new() };
        let mut nodes = Vec::with_capacity(list.len().min(NODES_MAX));
        for (at, schema) in list.iter().enumerate() {
            let place = Place { int_or_string_pair: paired(at), ..place };
            nodes.push(self.node(schema, &format!("{path}.{name}[{at}]"), place));
        }
        nodes
    }

    fn pattern(&mut self, map: &Map<String, Value>, path: &str) -> Option<Pattern> {
        let text = self.text(map, path, "pattern").filter(|text| !text.is_empty())?;
        if let Some(known) = self.patterns.get(text) {
            return known.clone();
        }
        if self.patterns.len() >= PATTERNS_MAX {
            let limit = format!("a schema has at most {PATTERNS_MAX} different patterns");
            self.refuse(FieldError::forbidden(child(path, "pattern"), &limit));
            return None;
        }
        let compiled = match pattern::compile(text) {
            Ok(regex) => Some(Arc::new((text.to_owned(), regex))),
            Err(why) => {
                let detail = format!("must be a valid regular expression, but isn't: {why}");
                self.refuse(FieldError::invalid_text(child(path, "pattern"), text, &detail));
                None
            }
        };
        self.patterns.insert(text.to_owned(), compiled.clone());
        compiled
    }

    fn bound(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        name: &str,
        exclusive: &str,
    ) -> Option<Bound> {
        let exclusive = self.boolean(map, path, exclusive);
        self.number(map, path, name).map(|value| Bound { value, exclusive })
    }

    /// A field of that type; one of another type is refused and counts as missing.
    fn typed<'m, T>(
        &mut self,
        map: &'m Map<String, Value>,
        path: &str,
        name: &str,
        kind: &str,
        read: impl Fn(&'m Value) -> Option<T>,
    ) -> Option<T> {
        let value = map.get(name).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.refuse(FieldError::type_invalid(child(path, name), value, &format!("must be {kind}")));
        }
        read
    }

    pub(super) fn text<'m>(
        &mut self,
        map: &'m Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Option<&'m str> {
        self.typed(map, path, name, "a string", Value::as_str)
    }

    fn boolean(&mut self, map: &Map<String, Value>, path: &str, name: &str) -> bool {
        self.typed(map, path, name, "a boolean", Value::as_bool).unwrap_or(false)
    }

    fn number(&mut self, map: &Map<String, Value>, path: &str, name: &str) -> Option<f64> {
        self.typed(map, path, name, "a number", Value::as_f64)
    }

    fn count(&mut self, map: &Map<String, Value>, path: &str, name: &str) -> Option<u64> {
        self.typed(map, path, name, "an integer that is not negative", Value::as_u64)
    }

    fn list<'m>(&mut self, map: &'m Map<String, Value>, path: &str, name: &str) -> Option<&'m Vec<Value>> {
        self.typed(map, path, name, "an array", Value::as_array)
    }

    fn object<'m>(
        &mut self,
        map: &'m Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Option<&'m Map<String, Value>> {
        self.typed(map, path, name, "an object", Value::as_object)
    }

    pub(super) fn strings(&mut self, map: &Map<String, Value>, path: &str, name: &str) -> Vec<String> {
        let read = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        };
        self.typed(map, path, name, "an array of strings", read).unwrap_or_default()
    }
}

/// The path of a field.
pub(super) fn child(path: &str, name: &str) -> String {
    format!("{path}.{name}")
}
