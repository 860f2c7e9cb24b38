//! What an Event is about, read from either of its forms: `core/v1` and `events.k8s.io/v1`.
//!
//! The same object is told in both, so where one form has a field under another name the first that is set counts.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::Timestamp;

/// What an Event says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventAttributes {
    /// `BackOff`
    pub reason: String,
    /// `Normal` or `Warning`
    pub kind: String,
    /// How often it happened so far, at least once.
    pub count: i32,
    /// When it happened last.
    pub time: Option<Timestamp>,
    /// What it is about.
    pub about: About,
}

/// The object an Event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct About {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Pod`
    pub kind: String,
    /// Its namespace; empty for what is cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, where it is told.
    pub uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form<'a> {
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    count: Option<i64>,
    #[serde(default)]
    deprecated_count: Option<i64>,
    #[serde(borrow, default)]
    series: Option<Series<'a>>,
    #[serde(borrow, default)]
    involved_object: Option<Reference<'a>>,
    #[serde(borrow, default)]
    regarding: Option<Reference<'a>>,
    #[serde(borrow, default)]
    last_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    deprecated_last_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    event_time: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series<'a> {
    #[serde(default)]
    count: Option<i64>,
    #[serde(borrow, default)]
    last_observed_time: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    #[serde(borrow, default)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uid: Option<Cow<'a, str>>,
}

impl EventAttributes {
    /// Reads an Event; `None` where its fields are of other types than an Event's.
    pub fn read(object: &RawValue) -> Option<Self> {
        let form: Form<'_> = serde_json::from_str(object.get()).ok()?;
        let series = form.series.as_ref();
        let count = series.and_then(|series| series.count).or(form.count).or(form.deprecated_count);
        let times = [
            series.and_then(|series| series.last_observed_time.clone()),
            form.last_timestamp,
            form.deprecated_last_timestamp,
            form.event_time,
        ];
        let time = times.into_iter().flatten().find_map(|time| Timestamp::parse(time.into_owned()).ok());
        let about = form.involved_object.or(form.regarding);
        Some(Self {
            reason: owned(form.reason),
            kind: owned(form.kind),
            count: i32::try_from(count.unwrap_or(1).max(1)).unwrap_or(i32::MAX),
            time,
            about: about.map(About::from).unwrap_or_default(),
        })
    }
}

impl From<Reference<'_>> for About {
    fn from(reference: Reference<'_>) -> Self {
        Self {
            api_version: owned(reference.api_version),
            kind: owned(reference.kind),
            namespace: owned(reference.namespace),
            name: owned(reference.name),
            uid: owned(reference.uid),
        }
    }
}

fn owned(text: Option<Cow<'_, str>>) -> String {
    text.map(Cow::into_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &serde_json::Value) -> EventAttributes {
        EventAttributes::read(&RawValue::from_string(value.to_string()).unwrap()).unwrap()
    }

    #[test]
    fn both_forms_of_an_event_tell_the_same() {
        let about = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "web", "name": "p", "uid": "u"});
        let core = read(&json!({
            "reason": "BackOff", "type": "Warning", "count": 4, "lastTimestamp": "2026-01-01T00:00:00Z",
            "eventTime": null, "involvedObject": about, "source": {"component": "kubelet"},
        }));
        let new = read(&json!({
            "reason": "BackOff", "type": "Warning", "deprecatedCount": 4, "eventTime": null,
            "deprecatedLastTimestamp": "2026-01-01T00:00:00Z", "regarding": about,
        }));
        assert_eq!(core, new);
        assert_eq!((core.count, &*core.about.name, &*core.kind), (4, "p", "Warning"));
    }

    #[test]
    fn a_series_counts_before_a_count_and_its_time_before_others() {
        let event = read(&json!({
            "series": {"count": 9, "lastObservedTime": "2026-01-01T00:00:09.000000Z"}, "count": 1,
            "eventTime": "2026-01-01T00:00:01.000000Z",
        }));
        assert_eq!((event.count, &**event.time.unwrap().text()), (9, "2026-01-01T00:00:09.000000Z"));
        assert_eq!(read(&json!({"eventTime": "2026-01-01T00:00:01.000000Z"})).count, 1);
    }
}
