//! Explaining: what a route would do with an envelope, and which clause says no.

use std::sync::Arc;

use bytestring::ByteString;
use tokio::time::Instant;

use super::chain::{Call, Chain, Entry, Fate, Piece, Root, State};
use super::{RouteSpec, Sink};
use crate::core::delivery::{Guarantee, Reason};
use crate::core::envelope::{Envelope, Seq};
use crate::core::selector::PredicateError;
use crate::core::view::View;

/// Pauses after which a filter that still asks for one is not asked again.
const PAUSES_MAX: usize = 100;

/// What one route would do with an envelope.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The route's name.
    pub route: ByteString,
    /// The clause that says no; `None` when the route takes it.
    pub refused: Option<String>,
    /// What its filters do with it, in order, as far as it comes.
    pub filters: Vec<FilterExplanation>,
    /// Where it would go, or what the filters make of it.
    pub sinks: Vec<SinkExplanation>,
    /// What the bus looks at in each event that reaches the route, in this order; empty where it takes all.
    pub conditions: Vec<String>,
}

/// What one filter of a route does with an envelope, or with what those before made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterExplanation {
    /// The filter.
    pub name: ByteString,
    /// What it does, as the end of a sentence that begins with its name: `drops it`.
    pub does: String,
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
    pub(super) fn wants(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        for predicate in &self.predicates {
            if !predicate.matches(event)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What this route would do with an envelope that came in by `ingress`.
    ///
    /// Its filters are built anew for it, so that nothing is changed by asking; on this thread, which should be one
    /// that may block.
    pub fn explain(&self, envelope: &Envelope, ingress: &str) -> Explanation {
        let mut explanation = self.explain_unfiltered(envelope, ingress);
        if explanation.refused.is_some() || self.filters.is_empty() {
            return explanation;
        }
        let (filters, pieces) = self.explain_filters(envelope);
        explanation.filters = filters;
        explanation.sinks = Vec::new();
        for piece in &pieces {
            if let State::Done(Fate::Sent(output)) = &piece.state {
                explanation.sinks.extend(self.explain_sinks(&piece.envelope, ingress, output.as_ref()));
            }
        }
        if explanation.sinks.is_empty() {
            let last = explanation.filters.last();
            let by = |last: &FilterExplanation| format!("filter {} {}", last.name, last.does);
            explanation.refused = Some(last.map(by).unwrap_or_default());
        }
        explanation
    }

    /// As [`explain`](Self::explain) for a route that had no filters.
    pub fn explain_unfiltered(&self, envelope: &Envelope, ingress: &str) -> Explanation {
        let refused = self
            .refused_from(envelope, ingress)
            .or_else(|| self.predicates.iter().find_map(|predicate| predicate.refusal(envelope)));
        let sinks =
            if refused.is_some() { Vec::new() } else { self.explain_sinks(envelope, ingress, None) };
        let conditions = self.predicates.iter().map(|predicate| predicate.text()).collect();
        Explanation { route: self.name.clone(), refused, filters: Vec::new(), sinks, conditions }
    }

    /// Takes an envelope through fresh filters; a pause is over at once.
    fn explain_filters(&self, envelope: &Envelope) -> (Vec<FilterExplanation>, Vec<Piece>) {
        let chain = Arc::new(Chain::apart(&self.filters));
        let mut now = Instant::now();
        let entry = Entry { task: 0, seq: Seq(0), since: now, max_attempts: self.retry.max_attempts };
        let root = Root::new(entry, 0, Arc::clone(&chain));
        let mut pieces = vec![Piece::new(Arc::new(root), Arc::new(envelope.clone()))];
        let mut filters = Vec::new();
        for at in 0..chain.len() {
            if !pieces.iter().any(|piece| piece.at() == at && !piece.is_done()) {
                break;
            }
            let (before, mut does) = (pieces.clone(), String::new());
            for pause in 0..=PAUSES_MAX {
                pieces = chain.step(at, pieces, Call { route: &self.name, now });
                let Some(due) = pieces.iter().filter_map(Piece::due).max() else { break };
                if pause == 0 {
                    does = format!("holds it for {:?}, then ", due.saturating_duration_since(now));
                }
                now = due;
                pieces.iter_mut().for_each(Piece::resume);
            }
            does.push_str(&what_it_did(at, &before, &pieces));
            filters.push(FilterExplanation { name: chain.name(at), does });
        }
        (filters, chain.run(pieces, Call { route: &self.name, now }))
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

    fn explain_sinks(
        &self,
        envelope: &Envelope,
        ingress: &str,
        output: Option<&ByteString>,
    ) -> Vec<SinkExplanation> {
        self.to
            .iter()
            .filter(|to| to.output.as_ref() == output)
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
                    Sink::Bus { .. } | Sink::State { .. } => None,
                };
                SinkExplanation {
                    connector: connector.unwrap_or_else(|| to.sink.word()),
                    address: rendered.ok().flatten(),
                    refused,
                    guarantee,
                }
            })
            .collect()
    }
}

/// What the filter of index `at` made of those that came to it.
fn what_it_did(at: usize, before: &[Piece], after: &[Piece]) -> String {
    let came = before.iter().filter(|piece| piece.at() == at && !piece.is_done()).count();
    let rejected = after.iter().find_map(|piece| match &piece.state {
        State::Done(Fate::Rejected(reason, _)) if piece.at() == at => Some(reason),
        _ => None,
    });
    if let Some(reason) = rejected {
        return format!("rejects it: {reason}");
    }
    let why = |piece: &Piece| match &piece.state {
        State::Done(Fate::Dropped(by, why)) if *by == at => Some(why.clone()),
        _ => None,
    };
    let dropped: Vec<Option<Reason>> = after.iter().filter_map(why).collect();
    let went_on = came + after.len() - before.len() - dropped.len();
    let same = |piece: &Piece| before.iter().any(|before| Arc::ptr_eq(&before.envelope, &piece.envelope));
    match went_on {
        0 if after.iter().any(|piece| piece.due().is_some()) => "still holds it".to_owned(),
        0 => match dropped.into_iter().flatten().next() {
            Some(why) => format!("drops it: {why}"),
            None => "drops it".to_owned(),
        },
        n if n > came => {
            format!("makes {n} of {}", if came == 1 { "it".to_owned() } else { came.to_string() })
        }
        _ if after.iter().all(same) => "passes it".to_owned(),
        _ => "changes it".to_owned(),
    }
}
