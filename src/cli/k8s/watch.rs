//! `get -w` of an API server: what there is, then its changes, over as many connections as it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::get::Shown;
use super::page::{Found, Name, Page};
use crate::cli::get::Output;
use crate::cli::table::Table;
use crate::cli::{Failure, output};
use crate::config::to_yaml;
use crate::core::error::causes;
use crate::runtime::backoff::Backoff;
use crate::transport::k8s::client::Lines;
use crate::transport::k8s::client::api::segment;
use crate::transport::k8s::codec::received::line;
use crate::transport::k8s::codec::status::Status;

/// The pauses before connecting again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the server is asked to keep a stream, and how much longer it is waited for.
const STREAM: Duration = Duration::from_secs(290);
const MARGIN: Duration = Duration::from_secs(30);
/// A stream that ends so soon and without a line was none.
const AT_ONCE: Duration = Duration::from_secs(1);
/// So many of them in a row, and the position is taken for gone: old servers say it so.
const EMPTIES_MAX: u32 = 3;
/// Longest line of a watch.
const LINE_MAX: usize = 32 << 20;

/// Why a stream is read no further.
enum Ended {
    /// As it should, or broken: the position holds.
    Here(String),
    /// The position is no longer held.
    Gone,
}

/// What was told, and how.
#[derive(Default)]
struct Telling {
    table: Table,
    /// Whether the names of the columns were.
    headed: bool,
    /// The last of each object.
    known: BTreeMap<Name, Found>,
}

/// Tells what there is and then what changes, until it fails for good.
///
/// # Errors
/// The first answer fails, or the server refuses.
pub(super) async fn follow(shown: &mut Shown<'_>) -> Result<(), Failure> {
    let (mut telling, mut backoff) = (Telling::default(), Backoff::new(PAUSE_MIN, PAUSE_MAX));
    loop {
        let page = match shown.list().await {
            Ok(page) => page,
            Err(failure) if !telling.headed || failure.is_final() => {
                return Err(shown.cluster().failed(failure));
            }
            Err(failure) => {
                pause(&mut backoff, &failure.to_string()).await;
                continue;
            }
        };
        let mut position = page.position.clone();
        telling.listed(shown, page)?;
        let mut empties = 0;
        loop {
            let (began, before) = (Instant::now(), position.clone());
            let why = match stream(shown, &mut telling, &mut position).await? {
                Ended::Gone => break,
                Ended::Here(why) => why,
            };
            if began.elapsed() > PAUSE_MAX {
                backoff.reset();
            }
            let empty = why.is_empty() && began.elapsed() < AT_ONCE && before == position;
            empties = if empty { empties + 1 } else { 0 };
            if empties >= EMPTIES_MAX {
                break;
            }
            pause(&mut backoff, &why).await;
        }
        output::note("the position is no longer held: the list is read anew");
    }
}

async fn pause(backoff: &mut Backoff, why: &str) {
    if !why.is_empty() {
        output::note(format!("{}; connecting again", output::shown(why)));
    }
    sleep(backoff.next_wait()).await;
}

/// One stream of changes after a position, which moves on with them.
async fn stream(
    shown: &mut Shown<'_>,
    telling: &mut Telling,
    position: &mut String,
) -> Result<Ended, Failure> {
    let first =
        format!("watch=1&timeoutSeconds={}&resourceVersion={}", STREAM.as_secs(), segment(position));
    let api = &shown.cluster().api;
    let mut body = match api.stream(&shown.path(&first), shown.form.accept()).await {
        Ok(body) => body,
        Err(failure) if failure.is_gone() => return Ok(Ended::Gone),
        Err(failure) if failure.is_final() => return Err(shown.cluster().failed(failure)),
        Err(failure) => return Ok(Ended::Here(failure.to_string())),
    };
    let (mut lines, until) = (Lines::new(LINE_MAX), Instant::now() + STREAM + MARGIN);
    loop {
        let piece = match timeout_at(until, body.frame()).await {
            Err(_) => return Ok(Ended::Here("the stream is silent beyond its time".to_owned())),
            Ok(None) => return Ok(Ended::Here(String::new())),
            Ok(Some(Err(error))) => return Ok(Ended::Here(causes(&error))),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        lines.push(&piece);
        while let Some(text) = lines.next() {
            if let Some(ended) = telling.line(shown, &text, position)? {
                return Ok(ended);
            }
        }
    }
}

impl Telling {
    /// A list: what differs from what was told.
    fn listed(&mut self, shown: &Shown<'_>, page: Page) -> Result<(), Failure> {
        let mut gone = std::mem::take(&mut self.known);
        let mut rows = Vec::new();
        let rowed = matches!(shown.output, Output::Table | Output::Wide);
        if rowed && !std::mem::replace(&mut self.headed, true) {
            rows.push(headed("CHANGE", shown.head()));
        }
        self.headed = true;
        for found in page.found {
            let before = gone.remove(&found.name);
            let change = if before.is_some() { "MODIFIED" } else { "ADDED" };
            if before.is_none_or(|before| before.version != found.version) {
                tell(shown, change, &found, &mut rows)?;
            }
            self.known.insert(found.name.clone(), found);
        }
        for found in gone.into_values() {
            tell(shown, "DELETED", &found, &mut rows)?;
        }
        output::write(self.table.rows(&rows))
    }

    /// A line of a stream; why that is over, where it says so.
    fn line(
        &mut self,
        shown: &mut Shown<'_>,
        text: &[u8],
        position: &mut String,
    ) -> Result<Option<Ended>, Failure> {
        let broken = |why: String| Ok(Some(Ended::Here(format!("a line that cannot be read: {why}"))));
        let line = match std::str::from_utf8(text).map(line) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return broken(error.to_string()),
            Err(error) => return broken(error.to_string()),
        };
        if line.kind == "ERROR" {
            return match Status::decode(line.object.get().as_bytes()) {
                Some(status) if status.code == http::StatusCode::GONE || status.reason == "Expired" => {
                    Ok(Some(Ended::Gone))
                }
                Some(status) => Ok(Some(Ended::Here(format!("{}: {}", status.reason, status.message)))),
                None => broken("an error that is no Status".to_owned()),
            };
        }
        let found = match shown.form.one(line.object) {
            Ok(found) => found,
            Err(why) => return broken(why),
        };
        position.clone_from(&found.version);
        let mut rows = Vec::new();
        match &*line.kind {
            "ADDED" | "MODIFIED" => {
                tell(shown, &line.kind, &found, &mut rows)?;
                self.known.insert(found.name.clone(), found);
            }
            "DELETED" => {
                tell(shown, &line.kind, &found, &mut rows)?;
                self.known.remove(&found.name);
            }
            _ => {}
        }
        output::write(self.table.rows(&rows))?;
        Ok(None)
    }
}

/// Tells a change: a row is put to the others, an object is written at once.
fn tell(
    shown: &Shown<'_>,
    change: &str,
    found: &Found,
    rows: &mut Vec<Vec<String>>,
) -> Result<(), Failure> {
    let object = || json!({"type": change, "object": found.object});
    match shown.output {
        Output::Table | Output::Wide | Output::Raw => {
            rows.push(headed(&change.to_lowercase(), shown.row(found.clone())));
            Ok(())
        }
        Output::Json => output::line(object().to_string()),
        Output::Yaml => output::write(format!("---\n{}", to_yaml(object()))),
    }
}

fn headed(first: &str, rest: Vec<String>) -> Vec<String> {
    [first.to_owned()].into_iter().chain(rest).collect()
}
