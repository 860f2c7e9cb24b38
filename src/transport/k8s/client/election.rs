//! Leadership by a [Lease](https://kubernetes.io/docs/concepts/architecture/leases/): of several buses, one watches.
//!
//! Every change of the Lease names the version it was made from, so of two that reach for it at once one is refused.
//! Whether another's Lease has run out is told by our own clock, from when we last saw it change: clocks need not
//! agree. The holder stops by itself at `renew_deadline`, before anybody else may take over at `lease_duration`.

use bytes::Bytes;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::super::config::ElectionConfig;
use super::api::{Api, Failure, segment};
use super::writes::text;

/// How often a renewal is tried that another write came before.
const TRIES: usize = 3;

/// Whether this bus may watch now.
#[derive(Debug)]
pub(super) struct Lead {
    now: watch::Sender<bool>,
    /// Until when at most; `None` while it does not lead.
    until: Mutex<Option<Instant>>,
    /// Who holds the Lease in its place; empty while nobody is known to.
    holder: Mutex<String>,
    /// Whether there is an election at all.
    contested: bool,
}

impl Lead {
    /// Leads where nobody else may.
    pub(super) fn new(contested: bool) -> Self {
        Self {
            now: watch::Sender::new(!contested),
            until: Mutex::new(None),
            holder: Mutex::default(),
            contested,
        }
    }

    /// Whether it leads at this very moment, also if nobody has noticed yet that it does not.
    pub(super) fn holds(&self) -> bool {
        !self.contested || self.until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Who leads in its place, in words.
    pub(super) fn leader(&self) -> String {
        match self.holder.lock().as_str() {
            "" => "nobody that is known yet".to_owned(),
            holder => format!("{holder:?}"),
        }
    }

    /// Waits until it leads, or does not.
    pub(super) async fn becomes(&self, leads: bool) {
        // The sender is our own: it is never gone.
        drop(self.now.subscribe().wait_for(|now| *now == leads).await);
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock() = until;
        self.now.send_if_modified(|now| std::mem::replace(now, until.is_some()) != until.is_some());
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Election<'a> {
    config: &'a ElectionConfig,
    api: &'a Api,
    identity: &'a str,
    manager: &'a str,
    lead: &'a Lead,
    /// Whom we saw holding it, by which renewal, and since when it is so.
    seen: Option<(String, Instant)>,
    renewed: Option<Instant>,
}

/// What the Lease says.
struct Held {
    lease: Value,
    holder: String,
    /// Seconds that it holds without being renewed.
    duration: u64,
    /// Who renewed it, and when by their clock: compared only.
    renewal: String,
}

impl<'a> Election<'a> {
    pub(super) fn new(
        config: &'a ElectionConfig,
        api: &'a Api,
        identity: &'a str,
        manager: &'a str,
        lead: &'a Lead,
    ) -> Self {
        Self { config, api, identity, manager, lead, seen: None, renewed: None }
    }

    /// Takes the Lease whenever it can be had, and keeps it; never ends.
    pub(super) async fn run(&mut self) {
        let (retry, deadline) = (self.config.retry_period.0, self.config.renew_deadline.0);
        loop {
            let began = Instant::now();
            // Whoever leads has only until its deadline to find out whether it still does.
            let left = self
                .renewed
                .map_or(deadline, |renewed| (renewed + deadline) - began.min(renewed + deadline));
            match timeout(left, self.try_once()).await {
                Ok(Ok(true)) => {
                    if self.renewed.is_none() {
                        info!(lease = self.config.name, identity = self.identity, "leads");
                    }
                    self.renewed = Some(began);
                    self.lead.set(Some(began + deadline));
                }
                Ok(Ok(false)) => self.lose("another one holds the Lease"),
                Ok(Err(failure)) => {
                    warn!(lease = self.config.name, error = %failure, "the Lease could not be read or renewed");
                }
                Err(_) => {}
            }
            if self.renewed.is_some_and(|renewed| renewed.elapsed() >= deadline) {
                self.lose("the Lease could not be renewed in time");
            }
            let jitter = retry.mul_f64(fastrand::f64() / 5.0);
            let next = match self.renewed {
                Some(renewed) => retry.min((renewed + deadline).saturating_duration_since(Instant::now())),
                None => retry + jitter,
            };
            sleep(next).await;
        }
    }

    /// Lets another one have it at once: for the end of a drain, when all is kept.
    pub(super) async fn release(&mut self) {
        if self.renewed.take().is_none() {
            return;
        }
        self.lead.set(None);
        let released = async {
            let held = self.read().await?;
            match held {
                Some(held) if held.holder == self.identity => self.write(held, false).await.map(drop),
                _ => Ok(()),
            }
        };
        match timeout(self.config.renew_deadline.0, released).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                warn!(lease = self.config.name, error = %failure, "the Lease was not released");
            }
            Err(_) => warn!(lease = self.config.name, "the Lease was not released in time"),
        }
    }

    fn lose(&mut self, why: &str) {
        if self.renewed.take().is_some() {
            warn!(lease = self.config.name, why, "leads no more");
        }
        self.lead.set(None);
    }

