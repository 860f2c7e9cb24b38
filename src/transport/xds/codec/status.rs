//! How a call ended: [gRPC status codes](https://grpc.io/docs/guides/status-codes/) in the trailers `grpc-status` and
//! `grpc-message`.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// The trailer with the code.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The trailer with the text.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Most bytes of a message that are sent: trailers count against the peer's bound on headers.
const MESSAGE_MAX: usize = 2048;
/// What `grpc-message` may hold as it is: printable ASCII but `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// The codes that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Code {
    /// All went well.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nobody knows.
    Unknown = 2,
    /// The request is wrong in itself.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// There is one already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A bound is reached.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// Somebody else was faster: try again from the start.
    Aborted = 10,
    /// Beyond what is kept.
    OutOfRange = 11,
    /// There is no such method.
    Unimplemented = 12,
    /// A defect of the server.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Something is lost.
    DataLoss = 15,
    /// The caller proved no name.
    Unauthenticated = 16,
}

impl Code {
    /// The code of a number; what is none is `Unknown`, as gRPC has it.
    pub fn of(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }

    /// The code of an answer that is none of gRPC, by
    /// [its rules](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
    pub fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// A code and what there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What programs act on.
    pub code: Code,
    /// What people read.
    pub message: String,
}

impl Status {
    /// A status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The end of a call that went well.
    pub fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    /// The end of what a bus serves that stops.
    pub fn shutting_down() -> Self {
        Self::new(Code::Unavailable, "meshbus is shutting down: connect again")
    }

    /// The trailers of a response, or the headers of one that is nothing else.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(STATUS, HeaderValue::from(self.code as u16));
        let text = self.message.get(..self.message.floor_char_boundary(MESSAGE_MAX)).unwrap_or_default();
        let text = utf8_percent_encode(text, ESCAPED).to_string();
        if let Ok(text) = HeaderValue::try_from(text)
            && !text.is_empty()
        {
            trailers.insert(MESSAGE, text);
        }
        trailers
    }

    /// What trailers say; `None` where they are none of gRPC's.
    pub fn of_trailers(trailers: &HeaderMap) -> Option<Self> {
        let code = trailers.get(STATUS)?.to_str().ok().and_then(|code| code.parse().ok());
        let message = trailers.get(MESSAGE).map(|text| percent_decode(text.as_bytes()));
        let message = message.map(|text| text.decode_utf8_lossy().into_owned()).unwrap_or_default();
        Some(Self { code: Code::of(code.unwrap_or(-1)), message })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_trailers() {
        for message in ["", "no such thing", "100 % ä\n", &"x".repeat(5000)] {
            let status = Status::new(Code::NotFound, message);
            let read = Status::of_trailers(&status.trailers()).unwrap();
            assert_eq!(read.code, Code::NotFound);
            assert_eq!(read.message, message.chars().take(MESSAGE_MAX).collect::<String>());
        }
    }

    #[test]
    fn every_code_has_its_number() {
        for number in 0..=16 {
            assert_eq!(Code::of(number) as i32, number);
        }
        assert_eq!((Code::of(17), Code::of(-1)), (Code::Unknown, Code::Unknown));
    }

    #[test]
    fn trailers_without_a_status_say_nothing() {
        assert_eq!(Status::of_trailers(&HeaderMap::new()), None);
        let mut odd = HeaderMap::new();
        odd.insert(STATUS, HeaderValue::from_static("abc"));
        assert_eq!(Status::of_trailers(&odd).unwrap().code, Code::Unknown);
    }
}
