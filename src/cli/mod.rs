//! The command line: one file a verb.
//!
//! Exit codes: 0 done, 1 failed or nothing matched, 64 wrong usage, 69 server unreachable, 78 configuration
//! invalid. What a verb gives goes to standard output, everything about it to standard error.

#![allow(clippy::print_stdout, reason = "printing is what the command line is for")]

mod address;
#[cfg(feature = "xds")]
mod bootstrap;
mod completions;
mod delete;
mod eval;
mod explain;
mod get;
mod graph;
mod init;
#[cfg(feature = "k8s")]
mod k8s;
#[cfg(feature = "k8s")]
mod kubeconfig;
#[cfg(feature = "wasm")]
mod plugin;
mod publish;
mod put;
mod run;
mod schema;
mod sub;
mod tap;
mod test;
mod validate;

// What verbs share.
mod event;
mod explained;
mod follow;
mod http;
mod input;
mod item;
mod labels;
mod output;
mod peer;
mod server;
mod state;
mod table;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, process_environment};
use crate::runtime::task;
use crate::transport::TRANSPORTS;

/// One bus for everything a mesh watches.
#[derive(Debug, Parser)]
#[command(
    name = "meshbus",
    version,
    about,
    max_term_width = 110,
    propagate_version = true,
    after_help = "Exit codes: 0 done, 1 failed or nothing matched, 64 wrong usage, 69 server unreachable, 78 \
                  configuration invalid."
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Init),
    Run(run::Run),
    Validate(validate::Validate),
    Schema(schema::Schema),
    Test(test::Test),
    Pub(Box<publish::Pub>),
    Put(put::Put),
    Delete(delete::Delete),
    Sub(Box<sub::Sub>),
    Get(get::Get),
    Address(address::Address),
    Eval(eval::Eval),
    Explain(explain::Explain),
    Tap(tap::Tap),
    Graph(graph::Graph),
    #[cfg(feature = "k8s")]
    Kubeconfig(kubeconfig::Kubeconfig),
    #[cfg(feature = "xds")]
    Bootstrap(bootstrap::Bootstrap),
    #[cfg(feature = "wasm")]
    Plugin(plugin::Plugin),
    Completions(completions::Completions),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// [`Failure`], with the exit code that fits.
    pub async fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Init(verb) => verb.run(),
            Verb::Run(verb) => Box::pin(verb.run()).await,
            Verb::Validate(verb) => Box::pin(verb.run()).await,
            Verb::Schema(_) => schema::Schema::run(),
            Verb::Test(verb) => verb.run(),
            Verb::Pub(verb) => Box::pin(verb.run()).await,
            Verb::Put(verb) => Box::pin(verb.run()).await,
            Verb::Delete(verb) => Box::pin(verb.run()).await,
            Verb::Sub(verb) => Box::pin(verb.run()).await,
            Verb::Get(verb) => Box::pin(verb.run()).await,
            Verb::Address(verb) => verb.run(),
            Verb::Eval(verb) => verb.run(),
            Verb::Explain(verb) => Box::pin(verb.run()).await,
            Verb::Tap(verb) => Box::pin(verb.run()).await,
            Verb::Graph(verb) => verb.run(),
            #[cfg(feature = "k8s")]
            Verb::Kubeconfig(verb) => Box::pin(verb.run()).await,
            #[cfg(feature = "xds")]
            Verb::Bootstrap(verb) => verb.run(),
            #[cfg(feature = "wasm")]
            Verb::Plugin(verb) => verb.run().await,
            Verb::Completions(verb) => verb.run(),
        }
    }
}

/// The configuration files of a verb.
#[derive(Args, Clone, Debug)]
struct Files {
    /// Configuration file; several are merged. `-` reads standard input
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        env = "MESHBUS_CONFIG",
        value_delimiter = ':'
    )]
    files: Vec<PathBuf>,
}

impl Files {
    /// The checked configuration; the embedded default where no file is named.
    /// As [`load`](Self::load), and sees that every filter can run: its files are there, and right.
    async fn load_prepared(&self) -> Result<Config, Failure> {
        let config = self.load()?;
        let prepared = task::blocking(move || config.prepare_filters().map(|()| config)).await;
        prepared.map_err(|errors| Failure::config(&errors))
    }

    fn load(&self) -> Result<Config, Failure> {
        let loaded = if self.files.is_empty() {
            Config::embedded(&process_environment, TRANSPORTS)
        } else {
            Config::load(&self.files, &process_environment, TRANSPORTS)
        };
        loaded.map_err(|errors| Failure::config(&errors))
    }
}

/// Why a verb failed, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It was tried and failed, or nothing matched: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The server cannot be reached: exit code 69.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 69, message: message.into() }
    }

    /// The words are wrong: exit code 64.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 64, message: message.into() }
    }

    /// There is nobody left to tell: whoever read standard output has gone. Not a failure, exit code 0.
    fn unread() -> Self {
        Self { code: 0, message: String::new() }
    }

    /// The same, and how far it had come.
    fn after(mut self, progress: &str) -> Self {
        self.message = format!("{} ({progress})", self.message);
        self
    }

    /// The configuration is invalid, every mistake with its place: exit code 78.
    pub fn config(errors: &[ConfigError]) -> Self {
        let mistakes: Vec<String> = errors.iter().map(ConfigError::render).collect();
        Self { code: 78, message: mistakes.join("\n") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Tells a failure on standard error and gives its exit code.
pub fn fail(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        // Nobody reads standard error any more: the exit code still tells.
        drop(writeln!(std::io::stderr(), "{failure}"));
    }
    ExitCode::from(failure.code)
}

/// Tells what is wrong with the words, or the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    ExitCode::from(if error.use_stderr() { 64 } else { 0 })
}
