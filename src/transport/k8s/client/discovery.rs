//! Which kinds a cluster has: asked in two requests where it can tell all at once, else group by group.

use std::sync::Arc;

use bytestring::ByteString;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, sleep};
use tracing::{debug, warn};

use super::api::{Api, Failure, PAGE_MAX, segment};
use crate::runtime::backoff::Backoff;
use crate::schema::registry::{Definition, KINDS_MAX, Registry};

/// Asks for everything at once, and takes the older form.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                          application/json";
/// Most groups that are asked one by one.
const GROUPS_MAX: usize = 1000;
/// The shortest and the longest time between two looks for a kind that is missing.
const MISSING: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A kind and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Its names.
    pub(crate) definition: Definition,
    /// `get`, `list`, `watch`, …
    pub(crate) verbs: Vec<String>,
}

impl Resource {
    /// The path of all objects: of one namespace, or (where that is empty) of all.
    pub(crate) fn path(&self, namespace: &str) -> String {
        let Definition { group, version, plural, namespaced, .. } = &self.definition;
        let (version, plural) = (segment(version), segment(plural));
        let root = match group.as_str() {
            "" => format!("/api/{version}"),
            group => format!("/apis/{}/{version}", segment(group)),
        };
        if namespace.is_empty() || !namespaced {
            format!("{root}/{plural}")
        } else {
            format!("{root}/namespaces/{}/{plural}", segment(namespace))
        }
    }

    /// The path of one object.
    pub(crate) fn object_path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.path(namespace), segment(name))
    }

    /// Whether it has this verb.
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|have| have == verb)
    }
}

/// The kinds of a cluster, as they were last asked for.
#[derive(Debug)]
pub(super) struct Kinds {
    now: watch::Sender<Option<Arc<[Resource]>>>,
    /// Somebody misses a kind.
    missing: Notify,
}

impl Kinds {
    pub(super) fn new() -> Self {
        Self { now: watch::Sender::new(None), missing: Notify::new() }
    }

    /// The kind of a type; `None` where the cluster has none, or was not asked yet.
    pub(super) fn get(&self, type_url: &str) -> Option<Resource> {
        let now = self.now.borrow();
        now.as_ref()?.iter().find(|kind| kind.definition.type_url == *type_url).cloned()
    }

    /// The kind of an `apiVersion` and a `kind`.
    pub(super) fn named(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        self.get(&format!("{group}/{version}/{kind}"))
    }

    /// Whether the cluster was asked.
    pub(super) fn known(&self) -> bool {
        self.now.borrow().is_some()
    }

    /// A kind that should be there is not: asks again soon.
    pub(super) fn miss(&self) {
        self.missing.notify_one();
    }

    /// Asks again and again, and tells the registry; never ends.
    pub(super) async fn keep(&self, api: &Api, registry: &Registry, scope: &ByteString, every: Duration) {
        let mut backoff = Backoff::new(MISSING.0, MISSING.1);
        loop {
            match ask(api).await {
                Ok(kinds) => {
                    registry.set(scope.clone(), kinds.iter().map(|kind| kind.definition.clone()).collect());
                    self.now.send_if_modified(|now| {
                        let changed = now.as_deref() != Some(&kinds);
                        *now = Some(kinds.into());
                        changed
                    });
                }
                Err(failure) => warn!(peer = api.peer, error = %failure, "discovery failed"),
            }
            tokio::select! {
                () = sleep(every), if self.known() => backoff.reset(),
                () = self.missing.notified() => sleep(backoff.next_wait()).await,
                () = sleep(backoff.next_wait()), if !self.known() => {}
            }
        }
    }
}

