//! The JSON Schema (draft 2020-12) of a configuration file, with the settings of every transport in it.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::core::cesql::Expression;
use crate::core::selector::Dialect;
use crate::derive;
use crate::filter::KINDS;
use crate::transport::Transport;

use super::filters::FILTERS_MAX;
use super::load::Config;
use super::routes::IN_FLIGHT_MAX;
use super::settings::{
    AccessRule, EventLog, Listener, Logging, Retry, Shutdown, State, TestCase, WhenFull,
};

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";

impl Config {
    /// The schema of a whole file, for editors and for `meshbus schema`.
    pub fn schema(transports: &[&dyn Transport]) -> Value {
        let mut parts = Parts {
            generator: SchemaSettings::draft2020_12().into_generator(),
            definitions: Map::new(),
            sinks: vec![parts_bus(), parts_state()],
        };
        let connectors = transports
            .iter()
            .map(|transport| (transport.name().to_owned(), parts.transport(*transport)))
            .collect();
        let connectors = exactly_one(connectors);
        parts.definitions.insert("to".to_owned(), json!({
            "description": "Where a route sends: a connector with the options of its transport, a topic on the bus, or the state at a topic.",
            "anyOf": parts.sinks,
        }));
        let derived = parts.derived();
        let route = parts.route();
        parts.definitions.insert("route".to_owned(), route);
        let properties = parts.top(connectors, derived);
        let mut definitions = parts.generator.take_definitions(true);
        definitions.extend(parts.definitions);
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://meshbus.dev/schema/config.json",
            "title": "meshbus configuration",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "$defs": definitions,
        })
    }
}

struct Parts {
    generator: SchemaGenerator,
    definitions: Map<String, Value>,
    /// What an entry of `to:` may be.
    sinks: Vec<Value>,
}

impl Parts {
    fn top(&mut self, connectors: Value, derived: Value) -> Value {
        json!({
            "name": {
                "description": "The bus's stable identity, by which loops are seen. Default: the name of the host.",
                "type": "string", "pattern": NAME,
            },
            "connectors": {
                "description": "Connections by name: each one transport and one role. The name is the scope of the state it brings.",
                "type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": connectors,
            },
            "routes": {
                "description": "Routes by name: from where, which events, to where.",
                "type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": {"$ref": "#/$defs/route"},
            },
            "derive": {
                "description": "State that is made of other state, by name: each one derivation. The name is the scope of what is made.",
                "type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": derived,
            },
            "event_log": self.of::<EventLog>(),
            "state": self.of::<State>(),
            "descriptors": {
                "description": "Files with descriptors of protobuf types, relative to this file: each a FileDescriptorSet with all it imports (`buf build -o FILE`, `protoc --include_imports -o FILE`). Messages of these types are shown and written as JSON, before the types of this build.",
                "type": "array", "items": {"type": "string"},
            },
            "access": {
                "description": "Who may do what. Absent: whoever reaches a listener may do everything.",
                "type": "array", "items": self.of::<AccessRule>(),
            },
            "insecure": {
                "description": "Lets every listener reach beyond loopback without `access` and TLS.",
                "type": "boolean", "default": false,
            },
            "logging": self.of::<Logging>(),
            "admin": self.of::<Listener>(),
            "health": self.of::<Listener>(),
            "shutdown": self.of::<Shutdown>(),
            "tests": {
                "description": "The configuration's own tests, run by `meshbus test`.",
                "type": "array", "items": self.of::<TestCase>(),
            },
        })
    }

    fn route(&mut self) -> Value {
        json!({
            "description": "A route: each event it takes once, in order, to all its sinks.",
            "type": "object",
            "required": ["to"],
            "additionalProperties": false,
            "properties": {
                "from": {
                    "description": "What it takes, any of these. Default: everything but the bus's own publications and dead letters.",
                    "type": "array", "minItems": 1,
                    "items": {"anyOf": [
                        {"description": "Everything a connector brings.", "type": "string"},
                        {
                            "type": "object", "additionalProperties": false, "minProperties": 1,
                            "properties": {
                                "connector": {"description": "Only what came in by this connector.", "type": "string"},
                                "topic": {"description": "Only these topics: `+` or `*` one level, `#` or `>` the rest.", "type": "string"},
                            },
                        },
                    ]},
                },
                "where": self.of::<Expression>(),
                "dialects": {
                    "description": "What must hold for an event it takes, all of these.",
                    "type": "array", "items": self.of::<Dialect>(),
                },
                "filters": {
                    "description": "What is done with that before it goes anywhere, in order; each entry is one filter.",
                    "type": "array", "maxItems": FILTERS_MAX, "items": self.filters(),
                },
                "to": {
                    "description": "Where that goes, all of these.",
                    "type": "array", "minItems": 1, "items": {"$ref": "#/$defs/to"},
                },
                "retry": self.of::<Retry>(),
                "dead_letter": {
                    "description": "Where what is rejected for good goes.",
                    "$ref": "#/$defs/to", "default": {"bus": super::routes::DEAD_LETTER},
                },
                "when_full": self.of::<WhenFull>(),
                "in_flight": {
                    "description": "Most deliveries under way.",
                    "type": "integer", "minimum": 1, "maximum": IN_FLIGHT_MAX, "default": 1024,
                },
            },
        })
    }

