//! `meshbus schema`: the JSON Schema of a configuration file, for editors.

use clap::Args;

use super::{Failure, output};
use crate::config::Config;
use crate::transport::TRANSPORTS;

/// Print the JSON Schema of the configuration
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus schema > meshbus.schema.json
  # then, as the first line of a configuration, for editors with yaml-language-server:
  # yaml-language-server: $schema=meshbus.schema.json")]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run() -> Result<(), Failure> {
        output::line(output::pretty(&Config::schema(TRANSPORTS))?)
    }
}