/// Asks once; in the server's order, preferred versions first.
pub(crate) async fn ask(api: &Api) -> Result<Vec<Resource>, Failure> {
    let mut kinds = Vec::new();
    for root in ["/api", "/apis"] {
        let answer = document(api, root, AGGREGATED).await?;
        if answer.get("kind").and_then(Value::as_str) == Some("APIGroupDiscoveryList") {
            aggregated(&answer, &mut kinds);
            continue;
        }
        for version in group_versions(&answer).into_iter().take(GROUPS_MAX) {
            match document(api, &format!("{root}/{version}"), "application/json").await {
                Ok(answer) => legacy(&answer, &version, &mut kinds),
                // An aggregated API that is down takes none of the others with it.
                Err(failure @ Failure::Refused(_)) => {
                    debug!(peer = api.peer, version, error = %failure, "group not discovered");
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    kinds.truncate(KINDS_MAX);
    Ok(kinds)
}

async fn document(api: &Api, path: &str, accept: &str) -> Result<Value, Failure> {
    let bytes = api.get(path, accept, PAGE_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::Broken(format!("{path}: {error}")))
}

/// The versions that `/api` or `/apis` lists: `v1`, `apps/v1`.
fn group_versions(answer: &Value) -> Vec<String> {
    let core = list(answer, "versions").filter_map(Value::as_str).map(str::to_owned);
    let named = list(answer, "groups").flat_map(|group| list(group, "versions"));
    core.chain(named.map(|version| text(version, "groupVersion")).filter(|version| !version.is_empty()))
        .collect()
}

fn legacy(answer: &Value, group_version: &str, kinds: &mut Vec<Resource>) {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let status: Vec<&str> = list(answer, "resources")
        .filter_map(|it| it.get("name")?.as_str()?.strip_suffix("/status"))
        .collect();
    for resource in list(answer, "resources") {
        let plural = text(resource, "name");
        if plural.is_empty() || plural.contains('/') {
            continue;
        }
        let names = Names {
            group,
            version,
            kind: text(resource, "kind"),
            singular: text(resource, "singularName"),
            namespaced: resource.get("namespaced").and_then(Value::as_bool).unwrap_or(false),
            status: status.contains(&plural.as_str()),
            plural,
        };
        kinds.push(names.resource(resource));
    }
}

fn aggregated(answer: &Value, kinds: &mut Vec<Resource>) {
    for group in list(answer, "items") {
        let name = group.get("metadata").map(|metadata| text(metadata, "name")).unwrap_or_default();
        for version in list(group, "versions") {
            for resource in list(version, "resources") {
                let response = resource.get("responseKind").unwrap_or(&Value::Null);
                let names = Names {
                    group: &name,
                    version: &text(version, "version"),
                    kind: text(response, "kind"),
                    plural: text(resource, "resource"),
                    singular: text(resource, "singularResource"),
                    namespaced: text(resource, "scope") == "Namespaced",
                    status: list(resource, "subresources").any(|sub| text(sub, "subresource") == "status"),
                };
                kinds.push(names.resource(resource));
            }
        }
    }
}

struct Names<'a> {
    group: &'a str,
    version: &'a str,
    kind: String,
    plural: String,
    singular: String,
    namespaced: bool,
    status: bool,
}

impl Names<'_> {
    fn resource(self, rest: &Value) -> Resource {
        let words = |name: &str| list(rest, name).filter_map(Value::as_str).map(str::to_owned).collect();
        let group = if self.group.is_empty() { "core" } else { self.group };
        let singular = if self.singular.is_empty() { self.kind.to_lowercase() } else { self.singular };
        Resource {
            verbs: words("verbs"),
            definition: Definition {
                type_url: format!("{group}/{}/{}", self.version, self.kind).into(),
                group: self.group.to_owned(),
                version: self.version.to_owned(),
                kind: self.kind,
                plural: self.plural,
                singular,
                short_names: words("shortNames"),
                categories: words("categories"),
                namespaced: self.namespaced,
                status: self.status,
            },
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_of_discovery_tell_the_same() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        legacy(
            &json!({"groupVersion": "apps/v1", "resources": [
                {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
                 "verbs": ["get", "watch"], "shortNames": ["deploy"], "categories": ["all"]},
                {"name": "deployments/status", "namespaced": true, "kind": "Deployment", "verbs": ["get"]},
            ]}),
            "apps/v1",
            &mut one,
        );
        aggregated(
            &json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "singularResource": "deployment", "scope": "Namespaced",
                 "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                 "verbs": ["get", "watch"], "shortNames": ["deploy"], "categories": ["all"],
                 "subresources": [{"subresource": "status"}]},
            ]}]}]}),
            &mut other,
        );
        assert_eq!(one, other);
        assert_eq!(one[0].object_path("a", "b/c"), "/apis/apps/v1/namespaces/a/deployments/b%2Fc");
        assert_eq!(one[0].path(""), "/apis/apps/v1/deployments");
        assert!(one[0].can("watch") && !one[0].can("list") && one[0].definition.status);
    }

    #[test]
    fn answers_of_another_shape_tell_no_kinds() {
        let mut kinds = Vec::new();
        for answer in [json!(null), json!({"resources": 7}), json!({"items": [{"versions": {}}]})] {
            aggregated(&answer, &mut kinds);
            legacy(&answer, "v1", &mut kinds);
            assert!(group_versions(&answer).is_empty());
        }
        assert!(kinds.is_empty());
    }
}
