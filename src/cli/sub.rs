//! `meshbus sub`: events as they come, one JSON CloudEvent a line.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::event::{as_sent, decode};
use super::follow::{Follow, Told};
use super::http::Client;
use super::input::{duration, pair};
use super::peer::{Peer, Remote};
use super::server::{Reach, Server};
use super::{Failure, output};
use crate::core::cesql::Expression;
use crate::core::consumer::Overflow;
use crate::core::selector::{Dialect, Level, Predicate, Selector, TopicFilter};
use crate::core::spelling::to_subject;
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::view::View;
use crate::core::{Envelope, Seq, Topic};
use crate::schema::cloudevents::json as json_format;

/// Events that wait to be written; the broker's window closes when they are so many.
const WAITING: usize = 1024;
/// How long an API server that answers may take for the lists that come first.
#[cfg(feature = "k8s")]
const LISTED: Duration = Duration::from_mins(1);

/// Subscribe to topics: one JSON CloudEvent a line, until COUNT, the timeout, or Ctrl-C
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus sub 'alerts/#'
  meshbus sub 'k8s/#' --from snapshot --exact type=dev.meshbus.resource.deleted.v1
  meshbus sub '#' --where \"reason IN ('BackOff', 'Failed') AND data.count > 3\"
  meshbus sub 'sensors/+/temp' -s mqtt://127.0.0.1:1883 -o raw
  meshbus sub 'orders.>' -s nats://127.0.0.1:4222 -C 1 --timeout 10s || echo none came
  meshbus sub 'k8s/+/apps/v1/Deployment/#' -s 'k8s:///?context=east'
  meshbus sub events --where \"eventtype = 'Warning'\" -s k8s://127.0.0.1:18001/scopes/east

Wildcards: + or * is one level; # is all that follow, > those that follow, at least one.
Over NATS a filter without a `/` is read as a subject.")]
pub(super) struct Sub {
    /// Topic filter; over k8s also types: deployments,pods
    filter: String,
    /// Where to begin: now, snapshot (the state that matches, then what comes), or after a seq (http)
    #[arg(long, value_name = "now|snapshot|SEQ", default_value = "now", value_parser = from)]
    from: String,
    /// End after so many
    #[arg(short = 'C', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time; exit code 1 when nothing came, or fewer than COUNT
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// What to write: json, one event a line; pretty, over several; raw, the data alone
    #[arg(short, long, value_enum, default_value_t = Output::Json)]
    output: Output,
    /// Only where the attribute is exactly this; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    exact: Vec<(String, String)>,
    /// Only where the attribute starts with this; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    prefix: Vec<(String, String)>,
    /// Only where the attribute ends with this; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    suffix: Vec<(String, String)>,
    /// Only where this is true, in CloudEvents SQL; over HTTP the server looks
    #[arg(long = "where", value_name = "SQL")]
    expression: Option<String>,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    connect_timeout: Duration,
    #[command(flatten)]
    server: Server,
}

/// The form of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
    Pretty,
    Raw,
}

/// Where events come from.
enum Feed {
    Http(Box<Follow>),
    Peer(Box<Listening>),
}

/// A connector that listens, and what it took in.
struct Listening {
    peer: Peer,
    wanted: Subscription,
    /// What could not be read: told on standard error.
    dead: Subscription,
}

/// One event that came.
struct Seen {
    json: Bytes,
    envelope: Option<Envelope>,
}

