//! `get` of an API server: its own tables, page by page; objects as it has them.

use std::time::Duration;

use serde_json::{Value, json};

use super::page::{Form, Found, Page};
use super::{Cluster, Place, Unanswered, shown, watch};
use crate::cli::get::Output;
use crate::cli::peer::Remote;
use crate::cli::table::Table;
use crate::cli::{Failure, output};
use crate::config::to_yaml;
use crate::transport::k8s::client::api::{PAGE_MAX, segment};
use crate::transport::k8s::client::discovery::Resource;

/// Objects asked for at a time.
const PAGE: u32 = 500;
/// How often a list whose pages expired is begun anew; then one without pages is asked for.
const RESTARTS: usize = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Asked<'a> {
    pub(in crate::cli) kind: &'a str,
    pub(in crate::cli) name: Option<&'a str>,
    pub(in crate::cli) namespace: Option<&'a str>,
    pub(in crate::cli) all_namespaces: bool,
    pub(in crate::cli) selector: Option<&'a str>,
    pub(in crate::cli) output: Output,
    pub(in crate::cli) watch: bool,
}

/// What is shown of a server.
pub(super) struct Shown<'a> {
    cluster: &'a Cluster,
    place: Place,
    selector: Option<&'a str>,
    pub(super) output: Output,
    pub(super) form: Form<'a>,
    /// Whether rows tell their namespace.
    namespaces: bool,
}

/// Shows objects, and with `watch` their changes as they come.
///
/// # Errors
/// As the exit codes have it: nothing found or refused 1, words 64, no answer 69.
pub(in crate::cli) async fn get(
    remote: &Remote,
    asked: Asked<'_>,
    connect: Duration,
) -> Result<(), Failure> {
    if asked.name.is_some() && asked.selector.is_some() {
        return Err(Failure::usage("--selector: one object is named already"));
    }
    let cluster = Cluster::open(remote, connect).await?;
    let kind = cluster.kind(asked.kind)?;
    let place = cluster.place(kind, asked.name, asked.namespace, asked.all_namespaces)?;
    cluster.check_readable(kind)?;
    let namespaces = kind.definition.namespaced && place.namespace.is_empty();
    let objects = !matches!(asked.output, Output::Table | Output::Wide);
    let form = Form { kind, objects, wide: asked.output == Output::Wide, columns: None };
    let mut shown = Shown {
        cluster: &cluster,
        place,
        selector: asked.selector,
        output: asked.output,
        form,
        namespaces,
    };
    if asked.watch {
        return watch::follow(&mut shown).await;
    }
    match shown.place.name.clone() {
        Some(name) => shown.one(&name).await,
        None => shown.all().await,
    }
}

impl<'a> Shown<'a> {
    pub(super) fn kind(&self) -> &'a Resource {
        self.form.kind
    }

    pub(super) fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The path of the collection, with the query that says which of it.
    pub(super) fn path(&self, first: &str) -> String {
        let mut path = format!("{}?{first}", self.kind().path(&self.place.namespace));
        if let Some(name) = &self.place.name {
            path = format!("{path}&fieldSelector={}", segment(&format!("metadata.name={name}")));
        }
        if let Some(selector) = self.selector {
            path = format!("{path}&labelSelector={}", segment(selector));
        }
        path
    }

    async fn one(&mut self, name: &str) -> Result<(), Failure> {
        let path = self.kind().object_path(&self.place.namespace, name);
        let answer = self.cluster.api.get(&path, self.form.accept(), PAGE_MAX).await;
        let body = answer.map_err(|failure| match failure.code() {
            Some(http::StatusCode::NOT_FOUND) => {
                Failure::failed(format!("there is no {}", shown(self.kind(), &self.place)))
            }
            _ => self.cluster.failed(failure),
        })?;
        if self.output == Output::Raw {
            return output::write(&body);
        }
        let raw = serde_json::from_slice(&body).map_err(|error| self.unreadable(&error.to_string()))?;
        let found = self.form.one(raw).map_err(|why| self.unreadable(&why))?;
        match self.output {
            Output::Json => output::line(output::pretty(&found.object)?),
            Output::Yaml => output::write(to_yaml(found.object)),
            Output::Table | Output::Wide | Output::Raw => self.table(vec![found]),
        }
    }

    async fn all(&mut self) -> Result<(), Failure> {
        let page = self.list().await.map_err(|failure| self.cluster.failed(failure))?;
        let objects = |page: Page| -> Value {
            let items: Vec<Value> = page.found.into_iter().map(|found| found.object).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items})
        };
        match self.output {
            Output::Json => output::line(output::pretty(&objects(page))?),
            Output::Yaml => output::write(to_yaml(objects(page))),
            Output::Table | Output::Wide | Output::Raw if page.found.is_empty() => {
                Err(Failure::failed(match self.place.namespace.as_str() {
                    "" => "nothing found".to_owned(),
                    namespace => format!("nothing found in the namespace {namespace}"),
                }))
            }
            Output::Table | Output::Wide | Output::Raw => self.table(page.found),
        }
    }

    /// The objects there are, all at one position.
    ///
    /// # Errors
    /// As the server says, or does not say.
    pub(super) async fn list(&mut self) -> Result<Page, Unanswered> {
        let (mut whole, mut restarts) = (Page::default(), 0);
        loop {
            let first = match (restarts < RESTARTS, whole.next.as_str()) {
                (false, _) => String::new(),
                (true, "") => format!("limit={PAGE}"),
                (true, next) => format!("limit={PAGE}&continue={}", segment(next)),
            };
            let body = match self.cluster.api.get(&self.path(&first), self.form.accept(), PAGE_MAX).await {
                Ok(body) => body,
                Err(failure) if failure.is_gone() && restarts < RESTARTS => {
                    (whole, restarts) = (Page::default(), restarts + 1);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let page =
                self.form.page(&body).map_err(|why| Unanswered::Broken(format!("no list: {why}")))?;
            whole.found.extend(page.found);
            (whole.position, whole.next) = (page.position, page.next);
            if whole.next.is_empty() {
                return Ok(whole);
            }
        }
    }

    fn table(&self, found: Vec<Found>) -> Result<(), Failure> {
        let mut rows = vec![self.head()];
        rows.extend(found.into_iter().map(|found| self.row(found)));
        output::write(Table::default().rows(&rows))
    }

    pub(super) fn head(&self) -> Vec<String> {
        let namespace = self.namespaces.then(|| "NAMESPACE".to_owned());
        namespace.into_iter().chain(self.form.head()).collect()
    }

    pub(super) fn row(&self, found: Found) -> Vec<String> {
        let namespace = self.namespaces.then_some(found.name.0);
        namespace.into_iter().chain(found.cells).collect()
    }

    fn unreadable(&self, why: &str) -> Failure {
        Failure::failed(format!("{}: an answer that cannot be read: {why}", self.cluster.api.peer))
    }
}
