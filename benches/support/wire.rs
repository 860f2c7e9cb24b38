//! Requests by hand: HTTP/1.1 over one connection, no more than a bench needs; and its bytes are counted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;

/// Requests sent before their answers are read.
const PIPELINED: usize = 64;
/// The collection of config maps.
pub(crate) const PATH: &str = "/api/v1/namespaces/default/configmaps";

/// A config map of this name with a value of so many bytes.
pub(crate) fn config_map(name: &str, bytes: usize) -> String {
    let data = json!({"n": "0", "filler": "x".repeat(bytes)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

/// A connection that is kept.
pub(crate) struct Connection {
    reader: BufReader<Counted>,
    written: u64,
}

/// A socket that counts what is read of it.
struct Counted {
    stream: TcpStream,
    read: u64,
}

impl std::io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.stream.read(buffer)?;
        self.read += got as u64;
        Ok(got)
    }
}

impl Connection {
    pub(crate) fn connect(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, Counted { stream, read: 0 }), written: 0 })
    }

    /// Bytes read and written.
    pub(crate) fn bytes(&self) -> u64 {
        self.reader.get_ref().read + self.written
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
        self.written += head.len() as u64;
        Ok(self.reader.get_mut().stream.write_all(head.as_bytes())?)
    }

    /// Reads an answer: its status, and its body whole.
    pub(crate) fn receive(&mut self) -> Result<(u16, Vec<u8>), Failure> {
        let (status, length) = self.head()?;
        let mut body = Vec::new();
        if let Some(length) = length {
            body.resize(length, 0);
            self.reader.read_exact(&mut body)?;
        } else {
            while self.chunk(&mut body)? {}
        }
        Ok((status, body))
    }

    /// Reads the head of an answer: its status, and how long its body is, or `None` where that comes in chunks.
    pub(crate) fn head(&mut self) -> Result<(u16, Option<usize>), Failure> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no answer")?;
        let mut length = Some(0);
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                return Ok((status, length));
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            } else if header == "transfer-encoding: chunked" {
                length = None;
            }
        }
    }

    /// Adds the next chunk to the body; false when it was the last.
    pub(crate) fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16)?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        self.reader.read_exact(body.get_mut(start..).ok_or("a chunk")?)?;
        body.truncate(start + size);
        Ok(size > 0)
    }
}

/// Makes so many config maps of a kilobyte.
pub(crate) fn fill(port: u16, count: usize) -> Result<(), Failure> {
    // With its metadata, an object of this filler is 1 KiB.
    pipelined(port, count, |number| {
        let object = config_map(&format!("object-{number:06}"), 600);
        ("POST", PATH.to_owned(), "application/json", object)
    })
}

/// Makes these requests on one connection, many before their answers are read, each of which must be good.
pub(crate) fn pipelined(
    port: u16,
    count: usize,
    request: impl Fn(usize) -> (&'static str, String, &'static str, String),
) -> Result<(), Failure> {
    let mut connection = Connection::connect(port)?;
    for start in (0..count).step_by(PIPELINED) {
        let batch = start..count.min(start + PIPELINED);
        for number in batch.clone() {
            let (method, path, media_type, body) = request(number);
            connection.send(method, &path, media_type, &body)?;
        }
        for _ in batch {
            let (status, body) = connection.receive()?;
            if !(200..300).contains(&status) {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
            }
        }
    }
    Ok(())
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
