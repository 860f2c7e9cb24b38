//! `meshbus tap`: a live view of one route.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::http::{Client, Request};
use super::input::duration;
use super::output::Output;
use super::{Failure, output};

/// Watch what a route takes and refuses, live
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus tap warnings
  meshbus tap warnings -o json | jq .event

One line an event the route looks at: `+ topic → where it goes`, or `- topic: the clause that
refuses it`. One more where its filters drop it: `- topic: filter NAME drops it: why`.")]
pub(super) struct Tap {
    /// Route
    route: String,
    /// Admin address of the bus
    #[arg(long, value_name = "URL", env = "MESHBUS_ADMIN", default_value = "http://127.0.0.1:18002")]
    admin: String,
    /// End after so many
    #[arg(short = 'C', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

impl Tap {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.admin, None, self.timeout)?;
        let request =
            Request { query: vec![("route", self.route.as_str().into())], ..Request::get("/tap") };
        let mut events = client.stream(request).await?.map_err(|answer| answer.failure())?;
        output::progress(format!("watching route {}", self.route));
        let watch = async {
            let mut seen = 0;
            while let Some(event) = events.next().await? {
                match self.output {
                    Output::Json => output::line(&event.data)?,
                    Output::Text => output::line(text(&event.data))?,
                }
                seen += 1;
                if self.count == Some(seen) {
                    return Ok(());
                }
            }
            Err(Failure::unreachable(format!("{}: the bus ended the tap", self.admin)))
        };
        tokio::select! {
            ended = watch => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}

/// What the admin address shows: an event, or what happened to the view.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Shown {
    Event { topic: String, refused: Option<String>, to: Vec<String> },
    Lost { lost: u64 },
    Removed { removed: String },
}

/// One line for a person.
fn text(json: &str) -> String {
    let line = match serde_json::from_str(json) {
        Ok(Shown::Event { topic, refused: Some(clause), .. }) => format!("- {topic}: {clause}"),
        Ok(Shown::Event { topic, refused: None, to }) => format!("+ {topic} → {}", to.join(", ")),
        Ok(Shown::Lost { lost }) => format!("! {lost} events were not shown: too many for this view"),
        Ok(Shown::Removed { removed }) => format!("! route {removed} is no longer in the configuration"),
        Err(error) => format!("! unknown here: {error}"),
    };
    output::shown(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_a_tap_shows_is_one_line() {
        for (json, expected) in [
            (
                r#"{"topic":"a/b","takes":true,"refused":null,"to":["x a.b","bus c"]}"#,
                "+ a/b → x a.b, bus c",
            ),
            (
                r#"{"topic":"a/b","takes":false,"refused":"exact type = \"x\"","to":[]}"#,
                "- a/b: exact type = \"x\"",
            ),
            (r#"{"lost":3}"#, "! 3 events were not shown: too many for this view"),
            (r#"{"removed":"r"}"#, "! route r is no longer in the configuration"),
        ] {
            assert_eq!(text(json), expected);
        }
    }
}
