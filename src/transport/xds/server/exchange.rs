//! Calls in which each request is answered by one response, in order: the next request is read when the response to the
//! one before is taken.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Frame;

use super::Shared;
use super::clients::Clients;
use super::requests::Requests;
use super::update::Updates;
use crate::transport::xds::codec::status::{Code, Status};

/// A call of that kind.
#[derive(Debug)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    requests: Requests,
    service: Service,
    /// Whether there is but one request.
    once: bool,
    end: End,
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Service {
    /// Writes.
    Updates(Updates),
    /// How clients stand.
    Clients(Clients),
}

/// How far a call is from its end.
#[derive(Debug)]
enum End {
    Open,
    Ending(Status),
    Ended,
}

impl Exchange {
    pub(super) fn new(shared: Arc<Shared>, requests: Requests, service: Service, once: bool) -> Self {
        Self { shared, requests, service, once, end: End::Open }
    }

    /// The next part of the response.
    pub(super) async fn next(&mut self) -> Option<Frame<Bytes>> {
        let status = match std::mem::replace(&mut self.end, End::Ended) {
            End::Open => match self.answer().await {
                Ok(response) => {
                    self.end = if self.once { End::Ending(Status::ok()) } else { End::Open };
                    return Some(Frame::data(response));
                }
                Err(status) => status,
            },
            End::Ending(status) => status,
            End::Ended => return None,
        };
        Some(Frame::trailers(status.trailers()))
    }

    /// Answers the next request, which takes of the budget until it is answered.
    ///
    /// # Errors
    /// The status with which the call ends.
    async fn answer(&mut self) -> Result<Bytes, Status> {
        let request = tokio::select! {
            request = self.requests.next() => request?,
            () = self.shared.shutdown.drain() => {
                return Err(Status::shutting_down());
            }
        };
        match request {
            Some(request) => {
                let answer = match &mut self.service {
                    Service::Updates(updates) => updates.answer(request).await,
                    Service::Clients(clients) => clients.answer(request),
                };
                self.requests.release();
                answer
            }
            None if self.once => Err(Status::new(Code::InvalidArgument, "the call has no request")),
            None => Err(Status::ok()),
        }
    }
}
