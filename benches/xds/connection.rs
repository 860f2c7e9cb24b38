//! One HTTP/2 connection with calls of gRPC on it, as its client: by hand, so that what is measured is the servers and
//! not a client's library. Windows for what is received are as large as they can be, and are never used up.

use std::io::{ErrorKind, Read as _, Write as _};

use mio::net::TcpStream;

use super::support::Failure;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;

/// Flags: of settings and pings, an answer to them; of headers and data, the last of a call.
const ACK: u8 = 1;
const END: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// The setting that is the window of a new call, and the window before anybody says another.
const INITIAL_WINDOW: u16 = 4;
const WINDOW_DEFAULT: u32 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Longest frame, as nobody says another.
const FRAME_MAX: usize = 16 << 10;

/// The head of a call by indexes of HPACK's table: a POST by http to `bench`, up to the length of its path, and the
/// rest of it, which says that it is gRPC.
const HEAD: &[u8] = b"\x83\x86\x01\x05bench\x04";
const HEAD_REST: &[u8] = b"\x0f\x10\x10application/grpc\x00\x02te\x08trailers";

/// What is done with a message of a call: an answer to it is sent.
pub(crate) type Take<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<Option<Vec<u8>>, Failure>;

/// A connection.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much the server takes: over all calls, and of a new one.
    room: i64,
    initial: i64,
    calls: Vec<Call>,
    /// Bytes read and written.
    pub(crate) bytes: u64,
}

/// One call.
struct Call {
    room: i64,
    unsent: Vec<u8>,
    /// What came of a message that is not whole yet.
    message: Vec<u8>,
}

