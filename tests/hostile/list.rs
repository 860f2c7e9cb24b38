//! GET and LIST: resource versions, pages and their tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::chaos::Fault;
use super::form::Form;
use super::kinds::{EVENT, Target};
use super::selector::Selector;
use super::status::Refusal;

/// The query of a LIST or WATCH.
pub(crate) type Query = BTreeMap<String, String>;

/// How long a read waits for a resource version that is not reached yet.
const PATIENCE: Duration = Duration::from_secs(3);
/// How far back a stale read may be, in resource versions.
const STALE_MAX: u64 = 50;

/// Where a page begins.
#[derive(Debug)]
struct Page {
    /// `None` is the newest.
    rv: Option<u64>,
    /// Keys before are left out.
    start: String,
}

impl Shared {
    pub(crate) fn get(&self, target: &Target, form: Form) -> Result<Value, Refusal> {
        let state = self.state.lock();
        let kind = &state.kinds[target.kind];
        let name = target.name.as_deref().unwrap_or_default();
        let key = kind.key(target.namespace.as_deref().unwrap_or_default(), name);
        let object = state.objects(target.kind).get(&key);
        object.map(|object| form.object(target.kind, object)).ok_or_else(|| Refusal::not_found(kind, name))
    }

    pub(crate) async fn list(&self, target: &Target, query: &Query, form: Form) -> Result<Value, Refusal> {
        let option = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        check_options(query)?;
        let selector = self.selector(target, query)?;
        let limit = option("limit").parse::<usize>().unwrap_or(0);
        let (asked, exact) =
            (version(option("resourceVersion"))?, option("resourceVersionMatch") == "Exact");
        let page = if option("continue").is_empty() {
            if asked > 0 {
                self.reach(target.kind, asked).await?;
            }
            let pinned = asked > 0 && (exact || limit > 0 && option("resourceVersionMatch").is_empty());
            Page { rv: pinned.then_some(asked), start: String::new() }
        } else {
            self.next_page(target, option("continue"))?
        };
        // A cache answers version 0 whole, whatever the limit, and it may lag behind.
        let from_cache =
            option("resourceVersion") == "0" && option("continue").is_empty() && target.kind != EVENT;
        let limit = if limit == 0 || from_cache { usize::MAX } else { limit };
        let page = if from_cache { Page { rv: self.stale(target.kind), ..page } } else { page };
        self.page(target, &page, &selector, limit, form)
    }

