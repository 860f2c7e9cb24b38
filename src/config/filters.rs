//! `filters:` of a route: what is done with an event before it goes anywhere.

use std::path::PathBuf;

use serde_json::json;

use super::error::ConfigError;
use super::load::{Config, Reader};
use super::print::fingerprint;
use super::section::Section;
use super::suggest;
use crate::core::filter::FilterSpec;
use crate::filter::KINDS;

/// Most filters of a route.
pub const FILTERS_MAX: usize = 64;

/// One entry of `filters:`.
#[derive(Clone, Debug)]
pub struct FilterConfig {
    /// What the router runs.
    pub spec: FilterSpec,
    /// Its settings as they stand in the file.
    pub section: Section,
}

impl Config {
    /// Lets every filter read and check what it needs: files, plugins. Blocks while it does.
    ///
    /// # Errors
    /// Each filter that cannot run, at its place in the file.
    pub fn prepare_filters(&self) -> Result<(), Vec<ConfigError>> {
        let filters = self.routes.iter().flat_map(|route| &route.filters);
        let failed = filters.filter_map(|filter| {
            let reason = filter.spec.factory.prepare().err()?;
            Some(filter.section.error("", reason.to_string()))
        });
        let errors: Vec<ConfigError> = failed.collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// The filters of a route; one with errors is left out.
pub(super) fn read(reader: &mut Reader<'_>, route: &Section) -> Vec<FilterConfig> {
    let Some(list) = route.get("filters").filter(|list| !list.is_null()) else { return Vec::new() };
    if !list.is_list() {
        reader.errors.push(list.error_with_hint("", "expected a list", example()));
        return Vec::new();
    }
    let items = list.items();
    if items.len() > FILTERS_MAX {
        let reason = format!("has {} filters; a route runs at most {FILTERS_MAX}", items.len());
        reader.errors.push(list.error_with_hint("", reason, "make it several routes"));
        return Vec::new();
    }
    items.iter().filter_map(|item| filter(reader, item)).collect()
}

fn filter(reader: &mut Reader<'_>, item: &Section) -> Option<FilterConfig> {
    let entries = item.entries();
    let (word, section) = match entries.as_slice() {
        [only] => only,
        [] => {
            let reason = if item.is_map() { "names no filter" } else { "expected a map with one filter" };
            reader.errors.push(item.error_with_hint("", reason, example()));
            return None;
        }
        [(first, _), (second, below), ..] => {
            let reason = format!("an entry has one filter, here are {first} and {second}");
            reader.errors.push(below.error_at_key("", reason).hint("make it two entries of the list"));
            return None;
        }
    };
    let Some(kind) = KINDS.iter().find(|kind| kind.name() == word) else {
        let words: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
        let error = section.error_at_key("", format!("there is no filter {word:?} in this build"));
        reader.errors.push(error.hint(suggest::hint(word, &words)));
        return None;
    };
    let factory = reader.keep(kind.read(section))?;
    let fingerprint = fingerprint(&json!([word, section.to_json()])).to_string().into();
    Some(FilterConfig { spec: FilterSpec { fingerprint, factory }, section: section.clone() })
}

impl Config {
    /// The files that filters read: when one changes, it is time to read the configuration again.
    pub fn filter_files(&self) -> Vec<PathBuf> {
        let filters = self.routes.iter().flat_map(|route| &route.filters);
        let mut files: Vec<PathBuf> = filters.flat_map(|filter| filter.spec.factory.files()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// Whether one of them may emit to a named output.
pub(super) fn have_outputs(filters: &[FilterConfig]) -> bool {
    filters.iter().any(|filter| filter.spec.factory.has_outputs())
}

fn example() -> String {
    let words: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
    format!("filters: [{{KIND: {{…}}}}] with a kind of: {}", words.join(", "))
}
