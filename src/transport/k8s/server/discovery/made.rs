//! What objects that are made around other things look like, for those who ask `kubectl explain`.

use serde_json::{Map, Value, json};

use super::super::kind::{Form, Kind};
use crate::schema::kinds::proto_name;

/// A field: its name, its type (`[]` before that of a list's items), and what it is.
type Field = (&'static str, &'static str, &'static str);

/// One of the bus's own kinds.
struct Own {
    kind: &'static str,
    description: &'static str,
    spec: &'static [Field],
    status: &'static [Field],
}

const MADE: &[Field] = &[
    ("version", "string", "The source's own word for this state of it."),
    ("source", "string", "The connector that brought it; empty for the bus itself."),
    ("resourceName", "string", "Its true name, which metadata.name may only stand for."),
];

const UNKNOWN: &str = "Whether it has fields that the descriptors here do not know; an update drops them.";

const OWN: &[Own] = &[
    Own {
        kind: "Value",
        description: "A value under a topic: a retained message, an entry of a key-value bucket, or what was put.",
        spec: &[
            ("contentType", "string", "Media type of the data."),
            ("json", "", "The data, where it is JSON."),
            ("text", "string", "The data, where it is other text."),
            ("base64", "string", "The data, where it is neither."),
        ],
        status: MADE,
    },
    Own {
        kind: "CloudEvent",
        description: "An event of the log, in the JSON format of CloudEvents. Creating one publishes it.",
        spec: &[
            ("specversion", "string", "1.0"),
            ("id", "string", "With the source it names the event."),
            ("source", "string", "Where it comes from, a URI reference."),
            ("type", "string", "What kind of thing happened."),
            ("subject", "string", "What it is about within the source."),
            ("time", "string", "When it happened."),
            ("datacontenttype", "string", "Media type of the data."),
            ("dataschema", "string", "The schema of the data, a URI."),
            ("data", "", "The data, where it is JSON or text."),
            ("data_base64", "string", "The data, where it is neither."),
        ],
        status: &[
            ("topic", "string", "The topic it was published on."),
            ("resourceName", "string", "Topic and sequence; metadata.name may only stand for it."),
        ],
    },
    Own {
        kind: "Connector",
        description: "A connector of the configuration: what it is and how it is.",
        spec: &[
            ("transport", "string", "The protocol it speaks."),
            ("role", "string", "client or server."),
            ("address", "string", "Where it listens, or whom it is connected to."),
        ],
        status: &[
            ("state", "string", "Where it is in its life: connecting, ready, waiting to try again, …"),
            ("ready", "boolean", "Whether it does what it is for."),
            ("reason", "string", "Why it is not ready."),
            ("lastError", "string", "The last failure."),
            ("restarts", "integer", "How often it was started again."),
            ("received", "integer", "Events and changes that came in by it."),
            ("sent", "integer", "Events and changes that went out by it."),
            ("waiting", "integer", "Deliveries that wait for it."),
        ],
    },
    Own {
        kind: "Route",
        description: "A route of the configuration: what it takes, where to, and how far it is.",
        spec: &[
            ("from", "[]string", "Connectors and topics it takes from."),
            ("where", "[]string", "What an event must be to be taken."),
            ("filters", "integer", "How many filters it has."),
            ("to", "[]string", "Where it sends to."),
            ("deadLetter", "string", "Where what cannot be delivered goes."),
        ],
        status: &[
            ("taken", "integer", "Events it took."),
            ("delivered", "integer", "Events all of whose sinks answered well."),
            ("filtered", "integer", "Events that its conditions or filters left out."),
            ("retried", "integer", "Deliveries that were tried again."),
            ("dead", "integer", "Events that went to the dead letter."),
            ("dropped", "integer", "Events dropped because it was full."),
            ("waiting", "integer", "Events that wait for it."),
            ("inFlight", "integer", "Events sent and not answered yet."),
        ],
    },
    Own {
        kind: "Connection",
        description: "A client that is connected to one of the bus's servers.",
        spec: &[
            ("transport", "string", "The protocol it speaks."),
            ("connector", "string", "The server it is connected to."),
            ("variant", "string", "The variant of the protocol."),
            ("address", "string", "Its address and port."),
            ("principal", "string", "The name that its token or certificate proves."),
            ("scope", "string", "The key space it sees."),
            ("node", "string", "What it calls itself."),
            ("cluster", "string", "The cluster it says it is of."),
            ("agent", "string", "Its program and version."),
            ("locality", "object", "Where it says it runs."),
            ("metadata", "object", "What else it says of itself."),
            ("clientFeatures", "[]string", "What it can do beyond the protocol's base."),
            ("connectedAt", "string", "Since when it is connected."),
        ],
        status: &[
            ("refused", "string", "The types of which it refuses resources."),
            ("types", "[]object", "Of each type what was sent, accepted and refused last."),
        ],
    },
    Own {
        kind: "Flow",
        description: "A network connection that capture saw and that is still open.",
        spec: &[],
        status: &[],
    },
];

/// The schema of a kind's objects, of which no schema is given.
pub(super) fn schema(kind: &Kind) -> Value {
    let name = &kind.definition.kind;
    if let (Some(messages), Some(message)) = (&kind.messages, proto_name(&kind.stored_as)) {
        let description = format!("A resource of XDS: {message}.");
        let spec = messages.schema(&kind.stored_as);
        let spec = spec.unwrap_or_else(|| any("The resource, in the JSON of protobuf."));
        let mut status = fields(MADE);
        if let Some(fields) = status.get_mut("properties").and_then(Value::as_object_mut) {
            fields.insert("unknownFields".to_owned(), json!({"type": "boolean", "description": UNKNOWN}));
        }
        return whole(&description, spec, status);
    }
    let own = OWN.iter().find(|own| own.kind == name && kind.form != Form::Object);
    let Some(own) = own else {
        return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    };
    let mut spec = fields(own.spec);
    if kind.form == Form::Occurrence {
        // Extension attributes have any name.
        open(&mut spec);
    }
    whole(own.description, spec, fields(own.status))
}

fn whole(description: &str, mut spec: Value, mut status: Value) -> Value {
    for (part, what) in [(&mut spec, "What it is."), (&mut status, "How it is; told by the bus.")] {
        if let Some(part) = part.as_object_mut() {
            part.entry("description").or_insert_with(|| json!(what));
        }
    }
    json!({"type": "object", "description": description, "properties": {"spec": spec, "status": status}})
}

fn fields(list: &[Field]) -> Value {
    if list.is_empty() {
        return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    let field = |(name, of, description): &Field| {
        let mut schema = match (of.strip_prefix("[]"), *of) {
            (Some(items), _) => json!({"type": "array", "items": {"type": items}}),
            (None, "") => json!({"x-kubernetes-preserve-unknown-fields": true}),
            (None, of) => json!({ "type": of }),
        };
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), json!(description));
        }
        ((*name).to_owned(), schema)
    };
    json!({"type": "object", "properties": list.iter().map(field).collect::<Map<_, _>>()})
}

fn any(description: &str) -> Value {
    json!({"type": "object", "description": description, "x-kubernetes-preserve-unknown-fields": true})
}

fn open(schema: &mut Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
}
