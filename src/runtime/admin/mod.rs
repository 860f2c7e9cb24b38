//! The admin port: what runs, why an event goes where it goes, and a live view of a route.
//!
//! | request | answers |
//! |---|---|
//! | `GET /metrics` | see [`telemetry`](super::telemetry) |
//! | `GET /config` | the configuration that runs, as YAML, secrets redacted |
//! | `GET /connectors`, `GET /routes` | how they are, as JSON |
//! | `POST /explain` | for the event in the body: per route the clause that said no, or the sinks |
//! | `GET /tap?route=NAME` | what the route sends from now on, as server-sent events, each a JSON object |
//! | `POST /reload` | reads the configuration again; 422 and why where it is invalid, and the old one stays |
//!
//! Whoever reaches this port sees everything, so it listens on loopback unless told otherwise. A web page in the
//! operator's browser reaches loopback too: requests that carry an `Origin` are refused.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::metrics;
use super::serve::{self, Answer};
use super::shutdown::Shutdown;

#[cfg(test)]
mod tests;

/// A tap with nothing to show writes a comment so often, so that a client that went away is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

const PATHS: &str = "GET /metrics, GET /config, GET /connectors, GET /routes, POST /explain, GET /tap?route=NAME, \
                     POST /reload";

/// What the admin port shows and does; the application implements it.
pub trait Admin: Send + Sync + 'static {
    /// All metrics, in the text format.
    fn metrics(&self) -> String;

    /// The configuration that runs, as YAML, secrets redacted.
    fn config(&self) -> String;

    /// How the connectors are.
    fn connectors(&self) -> Value;

    /// How the routes are.
    fn routes(&self) -> Value;

    /// Why the event (a structured `CloudEvent`) goes where it goes.
    ///
    /// # Errors
    /// Says what is wrong with the event.
    fn explain(&self, event: Bytes) -> BoxFuture<'_, Result<Value, String>>;

    /// What the route sends from now on; `None` where there is no such route. Bounded: a slow reader loses the
    /// oldest, and holds up nothing.
    fn tap(&self, route: &str) -> Option<BoxStream<'static, Value>>;

    /// Reads the configuration again.
    ///
    /// # Errors
    /// Why it is invalid; the old one stays.
    fn reload(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Serves the admin port until the shutdown; taps end with the drain.
pub async fn serve(listener: TcpListener, admin: Arc<dyn Admin>, shutdown: &Shutdown) {
    let ending = shutdown.clone();
    serve::serve(listener, shutdown, move |request| {
        let (admin, ending) = (Arc::clone(&admin), ending.clone());
        Box::pin(async move { respond(request, admin.as_ref(), ending).await })
    })
    .await;
}

async fn respond(request: Request<Bytes>, admin: &dyn Admin, ending: Shutdown) -> Answer {
    if request.headers().contains_key(ORIGIN) {
        return serve::problem(StatusCode::FORBIDDEN, "requests from web pages are refused");
    }
    let path = request.uri().path();
    let allow = match path {
        "/" | "/metrics" | "/config" | "/connectors" | "/routes" | "/tap" => "GET, HEAD",
        "/explain" | "/reload" => "POST",
        _ => return serve::problem(StatusCode::NOT_FOUND, &format!("there are {PATHS}")),
    };
    let allowed =
        if allow == "POST" { request.method() == Method::POST } else { serve::reads(request.method()) };
    if !allowed {
        return serve::not_allowed(allow);
    }
    match path {
        "/metrics" => serve::answer(StatusCode::OK, metrics::CONTENT_TYPE, admin.metrics()),
        "/config" => serve::answer(StatusCode::OK, "application/yaml", admin.config()),
        "/connectors" => serve::json(StatusCode::OK, &admin.connectors()),
        "/routes" => serve::json(StatusCode::OK, &admin.routes()),
        "/tap" => tap(request.uri().query(), admin, ending),
        "/explain" => match admin.explain(request.into_body()).await {
            Ok(explained) => serve::json(StatusCode::OK, &explained),
            Err(reason) => serve::problem(StatusCode::BAD_REQUEST, &reason),
        },
        "/reload" => match admin.reload().await {
            Ok(()) => serve::text(StatusCode::OK, "reloaded\n"),
            Err(reason) => serve::problem(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        },
        _ => serve::text(StatusCode::OK, format!("{}\n", PATHS.replace(", ", "\n"))),
    }
}

fn tap(query: Option<&str>, admin: &dyn Admin, ending: Shutdown) -> Answer {
    let Some(route) = query_value(query, "route") else {
        return serve::problem(
            StatusCode::BAD_REQUEST,
            "say which: /tap?route=NAME; GET /routes lists them",
        );
    };
    let Some(records) = admin.tap(&route) else {
        let detail = format!("there is no route {route:?}; GET /routes lists them");
        return serve::problem(StatusCode::NOT_FOUND, &detail);
    };
    // A comment first, so that a client sees at once that it is connected.
    let opening = stream::iter([Bytes::from_static(b": tap\n\n")]);
    let records = stream::unfold(records, |mut records| async move {
        let text = match timeout(HEARTBEAT, records.next()).await {
            Ok(Some(record)) => Bytes::from(format!("data: {record}\n\n")),
            Ok(None) => return None,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((text, records))
    });
    let frames = opening
        .chain(records)
        .take_until(async move { ending.drain().await })
        .map(|text| Ok::<_, Infallible>(Frame::data(text)));
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.replace('+', " ");
        (key == name).then(|| percent_decode_str(&value).decode_utf8_lossy().into_owned())
    })
}
