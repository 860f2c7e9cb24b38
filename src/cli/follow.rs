//! Following a bus over HTTP: server-sent events, resumed where they broke off.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::http::{Client, Event, Events, Request};
use super::{Failure, output};

/// The pauses before connecting again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a subscription tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// An event, as one line of JSON.
    Event(Bytes),
    /// A key's value now, as one line of JSON.
    Put(Bytes),
    /// A key is gone; its last value as one line of JSON.
    Delete(Bytes),
    /// The state that matches follows, whole: what it does not name is gone.
    SnapshotBegin,
    /// It is complete.
    SnapshotEnd,
}

/// One subscription, over as many connections as it takes.
#[derive(Debug)]
pub(super) struct Follow {
    client: Client,
    query: Vec<(&'static str, String)>,
    from: String,
    /// Where to resume; empty while nothing has a place.
    last: String,
    events: Option<Events>,
    pause: Duration,
}

impl Follow {
    /// Subscribes. `query` is that of `/v1/subscribe` without `from`, which is `now`, `snapshot` or a position.
    ///
    /// # Errors
    /// The server cannot be reached (exit code 69) or refuses.
    pub(super) async fn open(
        client: Client,
        query: Vec<(&'static str, String)>,
        from: &str,
    ) -> Result<Self, Failure> {
        let mut follow = Self {
            client,
            query,
            from: from.to_owned(),
            last: String::new(),
            events: None,
            pause: PAUSE_MIN,
        };
        let answer = follow.connect().await?;
        match answer {
            Ok(events) => follow.events = Some(events),
            Err(answer) => return Err(answer.failure()),
        }
        Ok(follow)
    }

    /// The client, for other requests to the same server.
    pub(super) fn into_client(self) -> Client {
        self.client
    }

    async fn connect(&self) -> Result<Result<Events, super::http::Answer>, Failure> {
        let mut request = Request::get("/v1/subscribe");
        let query = self.query.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_str())));
        request.query = query.chain([("from", Cow::Borrowed(self.from.as_str()))]).collect();
        if let Ok(last) = HeaderValue::from_str(&self.last)
            && !last.is_empty()
        {
            request.headers.insert("last-event-id", last);
        }
        self.client.stream(request).await
    }

    /// What comes next. A connection that is lost is made again for as long as it takes, and resumed; what
    /// could not be is said on standard error.
    ///
    /// # Errors
    /// The server refuses.
    pub(super) async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            let Some(events) = &mut self.events else {
                self.reconnect().await?;
                continue;
            };
            let lost = match events.next().await {
                Ok(Some(event)) => match self.told(event)? {
                    Some(told) => return Ok(told),
                    None => continue,
                },
                Ok(None) => "the server ended the subscription".to_owned(),
                Err(failure) => failure.to_string(),
            };
            self.events = None;
            output::note(format!("{lost}; connecting again"));
        }
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        match self.connect().await {
            Ok(Ok(events)) => self.events = Some(events),
            Ok(Err(answer)) if answer.status == StatusCode::GONE => self.gone(),
            // It is there and cannot serve now.
            Ok(Err(answer)) if answer.status.is_server_error() => {}
            Ok(Err(answer)) => return Err(answer.failure()),
            // The first connection showed that the address is right.
            Err(_) => {}
        }
        Ok(())
    }

    /// The position is no longer held: a subscription to a snapshot reads it anew, any other goes on with what
    /// comes.
    fn gone(&mut self) {
        self.last.clear();
        self.events = None;
        if self.from == "snapshot" {
            output::note("the position is no longer held: the snapshot follows anew");
        } else {
            output::note("the position is no longer held: events are missing here");
            "now".clone_into(&mut self.from);
        }
    }

    fn told(&mut self, event: Event) -> Result<Option<Told>, Failure> {
        self.pause = PAUSE_MIN;
        if !event.id.is_empty() {
            self.last = event.id;
        }
        let data = event.data;
        Ok(match event.name.as_str() {
            "message" => Some(Told::Event(data.into())),
            "put" => Some(Told::Put(data.into())),
            "delete" => Some(Told::Delete(data.into())),
            "snapshot_begin" => Some(Told::SnapshotBegin),
            "snapshot_end" => Some(Told::SnapshotEnd),
            "lost" => {
                let word = serde_json::from_str::<Value>(&data).unwrap_or_default();
                let count = word.pointer("/data/lost").and_then(Value::as_u64).unwrap_or_default();
                output::note(format!("{count} events were lost: this reader is too slow"));
                None
            }
            "gone" => {
                self.gone();
                None
            }
            "slow" => {
                output::note("this reader is too slow: connecting again");
                self.events = None;
                None
            }
            other => {
                return Err(Failure::failed(format!("the server tells {other:?}, which is unknown here")));
            }
        })
    }
}
