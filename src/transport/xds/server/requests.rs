//! The requests of a stream, taken out of its body: bounded in size, and in memory over all streams.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::transport::xds::codec::frame::Frames;
use crate::transport::xds::codec::status::{Code, Status};

/// A permit of the budget is so many bytes.
const UNIT: usize = 1024;
/// What a request may take without a share of the budget.
const FREE: usize = 64 << 10;

/// The bytes that requests may take together while they come.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// The messages of one body.
#[derive(Debug)]
pub(super) struct Requests {
    body: Incoming,
    frames: Frames,
    budget: Budget,
    share: Option<OwnedSemaphorePermit>,
    /// The share of the message that was taken last.
    taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// Of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(UNIT))))
    }
}

impl Requests {
    pub(super) fn new(body: Incoming, max: usize, budget: Budget) -> Self {
        Self { body, frames: Frames::new(max), budget, share: None, taken: None }
    }

    /// Gives back what the last message takes of the budget: it is dealt with.
    pub(super) fn release(&mut self) {
        self.taken = None;
    }

    /// The next message; `None` when the client has no more. It takes its share of the budget until it is
    /// [released](Self::release). May be dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// The status to end the stream with.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.frames.take()? {
                self.taken = self.share.take();
                return Ok(Some(message));
            }
            let missing = self.frames.missing();
            if missing > FREE && self.share.is_none() {
                // The budget is never smaller than the longest request, so a share is there at some time.
                let units = u32::try_from(missing.div_ceil(UNIT)).unwrap_or(u32::MAX);
                self.share = Arc::clone(&self.budget.0).acquire_many_owned(units).await.ok();
            }
            match self.body.frame().await {
                None if self.frames.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "the stream ends within a message")),
                Some(Err(error)) => return Err(Status::new(Code::Cancelled, error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(piece) = frame.data_ref() {
                        self.frames.push(piece);
                    }
                }
            }
        }
    }
}
