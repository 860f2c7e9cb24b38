//! `meshbus pub`: events to a bus over HTTP, or straight to a NATS server or MQTT broker.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

use super::event::{MESSAGE_TYPE, SOURCE};
use super::http::{Client, Request};
use super::input::{self, INPUT_MAX, duration, pair};
use super::peer::{Peer, Remote};
use super::server::{Reach, Server, set, setting};
use super::{Failure, output};
use crate::core::delivery::Target;
use crate::core::spelling::{from_subject, to_subject};
use crate::core::{Envelope, Outcome, Timestamp, Topic, uuid};
use crate::runtime::task;
use crate::schema::cloudevents::{json, set_attribute};

/// Most events of one batch.
const BATCH_MAX: usize = 256;
/// Most bytes of data in one batch; a server takes 1 MiB at a time by default.
const BATCH_BYTES: usize = 256 << 10;
/// Input lines that wait to be sent.
const LINES_WAITING: usize = 1024;
/// How long a broker has to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Publish an event and wait until it is taken: by every route of a bus, or by the broker
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus pub alerts/disk -d '{\"free\": 3}' --type com.example.disk.low --subject web-1
  meshbus pub sensors/a/temp -d 21.5 -s mqtt://127.0.0.1:1883 --to qos=0
  meshbus pub orders.new -d @order.json -s nats://127.0.0.1:4222 --attr partitionkey=42
  tail -F app.log | meshbus pub logs/app --lines

Over NATS a topic without a `/` is read as a subject: orders.new is the topic orders/new.")]
pub(super) struct Pub {
    /// Topic: levels with `/` between
    topic: String,
    /// The data: text, @FILE, or - for standard input
    #[arg(short, long, value_name = "DATA|@FILE|-")]
    data: Option<String>,
    /// CloudEvents type
    #[arg(long = "type", value_name = "TYPE", default_value = MESSAGE_TYPE)]
    kind: String,
    /// CloudEvents source
    #[arg(long, default_value = SOURCE)]
    source: String,
    /// CloudEvents id; default a new one. The same id and source again is the same event
    #[arg(long)]
    id: Option<String>,
    /// CloudEvents subject
    #[arg(long)]
    subject: Option<String>,
    /// Media type of the data; default by the file's name, else by a look at it
    #[arg(long, value_name = "MEDIA_TYPE")]
    content_type: Option<String>,
    /// Another attribute; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    attr: Vec<(String, String)>,
    /// Publish each line of standard input as an event, in order; empty lines are left out
    #[arg(long, conflicts_with_all = ["data", "id"])]
    lines: bool,
    /// Option of a route's `to:` entry, in YAML: `--to retain=true` (nats, mqtt)
    #[arg(long, value_name = "OPTION=VALUE", value_parser = pair)]
    to: Vec<(String, String)>,
    /// Say nothing when it is published
    #[arg(short, long)]
    quiet: bool,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    server: Server,
}

/// Where events go.
enum Way {
    Http(Box<Client>, Topic),
    Peer(Box<(Peer, Target)>),
}

impl Pub {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let reach = self.server.reach()?;
        let topic = self.topic(&reach)?;
        // Before anything is connected to: the words are checked first.
        let one = if self.lines { None } else { Some(self.one(&topic)?) };
        let way = self.way(reach, topic.clone()).await?;
        let sent = match one {
            Some(event) => {
                let id = event.id.clone();
                let sent = way.send(vec![event]).await;
                sent.map(|seq| match seq {
                    Some(seq) => format!("published {id} (seq {seq})"),
                    None => format!("published {id}"),
                })
            }
            None => self.lines(&way, &topic).await.map(|count| format!("published {count} events")),
        };
        if let Way::Peer(peer) = way {
            peer.0.stop().await;
        }
        let said = sent?;
        if self.quiet { Ok(()) } else { output::line(said) }
    }

    fn topic(&self, reach: &Reach) -> Result<Topic, Failure> {
        let is_subject = matches!(reach, Reach::Peer(remote) if remote.transport.name() == "nats")
            && !self.topic.contains('/');
        let topic = if is_subject { from_subject(&self.topic) } else { Topic::parse(self.topic.clone()) };
        topic.map_err(|error| Failure::usage(error.to_string()))
    }

    /// The one event of the arguments.
    fn one(&self, topic: &Topic) -> Result<Envelope, Failure> {
        let data = self.data.as_deref().map(input::data).transpose()?.unwrap_or_default();
        self.event(topic, data)
    }

    fn event(&self, topic: &Topic, data: Bytes) -> Result<Envelope, Failure> {
        let id = self.id.clone().map_or_else(uuid::timed, Into::into);
        let mut event = Envelope::event(topic.clone(), id, self.source.clone(), self.kind.clone());
        event.time = Some(Timestamp::now());
        event.subject = self.subject.clone().map(Into::into);
        let file = self.data.as_deref().and_then(|data| data.strip_prefix('@')).map(std::path::Path::new);
        event.datacontenttype = match &self.content_type {
            Some(media_type) => Some(media_type.clone().into()),
            None => input::media_type(file, &data).map(Into::into),
        };
        event.data = data;
        for (name, value) in &self.attr {
            set_attribute(&mut event, name, value.clone().into())
                .map_err(|error| Failure::usage(format!("--attr {name}: {error}")))?;
        }
        event.validate().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(event)
    }

    async fn way(&self, reach: Reach, topic: Topic) -> Result<Way, Failure> {
        match reach {
            Reach::Http { url, token } => {
                if let Some((name, _)) = self.to.first() {
                    return Err(Failure::usage(format!("--to {name}: HTTP has no such options")));
                }
                let client = Client::new(&url, token.as_deref(), self.timeout)?;
                Ok(Way::Http(Box::new(client), topic))
            }
            #[cfg(feature = "k8s")]
            Reach::Cluster(_) => {
                let hint = "use put, or -s http://…";
                Err(Failure::usage(format!("over k8s there is no pub: an API server has state; {hint}")))
            }
            Reach::Peer(remote) => {
                let settings = self.target(&remote, &topic)?;
                let peer = remote.start()?;
                let target = peer.target(settings)?;
                peer.ready(self.timeout).await?;
                Ok(Way::Peer(Box::new((peer, target))))
            }
        }
    }

    /// The `to:` entry that sends to the topic.
    fn target(&self, remote: &Remote, topic: &Topic) -> Result<Map<String, Value>, Failure> {
        let mut settings = address(remote, topic)?;
        for (path, text) in &self.to {
            set(&mut settings, path, setting("--to", text)?);
        }
        Ok(settings)
    }

    /// Publishes the lines of standard input as they come.
    async fn lines(&self, way: &Way, topic: &Topic) -> Result<usize, Failure> {
        let (sender, mut lines) = mpsc::channel(LINES_WAITING);
        let reading = task::spawn("input", read_lines(sender));
        let mut published = 0;
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() && lines.recv_many(&mut waiting, BATCH_MAX).await == 0 {
                break;
            }
            let mut bytes = 0;
            let fits = waiting.iter().take_while(|line: &&Bytes| {
                bytes += line.len();
                bytes <= BATCH_BYTES
            });
            let batch: Vec<Bytes> = waiting.drain(..fits.count().max(1).min(waiting.len())).collect();
            let count = batch.len();
            let events: Result<_, _> = batch.into_iter().map(|line| self.event(topic, line)).collect();
            let sent = async { way.send(events?).await }.await;
            sent.map_err(|failure| failure.after(&format!("after {published} events")))?;
            published += count;
        }
        let read = reading.await.map_err(|error| Failure::failed(error.to_string()))?;
        read.map_err(|error| Failure::failed(format!("standard input: {error}")))?;
        Ok(published)
    }
}