impl Sub {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut dialects = self.dialects()?;
        let expression = self.expression.as_deref().map(expression).transpose()?;
        let reach = self.server.reach()?;
        if !matches!(reach, Reach::Http { .. }) {
            dialects.extend(expression.map(Dialect::Sql));
        }
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut feed = tokio::select! {
            feed = self.feed(reach) => feed?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        output::progress(format!("subscribed to {}", self.filter));
        let mut matched = 0;
        let ended = tokio::select! {
            ended = self.write(&mut feed, &dialects, &mut matched) => ended,
            () = until(deadline) => match self.count {
                Some(count) => Err(Failure::failed(format!("{matched} of {count} events in time"))),
                None if matched == 0 => Err(Failure::failed("no event in time")),
                None => Ok(()),
            },
            // Who watches has seen enough.
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        if let Feed::Peer(listening) = feed {
            drop((listening.wanted, listening.dead));
            listening.peer.stop().await;
        }
        ended
    }

    /// Writes what comes until COUNT.
    async fn write(&self, feed: &mut Feed, dialects: &[Dialect], matched: &mut u64) -> Result<(), Failure> {
        loop {
            for mut seen in feed.next().await? {
                if !dialects.is_empty() {
                    let envelope = seen.envelope()?;
                    let event = View::of(envelope);
                    if !dialects.iter().all(|dialect| dialect.matches(&event) == Ok(true)) {
                        continue;
                    }
                }
                seen.write(self.output)?;
                *matched += 1;
                if self.count == Some(*matched) {
                    return Ok(());
                }
            }
        }
    }

    fn dialects(&self) -> Result<Vec<Dialect>, Failure> {
        type Make = fn(std::collections::BTreeMap<String, String>) -> Dialect;
        let all: [(&[(String, String)], Make); 3] = [
            (&self.exact, Dialect::Exact),
            (&self.prefix, Dialect::Prefix),
            (&self.suffix, Dialect::Suffix),
        ];
        let mut dialects = Vec::new();
        for (pairs, make) in all {
            for (name, value) in pairs {
                let dialect = make([(name.clone(), value.clone())].into());
                dialect.validate().map_err(Failure::usage)?;
                dialects.push(dialect);
            }
        }
        Ok(dialects)
    }

    /// The filter; where there are subjects, one without a `/` is such.
    fn filter(&self, subjects: bool) -> Result<TopicFilter, Failure> {
        let is_subject = subjects && !self.filter.contains('/');
        let parsed = match self.filter.as_str() {
            text if is_subject && !matches!(text, "#" | "+") => TopicFilter::parse_subject(text),
            text => TopicFilter::parse(text),
        };
        parsed.map_err(|error| Failure::usage(error.to_string()))
    }

    async fn feed(&self, reach: Reach) -> Result<Feed, Failure> {
        match reach {
            Reach::Http { url, token } => {
                let client = Client::new(&url, token.as_deref(), self.connect_timeout)?;
                let mut query = vec![("filter", self.filter(false)?.to_string())];
                query.extend(self.expression.clone().map(|expression| ("where", expression)));
                Ok(Feed::Http(Box::new(Follow::open(client, query, &self.from).await?)))
            }
            Reach::Peer(remote) => self.listen(*remote).await,
            #[cfg(feature = "k8s")]
            Reach::Cluster(remote) => self.watch(*remote).await,
        }
    }

    async fn listen(&self, mut remote: Remote) -> Result<Feed, Failure> {
        let transport = remote.transport.name();
        let filter = self.filter(transport == "nats")?;
        let subscribe = subscribe(transport, &filter, &self.from)?;
        remote.settings.insert("subscribe".to_owned(), subscribe);
        let peer = remote.start()?;
        // A blocking subscription: what we are too slow for stays with the broker.
        let (wanted, dead) = (follow(&peer, filter, Start::Now)?, follow_dead(&peer)?);
        peer.ready(self.connect_timeout).await?;
        Ok(Feed::Peer(Box::new(Listening { peer, wanted, dead })))
    }

    /// The objects of an API server, once the connector has listed them.
    #[cfg(feature = "k8s")]
    async fn watch(&self, mut remote: Remote) -> Result<Feed, Failure> {
        let start = match self.from.as_str() {
            "now" => Start::Now,
            "snapshot" => Start::Snapshot,
            from => {
                let hint = "over k8s there is now or snapshot";
                return Err(Failure::usage(format!("--from {from}: {hint}")));
            }
        };
        let filter = super::k8s::watch_settings(&mut remote, &self.filter, self.connect_timeout).await?;
        let peer = remote.start()?;
        let dead = follow_dead(&peer)?;
        peer.ready(self.connect_timeout.max(LISTED)).await?;
        let wanted = follow(&peer, filter, start)?;
        Ok(Feed::Peer(Box::new(Listening { peer, wanted, dead })))
    }
}

impl Feed {
    /// What comes next: events, and changes of state as events.
    async fn next(&mut self) -> Result<Vec<Seen>, Failure> {
        match self {
            Self::Http(follow) => match follow.next().await? {
                Told::Event(json) | Told::Put(json) | Told::Delete(json) => {
                    Ok(vec![Seen { json, envelope: None }])
                }
                Told::SnapshotBegin | Told::SnapshotEnd => Ok(Vec::new()),
            },
            Self::Peer(listening) => listening.next().await,
        }
    }
}

impl Listening {
    async fn next(&mut self) -> Result<Vec<Seen>, Failure> {
        loop {
            let message = tokio::select! {
                message = self.wanted.next() => message,
                message = self.dead.next() => {
                    complain(message);
                    continue;
                }
            };
            let Some(message) = message else { return Err(Failure::failed("the subscription ended")) };
            let Message::Batch(records) = message else { continue };
            let own = records.iter().filter(|record| !is_dead_letter(&record.envelope, self.peer.name()));
            return Ok(own
                .map(|record| {
                    let envelope = as_sent(&record.envelope, self.peer.name());
                    Seen { json: json_format::encode(&envelope).into(), envelope: Some(envelope) }
                })
                .collect());
        }
    }
}

impl Seen {
    fn envelope(&mut self) -> Result<&Envelope, Failure> {
        let envelope = match self.envelope.take() {
            Some(envelope) => envelope,
            None => decode(&self.json).map_err(|error| Failure::failed(format!("an event: {error}")))?,
        };
        Ok(self.envelope.insert(envelope))
    }

