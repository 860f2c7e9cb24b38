//! `derive:`: state that is made of other state, each in a scope of its own.

use std::sync::Arc;

use super::connectors::ConnectorConfig;
use super::error::ConfigError;
use super::load::{Config, Reader};
use super::print::{Fingerprint, fingerprint};
use super::section::Section;
use super::suggest;
use crate::core::derive::Derivation;
use crate::core::envelope::Key;
use crate::derive::KINDS;

/// An entry of `derive:`.
#[derive(Clone, Debug)]
pub struct DeriveConfig {
    /// Its name, which is also the scope of what is made.
    pub name: String,
    /// What makes it.
    pub derivation: Arc<dyn Derivation>,
    /// All of it as it stands in the file.
    pub section: Section,
}

impl Config {
    /// Of the settings of a derivation; `None` where there is none of this name.
    pub fn fingerprint_derived(&self, name: &str) -> Option<Fingerprint> {
        let derived = self.derive.iter().find(|derived| derived.name == name)?;
        Some(fingerprint(&derived.section.to_json()))
    }
}

/// All derivations; one with errors is left out.
pub(super) fn read(
    reader: &mut Reader<'_>,
    root: &Section,
    connectors: &[ConnectorConfig],
) -> Vec<DeriveConfig> {
    let Some(section) = root.get("derive").filter(|section| !section.is_null()) else { return Vec::new() };
    if !section.is_map() {
        let reason = "expected a map of names to derivations";
        reader.errors.push(section.error_with_hint("", reason, example()));
        return Vec::new();
    }
    let entries = section.entries();
    entries.iter().filter_map(|(name, section)| derived(reader, name, section, connectors)).collect()
}

fn derived(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section,
    connectors: &[ConnectorConfig],
) -> Option<DeriveConfig> {
    reader.name("derivation", name, section);
    if name == "capture" || taken(connectors).iter().any(|scope| scope == name) {
        let reason = format!("the scope {name:?} has an owner already");
        reader.errors.push(section.error_at_key("", reason).hint("choose another name"));
        return None;
    }
    let entries = section.entries();
    let [(word, settings)] = entries.as_slice() else {
        let error = section.error_at_key("", format!("names {} derivations, not one", entries.len()));
        reader.errors.push(error.hint(example()));
        return None;
    };
    let Some(kind) = KINDS.iter().find(|kind| kind.name() == word) else {
        let words: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
        let error = settings.error_at_key("", format!("there is no derivation {word:?} in this build"));
        reader.errors.push(error.hint(suggest::hint(word, &words)));
        return None;
    };
    let derivation = reader.keep(kind.read(settings))?;
    let sources = connectors.iter().map(|connector| connector.scope().to_string());
    let sources: Vec<String> = std::iter::once(Key::LOCAL.to_owned()).chain(sources).collect();
    if !sources.iter().any(|scope| **scope == **derivation.source()) {
        reader.errors.push(unknown(settings, derivation.source(), &sources));
        return None;
    }
    Some(DeriveConfig { name: name.to_owned(), derivation, section: section.clone() })
}

fn unknown(settings: &Section, source: &str, scopes: &[String]) -> ConfigError {
    let known: Vec<&str> = scopes.iter().map(String::as_str).collect();
    settings.error_with_hint("from", format!("there is no scope {source:?}"), suggest::hint(source, &known))
}

/// Names that no derivation can have: those of scopes, and of connectors.
fn taken(connectors: &[ConnectorConfig]) -> Vec<String> {
    let scope = |connector: &ConnectorConfig| {
        let scope = connector.section.get("scope").and_then(|scope| scope.text().map(str::to_owned));
        [Some(connector.name.clone()), scope].into_iter().flatten()
    };
    let local = std::iter::once(Key::LOCAL.to_owned());
    local.chain(connectors.iter().flat_map(scope)).collect()
}

fn example() -> String {
    let words: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
    format!("derive: {{NAME: {{KIND: {{…}}}}}} with a kind of: {}", words.join(", "))
}
