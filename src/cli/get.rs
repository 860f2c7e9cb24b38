//! `meshbus get`: a table of state, and its changes as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::follow::{Follow, Told};
use super::http::Client;
use super::input::duration;
use super::item::{COLUMNS, Item, WIDE, shown};
use super::labels::LabelSelector;
use super::server::{Reach, Server};
use super::state::{full_name, is_object, list, read};
use super::table::Table;
use super::{Failure, output};
use crate::config::to_yaml;
use crate::core::Key;
use crate::schema::kinds::type_url;

/// Show state: what the bus holds of a type, or one key
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus get values
  meshbus get value switches/1 -o raw
  meshbus get apps/v1/Deployment -n web -l 'app in (shop, cart)' --scope east
  meshbus get cds -w -o json
  meshbus get deploy -A -w -s 'k8s:///?context=east'          (a cluster of your kubeconfig)
  meshbus get pods -n web -o wide -s k8s://127.0.0.1:18001/scopes/east

TYPE is one of values, routes, connectors, connections, flows, or group/version/Kind
(apps/v1/Deployment, v1/Pod), or lds, cds, rds, eds, sds, or the full name of a protobuf message. An
object without a namespace is named default/NAME; one that has none is /NAME.

Of an API server (k8s) TYPE is any name kubectl takes: deployments, deploy, deployments.apps. Its own
columns are shown, and objects as it has them. Without -n the namespace is that of the kubeconfig's
context, else default. Secrets are read with --with allow_secrets=true.")]
pub(super) struct Get {
    /// Type
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Name; without, all
    name: Option<String>,
    /// Only this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// All namespaces; over http as without --namespace
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    all_namespaces: bool,
    /// Only where the labels of the data are so: app=web,env in (a, b),!legacy
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<LabelSelector>,
    /// Whose state; default all
    #[arg(long)]
    scope: Option<String>,
    /// Go on with changes as they come
    #[arg(short, long)]
    watch: bool,
    /// table, wide, json, yaml, or raw: the data of one key, byte for byte
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    server: Server,
}

/// The form of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Raw,
}

/// What is asked for, in the bus's own words.
struct Wanted {
    kind: String,
    name: Option<String>,
}

