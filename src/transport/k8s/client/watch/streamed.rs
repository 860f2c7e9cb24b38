//! Lists that are told as the beginning of a watch: object by object, up to a bookmark that ends it.
//!
//! A server puts no pages together for such a list, which would be the dearest that is asked of it. One that does not
//! know it refuses, or sends other bookmarks or nothing where that one is due; it is asked for pages from then on.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::super::super::codec::envelope::Describing;
use super::super::super::codec::received::{Line, Received, ends_list, line, position};
use super::super::api::Failure;
use super::batch::Item;
use super::lines::Lines;
use super::list::{Names, Read, is_bad};
use super::{Subject, Watch};

/// A list that is being told.
struct Streamed {
    body: Body,
    lines: Lines,
    read: Read,
    events: Vec<Received>,
    ended: bool,
}

/// Why it is not told to its end.
enum Cut {
    /// It has no end: the server does not know what was asked for.
    Never,
    /// It broke off this time.
    Broken,
}

impl Watch<'_> {
    /// Reads a list as a stream; `None` where the server has none, or broke it off.
    pub(super) async fn read_streamed(
        &mut self,
        subject: &Subject,
        first: bool,
    ) -> Result<Option<Read>, Failure> {
        if !self.streams {
            return Ok(None);
        }
        let config = self.around.config;
        let query = format!(
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds={}",
            config.watch_timeout.0.as_secs().max(1),
        );
        let path = format!("{}{}", subject.path, self.query(&query));
        let body = match self.around.api.stream(&path, self.accept()).await {
            Ok(body) => body,
            Err(failure) if is_bad(&failure) => {
                debug!(watch = self.cursor, error = %failure, "lists come in pages");
                self.streams = false;
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let lines = Lines::new(config.max_object.bytes());
        let read = Read { position: "".into(), named: Names::default(), held: Vec::new() };
        let mut streamed = Streamed { body, lines, read, events: Vec::new(), ended: false };
        if let Err(cut) = self.read_to_end(subject, first, &mut streamed, config.timeout.0).await {
            self.streams = matches!(cut, Cut::Broken);
            debug!(watch = self.cursor, "a streamed list was cut off");
            return Ok(None);
        }
        let Streamed { mut read, events, .. } = streamed;
        read.held = self.in_order(subject, events, first);
        Ok(Some(read))
    }

    async fn read_to_end(
        &mut self,
        subject: &Subject,
        first: bool,
        streamed: &mut Streamed,
        patience: Duration,
    ) -> Result<(), Cut> {
        while !streamed.ended {
            let frame = timeout_at(Instant::now() + patience, streamed.body.frame()).await;
            let Some(Ok(frame)) = frame.map_err(|_| Cut::Never)? else { return Err(Cut::Broken) };
            streamed.lines.push(&frame.into_data().unwrap_or_default());
            let (mut items, mut cut) = (Vec::new(), None);
            while !streamed.ended && cut.is_none() {
                let Some(text) = streamed.lines.next() else { break };
                match self.streamed_line(subject, first, streamed, &text) {
                    Ok(item) => items.extend(item),
                    Err(why) => cut = Some(why),
                }
            }
            self.around.stats.oversize.add(streamed.lines.take_oversize());
            self.publish_all(items).await;
            if let Some(cut) = cut {
                return Err(cut);
            }
        }
        Ok(())
    }

    /// What one line of it brings.
    fn streamed_line(
        &mut self,
        subject: &Subject,
        first: bool,
        streamed: &mut Streamed,
        text: &Bytes,
    ) -> Result<Vec<Item>, Cut> {
        let read = self.counted(|_| {
            let text = std::str::from_utf8(text)
                .map_err(|error| crate::core::DecodeError::new(error.to_string()))?;
            line(text)
        });
        let Some(Line { kind, object }) = read else { return Ok(Vec::new()) };
        match &*kind {
            "ERROR" => return Err(Cut::Broken),
            "BOOKMARK" if ends_list(object) => {
                streamed.read.position = position(object).ok_or(Cut::Never)?.into();
                streamed.ended = true;
            }
            "BOOKMARK" => return Err(Cut::Never),
            "ADDED" | "MODIFIED" | "DELETED" => {
                let object = self.counted(|_| Received::read(object, &subject.reading));
                let Some(object) = object.filter(|object| subject.covers(object)) else {
                    return Ok(Vec::new());
                };
                let name = Describing::name(&object.namespace, &object.name);
                if kind == "DELETED" {
                    // As if it had never been in the list: what is not named is gone.
                    streamed.read.named.remove(&name);
                    streamed.events.retain(|event| event.uid != object.uid);
                    return Ok(Vec::new());
                }
                streamed.read.named.insert(name);
                if !subject.reading.event {
                    return Ok(self.listed(subject, &object, first));
                }
                streamed.events.push(object);
            }
            _ => {}
        }
        Ok(Vec::new())
    }
}
