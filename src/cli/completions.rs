//! `meshbus completions`: what a shell sources to complete our words.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, output};

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(meshbus completions bash)
  meshbus completions zsh > ~/.zfunc/_meshbus
  meshbus completions fish > ~/.config/fish/completions/meshbus.fish")]
pub(super) struct Completions {
    /// Shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "meshbus", &mut script);
        output::write(script)
    }
}
