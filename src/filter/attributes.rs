//! `set`, `remove` and `rename`: filters of attributes.
//!
//! ```yaml
//! filters:
//!   - set: {severity: major, summary: "{kind} {data.name|unnamed}", urgent: true}   # templates, or a constant
//!   - remove: [debug, trace]
//!   - rename: {oldname: newname}
//! ```
//!
//! `id` and `source` name the event and stay; so do `mborigin` and `mbhops`, by which loops are seen. `type` may be
//! set, but neither removed nor renamed.

use std::sync::Arc;

use bytestring::ByteString;
use schemars::{Schema, json_schema};
use serde_json::Value as Json;

use super::Kind;
use super::stateless::{Judge, Stateless};
use crate::config::{ConfigError, Section};
use crate::core::envelope::check_name;
use crate::core::filter::{FilterFactory, Input, Verdict};
use crate::core::template::{Spelling, Template};
use crate::core::{Envelope, Reason, Timestamp, Value};

/// Most attributes that one filter names; a template or a name each.
const ATTRIBUTES_MAX: usize = 64;
/// Attributes that no filter changes.
const FIXED: [&str; 5] = ["id", "source", "specversion", "mborigin", "mbhops"];

/// `set`: attributes from templates of text, or constants. A template that renders nothing removes the attribute;
/// one that lacks a field and has no default rejects the event.
#[derive(Debug)]
pub struct Set;

/// `remove`: attributes that go; those that are not there are no mistake.
#[derive(Debug)]
pub struct Remove;

/// `rename`: from the old name to the new one, with its type. One that is not there is no mistake; one that has
/// the new name already is replaced.
#[derive(Debug)]
pub struct Rename;

#[derive(Debug)]
struct Setter(Vec<(String, New)>);

#[derive(Debug)]
enum New {
    Text(Template),
    Constant(Value),
}

#[derive(Debug)]
struct Remover(Vec<String>);

#[derive(Debug)]
struct Renamer(Vec<(String, String)>);

impl Kind for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn schema(&self) -> Schema {
        json_schema!({
            "description": "Attributes to set: a template of text such as `{data.name|unnamed}`, a boolean or an integer.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": ATTRIBUTES_MAX,
            "additionalProperties": {"type": ["string", "boolean", "integer"]},
        })
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let hint = "set: {severity: major, summary: \"{data.name|unnamed}\"}";
        let mut set = Vec::new();
        for (name, value) in entries(section, hint)? {
            changeable(&name).map_err(|reason| value.error_at_key("", reason))?;
            let new = match (value.text(), value.to_json()) {
                (Some(text), _) => New::Text(
                    Template::parse(text, Spelling::Text).map_err(|reason| value.error("", reason))?,
                ),
                (None, Json::Bool(constant)) => New::Constant(constant.into()),
                (None, Json::Number(number)) => {
                    let integer = number.as_i64().and_then(|number| i32::try_from(number).ok());
                    let reason = "a number of an attribute is a whole one of 32 bits";
                    let hint = "write it as text: \"…\"";
                    New::Constant(integer.ok_or_else(|| value.error_with_hint("", reason, hint))?.into())
                }
                _ => return Err(value.error_with_hint("", "expected text, a boolean or an integer", hint)),
            };
            if let (New::Constant(_), true) = (&new, is_context(&name)) {
                return Err(value.error("", format!("{name} is text")));
            }
            set.push((name, new));
        }
        Ok(Stateless::factory(Setter(set)))
    }
}

impl Kind for Remove {
    fn name(&self) -> &'static str {
        "remove"
    }

    fn schema(&self) -> Schema {
        json_schema!({
            "description": "Names of attributes to remove.",
            "type": "array",
            "minItems": 1,
            "maxItems": ATTRIBUTES_MAX,
            "items": {"type": "string"},
        })
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let names: Vec<String> = section.parse()?;
        bounded(section, names.len(), "remove: [debug, trace]")?;
        for (at, name) in names.iter().enumerate() {
            removable(name).map_err(|reason| section.error(&format!("[{at}]"), reason))?;
        }
        Ok(Stateless::factory(Remover(names)))
    }
}

impl Kind for Rename {
    fn name(&self) -> &'static str {
        "rename"
    }

    fn schema(&self) -> Schema {
        json_schema!({
            "description": "Attributes to rename: old name to new name.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": ATTRIBUTES_MAX,
            "additionalProperties": {"type": "string"},
        })
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let mut names = Vec::new();
        for (old, value) in entries(section, "rename: {oldname: newname}")? {
            let new: String = value.parse()?;
            removable(&old).map_err(|reason| value.error_at_key("", reason))?;
            removable(&new).map_err(|reason| value.error("", reason))?;
            if new == old {
                return Err(value.error("", "is the same name"));
            }
            names.push((old, new));
        }
        Ok(Stateless::factory(Renamer(names)))
    }
}

impl Judge for Setter {
    fn name(&self) -> ByteString {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        format!("set {}", names.join(", ")).into()
    }

