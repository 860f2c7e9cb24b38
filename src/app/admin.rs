//! What the admin and health ports show of the application.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};

use super::tap::Tap;
use super::{App, Shared};
use crate::core::bus;
use crate::core::stats::RouteStats;
use crate::runtime::admin::Admin;
use crate::runtime::health::{Health, Readiness};
use crate::runtime::metrics::{ConfigFigures, ConnectorFigures, Snapshot};
use crate::runtime::supervisor::State;
use crate::runtime::task;

/// The application as the admin and health ports see it.
pub(super) struct Face(pub(super) App);

/// The application as the metrics see it; weak, because it holds them.
pub(super) struct Figures(pub(super) Weak<Shared>);

impl App {
    fn connector_states(&self) -> Value {
        let connectors = self.0.connectors.lock();
        let states = self.0.supervisor.status().into_iter().map(|status| {
            let running = connectors.get(&status.name);
            json!({
                "name": &*status.name,
                "transport": running.map(|running| running.transport),
                "state": status.state.as_str(),
                "since_seconds": status.since.elapsed().as_secs(),
                "not_ready": status.not_ready,
                "last_error": status.last_error,
                "restarts": status.restarts,
                "waiting": running.map(|running| running.mailbox.len()),
                "address": running.and_then(|running| running.announcement.as_ref()).map(|a| &a.address),
            })
        });
        states.collect()
    }

    fn route_states(&self) -> Value {
        let routes = self.0.router.routes().into_iter().map(|(name, spec, stats)| {
            json!({
                "name": &*name,
                "from": spec.from.iter().map(|source| json!({
                    "connector": source.connector.as_deref(),
                    "topic": source.topic.as_ref().map(ToString::to_string),
                })).collect::<Vec<_>>(),
                "where": spec.predicates.iter().map(|predicate| predicate.text()).collect::<Vec<_>>(),
                "to": spec.to.iter().map(|to| to.sink.text()).collect::<Vec<_>>(),
                "dead_letter": spec.dead_letter.text(),
                "in_flight_max": spec.in_flight,
                "stats": route_stats(&stats),
            })
        });
        routes.collect()
    }

    fn readiness(&self) -> Readiness {
        let not_ready = if self.0.shutdown.is_draining() {
            Some("draining".to_owned())
        } else if self.0.started.load(Ordering::Acquire) {
            None
        } else {
            Some("starting".to_owned())
        };
        Readiness::new(not_ready, self.0.supervisor.status())
    }

    fn render_metrics(&self) -> String {
        self.0.metrics.get().map(crate::runtime::metrics::Metrics::render).unwrap_or_default()
    }
}

fn route_stats(stats: &RouteStats) -> Value {
    json!({
        "taken": stats.taken.get(),
        "delivered": stats.delivered.get(),
        "filtered": stats.filtered.get(),
        "by_filter": stats.by_filter.get(),
        "looped": stats.looped.get(),
        "errored": stats.errored.get(),
        "dropped": stats.dropped.get(),
        "retried": stats.retried.get(),
        "dead": stats.dead.get(),
        "in_flight": stats.in_flight.get(),
        "waiting": stats.waiting.get(),
    })
}

impl Admin for Face {
    fn metrics(&self) -> String {
        self.0.render_metrics()
    }

    fn config(&self) -> String {
        self.0.config().print_redacted()
    }

    fn connectors(&self) -> Value {
        self.0.connector_states()
    }

    fn routes(&self) -> Value {
        self.0.route_states()
    }

    fn explain(&self, event: Bytes) -> BoxFuture<'_, Result<Value, String>> {
        let app = self.0.clone();
        // Filters may take their time.
        Box::pin(task::blocking(move || app.explain(&event)))
    }

    fn tap(&self, route: &str) -> Option<BoxStream<'static, Value>> {
        let tap = Tap::new(self.0.clone(), ByteString::from(route))?;
        let seen = stream::unfold(tap, |mut tap| async move {
            let values = tap.next().await?;
            Some((stream::iter(values), tap))
        });
        Some(seen.flatten().boxed())
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            self.0
                .reload()
                .await
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })
    }
}

impl Health for Face {
    fn metrics(&self) -> String {
        self.0.render_metrics()
    }

    fn readiness(&self) -> Readiness {
        self.0.readiness()
    }
}

impl Snapshot for Figures {
    fn routes(&self) -> Vec<(ByteString, Arc<RouteStats>)> {
        let Some(app) = self.0.upgrade() else { return Vec::new() };
        app.router.routes().into_iter().map(|(name, _, stats)| (name, stats)).collect()
    }

    fn connectors(&self) -> Vec<ConnectorFigures> {
        let Some(app) = self.0.upgrade() else { return Vec::new() };
        let status = app.supervisor.status();
        let connectors = app.connectors.lock();
        let figures = connectors.iter().map(|(name, running)| {
            let status = status.iter().find(|status| status.name == *name);
            ConnectorFigures {
                name: name.clone(),
                transport: running.transport,
                stats: Arc::clone(&running.stats),
                ready: status.is_some_and(|status| status.state == State::Ready),
                restarts: status.map_or(0, |status| status.restarts),
            }
        });
        figures.collect()
    }

    fn bus(&self) -> bus::Figures {
        self.0.upgrade().map(|app| app.bus.figures()).unwrap_or_default()
    }

    fn config(&self) -> ConfigFigures {
        let Some(app) = self.0.upgrade() else { return ConfigFigures::default() };
        ConfigFigures {
            version: app.version.load(Ordering::Relaxed),
            rejected: app.rejected.load(Ordering::Relaxed),
        }
    }

    #[cfg(feature = "wasm")]
    fn plugins(&self) -> Vec<crate::runtime::metrics::PluginFigures> {
        crate::filter::wasm::figures()
    }
}
