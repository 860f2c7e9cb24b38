//! What every server of requests asks of one before it looks at it: headers and bodies within bounds, no page of
//! another site, one bearer token. Each server answers what is wrong in its own protocol's words.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::core::error::BoxError;

/// The bounds of bodies, shared by all requests of a listener.
#[derive(Debug)]
pub struct Bodies {
    max: usize,
    timeout: Duration,
    buffered: Arc<Semaphore>,
}

/// A part of the memory of a listener, held until it is dropped.
#[derive(Debug, Default)]
pub struct Share(Option<OwnedSemaphorePermit>);

/// A body that was read, and its share of the listener's memory.
#[derive(Debug, Default)]
pub struct Read {
    /// The body.
    pub bytes: Bytes,
    /// What it takes.
    pub share: Share,
}

/// Why a body was not read.
#[derive(Debug)]
pub enum Unread {
    /// It broke off.
    Cut(BoxError),
    /// It is larger than one may be.
    TooLarge,
    /// Those of all requests together would be.
    NoMemory,
    /// It took longer than this.
    Slow(Duration),
}

impl Bodies {
    /// At most `max` bytes each, `buffered` over all, and `timeout` to send one.
    pub fn new(max: usize, buffered: usize, timeout: Duration) -> Self {
        let buffered = Arc::new(Semaphore::new(buffered.min(Semaphore::MAX_PERMITS)));
        Self { max, timeout, buffered }
    }

    /// Most bytes of one.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Reads a request's body; one that announces to be too large is not begun with.
    ///
    /// # Errors
    /// [`Unread`]; its share of the memory is free again.
    pub async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<Read, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.max as u64) {
            return Err(Unread::TooLarge);
        }
        let read = timeout(self.timeout, self.collect(body)).await;
        read.unwrap_or(Err(Unread::Slow(self.timeout)))
    }

    async fn collect<B>(&self, mut body: B) -> Result<Read, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let mut read = Read::default();
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Unread::Cut(error.into()))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.bytes.len() + joined.len() + data.len() > self.max {
                return Err(Unread::TooLarge);
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

    /// Adds `n` bytes to a share, for what a body becomes.
    ///
    /// # Errors
    /// [`Unread::NoMemory`]
    pub fn hold(&self, n: usize, share: &mut Share) -> Result<(), Unread> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.buffered).try_acquire_many_owned(n);
        let permit = permit.map_err(|_| Unread::NoMemory)?;
        match &mut share.0 {
            Some(held) => held.merge(permit),
            None => share.0 = Some(permit),
        }
        Ok(())
    }
}

/// Whether there are more than `max` headers, or `max_bytes` of them.
pub fn is_oversized(headers: &HeaderMap, max: usize, max_bytes: u64) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers.len() > max || bytes as u64 > max_bytes
}

/// The site whose page sends the request, where it is neither ours nor one of `allowed`: a browser would let any page
/// post to a server on loopback.
pub fn foreign_origin<'a>(headers: &'a HeaderMap, uri: &Uri, allowed: &[String]) -> Option<&'a str> {
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or("?");
    if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return None;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(Authority::as_str)).unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    // A name could be made to resolve to us (DNS rebinding); a literal address or localhost could not.
    let name = host.parse::<Authority>();
    let name = name.as_ref().map_or("", |authority| authority.host()).trim_matches(['[', ']']);
    let literal = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    if own && literal { None } else { Some(origin) }
}

/// The one bearer token that is shown; `None` also where several are.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn pieces(all: &[&'static str]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin + use<> {
        let frames: Vec<_> = all
            .iter()
            .map(|piece| match *piece {
                "cut" => Err(std::io::Error::other("gone")),
                piece => Ok(Frame::data(Bytes::from_static(piece.as_bytes()))),
            })
            .collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_within_its_bounds_and_says_why_not() {
        let bodies = Bodies::new(5, 8, Duration::from_secs(1));
        let read = bodies.read(&headers(&[]), pieces(&["ab", "", "cde"])).await.unwrap();
        assert_eq!(read.bytes, "abcde");
        assert!(matches!(
            bodies.read(&headers(&[]), Full::new(Bytes::from_static(b"abcd"))).await,
            Err(Unread::NoMemory)
        ));
        drop(read);
        assert!(bodies.read(&headers(&[]), pieces(&["abcd"])).await.is_ok());
        assert!(matches!(bodies.read(&headers(&[]), pieces(&["abc", "def"])).await, Err(Unread::TooLarge)));
        let announced = headers(&[("content-length", "6")]);
        assert!(matches!(bodies.read(&announced, pieces(&[])).await, Err(Unread::TooLarge)));
        assert!(matches!(
            bodies.read(&headers(&[]), pieces(&["a", "cut"])).await,
            Err(Unread::Cut(error)) if error.to_string() == "gone"
        ));
        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        assert!(matches!(bodies.read(&headers(&[]), never).await, Err(Unread::Slow(_))));
    }

    #[test]
    fn headers_are_bounded_in_number_and_bytes() {
        let two = headers(&[("a", "12"), ("b", "3")]);
        assert!(!is_oversized(&two, 2, 5));
        assert!(is_oversized(&two, 1, 5) && is_oversized(&two, 2, 4));
    }

    #[test]
    fn a_page_of_another_site_is_foreign_and_so_is_ours_under_a_name() {
        for (origin, host, foreign) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", false),
            ("http://LOCALHOST:1", "localhost:1", false),
            ("http://[::1]:1", "[::1]:1", false),
            ("http://127.0.0.1:1", "127.0.0.1:2", true),
            ("http://rebound.example:1", "rebound.example:1", true),
            ("null", "127.0.0.1:1", true),
            ("https://good.example", "127.0.0.1:1", false),
        ] {
            let headers = headers(&[("origin", origin), ("host", host)]);
            let found =
                foreign_origin(&headers, &Uri::from_static("/"), &["https://GOOD.example".to_owned()]);
            assert_eq!(found, foreign.then_some(origin), "{origin} at {host}");
        }
        assert_eq!(foreign_origin(&headers(&[("host", "a")]), &Uri::from_static("/"), &[]), None);
        let by_uri = headers(&[("origin", "http://127.0.0.1:1")]);
        assert_eq!(foreign_origin(&by_uri, &Uri::from_static("http://127.0.0.1:1/"), &[]), None);
    }

    #[test]
    fn one_bearer_token_counts() {
        assert_eq!(bearer_token(&headers(&[("authorization", "bEARER  t ")])), Some("t"));
        for none in [&[("authorization", "Basic t")][..], &[("authorization", "t")], &[]] {
            assert_eq!(bearer_token(&headers(none)), None, "{none:?}");
        }
        let mut two = headers(&[("authorization", "Bearer t")]);
        two.append(AUTHORIZATION, "Bearer t".parse().unwrap());
        assert_eq!(bearer_token(&two), None);
    }
}
