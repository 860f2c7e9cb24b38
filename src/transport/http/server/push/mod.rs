//! `/v1/subscriptions`: the [CloudEvents Subscriptions API] for HTTP sinks.
//!
//! Kept in memory. A sink's URL comes from a client, so unless `allow_private_sinks` is set only public
//! addresses are connected to, checked at each connection; redirects are never followed.
//!
//! [CloudEvents Subscriptions API]: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytestring::ByteString;
use http::header::{ALLOW, AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Shared;
use super::access::Caller;
use super::problem::Problem;
use crate::core::access::Action;
use crate::core::selector::{Dialect, Selector, TopicFilter};
use crate::transport::http::codec::{Compat, Format, Mode};
use crate::transport::http::config::{header_name, sink_url};

mod deliver;

/// Most headers a subscription may add to its requests.
const HEADERS_MAX: usize = 16;

/// A subscription as it is asked for and shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    #[serde(default)]
    id: String,
    protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocolsettings: Option<Settings>,
    sink: String,
    /// Taken in, never shown.
    #[serde(default, skip_serializing)]
    sinkcredential: Option<Credential>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    types: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    config: BTreeMap<String, String>,
}

/// `protocolsettings` of HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
}

/// `sinkcredential`
#[derive(Clone, Deserialize)]
#[serde(tag = "credentialtype")]
enum Credential {
    #[serde(rename = "PLAIN")]
    Plain { identifier: String, secret: String },
    #[serde(rename = "ACCESSTOKEN")]
    AccessToken { accesstoken: String },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// A subscription that was checked: what its deliveries need.
struct Checked {
    url: Uri,
    method: Method,
    headers: HeaderMap,
    selector: Selector,
    filter: TopicFilter,
    mode: Mode,
    format: Format,
    compat: Compat,
}

/// The subscriptions of a listener.
#[derive(Debug)]
pub(super) struct Subscriptions {
    max: usize,
    running: Mutex<BTreeMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    subscription: Subscription,
    principal: Option<ByteString>,
    /// Ends its deliveries when it goes.
    _end: DropGuard,
}

impl Subscriptions {
    /// At most `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self { max, running: Mutex::default() }
    }

    /// Ends all.
    pub(super) fn close(&self) {
        self.running.lock().clear();
    }
}

