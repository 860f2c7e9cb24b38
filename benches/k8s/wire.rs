//! Requests by hand: HTTP/1.1 over one connection, no more than a bench needs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::PATH;
use super::support::Failure;

/// A config map of this name with a value of so many bytes.
pub(crate) fn config_map(name: &str, bytes: usize) -> String {
    let data = json!({"n": "0", "filler": "x".repeat(bytes)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

/// A connection that is kept.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn connect(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        media_type: &str,
        body: &str,
    ) -> Result<(), Failure> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(self.0.get_mut().write_all(head.as_bytes())?)
    }

    /// Reads an answer: its status, and its body whole.
    pub(crate) fn receive(&mut self) -> Result<(u16, Vec<u8>), Failure> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no answer")?;
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= header == "transfer-encoding: chunked";
        }
        let mut body = Vec::new();
        if !chunked {
            body.resize(length, 0);
            self.0.read_exact(&mut body)?;
            return Ok((status, body));
        }
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16)?;
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.0.read_exact(body.get_mut(start..).ok_or("a chunk")?)?;
            body.truncate(start + size);
            if size == 0 {
                return Ok((status, body));
            }
        }
    }
}

/// One request on a connection of its own; the body of a good answer.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    media_type: &str,
    body: &str,
) -> Result<Vec<u8>, Failure> {
    let mut connection = Connection::connect(port)?;
    connection.send(method, path, media_type, body)?;
    match connection.receive()? {
        (200..300, body) => Ok(body),
        (status, body) => {
            Err(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&body)).into())
        }
    }
}

/// Where a watch begins that shows nothing of what is there.
pub(crate) fn position(port: u16, path: &str) -> Result<String, Failure> {
    let list: Value = serde_json::from_slice(&request(port, "GET", path, "application/json", "")?)?;
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    Ok(version.ok_or("a list without a version")?.to_owned())
}

/// Changes the object that is watched.
pub(crate) struct Patcher(Connection);

impl Patcher {
    pub(crate) fn connect(port: u16) -> Result<Self, Failure> {
        Connection::connect(port).map(Self)
    }

    /// Sets its number. The answer is read before the next one is sent.
    pub(crate) fn send(&mut self, value: u64) -> Result<(), Failure> {
        let body = json!({"data": {"n": value.to_string()}}).to_string();
        let path = format!("{PATH}/watched");
        self.0.send("PATCH", &path, "application/merge-patch+json", &body)?;
        let (status, body) = self.0.receive()?;
        if status == 200 { Ok(()) } else { Err(String::from_utf8_lossy(&body).into_owned().into()) }
    }
}
