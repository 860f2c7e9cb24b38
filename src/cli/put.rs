//! `meshbus put`: the value of a key, through its owner.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;

use super::http::Client;
use super::server::Reach;
use super::state::{Change, Conditions, OneKey, retain, write};
use super::{Failure, input, output};
use crate::core::Key;
use crate::schema::kinds::proto_name;

/// Write a key: the bus answers when its owner has it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  echo '{\"on\": true}' | meshbus put value switches/1 -f -
  meshbus put value config/app -f app.yaml --create-only
  meshbus put value config/app -f app.yaml --if-seq 1754300000000017
  meshbus put apps/v1/Deployment web/shop -f shop.json --scope east
  meshbus put deployment shop -n web -f shop.yaml -s 'k8s:///?context=east'   (a cluster)
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
        let (reach, conditions) = (self.conditions.server.reach()?, &self.conditions);
        let data = input::file(&self.file)?;
        let said = match reach {
            #[cfg(feature = "k8s")]
            Reach::Cluster(remote) => {
                super::k8s::put(&remote, &self.key, &data, self.create_only, conditions).await?
            }
            Reach::Http { url, token } => {
                let client = Client::new(&url, token.as_deref(), conditions.timeout)?;
                let key = self.key.key()?;
                let (data, content_type) = self.readable(&key, data)?;
                write(&client, &key, self.change(data, content_type.as_deref()), conditions).await?
            }
            Reach::Peer(remote) => {
                let key = self.key.key()?;
                let (data, content_type) = self.readable(&key, data)?;
                retain(*remote, &key, self.change(data, content_type.as_deref()), conditions).await?
            }
        };
        output::line(said)
    }

    /// Data as the bus reads it, and its media type: of a message of protobuf its bytes or JSON, not YAML.
    fn readable(&self, key: &Key, data: Bytes) -> Result<(Bytes, Option<String>), Failure> {
        let given = self.content_type.clone();
        let guessed = given.as_deref().or_else(|| input::media_type(Some(&self.file), &data));
        if proto_name(&key.type_url).is_some() && guessed == Some("application/yaml") {
            return Ok((input::yaml_as_json(&self.file, &data)?, Some("application/json".to_owned())));
        }
        Ok((data, given))
    }

    fn change<'a>(&'a self, data: Bytes, content_type: Option<&'a str>) -> Change<'a> {
        Change::Put { data, file: &self.file, content_type, create_only: self.create_only }
    }
}
