//! A plugin run without a bus: one step, asked by hand, that tells what it used.

use std::fmt;
use std::sync::Arc;

use super::filter::Step;
use super::{plugin, settings};
use crate::config::Section;
use crate::core::filter::{Filter, Input, Verdict};

/// A step of no route.
pub struct Trial {
    step: Step,
    plugin: Arc<plugin::Plugin>,
    memory: usize,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("plugin", &self.plugin.name).finish_non_exhaustive()
    }
}

impl Trial {
    /// Loads and begins the plugin with the settings of a `wasm:` filter. May block.
    ///
    /// # Errors
    /// What is wrong with the settings or the plugin.
    pub fn start(section: &Section) -> Result<Self, String> {
        let settings = Arc::new(settings::read(section).map_err(|error| error.to_string())?);
        let plugin = plugin::shared(&settings.path, settings.digest.as_deref());
        plugin.refresh(&settings)?;
        let step = Step::new(Arc::clone(&plugin), settings)?;
        let memory = step.memory().unwrap_or_default();
        Ok(Self { step, plugin, memory })
    }

    /// The verdict on one event. May block.
    ///
    /// # Errors
    /// The plugin failed: it trapped, ran too long, or gave no sound answer.
    pub fn ask(&mut self, input: &Input<'_>) -> Result<Verdict, String> {
        let faults = self.plugin.figures.faults.get();
        let verdict = self.step.process(std::slice::from_ref(input)).pop();
        self.memory = self.memory.max(self.step.memory().unwrap_or_default());
        match verdict {
            Some(Verdict::Reject(reason)) if self.plugin.figures.faults.get() > faults => {
                Err(reason.to_string())
            }
            Some(verdict) => Ok(verdict),
            None => Err("the plugin gave no verdict".to_owned()),
        }
    }

    /// Most bytes of memory an instance had after a call.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.plugin.figures.calls.get()
    }
}
