//! `meshbus delete`: a key goes, through its owner.

use clap::Args;

use super::http::Client;
use super::server::Reach;
use super::state::{Change, Conditions, OneKey, retain, write};
use super::{Failure, output};

/// Delete a key: the bus answers when its owner has done so
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus delete value switches/1
  meshbus delete apps/v1/Deployment shop -n web --scope east --dry-run
  meshbus delete deploy shop -n web -s k8s:///                   (the cluster of your kubeconfig)
  meshbus delete value lights/hall -s mqtt://127.0.0.1:1883      (clears the retained message)")]
pub(super) struct Delete {
    #[command(flatten)]
    key: OneKey,
    #[command(flatten)]
    conditions: Conditions,
}

impl Delete {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let conditions = &self.conditions;
        let said = match conditions.server.reach()? {
            #[cfg(feature = "k8s")]
            Reach::Cluster(remote) => super::k8s::delete(&remote, &self.key, conditions).await?,
            Reach::Http { url, token } => {
                let client = Client::new(&url, token.as_deref(), conditions.timeout)?;
                write(&client, &self.key.key()?, Change::Delete, conditions).await?
            }
            Reach::Peer(remote) => retain(*remote, &self.key.key()?, Change::Delete, conditions).await?,
        };
        output::line(said)
    }
}
