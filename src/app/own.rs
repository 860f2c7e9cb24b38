//! The bus's own things as state: its connectors and routes are keys that any protocol lists and watches, and what
//! goes wrong with them is an Event about them.
//!
//! Told at each change of the configuration; else connectors are looked at every [`LOOK`], and routes every so many
//! looks. What has changed is published, at most [`AT_ONCE`] keys at a time, so that ten thousand busy routes cost the
//! log little.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{App, Shared};
use crate::core::{Bus, Envelope, Key, Timestamp};
use crate::runtime::task;
use crate::schema::{address, own};

/// How often is looked for changes of connectors.
const LOOK: Duration = Duration::from_millis(500);
/// At which of these looks routes are looked at, too.
const ROUTES_AT: u32 = 10;
/// Most keys published at a look.
const AT_ONCE: usize = 256;

/// One key as it should be.
struct Wanted {
    key: Key,
    data: Value,
}

/// Starts telling; ends when the application is gone or shuts down.
pub(super) fn start(app: &App) {
    let (weak, shutdown) = (Arc::downgrade(&app.0), app.0.shutdown.clone());
    drop(task::spawn("own state", async move {
        for look in (0..ROUTES_AT).cycle() {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = shutdown.drain() => return,
            }
            let Some(app) = upgrade(&weak) else { return };
            app.tell_own(look + 1 == ROUTES_AT).await;
        }
    }));
}

fn upgrade(weak: &Weak<Shared>) -> Option<App> {
    weak.upgrade().map(App)
}

impl App {
    /// Publishes what has changed of connectors, and of routes where they are asked for, since it was last told.
    pub(super) async fn tell_own(&self, routes: bool) {
        let bus = &self.0.bus;
        let mut wanted = self.own_connectors();
        let mut batch: Vec<Envelope> = gone(bus, "Connector", &wanted);
        if routes {
            let of_routes = self.own_routes();
            batch.extend(gone(bus, "Route", &of_routes));
            wanted.extend(of_routes);
        }
        for one in wanted {
            if batch.len() >= AT_ONCE {
                break;
            }
            let before = bus.get(&one.key).map(|record| record.envelope.data.clone());
            if before.as_deref() == Some(one.data.to_string().as_bytes()) {
                continue;
            }
            let before =
                before.and_then(|before| serde_json::from_slice(&before).ok()).unwrap_or(Value::Null);
            batch.extend(self.event(&one, &before));
            batch.extend(put(one.key, &one.data));
        }
        if !batch.is_empty() {
            // Nobody waits for these: whoever wants them finds them in the table.
            drop(bus.publish(batch).await);
        }
    }

    fn own_connectors(&self) -> Vec<Wanted> {
        let connectors = self.0.connectors.lock();
        let status = self.0.supervisor.status().into_iter();
        let wanted = status.filter_map(|status| {
            let running = connectors.get(&status.name)?;
            let role = if running.is_server { "server" } else { "client" };
            let data = json!({
                "spec": {
                    "transport": running.transport,
                    "role": role,
                    "address": running.announcement.as_ref().map(|announcement| &announcement.address),
                },
                "status": {
                    "state": status.state.as_str(),
                    "ready": status.not_ready.is_none(),
                    "reason": status.not_ready,
                    "lastError": status.last_error,
                    "restarts": status.restarts,
                    "received": running.stats.received.get(),
                    "sent": running.stats.sent.get(),
                    "waiting": running.mailbox.len(),
                },
            });
            Some(Wanted { key: own::key("Connector", status.name.clone()), data })
        });
        wanted.collect()
    }

    fn own_routes(&self) -> Vec<Wanted> {
        let routes = self.0.router.routes().into_iter().map(|(name, spec, stats)| {
            let sources: Vec<String> = spec
                .from
                .iter()
                .map(|source| match (&source.connector, &source.topic) {
                    (Some(connector), Some(topic)) => format!("{connector}: {topic}"),
                    (Some(connector), None) => connector.to_string(),
                    (None, Some(topic)) => topic.to_string(),
                    (None, None) => "all".to_owned(),
                })
                .collect();
            let predicates: Vec<_> = spec.predicates.iter().map(|predicate| predicate.text()).collect();
            let sinks: Vec<_> = spec.to.iter().map(|to| to.sink.text()).collect();
            let data = json!({
                "spec": {
                    "from": sources,
                    "where": predicates,
                    "filters": spec.filters.len(),
                    "to": sinks,
                    "deadLetter": spec.dead_letter.text(),
                },
                "status": {
                    "taken": stats.taken.get(),
                    "delivered": stats.delivered.get(),
                    "filtered": stats.filtered.get() + stats.by_filter.get(),
                    "retried": stats.retried.get(),
                    "dead": stats.dead.get(),
                    "dropped": stats.dropped.get(),
                    "waiting": stats.waiting.get(),
                    "inFlight": stats.in_flight.get(),
                },
            });
            Wanted { key: own::key("Route", name), data }
        });
        routes.collect()
    }

    /// The Event about what went wrong since `before`, where something did.
    fn event(&self, now: &Wanted, before: &Value) -> Option<Envelope> {
        let count =
            |value: &Value, name: &str| value.pointer("/status").and_then(|it| it.get(name)?.as_u64());
        let text = |value: &Value, name: &str| {
            value.pointer("/status").and_then(|it| it.get(name)?.as_str().map(str::to_owned))
        };
        let (dead, died) = (count(&now.data, "dead"), count(before, "dead").unwrap_or(0));
        let error =
            text(&now.data, "lastError").filter(|error| Some(error) != text(before, "lastError").as_ref());
        let (reason, message) = match (dead, error) {
            (Some(dead), _) if dead > died => {
                ("DeadLettered", format!("{} events went to the dead letter, {dead} in all", dead - died))
            }
            (_, Some(error)) => ("Failed", error),
            _ => return None,
        };
        let key = own::event_key(&now.key, reason);
        let held = self.0.bus.get(&key).map(|record| record.envelope.data.clone());
        let warning = own::Warning { reason, message: &message };
        own::event(self.0.bus.name(), &now.key, warning, held.as_deref(), Timestamp::now())
    }
}

/// Deletions of what is no more.
fn gone(bus: &Bus, kind: &str, wanted: &[Wanted]) -> Vec<Envelope> {
    let named: hashbrown::HashSet<&Key> = wanted.iter().map(|one| &one.key).collect();
    let (snapshot, type_url) = (bus.snapshot(), own::key(kind, "").type_url);
    let keys = snapshot.range(Some(Key::LOCAL), Some(&type_url), None);
    let keys = keys.filter_map(|held| held.record().envelope.change.key().cloned());
    keys.filter(|key| !named.contains(key))
        .filter_map(|key| Some(own::delete(address::topic_of(&key).ok()?, key)))
        .collect()
}

/// `None` only for a name that no topic spells; such a thing is not shown.
fn put(key: Key, data: &Value) -> Option<Envelope> {
    Some(own::put(address::topic_of(&key).ok()?, key, data, Timestamp::now()))
}
