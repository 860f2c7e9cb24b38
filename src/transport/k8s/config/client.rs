//! Settings of the client role.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigError, Section};

/// `connectors: {NAME: {k8s: {client: …}}}`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// The kubeconfig file; default `$KUBECONFIG`, else `~/.kube/config`, else the cluster this runs in.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The context in it; default its current one.
    pub context: Option<String>,
}

impl ClientConfig {
    /// Reads and checks a client's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<Self, ConfigError> {
        section.parse()
    }
}
