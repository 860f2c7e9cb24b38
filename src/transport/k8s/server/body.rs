//! Reading request bodies: bounded in size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::transport::k8s::codec::status::{Reason, Status};

/// The bounds of bodies, shared by all requests of a listener.
#[derive(Debug)]
pub(super) struct Bodies {
    max: usize,
    timeout: Duration,
    buffered: Arc<Semaphore>,
}

/// A body that was read, and its share of the listener's memory until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// At most `max` bytes each, `buffered` over all, and `timeout` to send one.
    pub(super) fn new(max: usize, buffered: usize, timeout: Duration) -> Self {
        let buffered = Arc::new(Semaphore::new(buffered.min(Semaphore::MAX_PERMITS)));
        Self { max, timeout, buffered }
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// 400 cut short, 413 too large, 415 compressed, 429 no memory, 504 too slow.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Incoming) -> Result<Read, Status> {
        let coding = headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
        if let Some(coding) = coding.filter(|coding| !matches!(*coding, "" | "identity")) {
            let message = format!("content encoding {coding:?} is not supported: send the body as it is");
            return Err(Status::new(Reason::UnsupportedMediaType, message));
        }
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.max as u64) {
            return Err(self.too_large());
        }
        let slow = |_| {
            let message = format!("the body took longer than {:?}", self.timeout);
            Status::new(Reason::Timeout, message)
        };
        timeout(self.timeout, self.collect(body)).await.map_err(slow)?
    }

    async fn collect(&self, mut body: Incoming) -> Result<Read, Status> {
        let mut read = Read::default();
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Status::new(Reason::BadRequest, format!("the body cannot be read: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if read.bytes.len() + joined.len() + data.len() > self.max {
                return Err(self.too_large());
            }
            self.hold(data.len(), &mut read.share)?;
            // Most bodies come in one piece, which is then not copied.
            if read.bytes.is_empty() && joined.is_empty() {
                read.bytes = data;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut read.bytes));
                joined.extend_from_slice(&data);
            }
        }
        if !joined.is_empty() {
            read.bytes = joined.freeze();
        }
        Ok(read)
    }

    fn hold(&self, n: usize, share: &mut Option<OwnedSemaphorePermit>) -> Result<(), Status> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.buffered).try_acquire_many_owned(n).map_err(|_| {
            Status::new(Reason::TooManyRequests, "too many request bodies at a time for our memory")
                .retry_after(1)
        })?;
        match share {
            Some(held) => held.merge(permit),
            None => *share = Some(permit),
        }
        Ok(())
    }

    fn too_large(&self) -> Status {
        let message = format!("Request entity too large: limit is {}", self.max);
        Status::new(Reason::RequestEntityTooLarge, message)
    }
}
