//! `meshbus put`: the value of a key, through its owner.

use std::path::PathBuf;

use clap::Args;

use super::http::Client;
use super::server::Reach;
use super::state::{Change, Conditions, OneKey, retain, write};
use super::{Failure, input, output};

/// Write a key: the bus answers when its owner has it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  echo '{\"on\": true}' | meshbus put value switches/1 -f -
  meshbus put value config/app -f app.yaml --create-only
  meshbus put value config/app -f app.yaml --if-seq 1754300000000017
  meshbus put apps/v1/Deployment web/shop -f shop.json --scope east
  meshbus put value lights/hall -f on.txt -s mqtt://127.0.0.1:1883      (a retained message)")]
pub(super) struct Put {
    #[command(flatten)]
    key: OneKey,
    /// File with the value; - for standard input
    #[arg(short, long, value_name = "FILE|-")]
    file: PathBuf,
    /// Media type; default by the file's name, else by a look at it
    #[arg(long, value_name = "MEDIA_TYPE")]
    content_type: Option<String>,
    /// Only when the key does not exist
    #[arg(long, conflicts_with_all = ["if_seq", "if_version"])]
    create_only: bool,
    #[command(flatten)]
    conditions: Conditions,
}

impl Put {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let key = self.key.key()?;
        let reach = self.conditions.server.reach()?;
        let change = Change::Put {
            data: input::file(&self.file)?,
            file: &self.file,
            content_type: self.content_type.as_deref(),
            create_only: self.create_only,
        };
        let said = match reach {
            Reach::Http { url, token } => {
                let client = Client::new(&url, token.as_deref(), self.conditions.timeout)?;
                write(&client, &key, change, &self.conditions).await?
            }
            Reach::Peer(remote) => retain(*remote, &key, change, &self.conditions).await?,
        };
        output::line(said)
    }
}
