//! Protobuf messages by the descriptors of their types: which types are known, and their bytes as JSON and back.
//!
//! The JSON is that of [protobuf](https://protobuf.dev/programming-guides/json/): names in `lowerCamelCase`, `Any`
//! with `@type` and its fields. What nobody can read is shown as it is, in a form that is read back to the very same
//! bytes: `{"@type": TYPE_URL, "value": BASE64}`, alone or in place of an `Any`. The well-known types with JSON of their own
//! (`Struct`, `Timestamp`, `Duration`, wrappers) are known without descriptors.
//!
//! Bounds: bytes beyond [`SHOWN_MAX`] and messages nested deeper than [`DEPTH_MAX`] are shown in that form, too, and
//! JSON nested deeper is refused. Encoding is deterministic: fields by number, entries of maps by key.

mod open_api;
mod read;
mod show;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

/// The media type of one message, whose type is told elsewhere: in a key's type, in `Any.type_url`.
pub const MEDIA_TYPE: &str = "application/protobuf";
/// Most bytes of a message that are shown as JSON.
pub const SHOWN_MAX: usize = 16 << 20;
/// How deep messages may be nested in messages, as in the decoders of most languages.
pub const DEPTH_MAX: usize = 100;

/// The member of JSON that tells the type of what it stands in.
const TYPE: &str = "@type";
/// The member beside it: of what cannot be read, the bytes; of a well-known type, its JSON.
const VALUE: &str = "value";
/// The annotation of a service that tells which resources it serves.
const RESOURCE: &str = "envoy.annotations.resource";

/// The types whose descriptors are known.
#[derive(Clone, Default)]
pub struct Descriptors {
    /// Sets of files, the first that has a type counts.
    pools: Vec<DescriptorPool>,
    /// The types that the discovery services of all sets serve, in order of name.
    resources: Vec<String>,
}

/// A message as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The JSON.
    pub json: Value,
    /// Whether all of the message is in it: no field of it is unknown to the descriptors.
    pub complete: bool,
}

/// Why JSON is no message of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidJson {
    /// The place: `loadAssignment.endpoints[0].priority`; empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for InvalidJson {}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Thousands of names help nobody.
        let messages: Vec<usize> = self.pools.iter().map(|pool| pool.all_messages().len()).collect();
        f.debug_struct("Descriptors")
            .field("messages", &messages)
            .field("resources", &self.resources)
            .finish()
    }
}

impl Descriptors {
    /// Those that this build brings: with the feature `envoy` the API of Envoy, else none.
    pub fn built_in() -> Arc<Self> {
        static BUILT_IN: OnceLock<Arc<Descriptors>> = OnceLock::new();
        let make = || {
            let mut all = Self::default();
            #[cfg(feature = "envoy")]
            if let Err(error) = all.add(meshbus_envoy::FILE_DESCRIPTOR_SET) {
                // What the build made is tested to be readable.
                tracing::error!(error, "the descriptors of this build cannot be read");
            }
            all.sort();
            Arc::new(all)
        };
        Arc::clone(BUILT_IN.get_or_init(make))
    }

