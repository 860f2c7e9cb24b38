//! Taking up a configuration: build all, then swap only what changed, cursors and queues kept.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytestring::ByteString;
use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::{info, warn};

use super::derive::Deriver;
use super::{App, Running, Shared, settle};
use crate::config::settings::{Permission, WhenFull};
use crate::config::{
    Config, ConfigError, ConnectorConfig, Destination, Fingerprint, RouteConfig, Sink as SinkConfig,
};
use crate::core::access::{Access, Action, Rule};
use crate::core::consumer::Source;
use crate::core::delivery::{Deliveries, Mailbox};
use crate::core::route::{self, Retry, RouteSpec, Sink, To, Worker};
use crate::core::selector::{Predicate, TopicFilter};
use crate::core::stats::ConnectorStats;
use crate::runtime::task;
use crate::schema::address;
use crate::transport::{Connector, Link, Ready};

/// How long the routes of a worker that panicked stand still: what did it may come again at once.
const RESTORE_AFTER: Duration = Duration::from_secs(1);

/// A connector that is new or changed, built and not started.
pub(super) struct Fresh {
    pub(super) name: ByteString,
    connector: Box<dyn Connector>,
    pub(super) running: Running,
    scope: ByteString,
}

impl App {
    /// Takes up `config`, the first or a changed one. Only one call at a time.
    ///
    /// # Errors
    /// A connector that cannot be built or a secret that cannot be read; nothing is changed then.
    pub(super) async fn apply(&self, config: Arc<Config>) -> Result<(), ConfigError> {
        let access = access(&config)?;
        let fresh = self.build_changed(&config)?;
        let first = self.0.version.load(Ordering::Relaxed) == 0;
        if let Some(telemetry) = &self.0.telemetry
            && let Err(reason) = telemetry.set_level(&config.logging.level)
        {
            warn!(reason, "logging level not taken up");
        }
        self.0.bus.set_access(access);
        self.0.kinds.set_descriptors(config.descriptors.clone());
        let (connectors, old) = (fresh.len(), self.0.config.load_full());
        let ready = join_all(fresh.into_iter().map(|one| self.make_way(one, &config))).await;
        let routes = self.set_routes(&config, &old, first);
        // Only now: what came in before its routes are there would be wanted by none, and be acknowledged.
        for (connector, link) in ready {
            self.0.supervisor.start(link.name.clone(), connector, link);
        }
        self.remove_connectors(&config).await;
        self.0.supervisor.retry_denied();
        self.0.config.store(Arc::clone(&config));
        let version = self.0.version.fetch_add(1, Ordering::Relaxed) + 1;
        if !first {
            info!(version, connectors, routes, "configuration taken up");
        }
        Ok(())
    }

    /// Builds the connectors whose settings are new or changed. Builds first, so that an error changes nothing.
    pub(super) fn build_changed(&self, config: &Config) -> Result<Vec<Fresh>, ConfigError> {
        let mut fresh = Vec::new();
        for wanted in &config.connectors {
            let name = ByteString::from(wanted.name.clone());
            let fingerprint = config.fingerprint_connector(&wanted.name);
            let Some((mailbox, stats)) = self.changed(&name, fingerprint) else { continue };
            let connector = wanted.build(self.0.transports)?;
            let running = Running {
                transport: wanted.transport,
                fingerprint,
                mailbox,
                ingress: connector.ingress(),
                stats,
                announcement: connector.announce(),
                is_server: wanted.is_server(),
                derives: false,
            };
            fresh.push(Fresh { name, connector, running, scope: wanted.scope() });
        }
        fresh.extend(self.build_derivers(config));
        Ok(fresh)
    }

    /// Derivations run as connectors do.
    fn build_derivers(&self, config: &Config) -> Vec<Fresh> {
        let built = config.derive.iter().filter_map(|wanted| {
            let name = ByteString::from(wanted.name.clone());
            let fingerprint = config.fingerprint_derived(&wanted.name);
            let (mailbox, stats) = self.changed(&name, fingerprint)?;
            let connector: Box<dyn Connector> = Box::new(Deriver(Arc::clone(&wanted.derivation)));
            let running = Running {
                transport: wanted.derivation.kind(),
                fingerprint,
                mailbox,
                ingress: connector.ingress(),
                stats,
                announcement: None,
                is_server: false,
                derives: true,
            };
            Some(Fresh { scope: name.clone(), name, connector, running })
        });
        built.collect()
    }

