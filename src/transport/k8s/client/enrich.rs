//! Labels and annotations of the objects that Events are about, from a watch of their metadata: no Event asks the
//! server for anything.

use bytestring::ByteString;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Duration, Instant, sleep, timeout_at};
use tracing::debug;

use super::super::codec::received::{line, page, position};
use super::super::config::{ClientConfig, EnrichConfig};
use super::api::{Api, Failure, PAGE_MAX, segment};
use super::discovery::Kinds;
use super::watch::Lines;
use super::writes::text;
use crate::core::Extensions;
use crate::core::error::causes;
use crate::runtime::backoff::Backoff;

/// Objects remembered, unless it is told.
const OBJECTS: usize = 20_000;
/// Longest value that becomes an attribute.
const VALUE_MAX: usize = 4096;
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,\
                        application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// What is added of one object.
type Attributes = Vec<(ByteString, ByteString)>;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Enrich<'a> {
    config: &'a EnrichConfig,
    /// By uid, with when each was asked for last: the one that was not for longest goes first.
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    all: HashMap<String, (Attributes, u64), RandomState>,
    asked: u64,
}

impl<'a> Enrich<'a> {
    pub(super) fn new(config: &'a EnrichConfig) -> Self {
        Self { config, objects: Mutex::default() }
    }

    /// Adds what is known of an object to an Event about it.
    pub(super) fn add(&self, uid: &str, extensions: &mut Extensions) {
        let objects = &mut *self.objects.lock();
        objects.asked += 1;
        if let Some((attributes, asked)) = objects.all.get_mut(uid) {
            *asked = objects.asked;
            for (name, value) in attributes.iter() {
                extensions.set(name.clone(), value.clone());
            }
        }
    }

