//! A connector in this process, for protocols whose client is a transport's: publish to a broker, listen to one.
//!
//! It is the connector a configuration would name, under the same supervisor. What is published is handed to it
//! as a delivery, so the one answer is the broker's own; what it takes in goes to a bus that is only read here.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::Failure;
use crate::config::{ConfigError, Section};
use crate::core::delivery::{Answers, Deliveries, Mailbox, Target};
use crate::core::stats::ConnectorStats;
use crate::core::{Bus, BusOptions, Delivery, Envelope, Outcome, Seq};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervisor::{State, Supervisor};
use crate::runtime::tls;
use crate::transport::{Link, Ready, Transport};

/// How often a connection that is being made is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A server to reach by a transport's client.
#[derive(Clone)]
pub(super) struct Remote {
    /// The transport whose scheme the URL has.
    pub(super) transport: &'static dyn Transport,
    /// Its URL, as it may be shown.
    pub(super) url: String,
    /// What stands below `client:`.
    pub(super) settings: Map<String, Value>,
    /// The key space it brings; default one of its own.
    pub(super) scope: Option<String>,
}

/// A running connector.
pub(super) struct Peer {
    supervisor: Supervisor,
    mailbox: Arc<Mailbox>,
    bus: Bus,
    name: ByteString,
    url: String,
    transport: &'static dyn Transport,
    client: Section,
}

impl Remote {
    /// Starts its connector.
    ///
    /// # Errors
    /// Settings that are wrong: exit code 64.
    pub(super) fn start(mut self) -> Result<Peer, Failure> {
        tls::install_provider();
        let name = format!("cli-{:08x}", fastrand::u32(..));
        if self.transport.name() == "mqtt" {
            // Its own session, gone when we are: never that of a running bus.
            for (setting, value) in [
                ("client_id", Value::from(format!("meshbus-{name}"))),
                ("clean_start", Value::from(true)),
                ("session_expiry", Value::from("0s")),
            ] {
                self.settings.entry(setting).or_insert(value);
            }
        }
        let client = section(&Value::Object(self.settings))?;
        let connector = self.transport.client(&name, &client).map_err(|error| wrong_setting(&error))?;
        let (mailbox, supervisor) = (Arc::new(Mailbox::default()), Supervisor::new());
        let name = ByteString::from(name);
        // No bus that runs has this name: its loop guard would take what we send for its own.
        let bus = Bus::new(BusOptions { name: name.clone(), ..BusOptions::default() });
        let link = Link {
            name: name.clone(),
            bus: bus.ingress(name.clone(), self.scope.map_or_else(|| name.clone(), Into::into)),
            deliveries: Deliveries(Arc::clone(&mailbox)),
            writes: bus.own(name.clone(), name.clone(), false),
            kinds: Arc::default(),
            ready: Ready::new(),
            shutdown: Shutdown::new(),
            stats: Arc::new(ConnectorStats::default()),
        };
        supervisor.start(name.clone(), connector, link);
        Ok(Peer { supervisor, mailbox, bus, name, url: self.url, transport: self.transport, client })
    }
}

impl Peer {
    /// What it takes in.
    pub(super) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Its name: also that of its dead letters, and of the key space it brings.
    pub(super) fn name(&self) -> &ByteString {
        &self.name
    }

    /// Waits until it is connected.
    ///
    /// # Errors
    /// Exit code 69 at its first failure, and when `limit` is over; 1 when the server refuses us.
    pub(super) async fn ready(&self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.supervisor.status().into_iter().find(|status| status.name == self.name);
            let Some(status) = status else { return Err(Failure::failed("the connector ended")) };
            let reason = status.last_error.or(status.not_ready);
            match (status.state, reason) {
                (State::Ready, _) => return Ok(()),
                (State::Denied, reason) => return Err(Failure::failed(self.because(reason))),
                (State::Waiting, reason) => return Err(Failure::unreachable(self.because(reason))),
                (_, reason) if Instant::now() >= deadline => {
                    let reason = reason.unwrap_or_else(|| "connecting".to_owned());
                    return Err(Failure::unreachable(
                        self.because(Some(format!("{reason}, for {limit:?}"))),
                    ));
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    fn because(&self, reason: Option<String>) -> String {
        let reason = reason.unwrap_or_else(|| "no connection".to_owned());
        if reason.contains(&self.url) { reason } else { format!("{}: {reason}", self.url) }
    }

    /// A place to send to; `settings` is what stands in a route's `to:` entry.
    ///
    /// # Errors
    /// Settings that are wrong: exit code 64.
    pub(super) fn target(&self, settings: Map<String, Value>) -> Result<Target, Failure> {
        let section = section(&Value::Object(settings))?;
        self.transport.target(&self.client, &section).map_err(|error| wrong_setting(&error))
    }

    /// Sends events in order and waits for the answer to each, at most `limit` for all.
    pub(super) async fn deliver(
        &self,
        target: &Target,
        events: Vec<Envelope>,
        limit: Duration,
    ) -> Vec<Outcome> {
        let deadline = Instant::now() + limit;
        let answers = Arc::new(Answered::new(events.len()));
        let mut deliveries = Vec::with_capacity(events.len());
        for (at, event) in events.into_iter().enumerate() {
            let address = target.address.as_ref().map(|address| address.render(&event, "")).transpose();
            match address {
                Ok(address) => {
                    let (options, to) = (Arc::clone(&target.options), Arc::clone(&answers));
                    let mut delivery = Delivery::new(
                        Arc::new(event),
                        Seq(at as u64),
                        "cli".into(),
                        options,
                        to,
                        at as u64,
                    );
                    delivery.address = address;
                    deliveries.push(delivery);
                }
                Err(reason) => answers.answer(at as u64, Outcome::Rejected(reason)),
            }
        }
        self.mailbox.send(deliveries);
        answers.all(deadline, limit).await
    }

    /// Says goodbye.
    pub(super) async fn stop(self) {
        self.mailbox.close();
        self.supervisor.stop_all(GOODBYE).await;
    }
}

/// The answers to a batch, by place.
struct Answered {
    answers: Mutex<Vec<Option<Outcome>>>,
    arrived: Notify,
}

impl Answered {
    fn new(n: usize) -> Self {
        Self { answers: Mutex::new(vec![None; n]), arrived: Notify::new() }
    }

    async fn all(&self, deadline: Instant, limit: Duration) -> Vec<Outcome> {
        loop {
            let arrived = self.arrived.notified();
            if self.answers.lock().iter().all(Option::is_some) {
                break;
            }
            if timeout_at(deadline, arrived).await.is_err() {
                break;
            }
        }
        let late = || Outcome::Undelivered(format!("no answer in {limit:?}").into());
        self.answers.lock().iter_mut().map(|answer| answer.take().unwrap_or_else(late)).collect()
    }
}

impl Answers for Answered {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        if let Some(slot) = self.answers.lock().get_mut(ticket as usize) {
            *slot = Some(outcome);
        }
        self.arrived.notify_one();
    }
}

/// Settings as a part of a configuration, for a transport to read.
pub(super) fn section(settings: &Value) -> Result<Section, Failure> {
    let text = settings.to_string().replace("${", "$${");
    Section::from_yaml("command line", &text).map_err(|error| wrong_setting(&error))
}

/// Without the place in a file that there is not.
pub(super) fn wrong_setting(error: &ConfigError) -> Failure {
    let colon = if error.path.is_empty() { "" } else { ": " };
    let hint = error.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    Failure::usage(format!("{}{colon}{}{hint}", error.path, error.reason))
}
