//! `meshbus put`: the value of a key, through its owner.

use std::path::PathBuf;

use clap::Args;

use super::http::Client;
use super::server::Reach;
use super::state::{Change, Conditions, OneKey, retain, write};
use super::{Failure, input, output};
use crate::schema::kinds::proto_name;

/// Write a key: the bus answers when its owner has it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  echo '{\"on\": true}' | meshbus put value switches/1 -f -
  meshbus put value config/app -f app.yaml --create-only
  meshbus put value config/app -f app.yaml --if-seq 1754300000000017
  meshbus put apps/v1/Deployment web/shop -f shop.json --scope east
  meshbus put cds outbound -f cluster.yaml      (an XDS resource: YAML, JSON or its bytes)
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
        let (mut data, mut content_type) = (input::file(&self.file)?, self.content_type.clone());
        let guessed = content_type.as_deref().or_else(|| input::media_type(Some(&self.file), &data));
        if proto_name(&key.type_url).is_some() && guessed == Some("application/yaml") {
            // The bus reads a message's bytes and JSON.
            data = input::yaml_as_json(&self.file, &data)?;
            content_type = Some("application/json".to_owned());
        }
        let change = Change::Put {
            data,
            file: &self.file,
            content_type: content_type.as_deref(),
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
