//! `meshbus plugin test`: what a plugin says to events of a file, and what that costs. No server, but its host.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::event::decode;
use crate::cli::input::file;
use crate::cli::output::Output;
use crate::cli::{Failure, output};
use crate::config::Section;
use crate::core::filter::{Input, Verdict};
use crate::core::{Envelope, Seq};
use crate::filter::wasm::Trial;
use crate::runtime::telemetry::{self, Logging};
use crate::schema::cloudevents::json as events_json;

/// The route that events are said to come by.
const ROUTE: &str = "test";
/// Where a project has its events.
const EVENTS: &str = "events.json";

/// Try a plugin on events from a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus plugin test x                                 # x/x.wasm on x/events.json
  meshbus plugin test x/x.wasm events.json --config '{\"fields\": [\"password\"]}'
  echo '{\"specversion\": \"1.0\", \"id\": \"1\", \"source\": \"s\", \"type\": \"t\"}' | meshbus plugin test x -

No server is needed: the plugin runs as in a route, one event a call, and its log goes to standard error.
Events are CloudEvents in JSON: one, a list, or one a line; the extension mbtopic is the topic.
Exit code 1 when the plugin does not load, does not take its configuration, or fails at an event.")]
pub(super) struct Test {
    /// The plugin, or the directory it was built in
    #[arg(value_name = "FILE")]
    plugin: PathBuf,
    /// Events; `-` reads standard input; default events.json beside the plugin
    #[arg(value_name = "EVENTS.json")]
    events: Option<PathBuf>,
    /// What the plugin is given as its configuration
    #[arg(long, value_name = "JSON", default_value = "null")]
    config: String,
    /// Most memory, as `memory:` of a route's filter
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    memory: String,
    /// Longest time of a call, as `deadline:` of a route's filter
    #[arg(long, value_name = "DURATION", default_value = "10ms")]
    deadline: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// What came of one event.
struct Asked {
    envelope: Envelope,
    answer: Result<Verdict, String>,
    took: Duration,
}

impl Test {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config: Value = serde_json::from_str(&self.config)
            .map_err(|error| Failure::usage(format!("--config is no JSON: {error}")))?;
        let plugin = plugin(&self.plugin)?;
        let path = self.events.clone();
        let path = path.unwrap_or_else(|| plugin.parent().unwrap_or(Path::new("")).join(EVENTS));
        let name = path.display();
        let events = read(&file(&path)?).map_err(|reason| Failure::failed(format!("{name}: {reason}")))?;
        telemetry::init(&Logging { level: "warn".to_owned(), ..Logging::default() })
            .map_err(Failure::failed)?;
        let settings = json!({
            "path": plugin.to_string_lossy(), "config": config, "memory": self.memory, "deadline": self.deadline,
        });
        let section = Section::from_yaml("", &settings.to_string());
        let section = section.map_err(|error| Failure::usage(error.to_string()))?;
        let began = Instant::now();
        let mut trial = Trial::start(&section).map_err(Failure::failed)?;
        let start = began.elapsed();
        let asked: Vec<Asked> = events.into_iter().map(|event| ask(&mut trial, event)).collect();
        let cost = cost(&asked, start, &trial);
        match self.output {
            Output::Json => {
                let verdicts: Vec<Value> = asked.iter().map(as_json).collect();
                output::line(output::pretty(&json!({"events": verdicts, "cost": cost}))?)?;
            }
            Output::Text => {
                output::write(asked.iter().map(as_text).collect::<String>())?;
                output::line(summary(&asked, &cost, &self.memory))?;
            }
        }
        match asked.iter().filter(|asked| asked.answer.is_err()).count() {
            0 => Ok(()),
            failed => {
                Err(Failure::failed(format!("the plugin failed at {failed} of {} events", asked.len())))
            }
        }
    }
}

/// The file that is meant: itself, or the one plugin in a directory.
fn plugin(path: &Path) -> Result<PathBuf, Failure> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let failed = |reason: String| Failure::failed(format!("{}: {reason}", path.display()));
    let entries = fs::read_dir(path).map_err(|error| failed(error.to_string()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut plugins: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "wasm")).collect();
    plugins.sort_unstable();
    match plugins.len() {
        1 => Ok(plugins.swap_remove(0)),
        0 => Err(failed(format!("holds no plugin; try: meshbus plugin build {}", path.display()))),
        count => Err(failed(format!("holds {count} plugins: name one"))),
    }
}

