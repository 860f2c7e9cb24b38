//! What every transport must hold to, as one table: subject × rule. See README.md for a new transport.
//!
//! Each rule runs on a wire of its own: a sender, which is a bus with the transport's way out, and a receiver,
//! which is another bus with its way in, joined by the peer the transport needs. What was published at one end
//! is compared with what a route of the other delivered.
#![allow(
    clippy::print_stdout,
    dead_code,
    unused_imports,
    reason = "the table is the point, and each binary has some of the subjects"
)]

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use meshbus::transport::Transport;
use tokio::time::Instant;

pub(crate) use relay::Relay;
pub(crate) use world::free_port;

mod content;
mod delivery;
mod link;
mod probe;
mod refusal;
mod relay;
mod world;

/// A transport under test, with its peer where it needs one.
pub(crate) trait Subject: Sync {
    /// What the table calls it.
    fn name(&self) -> &'static str;

    /// The transport.
    fn transport(&self) -> &'static dyn Transport;

    /// What it can do; what it cannot excuses it from rules, and the table says so.
    fn traits(&self) -> Traits;

    /// A fresh way from one bus to another: nothing sent on an earlier wire comes out of this one.
    /// `id` is unique, of letters and digits.
    fn wire<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Wire>;
}

/// What a transport can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    /// The sender's answer comes when the receiver's routes have the event, not when a peer between has it.
    pub(crate) end_to_end: bool,
    /// What the receiver did not acknowledge comes again.
    pub(crate) redelivers: bool,
    /// Data arrives byte for byte. The JSON format may lay JSON out anew, with the same value.
    pub(crate) exact_json: bool,
}

/// A way from one bus to another. Settings are YAML in flow style.
pub(crate) struct Wire {
    /// The connector that sends: `{http: {client: {…}}}`.
    pub(crate) egress: String,
    /// What a route's `to:` entry has beside `connector`, as `, topic: "x"`; may be empty.
    pub(crate) to: String,
    /// The connector that receives.
    pub(crate) ingress: String,
    /// The connection that is broken and healed: all of it, but only the sender's where `redelivers` is false.
    pub(crate) relay: Relay,
    /// Data too large for this wire, in bytes, and the name of the limit that the refusal must have.
    pub(crate) oversize: (usize, &'static str),
    /// Sends something the receiver cannot read, as a stranger would.
    pub(crate) send_malformed: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

/// What came of a rule, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    /// The transport cannot do it, and says so.
    Excused(&'static str),
}

/// One rule.
struct Rule {
    name: &'static str,
    check: for<'a> fn(&'a Bench<'a>) -> LocalBoxFuture<'a, Verdict>,
}

/// What a rule works with.
struct Bench<'a> {
    subject: &'a dyn Subject,
}

/// Longest time one rule may take.
const RULE_LIMIT: Duration = Duration::from_secs(90);

const RULES: &[Rule] = &[
    Rule { name: "opens_and_closes", check: |bench| link::opens_and_closes(bench).boxed_local() },
    Rule {
        name: "carries_every_attribute",
        check: |bench| content::carries_every_attribute(bench).boxed_local(),
    },
    Rule {
        name: "carries_empty_and_binary_data",
        check: |bench| content::carries_empty_and_binary_data(bench).boxed_local(),
    },
    Rule {
        name: "acknowledges_only_after_delivery",
        check: |bench| delivery::acknowledges_only_after_delivery(bench).boxed_local(),
    },
    Rule {
        name: "redelivers_what_was_not_acknowledged",
        check: |bench| delivery::redelivers_what_was_not_acknowledged(bench).boxed_local(),
    },
    Rule { name: "keeps_order_per_key", check: |bench| delivery::keeps_order_per_key(bench).boxed_local() },
    Rule {
        name: "reconnects_without_loss",
        check: |bench| link::reconnects_without_loss(bench).boxed_local(),
    },
    Rule {
        name: "back_pressure_bounds_memory",
        check: |bench| delivery::back_pressure_bounds_memory(bench).boxed_local(),
    },
    Rule { name: "does_not_loop", check: |bench| refusal::does_not_loop(bench).boxed_local() },
    Rule {
        name: "refuses_oversize_by_name",
        check: |bench| refusal::refuses_oversize_by_name(bench).boxed_local(),
    },
    Rule { name: "survives_malformed", check: |bench| refusal::survives_malformed(bench).boxed_local() },
];

/// Runs every rule for every subject and prints the table.
///
/// `MESHBUS_RULE` names one rule to run alone.
///
/// # Panics
/// When a rule fails, naming each subject and rule that did.
pub(crate) async fn conforms(subjects: &[&dyn Subject]) {
    let only = std::env::var("MESHBUS_RULE").ok();
    let mut failed = Vec::new();
    for subject in subjects {
        for rule in RULES.iter().filter(|rule| only.as_deref().is_none_or(|only| only == rule.name)) {
            failed.extend(failure(*subject, rule).await);
        }
    }
    assert!(failed.is_empty(), "{} of the rules failed:\n{}", failed.len(), failed.join("\n"));
}

/// How the rule of this name fails for a subject; `None` where it does not. For tests of the suite itself.
pub(crate) async fn fails(subject: &dyn Subject, rule: &str) -> Option<String> {
    failure(subject, RULES.iter().find(|known| known.name == rule).expect("a rule of this name")).await
}

/// Runs one rule and prints its line of the table.
async fn failure(subject: &dyn Subject, rule: &Rule) -> Option<String> {
    let begun = Instant::now();
    let bench = Bench { subject };
    let run = AssertUnwindSafe((rule.check)(&bench)).catch_unwind();
    let ended = match tokio::time::timeout(RULE_LIMIT, run).await {
        Ok(Ok(verdict)) => Ok(verdict),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned())
        }
        Err(_) => Err(format!("no end within {RULE_LIMIT:?}")),
    };
    let said = match &ended {
        Ok(Verdict::Holds) => "holds".to_owned(),
        Ok(Verdict::Excused(why)) => format!("excused: {why}"),
        Err(text) => format!("FAILED: {text}"),
    };
    println!("{:<12} {:<38} {:>5} ms  {said}", subject.name(), rule.name, begun.elapsed().as_millis());
    ended.err().map(|text| format!("{} {}: {text}", subject.name(), rule.name))
}
