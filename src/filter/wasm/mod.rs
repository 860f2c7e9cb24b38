//! Filters as Wasm components: `filters: [{wasm: {path: redact.wasm}}]`.
//!
//! A plugin is a component of the world `filter-plugin` or `packed-filter-plugin` in `plugins/wit`. It is compiled once
//! (`plugin`, `cache`), and each step of a route has one instance (`instance`) that lives until it fails. A guest
//! can do nothing but compute: it is given events, and may log, count and read the clock (`host`, `wasi`). What it
//! may use is bounded (`limits`, `engine`). What a fault costs is one event, a new instance, and after many the
//! plugin's turn in all routes (`filter`, `breaker`).

mod bindings;
mod breaker;
mod cache;
mod engine;
mod figures;
mod filter;
mod host;
mod inspect;
mod instance;
mod limits;
mod packed;
mod patch;
mod plugin;
mod settings;
mod trial;
mod typed;
mod wasi;

use std::path::PathBuf;
use std::sync::Arc;

use bytestring::ByteString;
use schemars::Schema;

use super::Kind;
use crate::config::{ConfigError, Section};
use crate::core::delivery::Reason;
use crate::core::filter::{Filter, FilterFactory};
use crate::runtime::metrics::PluginFigures;

pub use inspect::{Granted, Import, Inspection, inspect};
pub use settings::{Body, OnFault, Settings};
pub use trial::Trial;

/// The kind `wasm`.
#[derive(Debug)]
pub struct Wasm;

impl Kind for Wasm {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn schema(&self) -> Schema {
        schemars::schema_for!(Settings)
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let settings = settings::read(section)?;
        let plugin = plugin::shared(&settings.path, settings.digest.as_deref());
        Ok(Arc::new(Factory { plugin, settings: Arc::new(settings) }))
    }
}

/// Figures of the plugins in use, by the name of their file.
pub fn figures() -> Vec<PluginFigures> {
    plugin::figures()
}

/// A plugin with the settings of one step.
#[derive(Debug)]
struct Factory {
    plugin: Arc<plugin::Plugin>,
    settings: Arc<settings::Checked>,
}

impl FilterFactory for Factory {
    fn name(&self) -> ByteString {
        format!("wasm {}", self.plugin.name).into()
    }

    fn has_outputs(&self) -> bool {
        true
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.settings.path.clone()]
    }

    fn prepare(&self) -> Result<(), Reason> {
        self.plugin.refresh(&self.settings).map_err(Reason::from)
    }

    fn build(&self) -> Result<Box<dyn Filter>, Reason> {
        self.step(filter::Step::new)
    }

    fn build_apart(&self) -> Result<Box<dyn Filter>, Reason> {
        self.step(filter::Step::apart)
    }
}

impl Factory {
    fn step(
        &self,
        begin: fn(Arc<plugin::Plugin>, Arc<settings::Checked>) -> Result<filter::Step, String>,
    ) -> Result<Box<dyn Filter>, Reason> {
        if self.plugin.current().is_none() {
            self.prepare()?;
        }
        let named = |reason| Reason::from(format!("plugin {} {reason}", self.plugin.name));
        let step = begin(Arc::clone(&self.plugin), Arc::clone(&self.settings)).map_err(named)?;
        Ok(Box::new(step))
    }
}
