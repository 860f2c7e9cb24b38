//! Records Events about objects: what is said again is counted in the Event that said it first.
//!
//! The same is what has the same object, reason, type, action and note. Of one object only so many are recorded, and
//! only so many are remembered. An Event whose time to live has ended is made anew.

use bytes::Bytes;
use bytestring::ByteString;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

use super::super::config::EventOptions;
use super::api::{Api, Failure, segment};
use super::buckets::Buckets;
use super::discovery::Resource;
use crate::core::delivery::{Delivery, Reason};
use crate::core::{Envelope, Outcome};

/// Most Events remembered.
const EVENTS_MAX: usize = 4096;
/// After so long without a repeat an Event is not counted on.
const FRESH: Duration = Duration::from_mins(10);
/// Most bytes of a note and of a word, as the API has it.
const NOTE_MAX: usize = 1024;
const WORD_MAX: usize = 128;
/// Most bytes of a name before the digits that end it.
const NAME_MAX: usize = 230;
/// Digits that tell Events of one object apart.
const DIGITS: usize = 16;

/// The object an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct About {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

impl About {
    pub(super) fn new(resource: &Resource, namespace: &str, name: &str, envelope: &Envelope) -> Self {
        let uid = serde_json::from_slice::<Value>(&envelope.data).ok();
        let same = uid.as_ref().filter(|object| {
            super::writes::text(object, "/metadata/name") == Some(name)
                && super::writes::text(object, "/kind") == Some(resource.definition.kind.as_str())
        });
        let uid = same.and_then(|object| super::writes::text(object, "/metadata/uid"));
        Self {
            api_version: resource.definition.api_version(),
            kind: resource.definition.kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.unwrap_or_default().to_owned(),
        }
    }
}

/// What is said about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Said {
    about: About,
    reason: ByteString,
    kind: ByteString,
    action: ByteString,
    note: ByteString,
}

#[derive(Clone, Debug)]
struct Recorded {
    path: String,
    count: u32,
    last: Instant,
    /// What was counted last, so that a repetition of the delivery is not counted again.
    id: ByteString,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Recorder {
    manager: String,
    recorded: Mutex<HashMap<Said, Recorded, RandomState>>,
    buckets: Mutex<Buckets<About>>,
}

impl Recorder {
    pub(super) fn new(manager: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            recorded: Mutex::default(),
            buckets: Mutex::new(Buckets::new()),
        }
    }

    /// Records an Event, or counts one.
    ///
    /// # Errors
    /// What the server says, or why nothing can be said.
    pub(super) async fn record(
        &self,
        api: &Api,
        event: &EventOptions,
        about: About,
        delivery: &Delivery,
    ) -> Result<Outcome, Result<Failure, Reason>> {
        let said = said(event, about, delivery).map_err(Err)?;
        if delivery.attempt == 1 && self.buckets.lock().take(&said.about, event.rate, || ()).is_err() {
            return Ok(Outcome::Filtered);
        }
        let known = self.recorded.lock().get(&said).cloned();
        if let Some(known) = known.filter(|known| known.last.elapsed() < FRESH) {
            if known.id == delivery.envelope.id {
                return Ok(Outcome::Delivered);
            }
            if self.count(api, &said, known, delivery).await.map_err(Ok)? {
                return Ok(Outcome::Delivered);
            }
        }
        self.create(api, said, delivery).await.map_err(Ok)?;
        Ok(Outcome::Delivered)
    }

    /// Counts one more; `false` where the Event is gone.
    async fn count(
        &self,
        api: &Api,
        said: &Said,
        known: Recorded,
        delivery: &Delivery,
    ) -> Result<bool, Failure> {
        let count = known.count.saturating_add(1);
        let patch = json!({"count": count, "lastTimestamp": now()});
        let path = format!("{}?fieldManager={}", known.path, segment(&self.manager));
        let media_type = "application/merge-patch+json";
        match api.write(Method::PATCH, &path, media_type, Bytes::from(patch.to_string())).await {
            Ok(_) => {
                let id = delivery.envelope.id.clone();
                self.remember(said.clone(), Recorded { count, last: Instant::now(), id, ..known });
                Ok(true)
            }
            Err(failure) if failure.code() == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn create(&self, api: &Api, said: Said, delivery: &Delivery) -> Result<(), Failure> {
        let namespace = match said.about.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        let name = name(&said, &delivery.envelope);
        let now = now();
        let About { api_version, kind, namespace: of, name: object, uid } = &said.about;
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject":
                {"apiVersion": api_version, "kind": kind, "namespace": of, "name": object, "uid": uid},
            "reason": &*said.reason, "message": &*said.note, "type": &*said.kind, "action": &*said.action,
            "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": self.manager},
            "reportingComponent": self.manager, "reportingInstance": self.manager,
        });
        let collection = format!("/api/v1/namespaces/{}/events", segment(namespace));
        let path = format!("{collection}?fieldManager={}", segment(&self.manager));
        let body = Bytes::from(event.to_string());
        match api.write(Method::POST, &path, "application/json", body).await {
            Ok(_) => {}
            // Its name is made of the delivery's identity: an earlier try, whose answer was lost, has made it.
            Err(failure) if failure.code() == Some(StatusCode::CONFLICT) => {}
            Err(failure) => return Err(failure),
        }
        let path = format!("{collection}/{}", segment(&name));
        let id = delivery.envelope.id.clone();
        self.remember(said, Recorded { path, count: 1, last: Instant::now(), id });
        Ok(())
    }

    fn remember(&self, said: Said, recorded: Recorded) {
        let mut all = self.recorded.lock();
        if all.len() >= EVENTS_MAX && !all.contains_key(&said) {
            all.retain(|_, recorded| recorded.last.elapsed() < FRESH);
        }
        if all.len() >= EVENTS_MAX
            && !all.contains_key(&said)
            && let Some(oldest) = all.iter().min_by_key(|(_, it)| it.last).map(|(said, _)| said.clone())
        {
            all.remove(&oldest);
        }
        all.insert(said, recorded);
    }
}

fn said(event: &EventOptions, about: About, delivery: &Delivery) -> Result<Said, Reason> {
    let render = |template: &crate::core::template::Template, max: usize| {
        let text = template.render(&delivery.envelope, &delivery.route)?;
        Ok::<_, Reason>(shortened(&text, max))
    };
    let kind = render(&event.kind, WORD_MAX)?;
    if !matches!(&*kind, "Normal" | "Warning") {
        return Err(format!("{:?} is no type of an Event: Normal or Warning", &*kind).into());
    }
    let action = event.action.as_ref().map(|action| render(action, WORD_MAX)).transpose()?;
    Ok(Said {
        about,
        reason: render(&event.reason, WORD_MAX)?,
        kind,
        action: action.unwrap_or_default(),
        note: render(&event.note, NOTE_MAX)?,
    })
}

/// The text, cut to so many bytes.
fn shortened(text: &str, max: usize) -> ByteString {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.split_at_checked(end).map_or(text, |(start, _)| start).into()
}

/// The name of the Event that a delivery makes: the same whenever it is tried again.
fn name(said: &Said, envelope: &Envelope) -> String {
    let mut hash = Sha256::new();
    for part in [&*envelope.source, &*envelope.id, &*said.reason, &*said.note] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digits = data_encoding::HEXLOWER.encode(&hash.finalize());
    let digits: String = digits.chars().take(DIGITS).collect();
    let object = shortened(&said.about.name, NAME_MAX);
    format!("{}.{digits}", object.trim_end_matches(['.', '-']))
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
