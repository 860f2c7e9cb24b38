//! Settings of a route's `to:` entry into a cluster.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigError, Section};
use crate::core::delivery::{Assurance, Guarantee, Target};

/// A route's `to: [{connector: NAME, …}]` into a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// What is done with each event.
    pub operation: Operation,
}

/// What is done in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The data is an object that is created.
    Create,
}

impl TargetConfig {
    /// Reads where a route sends.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn target(section: &Section) -> Result<Target, ConfigError> {
        let config: Self = section.parse()?;
        Ok(Target {
            address: None,
            pipelined: false,
            guarantee: Guarantee {
                assurance: Assurance::AtLeastOnce,
                identity: true,
                because: "Kubernetes: written again until the API server answers".into(),
            },
            options: std::sync::Arc::new(config.operation),
        })
    }
}
