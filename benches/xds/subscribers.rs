//! Subscribers of other protocols, by hand: each looks for the names of nodes in whatever bytes come.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use tokio::time::Instant;

use super::support::Failure;

/// What comes before the number of a node, wherever a connection is told as JSON.
const BEFORE: &str = "\"node\":\"notice-";
/// Digits of that number.
const DIGITS: usize = 6;
/// How long anything may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nodes that wait to be looked at.
const WAITING: usize = 4096;

/// The name of a node.
pub(crate) fn node(number: usize) -> String {
    format!("notice-{number:06}")
}

/// One who is told of nodes.
pub(crate) struct Subscriber {
    pub(crate) name: &'static str,
    told: Receiver<(usize, Instant)>,
}

impl Subscriber {
    /// Of a NATS server.
    pub(crate) fn nats(port: u16) -> Result<Self, Failure> {
        let hello = b"CONNECT {\"verbose\":false}\r\nSUB seen.> 1\r\nPING\r\n";
        Self::connect("NATS", port, hello, b"PONG")
    }

    /// Of an MQTT broker, by version 3.1.1.
    pub(crate) fn mqtt(port: u16) -> Result<Self, Failure> {
        // CONNECT: a clean session without an end, of a client named `bench`. SUBSCRIBE: `seen/#` with QoS 0.
        let hello = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05bench\x82\x0b\x00\x01\x00\x06seen/#\x00";
        Self::connect("MQTT", port, hello, b"\x90\x03\x00\x01\x00")
    }

    /// A watch of the Kubernetes API, as `kubectl get connections -w` has it.
    pub(crate) fn kubernetes(port: u16) -> Result<Self, Failure> {
        let hello = b"GET /apis/meshbus.dev/v1/connections?watch=true HTTP/1.1\r\nhost: bench\r\n\
                      accept: application/json\r\n\r\n";
        Self::connect("kubectl's watch", port, hello, b"\r\n\r\n")
    }

    /// Says hello, and follows from when it has been answered.
    fn connect(name: &'static str, port: u16, hello: &[u8], answered: &[u8]) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(hello)?;
        let mut got = Vec::new();
        while !got.windows(answered.len()).any(|piece| piece == answered) {
            let mut byte = [0];
            stream.read_exact(&mut byte).map_err(|error| format!("{name}: no answer: {error}"))?;
            got.extend(byte);
        }
        stream.set_read_timeout(None)?;
        let (sender, told) = sync_channel(WAITING);
        // Ends when the stream does, at the latest with the process.
        std::thread::spawn(move || {
            let (mut text, mut buffer) = (String::new(), vec![0; 64 << 10]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                text.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
                for number in numbers(&mut text) {
                    if sender.send((number, Instant::now())).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { name, told })
    }

    /// When it was told first of a node; those of whom it was told before are passed over.
    pub(crate) fn told_of(&self, number: usize) -> Result<Instant, Failure> {
        loop {
            let told = self.told.recv_timeout(PATIENCE);
            let (found, at) =
                told.map_err(|_| format!("{} was not told of {}", self.name, node(number)))?;
            if found == number {
                return Ok(at);
            }
        }
    }
}

/// The numbers of nodes in the text, of which only what may be the begin of another stays.
fn numbers(text: &mut String) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once(BEFORE)
        && let Some(number) = after.get(..DIGITS)
    {
        found.extend(number.parse::<usize>());
        rest = after.get(DIGITS..).unwrap_or_default();
    }
    let kept = rest.len().saturating_sub(BEFORE.len() + DIGITS);
    let kept =
        if rest.contains(BEFORE) { rest.find(BEFORE).unwrap_or(0) } else { rest.ceil_char_boundary(kept) };
    *text = rest.get(kept..).unwrap_or_default().to_owned();
    found
}