    /// What a connector of this name goes on with; `None` where it runs with these settings already.
    fn changed(
        &self,
        name: &str,
        fingerprint: Option<Fingerprint>,
    ) -> Option<(Arc<Mailbox>, Arc<ConnectorStats>)> {
        match self.0.connectors.lock().get(name) {
            Some(running) if running.fingerprint == fingerprint => None,
            Some(running) => Some((Arc::clone(&running.mailbox), Arc::clone(&running.stats))),
            None => Some((Arc::new(Mailbox::default()), Arc::new(ConnectorStats::default()))),
        }
    }

    /// Ends the connector of the same name, where there is one, and gives what its successor runs with. What
    /// waits in its mailbox stays.
    async fn make_way(&self, fresh: Fresh, config: &Config) -> (Box<dyn Connector>, Link) {
        let Fresh { name, connector, running, scope } = fresh;
        // Asked to stop first: a mailbox that ends on its own looks like a failure to the supervisor.
        let stop = self.0.supervisor.stop(&name, config.shutdown.grace.0);
        let _stopped = tokio::join!(stop, async { running.mailbox.pause() });
        running.mailbox.resume();
        let writes = self.0.bus.own(scope.clone(), name.clone(), connector.writes());
        let link = Link {
            name: name.clone(),
            bus: self.0.bus.ingress(name.clone(), scope),
            deliveries: Deliveries(Arc::clone(&running.mailbox)),
            writes,
            kinds: Arc::clone(&self.0.kinds),
            ready: Ready::new(),
            shutdown: self.0.shutdown.child(),
            stats: Arc::clone(&running.stats),
        };
        settle::with(&self.0.bus, link.bus.scope().clone(), link.ready.synced());
        self.0.connectors.lock().insert(name, running);
        (connector, link)
    }

    /// Settles the bus's own key space when it is time.
    pub(super) fn settle_local(&self, config: &Config) {
        let scopes = config.connectors.iter().map(ConnectorConfig::scope).collect();
        settle::local(&self.0.bus, scopes, config.state.settle.0, self.0.shutdown.clone());
    }

    /// Ends the connectors the configuration no longer names.
    async fn remove_connectors(&self, config: &Config) {
        let gone: Vec<(ByteString, Running)> = {
            let mut connectors = self.0.connectors.lock();
            let named = |name: &str| {
                config.connectors.iter().any(|wanted| wanted.name == name)
                    || config.derive.iter().any(|wanted| wanted.name == name)
            };
            let gone: Vec<ByteString> = connectors.keys().filter(|name| !named(name)).cloned().collect();
            gone.into_iter().filter_map(|name| connectors.remove_entry(&name)).collect()
        };
        for (name, Running { mailbox, derives, .. }) in gone {
            let stop = self.0.supervisor.stop(&name, config.shutdown.grace.0);
            drop(tokio::join!(stop, async { mailbox.close() }));
            mailbox.abandon();
            if derives {
                self.0.bus.withdraw(&name).await;
            }
        }
    }

    /// Adds, changes and removes routes; gives the number of those that were.
    fn set_routes(&self, config: &Config, old: &Config, first: bool) -> usize {
        let mut changed = 0;
        for wanted in &config.routes {
            let same_connectors = sinks(wanted).all(|sink| match &sink.place {
                Destination::Connector { name, .. } => {
                    old.fingerprint_connector(name) == config.fingerprint_connector(name)
                }
                Destination::Bus(_) | Destination::State(_) => true,
            });
            let same = config.fingerprint_route(&wanted.name) == old.fingerprint_route(&wanted.name);
            if !first && same && same_connectors {
                continue;
            }
            changed += 1;
            let spec = self.route_spec(wanted);
            if let Some(worker) = self.0.router.set(spec) {
                run(Arc::downgrade(&self.0), worker);
            }
        }
        for (name, ..) in self.0.router.routes() {
            if !config.routes.iter().any(|wanted| wanted.name == *name) {
                changed += 1;
                self.0.router.remove(&name);
            }
        }
        changed
    }

