//! `meshbus plugin`: filter plugins from an empty directory to a file that a route names.

mod build;
mod c;
mod component;
mod inspect;
mod new;
mod rust;
mod test;

use clap::{Args, Subcommand};

use super::Failure;
use crate::runtime::task;

/// Make, build, look into and try filter plugins
#[derive(Args, Debug)]
#[command(after_help = "\
Example, from nothing to verdicts on events:
  meshbus plugin new x && meshbus plugin build x && meshbus plugin test x

In a route:
  filters: [{wasm: {path: x/x.wasm, config: {…}}}]")]
pub(super) struct Plugin {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(new::New),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Test(test::Test),
}

impl Plugin {
    pub(super) async fn run(self) -> Result<(), Failure> {
        // Compilers and guests take their time.
        let work = move || match self.verb {
            Verb::New(verb) => verb.run(),
            Verb::Build(verb) => verb.run(),
            Verb::Inspect(verb) => verb.run(),
            Verb::Test(verb) => verb.run(),
        };
        task::blocking(work).await
    }
}
