//! `delay`: a filter that holds each event until so long after the bus took it in.
//!
//! ```yaml
//! filters:
//!   - delay: 5s           # 1ms to 24h
//! ```
//!
//! What is held is under way: its source waits for the answer, and the route's `in_flight` bounds how many are held.
//! Keys do not wait for each other, and being held is no failure.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use bytestring::ByteString;
use schemars::{Schema, json_schema};

use super::Kind;
use super::stateless::{Judge, Stateless};
use crate::config::values::Duration;
use crate::config::{ConfigError, Section};
use crate::core::filter::{FilterFactory, Input, PAUSE_MAX, Verdict};

const MIN: StdDuration = StdDuration::from_millis(1);

/// `delay`.
#[derive(Debug)]
pub struct Delay;

#[derive(Debug)]
struct Delayer(Duration);

impl Kind for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }

    fn schema(&self) -> Schema {
        json_schema!({
            "description": "How long each event is held from when the bus took it in: a duration, 1ms to 24h.",
            "type": "string",
        })
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let delay: Duration = section.parse()?;
        if !(MIN..=PAUSE_MAX).contains(&delay.0) {
            let reason = format!("{delay} is out of bounds");
            return Err(section.error_with_hint("", reason, "1ms to 24h"));
        }
        Ok(Stateless::factory(Delayer(delay)))
    }
}

impl Judge for Delayer {
    fn name(&self) -> ByteString {
        format!("delay {}", self.0).into()
    }

    fn judge(&self, input: &Input<'_>) -> Verdict {
        let due = input.since + self.0.0;
        if due <= input.now {
            Verdict::Pass
        } else {
            Verdict::Hold(due.saturating_duration_since(input.now))
        }
    }
}