    fn judge(&self, input: &Input<'_>) -> Verdict {
        let mut envelope = input.envelope.clone();
        for (name, new) in &self.0 {
            let value = match new {
                New::Constant(value) => Some(value.clone()),
                // Of what came in: the order of the attributes does not matter.
                New::Text(template) => match template.render(input.envelope, input.route) {
                    Ok(text) => Some(text).filter(|text| !text.is_empty()).map(Value::String),
                    Err(reason) => return Verdict::Reject(format!("{name}: {reason}").into()),
                },
            };
            if let Err(reason) = put(&mut envelope, name, value) {
                return Verdict::Reject(reason);
            }
        }
        Verdict::Change(Box::new(envelope))
    }
}

impl Judge for Remover {
    fn name(&self) -> ByteString {
        format!("remove {}", self.0.join(", ")).into()
    }

    fn judge(&self, input: &Input<'_>) -> Verdict {
        if !self.0.iter().any(|name| has(input.envelope, name)) {
            return Verdict::Pass;
        }
        let mut envelope = input.envelope.clone();
        self.0.iter().for_each(|name| drop(take(&mut envelope, name)));
        Verdict::Change(Box::new(envelope))
    }
}

impl Judge for Renamer {
    fn name(&self) -> ByteString {
        let names: Vec<String> = self.0.iter().map(|(old, new)| format!("{old} to {new}")).collect();
        format!("rename {}", names.join(", ")).into()
    }

    fn judge(&self, input: &Input<'_>) -> Verdict {
        if !self.0.iter().any(|(old, _)| has(input.envelope, old)) {
            return Verdict::Pass;
        }
        let mut envelope = input.envelope.clone();
        // All are taken before any is put, so that two may exchange their names.
        let taken: Vec<Option<Value>> = self.0.iter().map(|(old, _)| take(&mut envelope, old)).collect();
        for ((_, new), value) in self.0.iter().zip(taken) {
            if let Some(value) = value
                && let Err(reason) = put(&mut envelope, new, Some(value))
            {
                return Verdict::Reject(reason);
            }
        }
        Verdict::Change(Box::new(envelope))
    }
}

fn entries(section: &Section, hint: &str) -> Result<Vec<(String, Section)>, ConfigError> {
    if !section.is_map() {
        return Err(section.error_with_hint("", "expected a map of attributes", hint));
    }
    let entries = section.entries();
    bounded(section, entries.len(), hint)?;
    Ok(entries)
}

fn bounded(section: &Section, n: usize, hint: &str) -> Result<(), ConfigError> {
    match n {
        0 => Err(section.error_with_hint("", "names no attribute", hint)),
        1..=ATTRIBUTES_MAX => Ok(()),
        more => Err(section.error("", format!("names {more} attributes; at most {ATTRIBUTES_MAX}"))),
    }
}

/// Whether CloudEvents itself defines it; all of those are text.
fn is_context(name: &str) -> bool {
    matches!(name, "type" | "subject" | "time" | "datacontenttype" | "dataschema")
}

fn changeable(name: &str) -> Result<(), String> {
    if FIXED.contains(&name) {
        return Err(format!("{name} names the event or guards against loops: no filter changes it"));
    }
    if is_context(name) { Ok(()) } else { check_name(name).map_err(|error| error.to_string()) }
}

fn removable(name: &str) -> Result<(), String> {
    if name == "type" {
        return Err("type is required: it can be set, but neither removed nor renamed".to_owned());
    }
    changeable(name)
}

fn has(envelope: &Envelope, name: &str) -> bool {
    envelope.with_attribute(name, |value| value.is_some())
}

/// Removes an attribute and gives what it was, with its type.
fn take(envelope: &mut Envelope, name: &str) -> Option<Value> {
    match name {
        "subject" => envelope.subject.take().map(Value::String),
        "datacontenttype" => envelope.datacontenttype.take().map(Value::String),
        "dataschema" => envelope.dataschema.take().map(Value::Uri),
        "time" => envelope.time.take().map(Value::Timestamp),
        name => envelope.extensions.remove(name),
    }
}

/// Sets an attribute, or removes it.
fn put(envelope: &mut Envelope, name: &str, value: Option<Value>) -> Result<(), Reason> {
    let text = |value: Option<Value>| value.map(|value| value.to_text());
    match (name, value) {
        ("type", Some(value)) => envelope.kind = value.to_text(),
        ("type", None) => return Err("type: must not be empty".into()),
        ("subject", value) => envelope.subject = text(value),
        ("datacontenttype", value) => envelope.datacontenttype = text(value),
        ("dataschema", value) => envelope.dataschema = text(value),
        ("time", value) => {
            let time = text(value).map(Timestamp::parse).transpose();
            envelope.time = time.map_err(|error| Reason::from(format!("time: {error}")))?;
        }
        (name, Some(value)) => envelope.extensions.set(name.to_owned(), value),
        (name, None) => drop(envelope.extensions.remove(name)),
    }
    Ok(())
}