    /// Those of files, each a `FileDescriptorSet` with all that it imports, before those of this build.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub fn with(sets: &[impl AsRef<[u8]>]) -> Result<Arc<Self>, (usize, String)> {
        let mut all = Self::default();
        for (at, set) in sets.iter().enumerate() {
            all.add(set.as_ref()).map_err(|reason| (at, reason))?;
        }
        let built_in = Self::built_in();
        all.pools.extend(built_in.pools.iter().cloned());
        all.resources.extend(built_in.resources.iter().cloned());
        all.sort();
        Ok(Arc::new(all))
    }

    fn add(&mut self, set: &[u8]) -> Result<(), String> {
        let pool = DescriptorPool::decode(set).map_err(|error| error.to_string())?;
        if pool.files().len() == 0 {
            return Err("it holds no files".to_owned());
        }
        self.resources.extend(resources(&pool));
        self.pools.push(pool);
        Ok(())
    }

    fn sort(&mut self) {
        self.resources.sort_unstable();
        self.resources.dedup();
    }

    /// Full names of the types that discovery services serve: `envoy.config.cluster.v3.Cluster`.
    pub fn resources(&self) -> &[String] {
        &self.resources
    }

    /// Full names of all messages that are known; one that several sets have comes several times.
    pub fn messages(&self) -> impl Iterator<Item = String> + '_ {
        self.pools.iter().flat_map(|pool| pool.all_messages().map(|message| message.full_name().to_owned()))
    }

    /// Whether the type is known.
    pub fn knows(&self, type_url: &str) -> bool {
        self.of_url(type_url).is_some()
    }

    /// The message as JSON; in the form for what cannot be read where its type is unknown, or its bytes are no such
    /// message.
    pub fn show(&self, type_url: &str, data: &[u8]) -> Shown {
        show::message(self, type_url, data)
    }

    /// Whether bytes may be a message of the type; of an unknown type all are.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, type_url: &str, data: &[u8]) -> Result<(), String> {
        match self.of_url(type_url) {
            Some(message) => {
                DynamicMessage::decode(message, data).map(drop).map_err(|error| error.to_string())
            }
            None => Ok(()),
        }
    }

    /// The message that JSON describes, its names in `lowerCamelCase` or as the descriptor has them.
    ///
    /// # Errors
    /// Names the place that is wrong.
    pub fn read(&self, type_url: &str, json: &Value) -> Result<Bytes, InvalidJson> {
        read::message(self, type_url, json)
    }

    /// What JSON of the type may hold, as an OpenAPI v3 schema; `None` where the type is unknown.
    pub fn schema(&self, type_url: &str) -> Option<Value> {
        self.of_url(type_url).map(|message| open_api::schema(&message))
    }

    /// The message that a type URL names: what follows its last slash.
    fn of_url(&self, type_url: &str) -> Option<MessageDescriptor> {
        let name = type_url.rsplit('/').next()?;
        let known = self.pools.iter().find_map(|pool| pool.get_message_by_name(name));
        known.or_else(|| well_known(name))
    }

    /// The message of this type that bytes hold; `None` where they hold none.
    fn decode(&self, type_url: &str, data: &[u8]) -> Option<DynamicMessage> {
        let message = self.of_url(type_url).filter(|_| data.len() <= SHOWN_MAX)?;
        DynamicMessage::decode(message, data).ok()
    }
}

/// What discovery services say that they serve.
fn resources(pool: &DescriptorPool) -> Vec<String> {
    let Some(annotation) = pool.get_extension_by_name(RESOURCE) else { return Vec::new() };
    let of_service = |service: prost_reflect::ServiceDescriptor| {
        let options = service.options();
        let annotated = options.has_extension(&annotation).then(|| options.get_extension(&annotation))?;
        let name = annotated.as_message()?.get_field_by_name("type")?.as_str()?.to_owned();
        pool.get_message_by_name(&name).is_some().then_some(name)
    };
    pool.services().filter_map(of_service).collect()
}

/// What cannot be read, as it is.
pub fn opaque(type_url: &str, data: &[u8]) -> Value {
    json!({ TYPE: type_url, VALUE: STANDARD.encode(data) })
}

/// The well-known types, which every set may hold and none has to.
fn well_known(name: &str) -> Option<MessageDescriptor> {
    static WELL_KNOWN: OnceLock<DescriptorPool> = OnceLock::new();
    let pool = has_own_json(name).then(|| WELL_KNOWN.get_or_init(DescriptorPool::global))?;
    pool.get_message_by_name(name)
}

/// Whether a type has JSON of its own, so that in an `Any` it stands beside its type.
fn has_own_json(full_name: &str) -> bool {
    let Some(name) = full_name.strip_prefix("google.protobuf.") else { return false };
    matches!(name, "Any" | "Struct" | "Value" | "ListValue") || is_leaf(name)
}

/// Well-known types that hold no messages: their JSON is the library's.
fn is_leaf(name: &str) -> bool {
    const LEAVES: [&str; 13] = [
        "BoolValue",
        "BytesValue",
        "DoubleValue",
        "Duration",
        "Empty",
        "FieldMask",
        "FloatValue",
        "Int32Value",
        "Int64Value",
        "StringValue",
        "Timestamp",
        "UInt32Value",
        "UInt64Value",
    ];
    LEAVES.contains(&name)
}
