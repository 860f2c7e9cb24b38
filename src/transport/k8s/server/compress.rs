//! Compressing answers: with gzip, where the client takes it and the body is long enough to be worth it.

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::GzipEncoder;
use bytes::Bytes;
use futures_util::future::{Either, ready};
use futures_util::{Stream, StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use tokio_util::io::{ReaderStream, StreamReader};

use super::answer::{Answer, Body};

/// Shortest body that is compressed, in bytes, as an API server has it.
pub(super) const FROM: usize = 128 * 1024;

/// Compresses a body that is there whole.
pub(super) fn whole(headers: &HeaderMap, answer: Answer) -> Answer {
    let long =
        matches!(hyper::body::Body::size_hint(answer.body()).exact(), Some(length) if length > FROM as u64);
    if !long || answer.headers().contains_key(CONTENT_ENCODING) || !accepts(headers) {
        return answer;
    }
    compressed(answer)
}

/// Compresses a body that comes in pieces and is known to be long.
pub(super) fn pieces(headers: &HeaderMap, answer: Answer) -> Answer {
    if accepts(headers) { compressed(answer) } else { answer }
}

fn compressed(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    head.headers.remove(CONTENT_LENGTH);
    let body = match body.into_parts() {
        Either::Left(bytes) => Body::pieces(gzip(stream::iter([bytes]))),
        Either::Right(pieces) => Body::pieces(gzip(pieces)),
    };
    Answer::from_parts(head, body)
}

fn gzip(pieces: impl Stream<Item = Bytes> + Send + Unpin + 'static) -> impl Stream<Item = Bytes> + Send {
    let reader = StreamReader::new(pieces.map(Ok::<_, io::Error>));
    let encoder = GzipEncoder::with_quality(reader, Level::Fastest);
    // Reading from memory does not fail, and the encoder takes whatever it reads.
    ReaderStream::with_capacity(encoder, 16 * 1024).filter_map(|piece| ready(piece.ok()))
}

fn accepts(headers: &HeaderMap) -> bool {
    let given = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_gzip_is_used_only_where_it_is_accepted() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepts(&headers), expected, "{value}");
        }
        assert!(!accepts(&HeaderMap::new()));
    }
}
