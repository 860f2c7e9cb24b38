//! `rate_limit`: a filter that lets so many events through in a time, in all or for each key.
//!
//! ```yaml
//! filters:
//!   - rate_limit: {rate: 10}                                        # 10 each second; the others are dropped
//!   - rate_limit: {rate: 100, per: 1m, burst: 20, key: "{subject|none}", over: wait, max_keys: 10000}
//! ```
//!
//! A bucket of `burst` tokens for each key, filled at `rate` tokens each `per`. What finds none is dropped, or with
//! `over: wait` held until there is one, in turn: its source waits for the answer, and the route's `in_flight`
//! bounds how many wait.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use bytestring::ByteString;
use hashbrown::HashMap;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use tokio::time::Instant;

use super::Kind;
use crate::config::values::Duration;
use crate::config::{ConfigError, Section};
use crate::core::Reason;
use crate::core::filter::{Filter, FilterFactory, Input, PAUSE_MAX, Verdict};
use crate::core::template::{Spelling, Template};

const RATE_MAX: u32 = 1_000_000;
const PER_MIN: StdDuration = StdDuration::from_millis(1);
const KEYS_MAX: usize = 1_000_000;

/// `rate_limit`.
#[derive(Debug)]
pub struct RateLimit;

/// How many events go through.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How many each `per`, 1 to 1000000.
    rate: u32,
    /// The time in which, 1ms to 24h; default 1s.
    #[serde(default = "second")]
    per: Duration,
    /// How many at once after a quiet time, 1 to 1000000; default: `rate`.
    burst: Option<u32>,
    /// A template of text: each value has a rate of its own. Default: one rate for all.
    key: Option<String>,
    /// What becomes of an event over the rate; default `drop`.
    #[serde(default)]
    over: Over,
    /// Most keys remembered, 1 to 1000000; default 10000. Beyond, those that used least of their rate are forgotten.
    #[serde(default = "keys")]
    max_keys: usize,
}

/// What becomes of an event over the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Over {
    /// It is dropped, counted.
    #[default]
    Drop,
    /// It waits for its turn.
    Wait,
}

#[derive(Clone, Debug)]
struct Factory {
    /// One token.
    interval: StdDuration,
    /// How far ahead of an even flow one may be.
    tolerance: StdDuration,
    key: Option<Template>,
    over: Over,
    max_keys: usize,
}

/// The buckets: for each key the time at which its bucket is full again.
#[derive(Debug)]
struct Limiter {
    settings: Factory,
    full_at: HashMap<ByteString, Instant>,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn keys() -> usize {
    10_000
}

impl Kind for RateLimit {
    fn name(&self) -> &'static str {
        "rate_limit"
    }

    fn schema(&self) -> Schema {
        schema_for!(Settings)
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let settings: Settings = section.parse()?;
        let burst = settings.burst.unwrap_or(settings.rate);
        let bounds = [
            ("rate", settings.rate as usize, RATE_MAX as usize),
            ("burst", burst as usize, RATE_MAX as usize),
            ("max_keys", settings.max_keys, KEYS_MAX),
        ];
        for (field, value, max) in bounds {
            if !(1..=max).contains(&value) {
                let reason = format!("{value} is out of bounds");
                return Err(section.error_with_hint(field, reason, format!("1 to {max}")));
            }
        }
        if !(PER_MIN..=PAUSE_MAX).contains(&settings.per.0) {
            let reason = format!("{} is out of bounds", settings.per);
            return Err(section.error_with_hint("per", reason, "1ms to 24h"));
        }
        let parse = |text: String| Template::parse(&text, Spelling::Text);
        let key = settings.key.map(parse).transpose().map_err(|reason| section.error("key", reason))?;
        let interval = settings.per.0 / settings.rate;
        Ok(Arc::new(Factory {
            interval,
            tolerance: interval.saturating_mul(burst - 1),
            key,
            over: settings.over,
            max_keys: settings.max_keys,
        }))
    }
}

impl FilterFactory for Factory {
    fn name(&self) -> ByteString {
        match &self.key {
            Some(key) => format!("rate_limit by {}", key.text()).into(),
            None => ByteString::from_static("rate_limit"),
        }
    }

    fn build(&self) -> Result<Box<dyn Filter>, Reason> {
        Ok(Box::new(Limiter { settings: self.clone(), full_at: HashMap::new() }))
    }
}

impl Filter for Limiter {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        batch.iter().map(|input| self.judge(input)).collect()
    }
}

impl Limiter {
    fn judge(&mut self, input: &Input<'_>) -> Verdict {
        if input.attempt > 1 {
            // It has waited for a token that was taken for it when it came.
            return Verdict::Pass;
        }
        let key = match self.settings.key.as_ref().map(|key| key.render(input.envelope, input.route)) {
            None => ByteString::new(),
            Some(Ok(key)) => key,
            Some(Err(reason)) => return Verdict::Reject(reason),
        };
        let now = input.now;
        let full_at = self.full_at.get(&key).copied().map_or(now, |at| at.max(now));
        let wait = full_at.saturating_duration_since(now).saturating_sub(self.settings.tolerance);
        if !wait.is_zero() && self.settings.over == Over::Drop {
            return Verdict::Drop(Some("over the limit".into()));
        }
        if wait > PAUSE_MAX {
            return Verdict::Reject("there is no turn for it within 24h".into());
        }
        self.make_room(now, &key);
        // The key may be a part of a message: a copy does not keep all of that.
        self.full_at.insert(key.to_string().into(), full_at + self.settings.interval);
        if wait.is_zero() { Verdict::Pass } else { Verdict::Hold(wait) }
    }

    /// Forgets full buckets, which are as those of keys never seen; and where that is not enough, the fullest.
    fn make_room(&mut self, now: Instant, key: &ByteString) {
        if self.full_at.len() < self.settings.max_keys || self.full_at.contains_key(key) {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= self.settings.max_keys {
            let mut times: Vec<Instant> = self.full_at.values().copied().collect();
            // A quarter at a time, so that not every new key looks at all of them.
            let at = times.len() / 4;
            let (_, limit, _) = times.select_nth_unstable(at);
            let limit = *limit;
            self.full_at.retain(|_, full_at| *full_at > limit);
        }
    }
}
