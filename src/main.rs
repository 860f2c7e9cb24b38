//! The program: arguments, then one verb, then its exit code.

use std::process::ExitCode;

use clap::Parser;
use meshbus::cli::{self, Cli};

/// An event is some fifteen allocations that live as long as the log holds it, made on one thread and freed on
/// another: see benches/README.md for what this allocator is worth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&cli::Failure::failed(format!("cannot start threads: {error}"))),
    };
    let ended = runtime.block_on(cli.run());
    // A blocked thread must not hold up the end: all that had to be finished is.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => cli::fail(&failure),
    }
}