impl Get {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if self.output == Output::Raw && (self.name.is_none() || self.watch) {
            return Err(Failure::usage("-o raw shows the data of one key: get TYPE NAME -o raw"));
        }
        let client = match self.server.reach()? {
            Reach::Http { url, token } => Client::new(&url, token.as_deref(), self.timeout)?,
            #[cfg(feature = "k8s")]
            Reach::Cluster(remote) => return self.over_k8s(&remote).await,
            Reach::Peer(remote) => {
                let name = remote.transport.name();
                let hint = if name == "mqtt" { "; sub --from snapshot shows what is retained" } else { "" };
                return Err(Failure::usage(format!("over {name} there is no get; use -s http://…{hint}")));
            }
        };
        let kind = type_url(&self.kind).map_err(Failure::usage)?.into_owned();
        let name = self.name.as_deref().map(|name| full_name(&kind, name, self.namespace.as_deref()));
        let wanted = Wanted { name: name.transpose()?, kind };
        if self.name.is_none() && self.namespace.is_some() && !is_object(&wanted.kind) {
            return Err(Failure::usage(format!("--namespace: a {} has none", wanted.kind)));
        }
        if self.watch {
            return tokio::select! {
                ended = self.watch(client, &wanted) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            };
        }
        if let Some(name) = &wanted.name {
            return self.one(client, &wanted, name).await;
        }
        let items = list(&client, &wanted.kind, self.scope.as_deref(), |item| self.wants(item)).await?;
        self.show(&items)
    }

    #[cfg(feature = "k8s")]
    async fn over_k8s(&self, remote: &super::peer::Remote) -> Result<(), Failure> {
        if let Some(scope) = &self.scope {
            let hint = format!("-s k8s://HOST:PORT/scopes/{}", output::shown(scope));
            return Err(Failure::usage(format!("--scope: the scope is in the server's URL: {hint}")));
        }
        let selector = self.selector.as_ref().map(ToString::to_string);
        let asked = super::k8s::Asked {
            kind: &self.kind,
            name: self.name.as_deref(),
            namespace: self.namespace.as_deref(),
            all_namespaces: self.all_namespaces,
            selector: selector.as_deref(),
            output: self.output,
            watch: self.watch,
        };
        tokio::select! {
            ended = super::k8s::get(remote, asked, self.timeout) => ended,
            _ = tokio::signal::ctrl_c(), if self.watch => Ok(()),
        }
    }

    /// Whether the parts that only this side knows want it.
    fn wants(&self, item: &Item) -> bool {
        let in_namespace = self.name.is_some()
            || self.namespace.as_deref().is_none_or(|namespace| {
                item.key.name.split_once('/').is_some_and(|(have, _)| have == namespace)
            });
        in_namespace && self.selector.as_ref().is_none_or(|selector| selector.matches(&item.envelope.data))
    }

    async fn one(&self, client: Client, wanted: &Wanted, name: &str) -> Result<(), Failure> {
        let missing = |scope: &str| {
            let key = Key::new(scope, wanted.kind.clone(), name);
            Failure::failed(format!("there is no {}", shown(&key)))
        };
        if let (Output::Raw, Some(scope)) = (self.output, &self.scope) {
            return raw(&client, &Key::new(scope.clone(), wanted.kind.clone(), name)).await;
        }
        // One key in whatever scope: a listing has no name, a subscription to a snapshot has.
        let mut follow = self.follow(client, wanted).await?;
        let mut found = Vec::new();
        loop {
            match follow.next().await? {
                Told::Put(json) => found.push(item(json)?),
                Told::SnapshotEnd => break,
                _ => {}
            }
        }
        found.retain(|item| self.wants(item));
        match (self.output, found.as_slice()) {
            (_, []) => Err(missing(self.scope.as_deref().unwrap_or(Key::LOCAL))),
            (Output::Raw, [only]) => raw(&follow.into_client(), &only.key).await,
            (Output::Raw, several) => {
                let scopes: Vec<&str> = several.iter().map(|item| &*item.key.scope).collect();
                Err(Failure::usage(format!("it is in several scopes: --scope {}", scopes.join(" or "))))
            }
            (Output::Json, [only]) => output::line(output::pretty(&only.value()?)?),
            (Output::Yaml, [only]) => output::write(to_yaml(only.value()?)),
            (_, items) => self.show(items),
        }
    }

    async fn follow(&self, client: Client, wanted: &Wanted) -> Result<Follow, Failure> {
        let mut query = vec![("type", wanted.kind.clone())];
        query.extend(wanted.name.clone().map(|name| ("name", name)));
        query.extend(self.scope.clone().map(|scope| ("scope", scope)));
        Follow::open(client, query, "snapshot").await
    }

    fn show(&self, items: &[Item]) -> Result<(), Failure> {
        let values = || items.iter().map(Item::value).collect::<Result<Vec<Value>, _>>();
        match self.output {
            Output::Json => output::line(output::pretty(&json!({ "items": values()? }))?),
            Output::Yaml => output::write(to_yaml(json!({ "items": values()? }))),
            Output::Table | Output::Wide | Output::Raw => {
                if items.is_empty() {
                    return Err(Failure::failed("nothing found"));
                }
                let mut rows = vec![self.head()];
                rows.extend(items.iter().map(|item| item.row(self.output == Output::Wide)));
                output::write(Table::default().rows(&rows))
            }
        }
    }

    fn head(&self) -> Vec<String> {
        let wide: &[&str] = if self.output == Output::Wide { &WIDE } else { &[] };
        COLUMNS.iter().chain(wide).map(ToString::to_string).collect()
    }

    /// The state, then its changes as they come. What a later snapshot does not name is gone.
    async fn watch(&self, client: Client, wanted: &Wanted) -> Result<(), Failure> {
        let mut follow = self.follow(client, wanted).await?;
        let mut rows = Rows { wide: self.output == Output::Wide, ..Rows::default() };
        let mut known: BTreeMap<Key, Item> = BTreeMap::new();
        // Of the snapshot that is being told: the keys of the last one that it has not named.
        let mut unnamed: Option<BTreeMap<Key, Item>> = None;
        loop {
            match follow.next().await? {
                Told::Put(json) => {
                    let item = item(json)?;
                    let before = match &mut unnamed {
                        Some(unnamed) => unnamed.remove(&item.key),
                        None => known.get(&item.key).cloned(),
                    };
                    let told = before.as_ref().is_some_and(|before| before.seq == item.seq);
                    if self.wants(&item) && !told {
                        let change = if before.is_some() { "modified" } else { "added" };
                        self.tell(&mut rows, change, &item)?;
                    } else if let Some(before) = before.filter(|before| !told && self.wants(before)) {
                        self.tell(&mut rows, "unmatched", &before)?;
                    }
                    known.insert(item.key.clone(), item);
                }
                Told::Delete(json) => {
                    let item = item(json)?;
                    known.remove(&item.key);
                    if self.wants(&item) {
                        self.tell(&mut rows, "deleted", &item)?;
                    }
                }
                Told::SnapshotBegin => {
                    rows.hold(known.is_empty().then(|| self.head()));
                    unnamed = Some(std::mem::take(&mut known));
                }
                Told::SnapshotEnd => {
                    for gone in unnamed.take().unwrap_or_default().into_values() {
                        if self.wants(&gone) {
                            self.tell(&mut rows, "deleted", &gone)?;
                        }
                    }
                    rows.release()?;
                }
                Told::Event(_) => {}
            }
        }
    }

    fn tell(&self, rows: &mut Rows, change: &str, item: &Item) -> Result<(), Failure> {
        match self.output {
            Output::Json => output::line(&item.json),
            Output::Yaml => output::write(format!("---\n{}", to_yaml(item.value()?))),
            Output::Table | Output::Wide | Output::Raw => rows.add(change, item),
        }
    }
}

/// Rows of a table that goes on: those of a snapshot are aligned with each other, later ones with those.
#[derive(Default)]
struct Rows {
    table: Table,
    held: Option<Vec<Vec<String>>>,
    wide: bool,
}

impl Rows {
    fn hold(&mut self, head: Option<Vec<String>>) {
        let head = head.map(|mut head| {
            head.insert(0, "CHANGE".to_owned());
            head
        });
        self.held = Some(head.into_iter().collect());
    }

    fn add(&mut self, change: &str, item: &Item) -> Result<(), Failure> {
        let mut row = item.row(self.wide);
        row.insert(0, change.to_owned());
        match &mut self.held {
            Some(held) => {
                held.push(row);
                Ok(())
            }
            None => output::write(self.table.rows(&[row])),
        }
    }

    fn release(&mut self) -> Result<(), Failure> {
        let held = self.held.take().unwrap_or_default();
        output::write(self.table.rows(&held))
    }
}

async fn raw(client: &Client, key: &Key) -> Result<(), Failure> {
    let answer = read(client, key).await?;
    if !answer.status.is_success() {
        return Err(answer.failure());
    }
    output::write(&answer.body)
}

fn item(json: bytes::Bytes) -> Result<Item, Failure> {
    Item::read(json).map_err(|error| Failure::failed(format!("a change cannot be read: {error}")))
}