    fn page(
        &self,
        target: &Target,
        page: &Page,
        selector: &Selector,
        limit: usize,
        form: Form,
    ) -> Result<Value, Refusal> {
        let state = self.state.lock();
        let rv = page.rv.unwrap_or_else(|| state.rv(target.kind));
        if rv < state.compacted(target.kind) {
            return Err(Refusal::list_too_old());
        }
        let objects = state.objects_at(target.kind, rv);
        let prefix = target.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let seen = |(key, object): &(&String, &Arc<Value>)| {
            key.starts_with(&prefix) && **key >= page.start && selector.matches(object)
        };
        let mut rest = objects.iter().filter(seen);
        let items: Vec<(&String, &Arc<Value>)> = rest.by_ref().take(limit).collect();
        let remaining = rest.count();
        let mut metadata = json!({ "resourceVersion": rv.to_string() });
        if let Some((last, _)) = items.last().filter(|_| remaining > 0) {
            metadata["continue"] = token(Some(rv), &format!("{last}\0")).into();
            if selector.is_empty() && !self.chaos.strikes(Fault::NoRemaining) {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        let items = items.into_iter().map(|(_, object)| object.as_ref());
        Ok(form.list(&state.kinds, target.kind, metadata, items))
    }

    /// Reads a page's token; one whose version is gone is refused with another that goes on inconsistently.
    fn next_page(&self, target: &Target, token_text: &str) -> Result<Page, Refusal> {
        let page = read_token(token_text)?;
        let state = self.state.lock();
        let gone = page.rv.is_some_and(|rv| rv < state.compacted(target.kind));
        if gone || page.rv.is_some() && self.chaos.strikes(Fault::PageExpiry) {
            return Err(Refusal::page_too_old(token(None, &page.start)));
        }
        Ok(page)
    }

    pub(crate) fn selector(&self, target: &Target, query: &Query) -> Result<Selector, Refusal> {
        let option = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let state = self.state.lock();
        let (labels, fields) = (option("labelSelector"), option("fieldSelector"));
        let mut selector = Selector::parse(&state.kinds, target.kind, target.events_v1, labels, fields)?;
        if let Some(name) = &target.name {
            selector.require_name(name);
        }
        Ok(selector)
    }

    /// Waits until a resource version is reached. Events have no cache to wait in.
    pub(crate) async fn reach(&self, kind: usize, rv: u64) -> Result<(), Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let mut changed = self.changed.subscribe();
        loop {
            let current = self.state.lock().rv(kind);
            if current >= rv {
                return Ok(());
            }
            let too_large = Refusal::too_large(rv, current);
            if kind == EVENT {
                return Err(too_large);
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(too_large),
            }
        }
    }

    /// A version that a stale cache would show, or none.
    pub(crate) fn stale(&self, kind: usize) -> Option<u64> {
        let (current, oldest) = {
            let state = self.state.lock();
            (state.rv(kind), state.watchable_from(kind))
        };
        let back = STALE_MAX.min(current - oldest);
        (back > 0 && self.chaos.strikes(Fault::Stale)).then(|| current - self.chaos.pick(1..back + 1))
    }
}

/// Reads a resource version; none is 0.
pub(crate) fn version(text: &str) -> Result<u64, Refusal> {
    if text.is_empty() {
        return Ok(0);
    }
    let syntax = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
    text.parse().map_err(|_| {
        let message = format!("resourceVersion: Invalid value: \"{text}\": {syntax}");
        Refusal::bad_request(message)
    })
}

fn check_options(query: &Query) -> Result<(), Refusal> {
    let option = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let (matches, rv, page) =
        (option("resourceVersionMatch"), option("resourceVersion"), option("continue"));
    let forbidden = |what: &str| Err(Refusal::forbidden_option("resourceVersionMatch", what));
    match matches {
        "" => {}
        _ if rv.is_empty() => {
            return forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        _ if !page.is_empty() => {
            return forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        "Exact" if rv == "0" => {
            return forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        "Exact" | "NotOlderThan" => {}
        _ => return Err(unsupported_match(matches)),
    }
    if query.contains_key("sendInitialEvents") {
        let what = "sendInitialEvents is forbidden for list";
        return Err(Refusal::forbidden_option("sendInitialEvents", what));
    }
    if !page.is_empty() && !matches!(rv, "" | "0") {
        let message = "specifying resource version is not allowed when using continue";
        return Err(Refusal::bad_request(message));
    }
    Ok(())
}

pub(crate) fn unsupported_match(given: &str) -> Refusal {
    let what =
        format!("Unsupported value: \"{given}\": supported values: \"Exact\", \"NotOlderThan\", \"\"");
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: {what}");
    Refusal::new(422, "Invalid", message).details(json!({
        "group": "meta.k8s.io", "kind": "ListOptions",
        "causes": [{"reason": "FieldValueNotSupported", "message": what, "field": "resourceVersionMatch"}],
    }))
}

/// A token that begins at a key; without a version it goes on in the newest state.
fn token(rv: Option<u64>, start: &str) -> String {
    let rv = rv.map_or(json!(-1), Value::from);
    BASE64URL_NOPAD.encode(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start}).to_string().as_bytes())
}

fn read_token(text: &str) -> Result<Page, Refusal> {
    let invalid =
        || Refusal::bad_request("invalid continue token: continue key is not valid: not by this server");
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| invalid())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let rv = token["rv"].as_i64().ok_or_else(invalid)?;
    let start = token["start"].as_str().ok_or_else(invalid)?.to_owned();
    Ok(Page { rv: u64::try_from(rv).ok(), start })
}