    /// An entry of `filters:`.
    fn filters(&mut self) -> Value {
        let kinds = KINDS.iter().map(|kind| {
            let definition = format!("filter.{}", kind.name());
            let settings = self.embed(&definition, kind.schema().to_value());
            let reference = json!({"$ref": format!("#/$defs/{definition}")});
            self.definitions.insert(definition, settings);
            (kind.name().to_owned(), reference)
        });
        exactly_one(kinds.collect())
    }

    /// An entry of `derive:`.
    fn derived(&mut self) -> Value {
        let kinds = derive::KINDS.iter().map(|kind| {
            let definition = format!("derive.{}", kind.name());
            let settings = self.embed(&definition, kind.schema().to_value());
            let reference = json!({"$ref": format!("#/$defs/{definition}")});
            self.definitions.insert(definition, settings);
            (kind.name().to_owned(), reference)
        });
        exactly_one(kinds.collect())
    }

    /// One transport as the value of a connector; its `to:` entry is kept for the routes.
    fn transport(&mut self, transport: &dyn Transport) -> Value {
        let name = transport.name();
        let schema = transport.schema();
        let mut roles = Map::new();
        for (role, schema) in [("client", schema.client), ("server", schema.server)] {
            let Some(schema) = schema else { continue };
            let definition = format!("{name}.{role}");
            let settings = self.embed(&definition, schema.to_value());
            self.definitions.insert(definition.clone(), settings);
            // A role without settings: `server:` alone.
            let settings = json!({"anyOf": [{"$ref": format!("#/$defs/{definition}")}, {"type": "null"}]});
            roles.insert(role.to_owned(), settings);
        }
        if let Some(schema) = schema.target {
            let definition = format!("{name}.to");
            let mut target = self.embed(&definition, schema.to_value());
            add_connector(&mut target);
            self.definitions.insert(definition.clone(), target);
            self.sinks.push(json!({"$ref": format!("#/$defs/{definition}")}));
        }
        exactly_one(roles)
    }

    fn of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    /// A schema that stood alone as a part of this one: its definitions move up under names of their own.
    fn embed(&mut self, owner: &str, mut schema: Value) -> Value {
        if let Value::Object(fields) = &mut schema {
            fields.remove("$schema");
            if let Some(Value::Object(inner)) = fields.remove("$defs") {
                for (name, mut definition) in inner {
                    rename_references(&mut definition, owner);
                    self.definitions.insert(format!("{owner}.{name}"), definition);
                }
            }
        }
        rename_references(&mut schema, owner);
        schema
    }
}

fn parts_bus() -> Value {
    json!({
        "type": "object", "required": ["bus"], "additionalProperties": false,
        "properties": {
            "bus": {"description": "A template of the topic, such as `alerts/{reason|none}`.", "type": "string"},
            "output": output(),
        },
    })
}

fn parts_state() -> Value {
    json!({
        "type": "object", "required": ["state"], "additionalProperties": false,
        "properties": {
            "state": {
                "description": "A template of the topic where the state lives that the event's data becomes, such as `limits/{subject}` or `xds/local/envoy.config.cluster.v3.Cluster/{subject}`. Without data it is deleted.",
                "type": "string",
            },
            "output": output(),
        },
    })
}

fn output() -> Value {
    json!({"description": "Only what a filter of the route emits to this output.", "type": "string"})
}

/// A map with exactly one of these keys. Counted rather than a choice of schemas, of which editors tell less.
fn exactly_one(choices: Map<String, Value>) -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": choices,
    })
}

fn rename_references(value: &mut Value, owner: &str) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match field {
                    Value::String(text) if key == "$ref" => {
                        if let Some(name) = text.strip_prefix("#/$defs/") {
                            *text = format!("#/$defs/{owner}.{name}");
                        }
                    }
                    field => rename_references(field, owner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, owner)),
        _ => {}
    }
}

/// A transport's `to:` entry knows its own options only.
fn add_connector(target: &mut Value) {
    let Value::Object(fields) = target else { return };
    fields.insert("type".to_owned(), json!("object"));
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        let connector = json!({"description": "The connector it goes to.", "type": "string"});
        properties.insert("connector".to_owned(), connector);
        properties.insert("output".to_owned(), output());
    }
    let required = fields.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required {
        required.push(json!("connector"));
    }
}