    /// Whether we hold it now.
    async fn try_once(&mut self) -> Result<bool, Failure> {
        for _ in 0..TRIES {
            if self.look().await? {
                return Ok(true);
            }
            // Ours, and written by another hand meanwhile: our renewal is still to be written.
            let held = self.read().await?;
            if held.is_none_or(|held| held.holder != self.identity) {
                return Ok(false);
            }
        }
        Err(Failure::Broken("it is written by others all the time".to_owned()))
    }

    async fn look(&mut self) -> Result<bool, Failure> {
        let Some(held) = self.read().await? else { return self.create().await };
        let ours = held.holder == self.identity;
        held.holder.clone_into(&mut self.lead.holder.lock());
        if !ours && !held.holder.is_empty() {
            let since = match &self.seen {
                Some((renewal, since)) if *renewal == held.renewal => *since,
                _ => Instant::now(),
            };
            self.seen = Some((held.renewal.clone(), since));
            if since.elapsed().as_secs() < held.duration.max(1) {
                return Ok(false);
            }
        }
        self.write(held, true).await
    }

    async fn read(&self) -> Result<Option<Held>, Failure> {
        let body = match self.api.object(&self.path()).await {
            Ok(body) => body,
            Err(failure) if failure.code() == Some(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let lease: Value =
            serde_json::from_slice(&body).map_err(|error| Failure::Broken(error.to_string()))?;
        let duration = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64);
        Ok(Some(Held {
            holder: text(&lease, "/spec/holderIdentity").unwrap_or_default().to_owned(),
            duration: duration.unwrap_or(self.config.lease_duration.0.as_secs()),
            renewal: format!(
                "{} {}",
                text(&lease, "/spec/holderIdentity").unwrap_or_default(),
                text(&lease, "/spec/renewTime").unwrap_or_default()
            ),
            lease,
        }))
    }

    async fn create(&self) -> Result<bool, Failure> {
        let now = now();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.config.name, "namespace": self.config.namespace},
            "spec": {"holderIdentity": self.identity, "leaseDurationSeconds": self.seconds(),
                "acquireTime": now, "renewTime": now, "leaseTransitions": 0},
        });
        self.send(Method::POST, &self.collection(), &lease).await
    }

    /// Takes, renews or releases it, if it is still as it was read.
    async fn write(&self, mut held: Held, hold: bool) -> Result<bool, Failure> {
        let now = now();
        let spec = held.lease.as_object_mut().map(|lease| lease.entry("spec").or_insert_with(|| json!({})));
        let Some(spec) = spec.and_then(Value::as_object_mut) else {
            return Err(Failure::Broken("the Lease has no spec that can be written".to_owned()));
        };
        let transitions = spec.get("leaseTransitions").and_then(Value::as_u64).unwrap_or(0);
        if hold && held.holder != self.identity {
            spec.insert("acquireTime".to_owned(), now.as_str().into());
            spec.insert("leaseTransitions".to_owned(), (transitions + 1).into());
        }
        spec.insert("renewTime".to_owned(), now.into());
        let (holder, seconds) = if hold { (self.identity, self.seconds()) } else { ("", 1) };
        spec.insert("holderIdentity".to_owned(), holder.into());
        spec.insert("leaseDurationSeconds".to_owned(), seconds.into());
        self.send(Method::PUT, &self.path(), &held.lease).await
    }

    async fn send(&self, method: Method, path: &str, lease: &Value) -> Result<bool, Failure> {
        let body = Bytes::from(lease.to_string());
        let path = format!("{path}?fieldManager={}", segment(self.manager));
        match self.api.write(method, &path, "application/json", body).await {
            Ok(_) => Ok(true),
            // Another one was faster: a bus, or our own cursor in the same Lease.
            Err(failure) if failure.code() == Some(StatusCode::CONFLICT) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn collection(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", segment(&self.config.namespace))
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), segment(&self.config.name))
    }

    fn seconds(&self) -> u64 {
        self.config.lease_duration.0.as_secs().max(1)
    }
}

/// Who this bus is, unless it is told.
pub(super) fn identity(config: &ElectionConfig) -> String {
    config.identity.clone().unwrap_or_else(|| {
        let host = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        let host = host.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
        let host = host.unwrap_or_default();
        format!("{}_{:08x}", host.trim(), fastrand::u32(..))
    })
}

/// The current instant, to the microsecond, as a Lease has it.
fn now() -> String {
    let now = jiff::Timestamp::now();
    let now = jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    format!("{now:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b8_who_was_not_renewed_in_time_leads_no_more_though_nobody_has_noticed() {
        let lead = Lead::new(true);
        assert!(!lead.holds());
        lead.set(Some(Instant::now() + std::time::Duration::from_secs(10)));
        lead.becomes(true).await;
        assert!(lead.holds());
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        assert!(!lead.holds());
        assert!(Lead::new(false).holds());
    }

    #[test]
    fn instants_are_to_the_microsecond() {
        assert_eq!(now().len(), "2026-01-01T00:00:00.000000Z".len());
    }
}
