//! Server-sent events ([WHATWG HTML 9.2]), as they are read.
//!
//! [WHATWG HTML 9.2]: https://html.spec.whatwg.org/multipage/server-sent-events.html

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::root;
use crate::cli::Failure;

/// Most bytes of one event: what the bus takes as one, in base64, with its attributes.
const EVENT_MAX: usize = 32 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Event {
    /// Where to resume after it: the last `id` so far.
    pub(in crate::cli) id: String,
    /// Its name; `message` where it has none.
    pub(in crate::cli) name: String,
    /// Its data, lines joined.
    pub(in crate::cli) data: String,
}

/// A stream of events.
#[derive(Debug)]
pub(in crate::cli) struct Events {
    body: Incoming,
    url: String,
    parser: Parser,
}

impl Events {
    pub(super) fn new(body: Incoming, url: String) -> Self {
        Self { body, url, parser: Parser::default() }
    }

    /// The next event; `None` where the server ends the stream. Cancel safe.
    ///
    /// # Errors
    /// The connection was lost (exit code 69), or an event is too large.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.parser.next() {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Failure::unreachable(format!("{}: {}", self.url, root(&error))));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.parser.buffer.extend_from_slice(&data);
                    }
                }
            }
            if self.parser.size() > EVENT_MAX {
                return Err(Failure::failed(format!(
                    "{}: an event of more than {EVENT_MAX} bytes",
                    self.url
                )));
            }
        }
    }
}

/// Lines to events.
#[derive(Debug, Default)]
struct Parser {
    buffer: BytesMut,
    /// How much of the buffer has no end of line.
    searched: usize,
    last_id: String,
    name: String,
    data: String,
    has_data: bool,
}

impl Parser {
    fn size(&self) -> usize {
        self.buffer.len() + self.data.len()
    }

    fn next(&mut self) -> Option<Event> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                if std::mem::take(&mut self.has_data) {
                    let name = if name.is_empty() { "message".to_owned() } else { name };
                    return Some(Event { id: self.last_id.clone(), name, data });
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.data.push('\n');
                    }
                    self.data.push_str(value);
                }
                "event" => value.clone_into(&mut self.name),
                "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
                // A comment, or a field that is none of ours.
                _ => {}
            }
        }
        None
    }

    /// The next whole line, without its end: LF or CR LF, as our servers write.
    fn line(&mut self) -> Option<String> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + at);
        self.buffer.advance(1);
        self.searched = 0;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        Some(String::from_utf8_lossy(line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&str]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.buffer.extend_from_slice(piece.as_bytes());
            while let Some(event) = parser.next() {
                events.push(event);
            }
        }
        events
    }

    fn event(id: &str, name: &str, data: &str) -> Event {
        Event { id: id.to_owned(), name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": tap\n\nid: 7\nevent: put\ndata: {\"a\":1}\n\n: heartbeat\n\ndata:x\r\ndata: y\r\n\r\nevent: e\n\n";
        let expected = [event("7", "put", "{\"a\":1}"), event("7", "message", "x\ny")];
        assert_eq!(events(&[text]), expected);
        let cut: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(events(&cut.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn an_event_without_its_empty_line_is_not_told() {
        assert_eq!(events(&["data: x\n"]), []);
    }
}
