//! Reading request bodies: bounded in size, time and memory, also when they are compressed.
//!
//! A compressed body is read whole before it is decompressed: a slow sender then holds no decoder, and the
//! decoder's output is counted against what it was made of.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use std::sync::Arc;
use std::time::Duration;

use super::super::client::webhook::chain;
use super::problem::Problem;

/// Most bytes one byte of a compressed body may become.
const RATIO_MAX: usize = 100;
/// Largest window a zstd body may ask for, as a power of two: the 8 MiB of RFC 9659.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Most zstd bodies decompressed at a time: each may take its window's memory.
const ZSTD_AT_A_TIME: usize = 8;

/// The bounds of bodies, shared by all requests of a listener.
#[derive(Debug)]
pub(crate) struct Bodies {
    max: usize,
    timeout: Duration,
    buffered: Arc<Semaphore>,
    zstd: Semaphore,
}

/// A body that was read, and its share of the listener's memory until it is dropped.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    _share: Vec<OwnedSemaphorePermit>,
}

enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Bodies {
    /// At most `max` bytes each, `buffered` over all, and `timeout` to send one.
    pub(crate) fn new(max: usize, buffered: usize, timeout: Duration) -> Self {
        let buffered = Arc::new(Semaphore::new(buffered.min(Semaphore::MAX_PERMITS)));
        Self { max, timeout, buffered, zstd: Semaphore::new(ZSTD_AT_A_TIME) }
    }

    /// Reads a request's body and undoes its `Content-Encoding`.
    ///
    /// # Errors
    /// 400 cut short or not decompressible, 408 too slow, 413 too large, 415 unknown coding, 503 no memory.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Problem> {
        let coding = coding(headers)?;
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.max as u64) {
            return Err(self.too_large());
        }
        let mut share = Vec::new();
        let slow = |_| {
            let detail = format!("the body took longer than {:?}", self.timeout);
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        };
        let sent = timeout(self.timeout, self.collect(body, &mut share)).await.map_err(slow)??;
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
        Ok(Read { bytes, _share: share })
    }

    async fn collect(
        &self,
        mut body: Body,
        share: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Problem> {
        let mut first = Bytes::new();
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Problem::bad_request(format!("the body cannot be read: {}", chain(&error)))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + joined.len() + data.len() > self.max {
                return Err(self.too_large());
            }
            self.hold(data.len(), share)?;
            // Most bodies come in one piece, which is then not copied.
            if first.is_empty() && joined.is_empty() {
                first = data;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut first));
                joined.extend_from_slice(&data);
            }
        }
        Ok(if joined.is_empty() { first } else { joined.freeze() })
    }

    async fn decompress(
        &self,
        mut decoder: impl AsyncRead + Unpin,
        sent: usize,
        share: &mut Vec<OwnedSemaphorePermit>,
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
            if out.len() > self.max || out.len() > sent.saturating_mul(RATIO_MAX) {
                return Err(self.too_large());
            }
            self.hold(n, share)?;
        }
    }

    fn hold(&self, n: usize, share: &mut Vec<OwnedSemaphorePermit>) -> Result<(), Problem> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.buffered).try_acquire_many_owned(n);
        let permit =
            permit.map_err(|_| Problem::unavailable("too many requests at a time for our memory"))?;
        match share.first_mut() {
            Some(held) => held.merge(permit),
            None => share.push(permit),
        }
        Ok(())
    }

    fn too_large(&self) -> Problem {
        let detail = format!(
            "the body is larger than {} bytes (max_body), or expands more than {RATIO_MAX} times",
            self.max
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
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
