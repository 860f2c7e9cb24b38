//! `tap`: what a route takes and refuses while it does, and what its filters drop.

use std::sync::Arc;

use bytestring::ByteString;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::App;
use crate::core::Record;
use crate::core::consumer::Overflow;
use crate::core::drops::{Dropped, Seen};
use crate::core::route::RouteSpec;
use crate::core::selector::Selector;
use crate::core::stats::RouteStats;
use crate::core::subscription::{Message, Start, Subscription};
use crate::schema::cloudevents::json as json_format;

/// Records that may wait for a tap's reader, and as many that filters dropped.
const WAITING: usize = 1024;

/// A view of one route, by its name, so that it outlives a reload.
pub(super) struct Tap {
    app: App,
    route: ByteString,
    subscription: Subscription,
    /// Whose drops are watched: a route that was away has others.
    stats: Arc<RouteStats>,
    drops: Receiver<Seen>,
}

impl Tap {
    /// `None` where there is no such route.
    pub(super) fn new(app: App, route: ByteString) -> Option<Self> {
        let (_, stats) = app.route(&route)?;
        let bus = &app.0.bus;
        let subscription =
            bus.subscribe(Selector::default(), Start::Now, WAITING, Overflow::DropOldest).ok()?;
        let drops = stats.drops.watch(WAITING);
        Some(Self { app, route, subscription, stats, drops })
    }

    /// What is seen next; `None` when the bus has ended it. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Vec<Value>> {
        tokio::select! {
            // What a filter drops was taken before.
            biased;
            message = self.subscription.next() => Some(self.taken(&message?)),
            Some(seen) = self.drops.recv() => Some(vec![match seen {
                Seen::Dropped(dropped) => filtered(&dropped),
                Seen::Lost(n) => json!({"lost": n}),
            }]),
        }
    }

    /// Each event the route looks at, and what it decides.
    fn taken(&mut self, message: &Message) -> Vec<Value> {
        let records = match message {
            Message::Batch(records) => records,
            Message::Lost(n) => return vec![json!({"lost": n})],
            _ => return Vec::new(),
        };
        let Some((spec, stats)) = self.app.route(&self.route) else {
            return vec![json!({"removed": &*self.route})];
        };
        if !Arc::ptr_eq(&stats, &self.stats) {
            self.drops = stats.drops.watch(WAITING);
            self.stats = stats;
        }
        records.iter().filter_map(|record| decided(&spec, record)).collect()
    }
}

impl App {
    fn route(&self, name: &ByteString) -> Option<(Arc<RouteSpec>, Arc<RouteStats>)> {
        let routes = self.0.router.routes();
        routes.into_iter().find(|(have, ..)| have == name).map(|(_, spec, stats)| (spec, stats))
    }
}

/// What a route decides of a record before its filters see it; `None` where it does not even look at it.
fn decided(spec: &RouteSpec, record: &Record) -> Option<Value> {
    // Filters may take their time, which a tap of every event has not; what they drop is told when they do.
    let explanation = spec.explain_unfiltered(&record.envelope, &record.ingress);
    if explanation.refused.as_ref().is_some_and(|refused| refused.starts_with("from:")) {
        return None;
    }
    let to = explanation.sinks.iter().map(|sink| match &sink.address {
        Some(address) => format!("{} {address}", sink.connector),
        None => sink.connector.to_string(),
    });
    Some(shown(record, explanation.refused, to.collect()))
}

fn filtered(dropped: &Dropped) -> Value {
    let why = dropped.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let refused = format!("filter {} drops it{why}", dropped.filter);
    shown(&dropped.record, Some(refused), Vec::new())
}

fn shown(record: &Record, refused: Option<String>, to: Vec<String>) -> Value {
    let event = json_format::encode(&record.envelope);
    json!({
        "seq": record.seq.to_string(),
        "topic": record.envelope.topic.as_str(),
        "connector": &*record.ingress,
        "takes": refused.is_none(),
        "refused": refused,
        "to": to,
        "event": serde_json::from_slice::<Value>(&event).unwrap_or(Value::Null),
    })
}
