//! What `explain` says, as its readers have it: from this process or from a bus's admin address.

use serde::Deserialize;
use serde_json::Value;

/// One event and what every route does with it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Explained {
    pub(super) event: Event,
    pub(super) topic: String,
    /// The connector it came in by.
    pub(super) connector: Option<String>,
    pub(super) redelivery: Option<Redelivery>,
    pub(super) routes: Vec<Route>,
}

/// Which event.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) source: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// What a repetition is.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Redelivery {
    /// Whether it has the same source and id.
    pub(super) identity: bool,
    pub(super) because: String,
}

/// What one route does.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Route {
    #[serde(rename = "route")]
    pub(super) name: String,
    /// The clause that says no.
    pub(super) refused: Option<String>,
    /// What its filters do with it.
    #[serde(default)]
    pub(super) filters: Vec<Filter>,
    pub(super) sinks: Vec<Sink>,
    pub(super) weakest: Option<Weakest>,
    /// Who decides which part of what it wants; empty where it has no conditions.
    #[serde(default)]
    pub(super) decided: Vec<Decided>,
}

/// One part of what a route wants.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Decided {
    pub(super) part: String,
    pub(super) by: String,
}

/// One entry of `filters:`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Filter {
    pub(super) name: String,
    /// The end of a sentence that begins with its name.
    pub(super) does: String,
}

/// One `to:` entry.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sink {
    /// Its connector, or `bus`.
    pub(super) connector: String,
    pub(super) address: Option<String>,
    /// Why it gets nothing.
    pub(super) refused: Option<String>,
    /// None for the bus.
    pub(super) guarantee: Option<Guarantee>,
}

/// How sure a hop is, and why.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Guarantee {
    pub(super) assurance: String,
    pub(super) because: String,
}

/// The least sure hop.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Weakest {
    /// `in`, or a connector.
    pub(super) hop: String,
    #[serde(flatten)]
    pub(super) guarantee: Guarantee,
}

impl Explained {
    /// From what the application or the admin address gives.
    pub(super) fn read(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| format!("no explanation: {error}"))
    }

    /// Whether any route takes it.
    pub(super) fn is_taken(&self) -> bool {
        self.routes.iter().any(|route| route.refused.is_none())
    }
}
