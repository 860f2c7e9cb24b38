//! A thousand readers on one thread and one epoll, which take the time at which each has a whole change.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::time::Instant;

use super::support::Failure;

/// How long a change may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// One reader.
struct Reader {
    stream: TcpStream,
    /// Bytes that are to come of this change; of lines, whether one has ended.
    got: usize,
    done: bool,
}

/// All of them.
pub(crate) struct Readers {
    poll: Poll,
    events: Events,
    all: Vec<Reader>,
    buffer: Vec<u8>,
    /// What the first reader got last.
    first: Vec<u8>,
}

impl Readers {
    /// Watches: each connection sends its request, and reads the head of the answer.
    pub(crate) fn connect(port: u16, path: &str, count: usize) -> Result<Self, Failure> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n\r\n");
        let mut readers = Self::open(port, count, request.as_bytes())?;
        readers.heads()?;
        Ok(readers)
    }

    /// Connections to the bare loop, which says nothing before the first change.
    pub(crate) fn connect_raw(port: u16, count: usize) -> Result<Self, Failure> {
        Self::open(port, count, b"w")
    }

    fn open(port: u16, count: usize, hello: &[u8]) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut readers = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.write_all(hello)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            readers.push(Reader { stream, got: 0, done: false });
        }
        let (events, buffer) = (Events::with_capacity(1024), vec![0; 64 << 10]);
        Ok(Self { poll, events, all: readers, buffer, first: Vec::new() })
    }

    /// Waits until every head has come: `200 OK` and an empty line.
    fn heads(&mut self) -> Result<(), Failure> {
        self.until_all(|_, got| got.windows(4).any(|end| end == b"\r\n\r\n"), |_| {})?;
        let head = String::from_utf8_lossy(&self.first);
        if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("no watch: {head}").into()) }
    }

    /// What the first reader gets of the next change.
    pub(crate) fn first_line(&mut self) -> Result<Vec<u8>, Failure> {
        self.until_all(|_, got| ends_line(got), |_| {})?;
        Ok(self.first.clone())
    }

    /// Waits until every reader has the change, and records how long after `due`.
    pub(crate) fn all_read(
        &mut self,
        due: Instant,
        bytes: usize,
        histogram: &mut Histogram<u64>,
    ) -> Result<(), Failure> {
        let whole = |total: usize, got: &[u8]| if bytes == 0 { ends_line(got) } else { total >= bytes };
        let mut wrong = None;
        self.until_all(whole, |now| {
            let took = u64::try_from(now.saturating_duration_since(due).as_nanos()).unwrap_or(u64::MAX);
            if let Err(error) = histogram.record(took) {
                wrong = Some(error);
            }
        })?;
        wrong.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Reads until `whole` holds for every reader, of all it got and of the bytes just read.
    fn until_all(
        &mut self,
        whole: impl Fn(usize, &[u8]) -> bool,
        mut read: impl FnMut(Instant),
    ) -> Result<(), Failure> {
        self.first.clear();
        for reader in &mut self.all {
            (reader.got, reader.done) = (0, false);
        }
        let (mut left, deadline) = (self.all.len(), Instant::now() + PATIENCE);
        while left > 0 {
            if Instant::now() > deadline {
                return Err(format!("{left} of {} readers got nothing", self.all.len()).into());
            }
            self.poll.poll(&mut self.events, Some(Duration::from_secs(1)))?;
            for event in &self.events {
                let number = event.token().0;
                let Some(reader) = self.all.get_mut(number) else { continue };
                loop {
                    let got = match reader.stream.read(&mut self.buffer) {
                        Ok(0) => return Err(format!("reader {number} was closed").into()),
                        Ok(got) => got,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    };
                    reader.got += got;
                    let bytes = self.buffer.get(..got).unwrap_or_default();
                    if number == 0 {
                        self.first.extend_from_slice(bytes);
                    }
                    if !reader.done && whole(reader.got, bytes) {
                        reader.done = true;
                        left -= 1;
                        read(Instant::now());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether the bytes end a line, in a chunk of its own or not.
fn ends_line(got: &[u8]) -> bool {
    got.ends_with(b"}\n") || got.ends_with(b"}\n\r\n")
}
