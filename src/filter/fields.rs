//! `pick` and `drop_fields`: filters that keep or remove fields of JSON data.
//!
//! ```yaml
//! filters:
//!   - pick: [data.pod, data.status.phase, "data.items[0]"]     # only these stay
//!   - drop_fields: [data.password, data.user.email]            # these go
//! ```
//!
//! A path that is not there is no mistake. What stays is the text as it came: numbers and the order of members
//! are kept. An event without data passes; data that is no JSON, or larger than 1 MiB, rejects it, so that
//! nothing that should have gone slips through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use schemars::{Schema, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Kind;
use super::stateless::{Judge, Stateless};
use crate::config::{ConfigError, Section};
use crate::core::data::{DATA_MAX, Path, Step};
use crate::core::filter::{FilterFactory, Input, Verdict};

/// Most paths of one filter.
const PATHS_MAX: usize = 256;

/// `pick`.
#[derive(Debug)]
pub struct Pick;

/// `drop_fields`.
#[derive(Debug)]
pub struct DropFields;

#[derive(Debug)]
struct Selection {
    keeps: bool,
    /// As they are written.
    paths: Vec<String>,
    tree: Tree,
}

/// Paths by their steps.
#[derive(Debug, Default)]
struct Tree {
    /// A path ends here.
    whole: bool,
    members: BTreeMap<Box<str>, Tree>,
    items: BTreeMap<usize, Tree>,
}

/// The members of an object, in their order, each as text; one that stands there twice, twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl Kind for Pick {
    fn name(&self) -> &'static str {
        "pick"
    }

    fn schema(&self) -> Schema {
        schema("Paths of the fields of JSON data that stay, such as `data.pod` or `data.items[0].name`.")
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        read(section, true)
    }
}

impl Kind for DropFields {
    fn name(&self) -> &'static str {
        "drop_fields"
    }

    fn schema(&self) -> Schema {
        schema("Paths of the fields of JSON data that go, such as `data.user.email`.")
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        read(section, false)
    }
}

fn schema(description: &str) -> Schema {
    json_schema!({
        "description": description,
        "type": "array",
        "minItems": 1,
        "maxItems": PATHS_MAX,
        "items": {"type": "string"},
    })
}

fn read(section: &Section, keeps: bool) -> Result<Arc<dyn FilterFactory>, ConfigError> {
    let paths: Vec<String> = section.parse()?;
    if !(1..=PATHS_MAX).contains(&paths.len()) {
        let reason = format!("names {} fields", paths.len());
        return Err(section.error_with_hint("", reason, format!("1 to {PATHS_MAX}, such as data.name")));
    }
    let mut tree = Tree::default();
    for (at, path) in paths.iter().enumerate() {
        let path = data_path(path).map_err(|reason| section.error(&format!("[{at}]"), reason))?;
        tree.add(path.steps());
    }
    Ok(Stateless::factory(Selection { keeps, paths, tree }))
}

/// A path as templates and expressions write it: `data.a.b[0]`.
fn data_path(text: &str) -> Result<Path, String> {
    let path =
        text.strip_prefix("data.").or_else(|| text.strip_prefix("data").filter(|p| p.starts_with('[')));
    let path = path.ok_or_else(|| format!("{text:?} is no path into the data: write data.name"))?;
    Path::parse(path).map_err(|reason| format!("{text:?} {reason}"))
}

impl Judge for Selection {
    fn name(&self) -> ByteString {
        let kind = if self.keeps { "pick" } else { "drop_fields" };
        format!("{kind} {}", self.paths.join(", ")).into()
    }

