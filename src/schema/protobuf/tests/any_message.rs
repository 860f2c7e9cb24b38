//! Messages of any type, made of a seed.

use fastrand::Rng;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// How many messages deep.
const DEPTH: usize = 5;

/// A message of this type with some of its fields set.
pub(super) fn of(message: &MessageDescriptor, seed: u64) -> DynamicMessage {
    make(message, &mut Rng::with_seed(seed), 0)
}

fn make(of: &MessageDescriptor, rng: &mut Rng, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    match of.full_name() {
        "google.protobuf.Duration" => {
            message.set_field_by_name("seconds", Value::I64(rng.i64(0..1_000_000)));
            message.set_field_by_name("nanos", Value::I32(rng.i32(0..1_000_000_000)));
        }
        "google.protobuf.Timestamp" => {
            message.set_field_by_name("seconds", Value::I64(rng.i64(-60_000_000_000..200_000_000_000)));
            message.set_field_by_name("nanos", Value::I32(rng.i32(0..1_000_000_000)));
        }
        "google.protobuf.Any" if depth < DEPTH && rng.bool() => {
            let held = of.parent_pool().get_message_by_name("envoy.config.core.v3.Address");
            let held = held.expect("Address is of the API");
            let url = format!("type.googleapis.com/{}", held.full_name());
            message.set_field_by_name("type_url", Value::String(url));
            let held = make(&held, rng, depth + 1);
            message.set_field_by_name("value", Value::Bytes(prost::Message::encode_to_vec(&held).into()));
        }
        "google.protobuf.Any" => {
            message.set_field_by_name("type_url", Value::String("t.example/unknown.Type".to_owned()));
            message.set_field_by_name("value", Value::Bytes(vec![rng.u8(..); rng.usize(..4)].into()));
        }
        // Each has one of its kinds, or it is no JSON.
        "google.protobuf.Value" => {
            let kinds: Vec<FieldDescriptor> = of.fields().collect();
            let most = if depth < DEPTH { kinds.len() } else { 4 };
            if let Some(field) = kinds.get(rng.usize(..most)) {
                let chosen = value(&field.kind(), rng, depth);
                message.set_field(field, chosen);
            }
        }
        "google.protobuf.FieldMask" => {}
        _ => {
            for field in of.fields() {
                let nests = matches!(field.kind(), Kind::Message(_));
                if rng.u8(..4) > 0 || nests && depth >= DEPTH {
                    continue;
                }
                let value = whole(&field, rng, depth);
                message.set_field(&field, value);
            }
        }
    }
    message
}

fn whole(field: &FieldDescriptor, rng: &mut Rng, depth: usize) -> Value {
    let kind = field.kind();
    if let (true, Some(entry)) = (field.is_map(), kind.as_message()) {
        let (key, of) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let entries = (0..rng.usize(1..4)).map(|at| {
            let key = match key.kind() {
                Kind::Bool => MapKey::Bool(at % 2 == 0),
                Kind::Uint32 => MapKey::U32(rng.u32(..)),
                Kind::Uint64 => MapKey::U64(rng.u64(..)),
                Kind::Int32 => MapKey::I32(rng.i32(..)),
                Kind::Int64 => MapKey::I64(rng.i64(..)),
                _ => MapKey::String(text(rng)),
            };
            (key, value(&of.kind(), rng, depth))
        });
        return Value::Map(entries.collect());
    }
    if field.is_list() {
        return Value::List((0..rng.usize(1..4)).map(|_| value(&kind, rng, depth)).collect());
    }
    value(&kind, rng, depth)
}

fn value(kind: &Kind, rng: &mut Rng, depth: usize) -> Value {
    match kind {
        Kind::Bool => Value::Bool(rng.bool()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(rng.i32(..)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(rng.i64(..)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(rng.u32(..)),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(rng.u64(..)),
        Kind::Float => Value::F32(rng.f32() * 1e6),
        Kind::Double => Value::F64(if rng.bool() { rng.f64() } else { f64::from(rng.i32(..)) }),
        Kind::String => Value::String(text(rng)),
        Kind::Bytes => Value::Bytes(vec![rng.u8(..); rng.usize(..5)].into()),
        Kind::Enum(of) => {
            let numbers: Vec<i32> = of.values().map(|value| value.number()).collect();
            // Now and then one that the descriptors do not know; the one of null is null.
            let strange = rng.u8(..16) == 0 && of.full_name() != "google.protobuf.NullValue";
            let known = numbers.get(rng.usize(..numbers.len())).copied();
            Value::EnumNumber(if strange { 12_345 } else { known.unwrap_or_default() })
        }
        Kind::Message(of) => Value::Message(make(of, rng, depth + 1)),
    }
}

fn text(rng: &mut Rng) -> String {
    (0..rng.usize(..6)).map(|_| rng.char(..)).collect()
}
