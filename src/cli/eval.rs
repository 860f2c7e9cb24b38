//! `meshbus eval`: an expression of CloudEvents SQL on one event.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::event::decode;
use super::input::file;
use super::{Failure, output};
use crate::core::cesql::{ErrorKind, Expression};
use crate::core::view::View;
use crate::core::{Envelope, Topic};

/// Evaluate an expression of CloudEvents SQL on an event: its value, and the kind of error or null
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus eval \"type LIKE 'order.%' AND data.total > 100\" order.json
  meshbus sub 'orders/#' -C 1 | meshbus eval \"EXISTS subject\" -
  meshbus eval \"CONCAT_WS('-', 'a', 'b')\"

Writes {\"value\": …, \"error\": …}. The error is null, or one of parse, math, cast, missingAttribute,
missingFunction, functionEvaluation, generic; an expression has a value nevertheless. What is wrong is told on
standard error. The topic (mbtopic) is that of the event's extension mbtopic, else events.
Exit code 0 when it was evaluated, with or without an error; 64 when it is no expression.")]
pub(super) struct Eval {
    /// The expression
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,
    /// File with the event, one CloudEvent in JSON; - for standard input. Default: an event of no interest
    #[arg(value_name = "EVENT.json|-")]
    event: Option<PathBuf>,
}

impl Eval {
    pub(super) fn run(self) -> Result<(), Failure> {
        let event = self.event()?;
        let expression = match Expression::parse(&self.expression) {
            Ok(expression) => expression,
            Err(error) => {
                output::line(json!({"value": false, "error": ErrorKind::Parse.as_str()}).to_string())?;
                return Err(Failure::usage(error.render(&self.expression)));
            }
        };
        let view = View::of(&event);
        let outcome = expression.evaluate(&view);
        let kind = outcome.error.as_ref().map(|error| error.kind.as_str());
        output::line(json!({"value": outcome.value.to_json(), "error": kind}).to_string())?;
        if let Some(error) = outcome.error {
            output::note(format!("{error} (column {})", error.column));
        }
        Ok(())
    }

    fn event(&self) -> Result<Envelope, Failure> {
        let topic = || Topic::parse("events").map_err(|error| Failure::failed(error.to_string()));
        let Some(path) = &self.event else { return Ok(Envelope::event(topic()?, "1", "/", "example")) };
        let name = path.display();
        let wrong = |error: String| Failure::failed(format!("{name}: no CloudEvent: {error}"));
        decode(&file(path)?).map_err(wrong)
    }
}
