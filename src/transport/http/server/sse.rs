//! `GET /v1/subscribe`: server-sent events ([WHATWG HTML 9.2]), or a WebSocket where the client upgrades.
//!
//! [WHATWG HTML 9.2]: https://html.spec.whatwg.org/multipage/server-sent-events.html

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, UPGRADE};

use super::Shared;
use super::feed::{Feed, Line, Told};
use super::problem::Problem;
use super::ws;

/// Answers with a stream that lasts until the client leaves.
pub(super) async fn subscribe(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let feed = match Feed::open(&shared, &request) {
        Ok(feed) => feed,
        Err(problem) => return problem.into_response(),
    };
    if !request.headers().contains_key(UPGRADE) {
        return events(feed);
    }
    let (mut head, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut head, &()).await {
        Ok(upgrade) => ws::upgrade(upgrade, feed, &shared),
        Err(error) => Problem::bad_request(format!("no WebSocket: {error}")).into_response(),
    }
}

fn events(feed: Feed) -> Response {
    let frames = stream::unfold(feed, async |mut feed| {
        let told = feed.next().await?;
        Some((Ok::<_, Infallible>(frame(told)), feed))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers before they pass them on would hold the stream back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn frame(told: Told) -> Bytes {
    match told {
        Told::Quiet => Bytes::from_static(b": heartbeat\n\n"),
        Told::Lines(lines) => {
            let size = lines.iter().map(|line| line.json.len() + 64).sum();
            let mut out = BytesMut::with_capacity(size);
            for line in &lines {
                put_line(&mut out, line);
            }
            out.freeze()
        }
    }
}

fn put_line(out: &mut BytesMut, line: &Line) {
    if let Some(seq) = line.seq {
        out.put_slice(format!("id: {seq}\n").as_bytes());
    }
    out.put_slice(b"event: ");
    out.put_slice(line.name.as_bytes());
    out.put_slice(b"\ndata: ");
    out.put_slice(&line.json);
    out.put_slice(b"\n\n");
}
