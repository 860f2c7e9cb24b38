//! Explaining: what a route would do with an envelope, and which clause says no.

use bytestring::ByteString;

use super::{RouteSpec, Sink};
use crate::core::delivery::Guarantee;
use crate::core::envelope::Envelope;
use crate::core::selector::PredicateError;

/// What one route would do with an envelope.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The route's name.
    pub route: ByteString,
    /// The clause that says no; `None` when the route takes it.
    pub refused: Option<String>,
    /// Where it would go.
    pub sinks: Vec<SinkExplanation>,
}

/// Where a route would send an envelope.
#[derive(Clone, Debug)]
pub struct SinkExplanation {
    /// The connector, or `bus`.
    pub connector: ByteString,
    /// The rendered address; `None` where the sink has a fixed one.
    pub address: Option<ByteString>,
    /// Why it would not go there: a loop, or a field the address needs.
    pub refused: Option<String>,
    /// How sure it is; `None` for the bus itself.
    pub guarantee: Option<Guarantee>,
}

impl RouteSpec {
    /// Whether every predicate holds.
    pub(super) fn wants(&self, envelope: &Envelope) -> Result<bool, PredicateError> {
        for predicate in &self.predicates {
            if !predicate.matches(envelope)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What this route would do with an envelope that came in by `ingress`.
    pub fn explain(&self, envelope: &Envelope, ingress: &str) -> Explanation {
        let refused = self
            .refused_from(envelope, ingress)
            .or_else(|| self.predicates.iter().find_map(|predicate| predicate.refusal(envelope)));
        let sinks = if refused.is_some() { Vec::new() } else { self.explain_sinks(envelope, ingress) };
        Explanation { route: self.name.clone(), refused, sinks }
    }

    fn refused_from(&self, envelope: &Envelope, ingress: &str) -> Option<String> {
        let own = matches!(envelope.topic.levels().next(), Some("bus" | "dead"));
        let takes = |source: &crate::core::consumer::Source| {
            source.connector.as_ref().is_none_or(|connector| **connector == *ingress)
                && source.topic.as_ref().map_or(!own, |filter| filter.matches(&envelope.topic))
        };
        let sources = self.sources();
        if sources.iter().any(takes) {
            return None;
        }
        let describe = |source: &crate::core::consumer::Source| match (&source.connector, &source.topic) {
            (Some(connector), Some(topic)) => format!("connector {connector} topic {topic}"),
            (Some(connector), None) => format!("connector {connector}"),
            (None, Some(topic)) => format!("topic {topic}"),
            (None, None) => "all but bus/# and dead/#".to_owned(),
        };
        let wanted: Vec<String> = sources.iter().map(describe).collect();
        let from = if ingress.is_empty() { "no connector" } else { ingress };
        Some(format!("from: wants {}; this is topic {} from {from}", wanted.join(", or "), envelope.topic))
    }

    fn explain_sinks(&self, envelope: &Envelope, ingress: &str) -> Vec<SinkExplanation> {
        self.to
            .iter()
            .filter(|to| to.output.is_none())
            .map(|to| {
                let rendered = to.sink.render(envelope, &self.name);
                let connector = to.sink.connector().cloned();
                let looped = connector.as_ref().is_some_and(|connector| **connector == *ingress);
                let refused = match &rendered {
                    _ if looped => Some("it came in by this connector".to_owned()),
                    Err(reason) => Some(reason.to_string()),
                    Ok(_) => None,
                };
                let guarantee = match &to.sink {
                    Sink::Connector { target, .. } => Some(target.guarantee.clone()),
                    Sink::Bus { .. } => None,
                };
                SinkExplanation {
                    connector: connector.unwrap_or_else(|| ByteString::from_static("bus")),
                    address: rendered.ok().flatten(),
                    refused,
                    guarantee,
                }
            })
            .collect()
    }
}