    pub(super) fn route_spec(&self, route: &RouteConfig) -> RouteSpec {
        let source = |source: &crate::config::Source| Source {
            connector: source.connector.clone().map(ByteString::from),
            topic: source.topic.clone(),
        };
        let predicate =
            |dialect: &crate::core::selector::Dialect| -> Arc<dyn Predicate> { Arc::new(dialect.clone()) };
        let to = |sink: &SinkConfig| To {
            output: sink.output.clone().map(ByteString::from),
            sink: self.sink(&sink.place),
        };
        RouteSpec {
            name: route.name.clone().into(),
            from: route.from.iter().map(source).collect(),
            predicates: route.dialects.iter().map(predicate).collect(),
            filters: route.filters.iter().map(|filter| filter.spec.clone()).collect(),
            to: route.to.iter().map(to).collect(),
            retry: Retry {
                max_attempts: route.retry.max_attempts,
                initial: route.retry.backoff.initial.0,
                max: route.retry.backoff.max.0,
            },
            dead_letter: self.sink(&route.dead_letter.place),
            when_full: match route.when_full {
                WhenFull::Block => route::WhenFull::Block,
                WhenFull::DeadLetter => route::WhenFull::DeadLetter,
                WhenFull::DropOldest => route::WhenFull::DropOldest,
            },
            in_flight: route.in_flight,
        }
    }

    fn sink(&self, place: &Destination) -> Sink {
        match place {
            Destination::Bus(topic) => Sink::Bus { topic: topic.clone() },
            Destination::State(topic) => Sink::State { topic: topic.clone(), key_at: address::key_at },
            Destination::Connector { name, target } => {
                let name = ByteString::from(name.clone());
                // The configuration was checked: every named connector is in it, and started before its routes.
                let running =
                    self.0.connectors.lock().get(&name).map(|running| Arc::clone(&running.mailbox));
                Sink::Connector { name, mailbox: running.unwrap_or_default(), target: target.clone() }
            }
        }
    }
}

/// All sinks of a route, its dead letter too.
fn sinks(route: &RouteConfig) -> impl Iterator<Item = &SinkConfig> {
    route.to.iter().chain(std::iter::once(&route.dead_letter))
}

/// The rules of `access:`, their tokens read.
fn access(config: &Config) -> Result<Access, ConfigError> {
    let action = |permission: &Permission| match permission {
        Permission::Publish => Action::Publish,
        Permission::Subscribe => Action::Subscribe,
        Permission::Read => Action::Read,
        Permission::Write => Action::Write,
        Permission::Admin => Action::Admin,
    };
    let rules = config.access.iter().map(|rule| {
        let wrong =
            |reason: String| ConfigError::in_file("access", format!("{}: {reason}", rule.principal));
        let token = rule.token.as_ref().map(|token| token.read().map_err(wrong)).transpose()?;
        let topic = |text: &String| TopicFilter::parse(text).map_err(|error| wrong(error.to_string()));
        Ok(Rule {
            principal: rule.principal.clone().into(),
            token: token.map(ByteString::from),
            allow: rule.allow.iter().map(action).collect(),
            topics: rule.topics.iter().map(topic).collect::<Result<_, _>>()?,
        })
    });
    rules.collect::<Result<_, _>>().map(Access::new)
}

/// Runs a worker, and its routes at others should it panic: a defect must not end what has nothing to do with it.
fn run(app: Weak<Shared>, worker: Worker) {
    let handle = task::spawn("routes", worker.run());
    drop(task::spawn("routes, if they panic", async move {
        if handle.await.is_ok() {
            return;
        }
        sleep(RESTORE_AFTER).await;
        if let Some(shared) = app.upgrade() {
            warn!("the routes of a task that panicked go on");
            for worker in shared.router.restore() {
                run(Arc::downgrade(&shared), worker);
            }
        }
    }));
}