    /// Follows the objects of one type; never ends.
    pub(super) async fn follow(&self, client: &ClientConfig, api: &Api, kinds: &Kinds, type_url: &str) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            let began = Instant::now();
            if let Some(resource) = kinds.get(type_url) {
                let ended = self.once(client, api, &resource.path("")).await;
                debug!(type_url, ?ended, "metadata is listed again");
            } else {
                kinds.miss();
            }
            if began.elapsed() > Duration::from_mins(1) {
                backoff.reset();
            }
            sleep(backoff.next_wait()).await;
        }
    }

    /// A list, then watches after it until one fails.
    async fn once(&self, client: &ClientConfig, api: &Api, path: &str) -> Result<(), Failure> {
        let mut next = String::new();
        let mut at = loop {
            let asked = format!("{path}?limit={}&continue={}", client.page_size, segment(&next));
            let body = api.get(&asked, METADATA, PAGE_MAX).await?;
            let broken = |error: String| Failure::Broken(error);
            let text = std::str::from_utf8(&body).map_err(|error| broken(error.to_string()))?;
            let page = page(text).map_err(|error| broken(error.to_string()))?;
            for object in page.items.iter().flatten() {
                self.take(object, false);
            }
            if page.metadata.next.is_empty() {
                break page.metadata.resource_version.into_owned();
            }
            next = page.metadata.next.into_owned();
        };
        loop {
            let seconds = client.watch_timeout.0.as_secs().max(1);
            let asked = format!(
                "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
                segment(&at)
            );
            let until = Instant::now() + client.watch_timeout.0 + client.timeout.0;
            let mut body = api.stream(&asked, METADATA).await?;
            let mut lines = Lines::new(client.max_object.bytes());
            let began = Instant::now();
            loop {
                let frame = timeout_at(until, body.frame()).await;
                let silent = |_| Failure::Broken("the stream is silent beyond its time".to_owned());
                let Some(frame) = frame.map_err(silent)? else { break };
                let frame = frame.map_err(|error| Failure::Broken(causes(&error)))?;
                lines.push(&frame.into_data().unwrap_or_default());
                while let Some(text) = lines.next() {
                    let line = std::str::from_utf8(&text).ok().and_then(|text| line(text).ok());
                    let Some(line) = line else { continue };
                    if line.kind == "ERROR" {
                        return Err(Failure::Broken(line.object.get().to_owned()));
                    }
                    if line.kind != "BOOKMARK" {
                        self.take(line.object, line.kind == "DELETED");
                    }
                    at = position(line.object).unwrap_or(at);
                }
            }
            if began.elapsed() < Duration::from_secs(1) {
                return Err(Failure::Broken("the stream ended at once".to_owned()));
            }
        }
    }

    fn take(&self, object: &RawValue, gone: bool) {
        let Ok(object) = serde_json::from_str::<Value>(object.get()) else { return };
        let Some(uid) = text(&object, "/metadata/uid") else { return };
        // Events about an object still come when it is gone: it stays until its place is needed.
        if gone {
            return;
        }
        let mut attributes = Attributes::new();
        let wanted = [("label", "/metadata/labels", &self.config.labels)];
        let wanted =
            wanted.into_iter().chain([("annotation", "/metadata/annotations", &self.config.annotations)]);
        for (prefix, place, names) in wanted {
            let Some(values) = object.pointer(place).and_then(Value::as_object) else { continue };
            for name in names {
                let value = values.get(name).and_then(Value::as_str);
                let fits = |value: &&str| {
                    !value.is_empty() && value.len() <= VALUE_MAX && !value.chars().any(char::is_control)
                };
                if let Some(value) = value.filter(fits) {
                    attributes.push((attribute(prefix, name).into(), value.into()));
                }
            }
        }
        self.remember(uid, attributes);
    }

    fn remember(&self, uid: &str, attributes: Attributes) {
        let most = self.config.max_objects.unwrap_or(OBJECTS).max(1);
        let objects = &mut *self.objects.lock();
        if objects.all.len() >= most && !objects.all.contains_key(uid) {
            // A tenth at a time, so that this look costs little for each.
            let mut asked: Vec<u64> = objects.all.values().map(|(_, asked)| *asked).collect();
            asked.sort_unstable();
            let limit = asked.get(asked.len() / 10).copied().unwrap_or(0);
            let mut left = objects.all.len() / 10 + 1;
            objects.all.retain(|_, (_, asked)| {
                let goes = *asked <= limit && left > 0;
                left -= usize::from(goes);
                !goes
            });
        }
        objects.asked += 1;
        let asked = objects.asked;
        objects.all.insert(uid.to_owned(), (attributes, asked));
    }
}

/// The attribute of a label or annotation: letters and digits only, in lower case.
pub(super) fn attribute(prefix: &str, name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
    prefix.chars().chain(letters).take(crate::core::envelope::ATTRIBUTE_NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn b6_an_event_gets_what_is_asked_for_of_its_object() {
        let config = EnrichConfig {
            labels: vec!["app.kubernetes.io/name".to_owned(), "none".to_owned()],
            annotations: vec!["team".to_owned()],
            ..EnrichConfig::default()
        };
        let enrich = Enrich::new(&config);
        let object = r#"{"metadata":{"uid":"u","labels":{"app.kubernetes.io/name":"shop","x":"y"},"annotations":{"team":"red"}}}"#;
        enrich.take(&raw(object), false);
        let mut extensions = Extensions::default();
        enrich.add("u", &mut extensions);
        enrich.add("other", &mut extensions);
        let all: Vec<String> =
            extensions.iter().map(|(name, value)| format!("{name}={}", value.to_text())).collect();
        assert_eq!(all, ["annotationteam=red", "labelappkubernetesioname=shop"]);
    }

    #[test]
    fn b6_what_is_remembered_is_bounded_and_what_is_asked_for_stays() {
        let config = EnrichConfig { max_objects: Some(100), ..EnrichConfig::default() };
        let enrich = Enrich::new(&config);
        for number in 0..1000 {
            enrich.remember(&format!("u{number}"), vec![("labela".into(), "b".into())]);
            let mut extensions = Extensions::default();
            enrich.add("u0", &mut extensions);
            assert_eq!(extensions.len(), 1, "after {number}");
            assert!(enrich.objects.lock().all.len() <= 100);
        }
    }
}