    fn write(&mut self, form: Output) -> Result<(), Failure> {
        match form {
            Output::Json => output::line(&self.json),
            Output::Raw => output::line(&self.envelope()?.data),
            Output::Pretty => {
                let value: Value = serde_json::from_slice(&self.json)
                    .map_err(|error| Failure::failed(format!("an event: {error}")))?;
                output::line(output::pretty(&value)?)
            }
        }
    }
}

fn follow(peer: &Peer, filter: TopicFilter, start: Start) -> Result<Subscription, Failure> {
    let followed = peer.bus().subscribe(Selector::topic(filter), start, WAITING, Overflow::Block);
    followed.map_err(|gone| Failure::failed(format!("{gone:?}")))
}

fn follow_dead(peer: &Peer) -> Result<Subscription, Failure> {
    let dead = Topic::from_tokens(["dead", &**peer.name()]);
    let dead = dead.map_err(|error| Failure::failed(error.to_string()))?;
    follow(peer, TopicFilter::from(&dead), Start::Now)
}

/// `subscribe:` of the transport's client, for all that the filter matches. It may be for more: what comes in is
/// filtered here, too.
fn subscribe(transport: &str, filter: &TopicFilter, from: &str) -> Result<Value, Failure> {
    if transport == "nats" {
        if from != "now" {
            let hint = "core NATS keeps nothing: only --from now";
            return Err(Failure::usage(format!("--from {from}: {hint}")));
        }
        let subjects = subjects(filter)?;
        return Ok(subjects.into_iter().map(|subject| json!({ "subject": subject })).collect());
    }
    let levels: Vec<&str> = filter.levels().iter().map(mqtt_level).collect();
    let retained = match from {
        "now" => json!({"retained": "ignore", "topic": levels.join("/")}),
        "snapshot" => json!({"retained": "event", "topic": levels.join("/")}),
        _ => return Err(Failure::usage(format!("--from {from}: MQTT has no positions: now or snapshot"))),
    };
    Ok(json!([retained]))
}

fn mqtt_level(level: &Level) -> &str {
    match level {
        Level::Literal(text) => text,
        Level::One => "+",
        Level::Rest | Level::Some => "#",
    }
}

/// NATS subjects that together match what the filter does; `#` takes zero levels, too, which `>` does not.
fn subjects(filter: &TopicFilter) -> Result<Vec<String>, Failure> {
    let wrong = |error: crate::core::topic::InvalidTopic| Failure::usage(error.to_string());
    let mut tokens = Vec::new();
    let mut subjects = Vec::new();
    for level in filter.levels() {
        tokens.push(match level {
            Level::One => "*".to_owned(),
            Level::Some => ">".to_owned(),
            Level::Rest => {
                if !tokens.is_empty() {
                    subjects.push(tokens.join("."));
                }
                ">".to_owned()
            }
            // An empty level is a topic only beside another.
            Level::Literal(text) if text.is_empty() => "/".to_owned(),
            Level::Literal(text) => {
                to_subject(&Topic::parse(text.clone()).map_err(wrong)?).map_err(wrong)?
            }
        });
    }
    subjects.push(tokens.join("."));
    Ok(subjects)
}

fn is_dead_letter(envelope: &Envelope, connector: &str) -> bool {
    let mut levels = envelope.topic.levels();
    levels.next() == Some("dead") && levels.next() == Some(connector)
}

/// Says what the connector could not read.
fn complain(message: Option<Message>) {
    let Some(Message::Batch(records)) = message else { return };
    for record in records.iter() {
        let reason = record.envelope.attribute("mbreason").unwrap_or_default();
        let subject = record.envelope.subject.clone().unwrap_or_default();
        output::note(format!("a message on {} cannot be read: {reason}", output::shown(&subject)));
    }
}

fn expression(text: &str) -> Result<Expression, Failure> {
    Expression::filter(text).map_err(|error| Failure::usage(format!("--where:\n{}", error.render(text))))
}

/// For clap.
fn from(text: &str) -> Result<String, String> {
    match text {
        "now" | "snapshot" => Ok(text.to_owned()),
        _ if text.parse::<Seq>().is_ok() => Ok(text.to_owned()),
        _ => Err("now, snapshot, or a decimal seq".to_owned()),
    }
}

/// Resolves at the deadline, where there is one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(transport: &str, filter: &str, from: &str) -> Result<Value, Failure> {
        subscribe(transport, &TopicFilter::parse(filter).unwrap(), from)
    }

    #[test]
    fn a_filter_is_spelled_for_each_protocol() {
        for (filter, subjects) in [
            ("a/b", json!([{"subject": "a.b"}])),
            ("a.b/+/c", json!([{"subject": "a//b.*.c"}])),
            ("a/#", json!([{"subject": "a"}, {"subject": "a.>"}])),
            ("a/>", json!([{"subject": "a.>"}])),
            ("#", json!([{"subject": ">"}])),
            ("/a", json!([{"subject": "/.a"}])),
        ] {
            assert_eq!(spelled("nats", filter, "now").unwrap(), subjects, "{filter}");
        }
        for (filter, from, topic) in [
            ("a/*/b", "now", json!([{"retained": "ignore", "topic": "a/+/b"}])),
            ("a/>", "snapshot", json!([{"retained": "event", "topic": "a/#"}])),
        ] {
            assert_eq!(spelled("mqtt", filter, from).unwrap(), topic, "{filter}");
        }
        assert!(spelled("nats", "a", "snapshot").is_err());
        assert!(spelled("mqtt", "a", "17").is_err());
    }
}
