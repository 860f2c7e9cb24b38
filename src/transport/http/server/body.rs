//! Reading request bodies: bounded in size, time and memory, also when they are compressed.
//!
//! A compressed body is read whole before it is decompressed: a slow sender then holds no decoder, and the
//! decoder's output is counted against what it was made of.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;

use std::time::Duration;

use super::problem::Problem;
use crate::core::error::causes;
use crate::runtime::request::{self, Read, Share, Unread};

/// Most bytes one byte of a compressed body may become.
const RATIO_MAX: usize = 100;
/// Largest window a zstd body may ask for, as a power of two: the 8 MiB of RFC 9659.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Most zstd bodies decompressed at a time: each may take its window's memory.
const ZSTD_AT_A_TIME: usize = 8;

/// The bounds of bodies, shared by all requests of a listener.
#[derive(Debug)]
pub(crate) struct Bodies {
    sent: request::Bodies,
    zstd: Semaphore,
}

enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Bodies {
    /// At most `max` bytes each, `buffered` over all, and `timeout` to send one.
    pub(crate) fn new(max: usize, buffered: usize, timeout: Duration) -> Self {
        Self { sent: request::Bodies::new(max, buffered, timeout), zstd: Semaphore::new(ZSTD_AT_A_TIME) }
    }

    /// Reads a request's body and undoes its `Content-Encoding`.
    ///
    /// # Errors
    /// 400 cut short or not decompressible, 408 too slow, 413 too large, 415 unknown coding, 503 no memory.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Problem> {
        let coding = coding(headers)?;
        let read = self.sent.read(headers, body).await.map_err(|unread| self.problem(unread))?;
        let Read { bytes: sent, mut share } = read;
        let bytes = match coding {
            Coding::Identity => sent,
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(&*sent);
                decoder.multiple_members(true);
                self.decompress(decoder, sent.len(), &mut share).await?
            }
            Coding::Zstd => {
                let _turn = self.zstd.acquire().await;
                let window = [DParameter::window_log_max(ZSTD_WINDOW_LOG)];
                self.decompress(ZstdDecoder::with_params(&*sent, &window), sent.len(), &mut share).await?
            }
        };
        Ok(Read { bytes, share })
    }

    async fn decompress(
        &self,
        mut decoder: impl AsyncRead + Unpin,
        sent: usize,
        share: &mut Share,
    ) -> Result<Bytes, Problem> {
        let mut out = BytesMut::new();
        loop {
            out.reserve(16 * 1024);
            let n = decoder.read_buf(&mut out).await.map_err(|error| {
                Problem::bad_request(format!("the body cannot be decompressed: {error}"))
            })?;
            if n == 0 {
                return Ok(out.freeze());
            }
            if out.len() > self.sent.max() || out.len() > sent.saturating_mul(RATIO_MAX) {
                return Err(self.problem(Unread::TooLarge));
            }
            self.sent.hold(n, share).map_err(|unread| self.problem(unread))?;
        }
    }

    fn problem(&self, unread: Unread) -> Problem {
        match unread {
            Unread::Cut(error) => {
                Problem::bad_request(format!("the body cannot be read: {}", causes(&*error)))
            }
            Unread::TooLarge => {
                let detail = format!(
                    "the body is larger than {} bytes (max_body), or expands more than {RATIO_MAX} times",
                    self.sent.max()
                );
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            Unread::NoMemory => Problem::unavailable("too many requests at a time for our memory"),
            Unread::Slow(limit) => {
                let detail = format!("the body took longer than {limit:?}");
                Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
            }
        }
    }
}

fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut given = headers.get_all(CONTENT_ENCODING).iter();
    let coding = given.next().map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match (coding.as_deref(), given.next()) {
        (None | Some("" | "identity"), None) => Ok(Coding::Identity),
        (Some("gzip" | "x-gzip"), None) => Ok(Coding::Gzip),
        (Some("zstd"), None) => Ok(Coding::Zstd),
        (coding, _) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "content-encoding {:?} is not supported: gzip, zstd, or none",
                coding.unwrap_or_default()
            ),
        )),
    }
}
