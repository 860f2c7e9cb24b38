//! A client that hides nothing: one connection a request, and watches line by line.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

use crate::hostile::Hostile;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
pub(super) const EVENTS: &str = "/api/v1/namespaces/default/events";

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// A running watch.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) code: u16,
    body: Incoming,
    buffered: Vec<u8>,
}

/// How a stream went on.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Line(Value),
    /// The body ended as it should.
    End,
    /// The connection broke off; these bytes were no line yet.
    Broken(usize),
}

/// Sends a request; `None` when the connection broke before the answer.
pub(super) async fn send(
    hostile: &Hostile,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<http::Response<Incoming>> {
    let stream = TcpStream::connect(hostile.address()).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "hostile");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").ok()
}

/// Sends a request and reads its whole answer.
pub(super) async fn ask(hostile: &Hostile, method: &str, path: &str, body: &str) -> Answer {
    let media_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let headers = [("content-type", media_type), ("user-agent", "asker/1.0")];
    ask_with(hostile, method, path, &headers, body).await
}

pub(super) async fn ask_with(
    hostile: &Hostile,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let response = send(hostile, method, path, headers, body).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
    Answer { code: parts.status.as_u16(), headers: parts.headers, body }
}

pub(super) async fn get(hostile: &Hostile, path: &str) -> Answer {
    ask(hostile, "GET", path, "").await
}

/// Begins a watch.
pub(super) async fn watch(hostile: &Hostile, path: &str) -> Lines {
    let response = send(hostile, "GET", path, &[], "").await.expect("an answer");
    let (parts, body) = response.into_parts();
    Lines { code: parts.status.as_u16(), body, buffered: Vec::new() }
}

impl Lines {
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(end) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffered.drain(..=end).collect();
                return Next::Line(serde_json::from_slice(&line).expect("every line is JSON"));
            }
            match tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a line in time") {
                Some(Ok(frame)) => self.buffered.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) => return Next::Broken(self.buffered.len()),
                None => return Next::End,
            }
        }
    }

    /// The next line as type and object.
    pub(super) async fn line(&mut self) -> (String, Value) {
        match self.next().await {
            Next::Line(mut line) => (line["type"].as_str().unwrap().to_owned(), line["object"].take()),
            other => panic!("a line was due, not {other:?}"),
        }
    }

    /// The next line that is no bookmark, as type, name and resource version.
    pub(super) async fn change(&mut self) -> (String, String, u64) {
        loop {
            let (word, object) = self.line().await;
            if word != "BOOKMARK" {
                return (word, object["metadata"]["name"].as_str().unwrap().to_owned(), version(&object));
            }
        }
    }
}

/// The resource version of an object or a list.
pub(super) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// The names in a list.
pub(super) fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}