/// All subscriptions of the caller.
pub(super) async fn list(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match Caller::of(&shared.bus, &headers) {
        Ok(caller) => {
            let running = shared.push.running.lock();
            let own = running.values().filter(|running| running.principal == caller.principal);
            axum::Json(own.map(|running| &running.subscription).collect::<Vec<_>>()).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Begins one.
pub(super) async fn create(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match begin(&shared, request, None).await {
        Ok(subscription) => {
            let location = HeaderValue::from_str(&format!("/v1/subscriptions/{}", subscription.id));
            let mut response = (StatusCode::CREATED, axum::Json(subscription)).into_response();
            if let Ok(location) = location {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Shows one.
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = || {
        let caller = Caller::of(&shared.bus, &headers)?;
        let running = shared.push.running.lock();
        let found = running.get(&id).filter(|running| running.principal == caller.principal);
        found.map(|running| axum::Json(&running.subscription).into_response()).ok_or_else(|| missing(&id))
    };
    answer().unwrap_or_else(IntoResponse::into_response)
}

/// Replaces one: the old ends, the new begins with what comes next.
pub(super) async fn replace(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match begin(&shared, request, Some(id)).await {
        Ok(subscription) => axum::Json(subscription).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Ends one.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = || {
        let caller = Caller::of(&shared.bus, &headers)?;
        let mut running = shared.push.running.lock();
        if running.get(&id).is_none_or(|running| running.principal != caller.principal) {
            return Err(missing(&id));
        }
        Ok(running.remove(&id))
    };
    match answer() {
        Ok(_ended) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// What the collection takes.
pub(super) async fn features() -> Response {
    ([(ALLOW, HeaderValue::from_static("GET, POST, OPTIONS"))], StatusCode::OK).into_response()
}

/// What one subscription takes.
pub(super) async fn feature() -> Response {
    ([(ALLOW, HeaderValue::from_static("GET, PUT, DELETE, OPTIONS"))], StatusCode::OK).into_response()
}

fn missing(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no subscription {id:?}"))
}

/// Checks a request and starts its deliveries, in the place of `replaces` where that is given.
async fn begin(
    shared: &Arc<Shared>,
    request: Request,
    replaces: Option<String>,
) -> Result<Subscription, Problem> {
    let (head, body) = request.into_parts();
    let caller = Caller::of(&shared.bus, &head.headers)?;
    let body = shared.bodies.read(&head.headers, body).await?;
    let mut subscription: Subscription = serde_json::from_slice(&body.bytes)
        .map_err(|error| Problem::bad_request(format!("no subscription: {error}")))?;
    let checked = check(&subscription).map_err(Problem::bad_request)?;
    caller.authorize_filter(Action::Subscribe, &checked.filter)?;
    subscription.id = replaces.clone().unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)));
    let end = CancellationToken::new();
    let mut running = shared.push.running.lock();
    match &replaces {
        Some(id) if running.get(id).is_none_or(|running| running.principal != caller.principal) => {
            return Err(missing(id));
        }
        None if running.len() >= shared.push.max => {
            let detail = format!("max_subscriptions {} reached", shared.push.max);
            return Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail));
        }
        _ => {}
    }
    deliver::start(shared, &subscription.id, checked, caller.clone(), end.clone())
        .map_err(Problem::unavailable)?;
    let entry =
        Running { subscription: subscription.clone(), principal: caller.principal, _end: end.drop_guard() };
    drop(running.insert(subscription.id.clone(), entry));
    Ok(subscription)
}

fn check(subscription: &Subscription) -> Result<Checked, String> {
    if subscription.protocol != "HTTP" {
        return Err(format!("protocol {:?} is not supported: HTTP", subscription.protocol));
    }
    let url = sink_url(&subscription.sink).map_err(|reason| format!("sink {reason}"))?;
    let method =
        match subscription.protocolsettings.as_ref().and_then(|settings| settings.method.as_deref()) {
            None | Some("POST") => Method::POST,
            Some("PUT") => Method::PUT,
            Some(other) => {
                return Err(format!("protocolsettings.method {other:?} cannot be used: POST or PUT"));
            }
        };
    let mut checked = Checked {
        url,
        method,
        headers: request_headers(subscription)?,
        selector: Selector::default(),
        filter: TopicFilter::all(),
        mode: Mode::Binary,
        format: Format::Json,
        compat: Compat::Spec,
    };
    for (name, value) in &subscription.config {
        match (name.as_str(), value.as_str()) {
            ("topic", filter) => {
                checked.filter =
                    TopicFilter::parse(filter).map_err(|error| format!("config.topic {error}"))?;
            }
            ("contentmode", "binary") => checked.mode = Mode::Binary,
            ("contentmode", "structured") => checked.mode = Mode::Structured,
            ("format", "json") => checked.format = Format::Json,
            ("format", "protobuf") => checked.format = Format::Protobuf,
            ("compat", "spec") => checked.compat = Compat::Spec,
            ("compat", "raw") => checked.compat = Compat::Raw,
            (name, value) => {
                return Err(format!(
                    "config.{name} {value:?} is none of: topic, contentmode binary|structured, format json|protobuf, compat spec|raw"
                ));
            }
        }
    }
    checked.selector = Selector::topic(checked.filter.clone());
    for dialect in dialects(subscription)? {
        checked.selector = checked.selector.and(Arc::new(dialect));
    }
    Ok(checked)
}

/// `source`, `types` and `filters`, all of which must hold.
fn dialects(subscription: &Subscription) -> Result<Vec<Dialect>, String> {
    let exact = |name: &str, value: &str| serde_json::json!({"exact": {name: value}});
    let mut given = Vec::new();
    if let Some(source) = &subscription.source {
        given.push(("source".to_owned(), exact("source", source)));
    }
    if let Some(types) = &subscription.types {
        let any: Vec<Value> = types.iter().map(|kind| exact("type", kind)).collect();
        given.push(("types".to_owned(), serde_json::json!({ "any": any })));
    }
    for (at, filter) in subscription.filters.iter().flatten().enumerate() {
        given.push((format!("filters[{at}]"), filter.clone()));
    }
    let read = |(place, value): (String, Value)| {
        let dialect: Dialect =
            serde_json::from_value(value).map_err(|error| format!("{place}: {error}"))?;
        dialect.validate().map_err(|reason| format!("{place}: {reason}"))?;
        Ok(dialect)
    };
    given.into_iter().map(read).collect()
}

fn request_headers(subscription: &Subscription) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let given = subscription.protocolsettings.iter().flat_map(|settings| &settings.headers);
    for (name, value) in given {
        let at = |reason: String| format!("protocolsettings.headers.{name} {reason}");
        let header: HeaderName = header_name(name).map_err(at)?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| at("holds a character that no header can hold".to_owned()))?;
        headers.insert(header, value);
    }
    if headers.len() > HEADERS_MAX {
        return Err(format!("protocolsettings.headers: at most {HEADERS_MAX}"));
    }
    let authorization = match &subscription.sinkcredential {
        None => return Ok(headers),
        Some(Credential::AccessToken { accesstoken }) => format!("Bearer {accesstoken}"),
        Some(Credential::Plain { identifier, secret }) => {
            let pair = format!("{identifier}:{secret}");
            format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()))
        }
    };
    let mut value = HeaderValue::from_str(&authorization)
        .map_err(|_| "sinkcredential holds a character that no header can hold".to_owned())?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(headers)
}
