//! The receiver's sink: a transport that shows what is delivered and answers as the rule at hand wants it to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use meshbus::config::{ConfigError, Section};
use meshbus::core::delivery::{Assurance, Delivery, Guarantee, Outcome, Target};
use meshbus::core::{Envelope, Error};
use meshbus::transport::{Connector, Link, Transport, TransportSchema};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How the sink answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answering {
    /// Takes everything.
    Take,
    /// Keeps everything unanswered until [`Probe::release`].
    Hold,
    /// Asks for each; what is not delivered does not count as arrived.
    Judge(fn(&Delivery) -> Outcome),
}

/// What one receiver was delivered. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Probe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    answering: Answering,
    arrived: Vec<Arc<Envelope>>,
    held: Vec<Delivery>,
}

impl Probe {
    pub(crate) fn new(answering: Answering) -> Self {
        let state = State { answering, arrived: Vec::new(), held: Vec::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// What was delivered, in order; with repetitions.
    pub(crate) fn arrived(&self) -> Vec<Arc<Envelope>> {
        self.0.state.lock().arrived.clone()
    }

    /// How many wait for an answer.
    pub(crate) fn held(&self) -> usize {
        self.0.state.lock().held.len()
    }

    /// Takes what is held and what comes from now on.
    pub(crate) fn release(&self) {
        let mut state = self.0.state.lock();
        state.answering = Answering::Take;
        let held = std::mem::take(&mut state.held);
        state.arrived.extend(held.iter().map(|delivery| Arc::clone(&delivery.envelope)));
        // The answers take locks of the route: not under ours.
        drop(state);
        for delivery in held {
            delivery.answer(Outcome::Delivered);
        }
        self.0.changed.notify_waiters();
    }

    /// Waits until `enough` says so of what arrived and of how many are held.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Arc<Envelope>], usize) -> bool,
    ) {
        let waiting = async {
            loop {
                let changed = self.0.changed.notified();
                {
                    let state = self.0.state.lock();
                    if enough(&state.arrived, state.held.len()) {
                        return;
                    }
                }
                changed.await;
            }
        };
        if timeout(limit, waiting).await.is_err() {
            let state = self.0.state.lock();
            let (arrived, held) = (state.arrived.len(), state.held.len());
            panic!("not within {limit:?}: {what}; {arrived} have arrived, {held} are held");
        }
    }

    fn take(&self, delivery: Delivery) {
        let mut state = self.0.state.lock();
        let outcome = match state.answering {
            Answering::Take => Outcome::Delivered,
            Answering::Hold => {
                state.held.push(delivery);
                drop(state);
                return self.0.changed.notify_waiters();
            }
            Answering::Judge(judge) => judge(&delivery),
        };
        if outcome == Outcome::Delivered {
            state.arrived.push(Arc::clone(&delivery.envelope));
        }
        drop(state);
        delivery.answer(outcome);
        self.0.changed.notify_waiters();
    }
}

impl Transport for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    fn schema(&self) -> TransportSchema {
        let any = || Some(schemars::json_schema!({"type": "object"}));
        TransportSchema { client: any(), server: None, target: any() }
    }

    fn client(&self, _name: &str, _section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(self.clone()))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Err(section.error("", "probe has no server role"))
    }

    fn target(&self, _connector: &Section, _section: &Section) -> Result<Target, ConfigError> {
        let because = "this test".into();
        let guarantee = Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because };
        Ok(Target { address: None, pipelined: false, guarantee, options: Arc::new(()) })
    }
}

impl Connector for Probe {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            link.ready.up();
            let mut inbox = Vec::new();
            while link.deliveries.recv(&mut inbox, 64).await > 0 {
                for delivery in inbox.drain(..) {
                    self.take(delivery);
                }
            }
            Ok(())
        })
    }

    fn ingress(&self) -> Guarantee {
        let because = "a probe takes nothing in".into();
        Guarantee { assurance: Assurance::AtMostOnce, identity: false, because }
    }
}