/// One frame.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Connection {
    /// Greets a server.
    pub(crate) fn new(socket: TcpStream) -> Self {
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = INITIAL_WINDOW.to_be_bytes().to_vec();
        settings.extend(WINDOW_MAX.to_be_bytes());
        put(&mut output, SETTINGS, 0, 0, &settings);
        put(&mut output, WINDOW, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes());
        let room = i64::from(WINDOW_DEFAULT);
        Self { socket, input: Vec::new(), output, room, initial: room, calls: Vec::new(), bytes: 0 }
    }

    /// Begins a call.
    pub(crate) fn call(&mut self, path: &str) -> Result<(), Failure> {
        let mut head = HEAD.to_vec();
        head.push(u8::try_from(path.len()).ok().filter(|len| *len < 127).ok_or("a short path")?);
        head.extend(path.as_bytes());
        head.extend(HEAD_REST);
        put(&mut self.output, HEADERS, END_HEADERS, id(self.calls.len()), &head);
        self.calls.push(Call { room: self.initial, unsent: Vec::new(), message: Vec::new() });
        Ok(())
    }

    /// Sends a message of a call, as far as the server takes it; the rest goes when it does.
    pub(crate) fn send(&mut self, call: usize, message: &[u8]) -> Result<(), Failure> {
        let of = self.calls.get_mut(call).ok_or("no such call")?;
        of.unsent.push(0);
        of.unsent.extend(u32::try_from(message.len())?.to_be_bytes());
        of.unsent.extend(message);
        self.pump(call);
        Ok(())
    }

    /// Makes frames of what is unsent of a call.
    fn pump(&mut self, number: usize) {
        let Some(call) = self.calls.get_mut(number) else { return };
        let mut sent = 0;
        while let Some(rest) = call.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            let room = usize::try_from(self.room.min(call.room)).unwrap_or(0);
            let Some(piece) = rest.get(..rest.len().min(room).min(FRAME_MAX)).filter(|_| room > 0) else {
                break;
            };
            put(&mut self.output, DATA, 0, id(number), piece);
            sent += piece.len();
            self.room -= i64::from(piece.len() as u32);
            call.room -= i64::from(piece.len() as u32);
        }
        call.unsent.drain(..sent);
    }

    /// Writes what there is, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let mut written = 0;
        while let Some(rest) = self.output.get(written..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes += written as u64;
        self.output.drain(..written);
        Ok(())
    }

    /// Reads what has come, has each message taken, and writes the answers.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], take: Take<'_>) -> Result<(), Failure> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(count) => {
                    self.bytes += count as u64;
                    self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    self.frames(take)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.flush(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn frames(&mut self, take: Take<'_>) -> Result<(), Failure> {
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((frame, after)) = Frame::first(rest) {
            self.on_frame(&frame, take)?;
            rest = after;
        }
        let used = input.len() - rest.len();
        self.input = input;
        self.input.drain(..used);
        Ok(())
    }

    fn on_frame(&mut self, frame: &Frame<'_>, take: Take<'_>) -> Result<(), Failure> {
        let Frame { kind, flags, stream, payload } = *frame;
        let number = (stream / 2) as usize;
        match kind {
            DATA if flags & PADDED == 0 => {
                let call = self.calls.get_mut(number).ok_or("data of no call")?;
                for answer in call.take(number, payload, take)? {
                    self.send(number, &answer)?;
                }
            }
            HEADERS if flags & END != 0 => {
                let text = String::from_utf8_lossy(payload);
                return Err(format!("the server ended call {number}: {text:?}").into());
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let Some((name, value)) = setting.split_first_chunk()
                        && u16::from_be_bytes(*name) == INITIAL_WINDOW
                    {
                        self.widen(i64::from(number_of(value)));
                    }
                }
                put(&mut self.output, SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => put(&mut self.output, PING, ACK, 0, payload),
            WINDOW if stream == 0 => {
                self.room += i64::from(number_of(payload));
                (0..self.calls.len()).for_each(|number| self.pump(number));
            }
            WINDOW => {
                if let Some(call) = self.calls.get_mut(number) {
                    call.room += i64::from(number_of(payload));
                }
                self.pump(number);
            }
            RESET | GO_AWAY | DATA => {
                return Err(format!("frame {kind} of stream {stream}: {payload:?}").into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes another initial window, which holds for calls that are there, too.
    fn widen(&mut self, initial: i64) {
        for number in 0..self.calls.len() {
            if let Some(call) = self.calls.get_mut(number) {
                call.room += initial - self.initial;
            }
            self.pump(number);
        }
        self.initial = initial;
    }
}

impl Call {
    /// Has whole messages taken; their answers.
    fn take(&mut self, number: usize, data: &[u8], take: Take<'_>) -> Result<Vec<Vec<u8>>, Failure> {
        let mut answers = Vec::new();
        if self.message.is_empty() {
            let rest = messages(number, data, take, &mut answers)?;
            self.message.extend_from_slice(rest);
            return Ok(answers);
        }
        self.message.extend_from_slice(data);
        let rest = messages(number, &self.message, take, &mut answers)?.len();
        let used = self.message.len() - rest;
        self.message.drain(..used);
        Ok(answers)
    }
}

impl<'a> Frame<'a> {
    /// The first frame, and what follows it; `None` while it is not whole.
    fn first(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = input.split_first_chunk::<9>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let (payload, rest) = rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
        Some((Self { kind, flags, stream: u32::from_be_bytes(stream) & WINDOW_MAX, payload }, rest))
    }
}

/// Has the whole messages taken with which the data begins, and gives the rest of it.
fn messages<'a>(
    number: usize,
    mut data: &'a [u8],
    take: Take<'_>,
    answers: &mut Vec<Vec<u8>>,
) -> Result<&'a [u8], Failure> {
    while let Some(([compressed, length @ ..], rest)) = data.split_first_chunk::<5>()
        && let Some((message, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)
    {
        if *compressed != 0 {
            return Err("a message is compressed".into());
        }
        answers.extend(take(number, message)?);
        data = rest;
    }
    Ok(data)
}

fn put(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    output.extend(length);
    output.extend([kind, flags]);
    output.extend(stream.to_be_bytes());
    output.extend(payload);
}

/// The stream of a call: those of clients are odd.
fn id(call: usize) -> u32 {
    call as u32 * 2 + 1
}

fn number_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