/// One event, a list of them, or one a line. Data stays as it is written.
fn read(text: &Bytes) -> Result<Vec<Envelope>, String> {
    let is_list = text.trim_ascii_start().starts_with(b"[");
    let whole = if is_list {
        serde_json::from_slice(text)
    } else {
        serde_json::from_slice::<&RawValue>(text).map(|event| vec![event])
    };
    let values: Vec<&RawValue> = whole.or_else(|whole| {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let values: Result<Vec<&RawValue>, _> = lines.map(serde_json::from_slice).collect();
        // Not even the lines are JSON: what was wrong with the whole says more.
        values.map_err(|_| format!("holds no JSON: {whole}"))
    })?;
    let read = |(at, value): (usize, &&RawValue)| {
        let event = decode(&Bytes::copy_from_slice(value.get().as_bytes()));
        let event =
            event.and_then(|event| event.validate().map(|()| event).map_err(|error| error.to_string()));
        event.map_err(|reason| format!("event {}: {reason}", at + 1))
    };
    values.iter().enumerate().map(read).collect()
}

fn ask(trial: &mut Trial, envelope: Envelope) -> Asked {
    let now = Instant::now();
    let input = Input { envelope: &envelope, attempt: 1, seq: Seq(1), route: ROUTE, since: now, now };
    let answer = trial.ask(&input);
    let took = now.elapsed();
    Asked { envelope, answer, took }
}

/// The word for a verdict, and the reason or time that goes with it.
fn word(answer: &Result<Verdict, String>) -> (&'static str, Option<String>) {
    match answer {
        Ok(Verdict::Pass) => ("pass", None),
        Ok(Verdict::Drop(why)) => ("drop", why.as_ref().map(ToString::to_string)),
        Ok(Verdict::Reject(reason)) => ("dead-letter", Some(reason.to_string())),
        Ok(Verdict::Retry(after) | Verdict::Hold(after)) => ("retry", Some(format!("after {after:?}"))),
        Ok(Verdict::Change(_)) => ("change", None),
        Ok(Verdict::Emit(_)) => ("emit", None),
        Err(reason) => ("FAILED", Some(reason.clone())),
    }
}

/// What goes on, and by which named output.
fn outputs(answer: &Result<Verdict, String>) -> Vec<(Option<&str>, &Envelope)> {
    match answer {
        Ok(Verdict::Change(envelope)) => vec![(None, envelope)],
        Ok(Verdict::Emit(outputs)) => {
            outputs.iter().map(|output| (output.name.as_deref(), &output.envelope)).collect()
        }
        _ => Vec::new(),
    }
}

/// As JSON, on the topic it has now.
fn shown(envelope: &Envelope) -> Vec<u8> {
    let mut envelope = envelope.clone();
    envelope.extensions.set("mbtopic", envelope.topic.text().clone());
    events_json::encode(&envelope)
}

fn as_text(asked: &Asked) -> String {
    let (word, reason) = word(&asked.answer);
    let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
    let mut text = output::shown(&format!("{}  {word}{reason}", asked.envelope.id));
    for (to, envelope) in outputs(&asked.answer) {
        let to = to.map(|to| format!(" {to}:")).unwrap_or_default();
        text.push_str("\n  ->");
        text.push_str(&output::shown(&format!("{to} {}", String::from_utf8_lossy(&shown(envelope)))));
    }
    text.push('\n');
    text
}

fn as_json(asked: &Asked) -> Value {
    let (word, reason) = word(&asked.answer);
    let output = |(to, envelope): (Option<&str>, &Envelope)| {
        // What we wrote is JSON.
        let event: Value = serde_json::from_slice(&shown(envelope)).unwrap_or_default();
        json!({"to": to, "event": event})
    };
    json!({
        "id": &*asked.envelope.id,
        "verdict": word,
        "reason": reason,
        "outputs": outputs(&asked.answer).into_iter().map(output).collect::<Vec<_>>(),
        "microseconds": micros(asked.took),
    })
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

fn cost(asked: &[Asked], start: Duration, trial: &Trial) -> Value {
    let mut times: Vec<Duration> = asked.iter().map(|asked| asked.took).collect();
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().map(micros);
    json!({
        "start_microseconds": micros(start),
        "median_microseconds": at(times.len() / 2),
        "longest_microseconds": at(times.len().saturating_sub(1)),
        "memory_bytes": trial.memory(),
        "calls": trial.calls(),
    })
}

fn summary(asked: &[Asked], cost: &Value, limit: &str) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for asked in asked {
        let (word, _) = word(&asked.answer);
        match counts.iter_mut().find(|(have, _)| *have == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!(
        "{} events: {}\ntime    {} us at the median, {} us at most; {} us to begin\nmemory  {} bytes of {limit}\ncalls   {}",
        asked.len(),
        counts.join(", "),
        cost["median_microseconds"],
        cost["longest_microseconds"],
        cost["start_microseconds"],
        cost["memory_bytes"],
        cost["calls"],
    )
}
