//! Watching: the changes after a position, line by line.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use http::StatusCode;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::super::super::codec::received::{Line, Received, line, position};
use super::super::super::codec::status::Status;
use super::super::api::{Failure, segment};
use super::super::buckets::when;
use super::batch::Item;
use super::lines::Lines;
use super::{LASTED, Subject, Trouble, Watch};
use crate::core::Timestamp;
use crate::core::error::causes;

/// Changes that are published at a time.
const BATCH: usize = 256;
/// A stream that ends so soon and without a line was none.
const AT_ONCE: Duration = Duration::from_secs(1);
/// So many of them in a row, and the position is taken for gone: old servers say it so.
const EMPTIES_MAX: u32 = 3;

/// A stream that is read.
struct Stream {
    body: Body,
    lines: Lines,
    opened: Instant,
    heard: bool,
}

/// Why a stream is read no further.
enum End {
    /// It ended as it should.
    Closed,
    Broken(String),
    /// It says so itself.
    Error(Box<Status>),
}

impl Watch<'_> {
    /// Watches after a position until the stream ends.
    pub(super) async fn stream(&mut self, subject: &Subject, after: &str) -> Result<(), Trouble> {
        let config = self.around.config;
        // Not all at the same time.
        let patience = config.watch_timeout.0.mul_f64(0.9 + fastrand::f64() / 10.0);
        let first = format!(
            "watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            segment(after),
            patience.as_secs().max(1),
        );
        let path = format!("{}{}", subject.path, self.query(&first));
        let body = match self.around.api.stream(&path, self.accept()).await {
            Ok(body) => body,
            Err(failure) => return Err(self.refused(failure)),
        };
        self.around.stats.connected.add(1);
        self.around.board.good(self.number);
        let lines = Lines::new(config.max_object.bytes());
        let mut stream = Stream { body, lines, opened: Instant::now(), heard: false };
        let end = self.follow(subject, &mut stream, stream_limit(patience, config.timeout.0)).await;
        let lasted = stream.opened.elapsed();
        if stream.heard || lasted >= AT_ONCE {
            self.empties = 0;
        }
        self.undelivered()?;
        match end {
            End::Closed if stream.heard || lasted >= AT_ONCE => Ok(()),
            End::Closed => {
                self.empties += 1;
                if self.empties >= EMPTIES_MAX {
                    return Err(self.gone("streams end at once"));
                }
                Err(Trouble { expected: true, ..Trouble::new("the stream ended at once") })
            }
            End::Broken(_) if stream.heard || lasted >= LASTED => Ok(()),
            End::Broken(why) => Err(Trouble { expected: true, ..Trouble::new(why) }),
            End::Error(status) if is_over(&status) => Err(self.gone(&status.message)),
            End::Error(status) => {
                let mut trouble = Trouble::new(format!("{}: {}", status.reason, status.message));
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after);
                trouble.wait = Duration::from_secs(u64::from(seconds));
                Err(trouble)
            }
        }
    }

    fn refused(&mut self, failure: Failure) -> Trouble {
        match failure.code() {
            Some(StatusCode::GONE) => self.gone(&failure.to_string()),
            Some(StatusCode::NOT_FOUND) => {
                self.around.kinds.miss();
                self.memory.position = None;
                failure.into()
            }
            _ => failure.into(),
        }
    }

    /// Reads and publishes until the stream ends or is silent for too long.
    async fn follow(&mut self, subject: &Subject, stream: &mut Stream, limit: Duration) -> End {
        let deadline = stream.opened + limit;
        loop {
            let room = self.memory.window.len() < self.around.config.in_flight;
            tokio::select! {
                biased;
                () = self.memory.window.answered(), if self.memory.window.len() > 0 => {
                    self.memory.window.settle();
                    if self.memory.window.held().is_some() {
                        return End::Closed;
                    }
                }
                () = sleep_until(self.save_at), if self.memory.window.has_progress() => self.save().await,
                () = when(self.buckets.due()) => self.sum_up(Instant::now()).await,
                frame = stream.body.frame(), if room => {
                    let piece = match frame {
                        None => return End::Closed,
                        Some(Err(error)) => return End::Broken(causes(&error)),
                        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    };
                    stream.lines.push(&piece);
                    if let Some(end) = self.take(subject, stream).await {
                        return end;
                    }
                }
                () = sleep_until(deadline) => {
                    return End::Broken("the stream is silent beyond its time".to_owned());
                }
            }
        }
    }

    /// Publishes the whole lines there are.
    async fn take(&mut self, subject: &Subject, stream: &mut Stream) -> Option<End> {
        loop {
            let (mut items, mut end) = (Vec::new(), None);
            while items.len() < BATCH && end.is_none() {
                let Some(text) = stream.lines.next() else { break };
                stream.heard = true;
                match self.read_line(subject, &text) {
                    Ok(item) => items.extend(item),
                    Err(status) => end = Some(End::Error(status)),
                }
            }
            self.around.stats.oversize.add(stream.lines.take_oversize());
            if items.is_empty() {
                return end;
            }
            if let Some(position) = items.iter().rev().find_map(|item| item.step.position.clone()) {
                self.memory.position = Some(position);
            }
            self.publish_all(items).await;
            if end.is_some() {
                return end;
            }
        }
    }

    /// What one line brings; an error is what the server says is wrong.
    fn read_line(&mut self, subject: &Subject, text: &Bytes) -> Result<Option<Item>, Box<Status>> {
        let read = self.counted(|_| {
            let text = std::str::from_utf8(text)
                .map_err(|error| crate::core::DecodeError::new(error.to_string()))?;
            line(text)
        });
        let Some(Line { kind, object }) = read else { return Ok(None) };
        if kind == "ERROR" {
            let status = Status::decode(object.get().as_bytes()).map(Box::new);
            return Err(status.unwrap_or_else(|| {
                let reason = super::super::super::codec::status::Reason::InternalError;
                Box::new(Status::new(reason, "an error that is no Status"))
            }));
        }
        let at: Option<ByteString> = position(object).map(Into::into);
        let known = matches!(&*kind, "ADDED" | "MODIFIED" | "DELETED");
        let received = known.then(|| self.counted(|_| Received::read(object, &subject.reading))).flatten();
        let item = match received.filter(|received| subject.covers(received)) {
            None => {
                if !known && kind != "BOOKMARK" {
                    debug!(watch = self.cursor, %kind, "a line of an unknown type");
                }
                None
            }
            Some(received) if kind == "DELETED" => self.counted(|watch| watch.deleted(subject, &received)),
            Some(received) => {
                let age = received.time.as_ref().map(Timestamp::elapsed).unwrap_or_default();
                self.around.stats.following.lag.set(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                let mut item = self.counted(|watch| watch.put(subject, &received)).flatten();
                if let Some(item) = &mut item {
                    self.slow_down(subject, &received, item);
                }
                item
            }
        };
        Ok(match (item, at) {
            (Some(mut item), at) => {
                item.step.position = at;
                Some(item)
            }
            (None, Some(at)) => Some(Item::position(at)),
            (None, None) => None,
        })
    }
}

fn stream_limit(patience: Duration, margin: Duration) -> Duration {
    patience + margin
}

/// Whether an error in a stream means that its position is no longer kept, or was never reached.
fn is_over(status: &Status) -> bool {
    status.code == StatusCode::GONE
        || status.reason == "Expired"
        || status.details.as_ref().is_some_and(|details| {
            details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
        })
}