    fn judge(&self, input: &Input<'_>) -> Verdict {
        let data = &input.envelope.data;
        if data.is_empty() {
            return Verdict::Pass;
        }
        if data.len() > DATA_MAX {
            return Verdict::Reject("the data is larger than the 1 MiB that is looked into".into());
        }
        let made = serde_json::from_slice::<&RawValue>(data).and_then(|json| {
            let mut made = String::with_capacity(data.len());
            if self.keeps { self.tree.pick(json, &mut made) } else { self.tree.remove(json, &mut made) }
                .map(|()| made)
        });
        match made {
            Err(error) => Verdict::Reject(format!("the data is no JSON: {error}").into()),
            Ok(made) if made.as_bytes() == &**data => Verdict::Pass,
            Ok(made) => {
                let mut envelope = input.envelope.clone();
                envelope.data = made.into();
                Verdict::Change(Box::new(envelope))
            }
        }
    }
}

impl Tree {
    fn add(&mut self, steps: &[Step]) {
        match steps.split_first() {
            None => self.whole = true,
            Some((Step::Member(member), rest)) => {
                self.members.entry(member.name().into()).or_default().add(rest);
            }
            Some((Step::Item(at), rest)) => self.items.entry(*at).or_default().add(rest),
        }
    }

    /// Writes what stays of `json` when only these paths do.
    fn pick(&self, json: &RawValue, made: &mut String) -> serde_json::Result<()> {
        if self.whole {
            made.push_str(json.get());
            return Ok(());
        }
        match json.get().as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(json.get())?;
                let kept = members.iter().filter_map(|(name, value)| {
                    let below = self.members.get(name.as_str())?;
                    below.reaches(value).then_some((Some(name.as_str()), *value, below))
                });
                write(['{', '}'], kept, made, Self::pick)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json.get())?;
                let kept = self.items.iter().filter_map(|(at, below)| {
                    let value = items.get(*at)?;
                    below.reaches(value).then_some((None, *value, below))
                });
                write(['[', ']'], kept, made, Self::pick)
            }
            _ => {
                made.push_str("null");
                Ok(())
            }
        }
    }

    /// Whether it may keep anything of a value: a path that goes on does not end in a number.
    fn reaches(&self, json: &RawValue) -> bool {
        self.whole || json.get().starts_with(['{', '['])
    }

    /// Writes what stays of `json` when these paths go.
    fn remove(&self, json: &RawValue, made: &mut String) -> serde_json::Result<()> {
        static NOTHING: Tree = Tree { whole: false, members: BTreeMap::new(), items: BTreeMap::new() };
        let is_list = json.get().starts_with('[');
        if (is_list && self.items.is_empty())
            || (!is_list && self.members.is_empty())
            || !json.get().starts_with(['{', '['])
        {
            made.push_str(json.get());
            return Ok(());
        }
        if is_list {
            let items: Vec<&RawValue> = serde_json::from_str(json.get())?;
            let items = items.into_iter().enumerate();
            let kept = items.map(|(at, value)| (None, value, self.items.get(&at).unwrap_or(&NOTHING)));
            return write(['[', ']'], kept.filter(|(.., below)| !below.whole), made, Self::remove);
        }
        let Members(members) = serde_json::from_str(json.get())?;
        let kept = members.iter().map(|(name, value)| {
            (Some(name.as_str()), *value, self.members.get(name.as_str()).unwrap_or(&NOTHING))
        });
        write(['{', '}'], kept.filter(|(.., below)| !below.whole), made, Self::remove)
    }
}

/// Writes an object or a list of `parts`, each as `step` makes it.
fn write<'a>(
    [open, close]: [char; 2],
    parts: impl Iterator<Item = (Option<&'a str>, &'a RawValue, &'a Tree)>,
    made: &mut String,
    step: fn(&Tree, &RawValue, &mut String) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    made.push(open);
    for (at, (name, value, below)) in parts.enumerate() {
        if at > 0 {
            made.push(',');
        }
        if let Some(name) = name {
            made.push_str(&serde_json::to_string(name)?);
            made.push(':');
        }
        step(below, value, made)?;
    }
    made.push(close);
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Each).map(Members)
    }
}
