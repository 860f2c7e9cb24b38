//! Request bodies in the API's protobuf form, as the JSON they stand for.
//!
//! Typed clients (kubectl from 1.32 on, client-go) send the objects they know so: four bytes `k8s\0`, then a message
//! that names version and kind and holds the object. Read by tables of field numbers, those of the API's published
//! `generated.proto` files; what a table does not know is passed over, as protobuf has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Map, Value, json};

mod tables;
#[cfg(test)]
mod tests;

/// What such a body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages; the objects of the tables need six.
const DEPTH_MAX: usize = 16;

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// It does not begin as such a body does.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// Its kind is none that is read in this form.
    #[error("no kind {kind:?} is registered for version {api_version:?} in this form: send JSON")]
    Unknown {
        /// `v1`
        api_version: String,
        /// `Pod`
        kind: String,
    },
    /// It is no such message.
    #[error("proto: {0}")]
    Malformed(String),
}

/// One field of a message.
struct Field {
    number: u32,
    name: &'static str,
    kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Text that is told apart from none when it is empty.
    TextOrNone,
    Texts,
    Number,
    /// A number that is told apart from none when it is zero.
    NumberOrNone,
    Boolean,
    Message(&'static [Field]),
    Messages(&'static [Field]),
    /// Text by text.
    TextMap,
    /// Bytes by text, base64 in JSON.
    BytesMap,
    /// Seconds and nanoseconds; to the second in JSON.
    Time,
    /// As before, to the microsecond.
    MicroTime,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A message around the bytes of JSON text, which stands for itself.
    Json,
}

/// Whether objects of this kind are read in this form.
pub fn is_known(api_version: &str, kind: &str) -> bool {
    tables::find(api_version, kind).is_some()
}

/// The object that a body holds, with its version and kind.
///
/// # Errors
/// Says why it cannot be read.
pub fn decode(body: &[u8]) -> Result<Value, ProtoError> {
    let rest = body.strip_prefix(MAGIC).ok_or(ProtoError::NoMagic)?;
    let mut unknown = Bytes::copy_from_slice(rest);
    let envelope = message(tables::UNKNOWN, &mut unknown, 0)?;
    let text = |at: &str| envelope.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("/typeMeta/apiVersion"), text("/typeMeta/kind"));
    let Some(table) = tables::find(&api_version, &kind) else {
        return Err(ProtoError::Unknown { api_version, kind });
    };
    let raw = STANDARD.decode(text("/raw")).unwrap_or_default();
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    if let Value::Object(fields) = message(table, &mut Bytes::from(raw), 0)? {
        object.extend(fields);
    }
    Ok(Value::Object(object))
}

fn malformed(error: impl ToString) -> ProtoError {
    ProtoError::Malformed(error.to_string())
}

fn message(table: &'static [Field], bytes: &mut Bytes, depth: usize) -> Result<Value, ProtoError> {
    if depth >= DEPTH_MAX {
        return Err(malformed("nested too deeply"));
    }
    let mut fields = Map::new();
    while bytes.has_remaining() {
        let (number, wire) = decode_key(bytes).map_err(malformed)?;
        let field = table.iter().find(|field| field.number == number && field.kind.wire() == wire);
        let Some(field) = field else {
            skip_field(wire, number, bytes, DecodeContext::default()).map_err(malformed)?;
            continue;
        };
        if wire == WireType::Varint {
            let number = decode_varint(bytes).map_err(malformed)?;
            let value = match field.kind {
                Kind::Boolean => Value::Bool(number != 0),
                // Negative ones are sent as 64 bits of two's complement.
                _ => json!(number.cast_signed()),
            };
            fields.insert(field.name.to_owned(), value);
            continue;
        }
        let length = decode_varint(bytes).map_err(malformed)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes.remaining());
        let part = bytes.split_to(length.ok_or_else(|| malformed("unexpected EOF"))?);
        field.add(&mut fields, part, depth)?;
    }
    // A number that is zero and a text that is empty were not said, but for those that can be left out.
    let optional = |name: &str| {
        let of_name = |field: &&Field| field.name == name;
        let kind = table.iter().find(of_name).map(|field| field.kind);
        matches!(kind, Some(Kind::TextOrNone | Kind::NumberOrNone))
    };
    fields.retain(|name, value| *value != json!(0) && *value != json!("") || optional(name));
    Ok(Value::Object(fields))
}

impl Kind {
    fn wire(self) -> WireType {
        match self {
            Self::Number | Self::NumberOrNone | Self::Boolean => WireType::Varint,
            _ => WireType::LengthDelimited,
        }
    }
}

impl Field {
    fn add(
        &self,
        fields: &mut Map<String, Value>,
        mut part: Bytes,
        depth: usize,
    ) -> Result<(), ProtoError> {
        let name = self.name.to_owned();
        match self.kind {
            Kind::Text | Kind::TextOrNone => drop(fields.insert(name, Value::String(text(&part)?))),
            Kind::Texts => push(fields, name, Value::String(text(&part)?)),
            Kind::Message(table) => drop(fields.insert(name, message(table, &mut part, depth + 1)?)),
            Kind::Messages(table) => push(fields, name, message(table, &mut part, depth + 1)?),
            Kind::TextMap | Kind::BytesMap => {
                let entry = message(tables::ENTRY, &mut part, depth + 1)?;
                let bytes = |at: &str| {
                    let text = entry.get(at).and_then(Value::as_str).unwrap_or_default();
                    STANDARD.decode(text).unwrap_or_default()
                };
                let key = String::from_utf8(bytes("key")).map_err(malformed)?;
                let value = match self.kind {
                    Kind::TextMap => String::from_utf8(bytes("value")).map_err(malformed)?,
                    _ => STANDARD.encode(bytes("value")),
                };
                let map = fields.entry(name).or_insert_with(|| json!({}));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, Value::String(value));
                }
            }
            Kind::Time | Kind::MicroTime => {
                if let Some(time) = time(&message(tables::TIME, &mut part, depth + 1)?, self.kind) {
                    fields.insert(name, Value::String(time));
                }
            }
            Kind::Bytes => drop(fields.insert(name, Value::String(STANDARD.encode(&part)))),
            Kind::Json => {
                let held = message(tables::FIELDS, &mut part, depth + 1)?;
                let json =
                    held.get("raw").and_then(Value::as_str).and_then(|raw| STANDARD.decode(raw).ok());
                let json = json.and_then(|json| serde_json::from_slice(&json).ok());
                fields.insert(name, json.unwrap_or_else(|| json!({})));
            }
            Kind::Number | Kind::NumberOrNone | Kind::Boolean => {}
        }
        Ok(())
    }
}

fn push(fields: &mut Map<String, Value>, name: String, value: Value) {
    let list = fields.entry(name).or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

fn text(bytes: &[u8]) -> Result<String, ProtoError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a text is not UTF-8"))
}

/// `None` for the zero time.
fn time(fields: &Value, kind: Kind) -> Option<String> {
    let number = |name: &str| fields.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (seconds, nanos) = (number("seconds"), number("nanos"));
    if seconds == 0 && nanos == 0 {
        return None;
    }
    let instant = jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
    Some(match kind {
        Kind::MicroTime => format!("{instant:.6}"),
        _ => format!("{instant:.0}"),
    })
}
