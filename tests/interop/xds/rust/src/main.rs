//! gRPC for Rust as a client of xDS: `xds-peer call`, or `xds-peer watch SERVER NODE NAME…`.
//!
//! `call` makes one call for each line `SERVICE SECONDS` on standard input, of at most that time, by a channel that the
//! bootstrap in the environment leads, and answers with a line of JSON: `{"reply": …, "error": …, "seconds": …}`.
//! `watch` watches `ConfigMap`s by name, and prints a line of JSON for each that it is told.

use std::env::args;
use std::io::stderr;
use std::process::ExitCode;

use tokio::runtime::Builder;
use tracing::Level;

mod call;
mod watch;

fn main() -> ExitCode {
    // What the client does goes to its log.
    tracing_subscriber::fmt().with_writer(stderr).with_max_level(Level::INFO).with_ansi(false).init();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let arguments: Vec<String> = args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["call"] => runtime.block_on(call::run()),
        ["watch", server, node, names @ ..] if !names.is_empty() => {
            runtime.block_on(watch::run(server, node, names));
        }
        _ => {
            eprintln!("usage: xds-peer call | xds-peer watch SERVER NODE NAME…");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}
