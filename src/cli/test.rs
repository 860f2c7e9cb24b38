//! `meshbus test`: the configuration's own tests. Nothing is started and nothing connected to.

use clap::Args;
use serde_json::Value;

use super::explain::marked;
use super::explained::{Explained, Route, Sink};
use super::input::file;
use super::{Failure, Files, output};
use crate::app::App;
use crate::config::{Config, Expectation, RouteConfig, TestCase, TestInput};
use crate::core::selector::TopicFilter;
use crate::transport::TRANSPORTS;

/// Run the configuration's own tests: an event in, and where it must go
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus test -c edge.yaml
  meshbus test -c edge.yaml --only redacts

In the configuration:
  tests:
    - name: a warning of web goes to its subject
      route: warnings
      input: {file: warning.json}            # beside the configuration; or {event: {specversion: \"1.0\", …}}
      expect: [{connector: broker, subject: alerts.web.BackOff}]

The event comes in by the first connector of the route's `from:` and on its topic, where that is no filter;
the extensions mbconnector and mbtopic of the event say otherwise.")]
pub(super) struct Test {
    #[command(flatten)]
    files: Files,
    /// Only tests whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Test {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.files.load()?;
        let wanted = |test: &&TestCase| self.only.as_ref().is_none_or(|only| test.name.contains(only));
        let tests: Vec<TestCase> = config.tests.iter().filter(wanted).cloned().collect();
        if tests.is_empty() {
            return Err(Failure::failed("there are no such tests; `meshbus test --help` shows one"));
        }
        let app = App::prepare(config, TRANSPORTS).map_err(|error| Failure::config(&[error]))?;
        let mut failed = 0;
        for test in &tests {
            let name = output::shown(&test.name);
            match run_one(&app, test) {
                Ok(()) => output::line(format!("ok      {name}"))?,
                Err(difference) => {
                    failed += 1;
                    output::line(format!("FAILED  {name}\n{difference}"))?;
                }
            }
        }
        match failed {
            0 => Ok(()),
            failed => Err(Failure::failed(format!("{failed} of {} tests failed", tests.len()))),
        }
    }
}

/// The error is what differs, line by line.
fn run_one(app: &App, test: &TestCase) -> Result<(), String> {
    let indented = |reason: String| format!("  {reason}");
    let event = match &test.input {
        TestInput::File(path) => file(path).map_err(|failure| indented(failure.to_string()))?,
        TestInput::Event(event) => Value::Object(event.clone()).to_string().into(),
    };
    let event = placed(&app.config(), test, &event).map_err(indented)?;
    let explained = app.explain(&event.into()).map_err(|reason| format!("  the event: {reason}"))?;
    let explained = Explained::read(explained).map_err(indented)?;
    let route = explained.routes.iter().find(|route| route.name == test.route);
    let Some(route) = route else { return Err(format!("  there is no route {}", test.route)) };
    compare(&test.expect, route)
}

/// The event with the connector and topic that the route wants, where it does not say itself.
fn placed(config: &Config, test: &TestCase, event: &[u8]) -> Result<Vec<u8>, String> {
    let fields: Value =
        serde_json::from_slice(event).map_err(|error| format!("the event is no JSON: {error}"))?;
    let source = config.route(&test.route).and_then(first_source);
    let mut marks = Vec::new();
    if let Some((connector, topic)) = &source {
        marks.extend(connector.as_deref().map(|connector| ("mbconnector", connector)));
        marks.extend(topic.as_deref().map(|topic| ("mbtopic", topic)));
    }
    marks.retain(|(name, _)| fields.get(name).is_none());
    marked(event, marks).map(Into::into)
}

/// Connector and topic of the first source.
fn first_source(route: &RouteConfig) -> Option<(Option<String>, Option<String>)> {
    let source = route.from.first()?;
    let topic = source.topic.as_ref().and_then(TopicFilter::literal_topic);
    Some((source.connector.clone(), topic.map(|topic| topic.to_string())))
}

/// What was expected against what happens, in the order of the route's `to:`.
fn compare(expected: &[Expectation], route: &Route) -> Result<(), String> {
    let sent: Vec<&Sink> = route.sinks.iter().filter(|sink| sink.refused.is_none()).collect();
    let holds = |(expected, sink): (&Expectation, &&Sink)| {
        let any = expected.address().is_none();
        sink.connector == wanted(expected) && (any || sink.address.as_deref() == expected.address())
    };
    if expected.len() == sent.len() && expected.iter().zip(&sent).all(holds) {
        return Ok(());
    }
    let mut lines: Vec<String> = expected
        .iter()
        .map(|expected| {
            format!("  - {} {}", wanted(expected), expected.address().unwrap_or("(any address)"))
        })
        .collect();
    if expected.is_empty() {
        lines.push("  - nothing".to_owned());
    }
    lines.extend(
        sent.iter()
            .map(|sink| format!("  + {} {}", sink.connector, sink.address.as_deref().unwrap_or_default())),
    );
    if sent.is_empty() {
        lines.push("  + nothing".to_owned());
    }
    let refused = route.sinks.iter().filter_map(|sink| Some((&sink.connector, sink.refused.as_ref()?)));
    lines.extend(refused.map(|(connector, reason)| format!("    {connector} gets nothing: {reason}")));
    lines.extend(route.refused.iter().map(|clause| format!("    the route refuses it: {clause}")));
    Err(lines.iter().map(|line| output::shown(line.trim_end())).collect::<Vec<_>>().join("\n"))
}

/// Who should get it.
fn wanted(expected: &Expectation) -> &str {
    expected.connector.as_deref().unwrap_or("bus")
}
