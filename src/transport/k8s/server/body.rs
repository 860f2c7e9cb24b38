//! Request bodies as they are, and why one was not read in the API's words.

use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use hyper::body::Incoming;

use crate::runtime::request::{Bodies, Read, Unread};
use crate::transport::k8s::codec::status::{Reason, Status};

/// Reads a request's body.
///
/// # Errors
/// 400 cut short, 413 too large, 415 compressed, 429 no memory, 504 too slow.
pub(super) async fn read(bodies: &Bodies, headers: &HeaderMap, body: Incoming) -> Result<Read, Status> {
    let coding = headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    if let Some(coding) = coding.filter(|coding| !matches!(*coding, "" | "identity")) {
        let message = format!("content encoding {coding:?} is not supported: send the body as it is");
        return Err(Status::new(Reason::UnsupportedMediaType, message));
    }
    bodies.read(headers, body).await.map_err(|unread| match unread {
        Unread::Cut(error) => Status::new(Reason::BadRequest, format!("the body cannot be read: {error}")),
        Unread::TooLarge => {
            let message = format!("Request entity too large: limit is {}", bodies.max());
            Status::new(Reason::RequestEntityTooLarge, message)
        }
        Unread::NoMemory => {
            let message = "too many request bodies at a time for our memory";
            Status::new(Reason::TooManyRequests, message).retry_after(1)
        }
        Unread::Slow(limit) => Status::new(Reason::Timeout, format!("the body took longer than {limit:?}")),
    })
}
