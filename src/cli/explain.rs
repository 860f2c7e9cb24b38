//! `meshbus explain`: why an event goes where it goes.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;

use super::explained::{Decided, Explained, Guarantee, Redelivery, Sink, Weakest};
use super::http::{Client, Request};
use super::input::{duration, file};
use super::output::Output;
use super::{Failure, Files, output};
use crate::app::App;
use crate::transport::TRANSPORTS;

/// Explain what each route does with an event: the clause that says no, or where it goes and how surely
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus explain event.json -c edge.yaml
  meshbus sub 'sensors/#' -C 1 | meshbus explain - -c edge.yaml --from sensors
  meshbus explain event.json -s http://127.0.0.1:18002      (asks a running bus on its admin address)

The event is one CloudEvent in JSON. Its topic is that of --topic, else of its extension mbtopic, else
events/TYPE; it comes in by --from, else by its extension mbconnector, else by no connector.")]
pub(super) struct Explain {
    /// File with the event; - for standard input
    #[arg(value_name = "EVENT.json|-")]
    event: PathBuf,
    #[command(flatten)]
    files: Files,
    /// Ask a running bus: its admin address
    #[arg(short, long, value_name = "URL", conflicts_with = "files")]
    server: Option<String>,
    /// The topic it is taken to be on
    #[arg(long)]
    topic: Option<String>,
    /// The connector it is taken to come in by
    #[arg(long, value_name = "CONNECTOR")]
    from: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

impl Explain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let marks = [("mbtopic", &self.topic), ("mbconnector", &self.from)];
        let marks = marks.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let event = marked(&file(&self.event)?, marks).map_err(Failure::failed)?;
        let explained = if let Some(url) = &self.server {
            ask(url, event, self.timeout).await?
        } else {
            let config = self.files.load()?;
            if let Some(from) = self.from.as_deref().filter(|from| config.connector(from).is_none()) {
                return Err(Failure::usage(format!("--from: there is no connector {from:?}")));
            }
            let app = App::prepare(config, TRANSPORTS).map_err(|error| Failure::config(&[error]))?;
            app.explain(&event).map_err(|reason| Failure::failed(format!("the event: {reason}")))?
        };
        match self.output {
            Output::Json => output::line(output::pretty(&explained)?),
            Output::Text => output::write(text(&Explained::read(explained).map_err(Failure::failed)?)),
        }
    }
}

/// The event with extensions that say where it comes from.
pub(super) fn marked<'a>(
    event: &[u8],
    marks: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Bytes, String> {
    let mut marks = marks.into_iter().peekable();
    if marks.peek().is_none() {
        return Ok(Bytes::copy_from_slice(event));
    }
    let event: Value =
        serde_json::from_slice(event).map_err(|error| format!("the event is no JSON: {error}"))?;
    let Value::Object(mut event) = event else { return Err("the event is no JSON object".to_owned()) };
    for (name, value) in marks {
        event.insert(name.to_owned(), value.into());
    }
    Ok(Value::Object(event).to_string().into())
}

async fn ask(url: &str, event: Bytes, timeout: Duration) -> Result<Value, Failure> {
    let client = Client::new(url, None, timeout)?;
    let request = Request { method: Method::POST, path: "/explain", body: event, ..Request::default() };
    let answer = client.send(request).await?;
    if !answer.status.is_success() {
        return Err(answer.failure());
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::failed(format!("{url}: no explanation: {error}")))
}

/// What was explained, for a person.
fn text(explained: &Explained) -> String {
    let Explained { event, topic, connector, redelivery, routes } = explained;
    let connector = connector.as_deref().unwrap_or("no connector");
    let mut lines = vec![
        format!("event       {} {} from {}", event.kind, event.id, event.source),
        format!("topic       {topic}"),
        format!("came in by  {connector}"),
    ];
    if let Some(Redelivery { identity, because }) = redelivery {
        let told = if *identity { "is known by its source and id" } else { "is a new event" };
        lines.push(format!("redelivery  {told} ({because})"));
    }
    for route in routes {
        lines.push(String::new());
        lines.push(format!("route {}", route.name));
        lines.extend(route.decided.iter().map(|Decided { part, by }| format!("  {by}: {part}")));
        if let Some(clause) = &route.refused {
            lines.push(format!("  refuses it: {clause}"));
            continue;
        }
        lines
            .extend(route.filters.iter().map(|filter| format!("  filter {} {}", filter.name, filter.does)));
        let width = route.sinks.iter().map(|sink| place(sink).chars().count()).max().unwrap_or_default();
        lines.extend(route.sinks.iter().map(|sink| match &sink.refused {
            Some(reason) => format!("  ✗ {:width$}  {reason}", place(sink)),
            None => format!("  → {:width$}  {}", place(sink), sure(sink.guarantee.as_ref())),
        }));
        if let Some(Weakest { hop, guarantee }) = &route.weakest {
            let hop = if hop == "in" { format!("the way in by {connector}") } else { hop.clone() };
            lines.push(format!("  weakest: {hop}, {}", sure(Some(guarantee))));
        }
    }
    if !explained.is_taken() {
        lines.push(String::new());
        lines.push("no route takes it: it is delivered once it is in the log, for subscribers".to_owned());
    }
    lines.iter().map(|line| output::shown(line) + "\n").collect()
}

fn place(sink: &Sink) -> String {
    let address = sink.address.as_deref().unwrap_or_default();
    format!("{} {address}", sink.connector).trim_end().to_owned()
}

fn sure(guarantee: Option<&Guarantee>) -> String {
    match guarantee {
        Some(Guarantee { assurance, because }) => format!("{assurance}: {because}"),
        // The bus's own log: nothing is lost on that way.
        None => "in the log".to_owned(),
    }
}
