//! Settings of a route's `to:` entry into a cluster.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::FrequencyConfig;
use crate::config::{ConfigError, Section};
use crate::core::delivery::{Assurance, Guarantee, Target};
use crate::core::template::{Spelling, Template};

/// A route's `to: [{connector: NAME, …}]` into a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// What is done with each event.
    pub operation: Operation,
    /// The type of the object, a template: `v1/ConfigMap`; default what the data or the event's key says.
    #[serde(rename = "type")]
    pub type_url: Option<String>,
    /// Its namespace, a template; default what the data or the event's key says.
    pub namespace: Option<String>,
    /// Its name, a template; default what the data or the event's key says.
    pub name: Option<String>,
    /// `apply` takes fields over that others own; default true.
    #[serde(default = "yes")]
    pub force: bool,
    /// What an `event` says.
    pub event: Option<EventConfig>,
}

/// What is done in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The data is an object that is created; one that is there already with the same content will do.
    Create,
    /// The data is an object that is applied on the server's side; where the event is a deletion, it is deleted.
    Apply,
    /// The data, or its `status`, is merged into the object's status.
    PatchStatus,
    /// The object is deleted; one that is not there will do.
    Delete,
    /// A Kubernetes Event about the object is recorded; repeats are counted in one.
    Event,
}

/// What an Event says; its object is that of the entry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventConfig {
    /// A word for why, a template: `Failed`.
    pub reason: String,
    /// The sentence, a template.
    pub note: String,
    /// `Normal` or `Warning`, a template; default `Normal`.
    #[serde(rename = "type", default = "normal")]
    pub kind: String,
    /// What was done, a template.
    pub action: Option<String>,
    /// How many Events about one object are recorded; default 25 at once and one more each 5m.
    #[serde(default = "default_rate")]
    pub rate: FrequencyConfig,
}

/// A `to:` entry, ready to be used.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// What is done.
    pub operation: Operation,
    /// The type, where it is told.
    pub type_url: Option<Template>,
    /// The namespace, where it is told.
    pub namespace: Option<Template>,
    /// The name, where it is told.
    pub name: Option<Template>,
    /// Whether `apply` takes fields over.
    pub force: bool,
    /// What an Event says.
    pub event: Option<EventOptions>,
}

/// What an Event says, ready to be used.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// Why.
    pub reason: Template,
    /// The sentence.
    pub note: Template,
    /// `Normal` or `Warning`.
    pub kind: Template,
    /// What was done.
    pub action: Option<Template>,
    /// How many are recorded of one object.
    pub rate: FrequencyConfig,
}

fn yes() -> bool {
    true
}

fn normal() -> String {
    "Normal".to_owned()
}

fn default_rate() -> FrequencyConfig {
    FrequencyConfig { burst: 25, per: crate::config::values::Duration::from_secs(300) }
}

impl TargetConfig {
    /// Reads where a route sends.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn target(section: &Section) -> Result<Target, ConfigError> {
        let config: Self = section.parse()?;
        let template = |path: &str, text: &str| {
            Template::parse(text, Spelling::Text).map_err(|reason| section.error(path, reason))
        };
        let maybe =
            |path: &str, text: &Option<String>| text.as_ref().map(|text| template(path, text)).transpose();
        let event = match (&config.event, config.operation) {
            (None, Operation::Event) => {
                let hint = "event: {reason: Failed, note: \"{data.message}\"}";
                return Err(section.error_with_hint("event", "says nothing", hint));
            }
            (Some(_), operation) if operation != Operation::Event => {
                return Err(section.error_with_hint(
                    "event",
                    "is only for operation: event",
                    "operation: event",
                ));
            }
            (Some(event), _) if event.rate.burst == 0 || event.rate.per.0.is_zero() => {
                let hint = "{burst: 25, per: 5m}";
                return Err(section.error_with_hint("event.rate", "lets nothing pass", hint));
            }
            (Some(event), _) => Some(EventOptions {
                reason: template("event.reason", &event.reason)?,
                note: template("event.note", &event.note)?,
                kind: template("event.type", &event.kind)?,
                action: maybe("event.action", &event.action)?,
                rate: event.rate,
            }),
            (None, _) => None,
        };
        let options = TargetOptions {
            operation: config.operation,
            type_url: maybe("type", &config.type_url)?,
            namespace: maybe("namespace", &config.namespace)?,
            name: maybe("name", &config.name)?,
            force: config.force,
            event,
        };
        Ok(Target {
            address: None,
            pipelined: false,
            guarantee: Guarantee {
                assurance: Assurance::AtLeastOnce,
                identity: true,
                because: "Kubernetes: written again until the API server answers".into(),
            },
            options: Arc::new(options),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, names, hints) in [
            ("{}", "operation", "missing"),
            ("operation: replace", "operation", "apply"),
            ("operation: event", "event", "reason"),
            ("{operation: create, event: {reason: a, note: b}}", "event", "operation: event"),
            ("{operation: create, name: '{data.'}", "name", ""),
            ("{operation: create, nam: a}", "nam", "name"),
            (
                "{operation: event, event: {reason: a, note: b, rate: {burst: 0, per: 1s}}}",
                "event.rate",
                "25",
            ),
        ] {
            let section = Section::from_yaml("f.yaml", text).unwrap();
            let error = TargetConfig::target(&section).unwrap_err().to_string();
            assert!(error.contains(names) && error.contains(hints), "{text}: {error}");
        }
        let good =
            "{operation: event, name: '{involvedname}', event: {reason: '{type}', note: '{data.m|none}'}}";
        TargetConfig::target(&Section::from_yaml("f.yaml", good).unwrap()).unwrap();
    }
}