impl Way {
    /// Sends events in order; the position of the last, where the server tells.
    async fn send(&self, events: Vec<Envelope>) -> Result<Option<String>, Failure> {
        match self {
            Self::Http(client, topic) => {
                let (headers, body) = message(&events);
                let answer = client
                    .send(Request {
                        method: Method::POST,
                        path: "/v1/publish",
                        query: vec![("topic", Cow::Borrowed(topic.as_str()))],
                        headers,
                        body,
                    })
                    .await?;
                if !answer.status.is_success() {
                    return Err(answer.failure());
                }
                let seq = answer.header("mb-seq");
                Ok((!seq.is_empty()).then(|| seq.to_owned()))
            }
            Self::Peer(peer) => {
                let (peer, target) = &**peer;
                let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
                let outcomes = peer.deliver(target, events, ANSWER).await;
                for (id, outcome) in ids.iter().zip(outcomes) {
                    match outcome {
                        Outcome::Delivered | Outcome::Filtered => {}
                        Outcome::Rejected(reason) => {
                            return Err(Failure::failed(format!("event {id} was refused: {reason}")));
                        }
                        Outcome::Undelivered(reason) => {
                            return Err(Failure::unreachable(format!(
                                "event {id} was not taken: {reason}"
                            )));
                        }
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Where a topic is, as a `to:` entry of the transport has it.
pub(super) fn address(remote: &Remote, topic: &Topic) -> Result<Map<String, Value>, Failure> {
    let (field, address) = if remote.transport.name() == "nats" {
        let subject = to_subject(topic).map_err(|error| Failure::usage(error.to_string()))?;
        ("subject", subject)
    } else {
        ("topic", topic.as_str().to_owned())
    };
    // An address is a template: its braces are doubled.
    let address = address.replace('{', "{{").replace('}', "}}");
    Ok(Map::from_iter([(field.to_owned(), Value::from(address))]))
}

/// Events as one HTTP message: binary where it is one and its attributes fit, else JSON.
fn message(events: &[Envelope]) -> (HeaderMap, Bytes) {
    #[cfg(feature = "http")]
    if let [event] = events {
        use crate::transport::http::codec::{Compat, Format, Mode, encode};
        if let Ok(message) = encode(event, Mode::Binary, Format::Json, Compat::Spec) {
            return message;
        }
    }
    let (media_type, body) = match events {
        [event] => ("application/cloudevents+json", json::encode(event)),
        events => ("application/cloudevents-batch+json", json::encode_batch(events)),
    };
    let content_type = (http::header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    (HeaderMap::from_iter([content_type]), body.into())
}

async fn read_lines(lines: mpsc::Sender<Bytes>) -> std::io::Result<()> {
    let mut input = BufReader::new(tokio::io::stdin());
    loop {
        let mut line = Vec::new();
        if (&mut input).take(INPUT_MAX as u64).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") && line.len() == INPUT_MAX {
            return Err(std::io::Error::other(format!("a line of more than {INPUT_MAX} bytes")));
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        if !line.is_empty() && lines.send(line.into()).await.is_err() {
            return Ok(());
        }
    }
}
