//! The groups, versions and kinds of a scope, one by one and all at once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::kind::{Kind, Origin};
use super::super::reviews;

/// A group in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
}

impl Version {
    /// `apis/example.com/v1`, or `api/v1` of the core group.
    pub(super) fn path(&self) -> String {
        if self.group.is_empty() {
            format!("api/{}", self.version)
        } else {
            format!("apis/{}/{}", self.group, self.version)
        }
    }

    fn name(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The versions of all groups, the core group first, each group's best version first.
pub(super) fn versions(kinds: &[Arc<Kind>]) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    let of_kinds = kinds.iter().map(|kind| (&*kind.definition.group, &*kind.definition.version));
    for (group, version) in of_kinds.chain(reviews::KINDS.iter().map(|review| (review.group, "v1"))) {
        let version = Version { group: group.to_owned(), version: version.to_owned() };
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    // Stable, so that groups keep their order of appearance.
    let first = |group: &str| versions.iter().position(|have| have.group == group).unwrap_or(usize::MAX);
    let mut sorted: Vec<(usize, std::cmp::Reverse<Rank>, Version)> = versions
        .iter()
        .map(|have| (first(&have.group), std::cmp::Reverse(rank(&have.version)), have.clone()))
        .collect();
    sorted.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    sorted.into_iter().map(|(_, _, version)| version).collect()
}

type Rank = (u8, u64, u64);

/// How good a version is: `v2` before `v1`, both before `v2beta1`, that before alphas, and last what is none.
fn rank(version: &str) -> Rank {
    let number = |text: &str| text.parse::<u64>().ok();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    if let Some(major) = number(rest) {
        return (3, major, 0);
    }
    for (word, class) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(word)
            && let (Some(major), Some(minor)) = (number(major), number(minor))
        {
            return (class, major, minor);
        }
    }
    (0, 0, 0)
}

pub(super) fn api_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

pub(super) fn group_list(kinds: &[Arc<Kind>]) -> Value {
    let mut groups: Vec<Value> = Vec::new();
    let mut last = String::new();
    for at in versions(kinds).iter().filter(|at| !at.group.is_empty()) {
        if at.group != last {
            groups.extend(group_value(kinds, &at.group));
            last.clone_from(&at.group);
        }
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

pub(super) fn group(kinds: &[Arc<Kind>], group: &str) -> Option<Value> {
    let mut value = group_value(kinds, group)?;
    let fields = value.as_object_mut()?;
    fields.insert("kind".to_owned(), json!("APIGroup"));
    fields.insert("apiVersion".to_owned(), json!("v1"));
    Some(value)
}

fn group_value(kinds: &[Arc<Kind>], group: &str) -> Option<Value> {
    let versions: Vec<Value> = versions(kinds)
        .iter()
        .filter(|at| at.group == group && !group.is_empty())
        .map(|at| json!({"groupVersion": at.name(), "version": at.version}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": group, "versions": versions, "preferredVersion": preferred}))
}

pub(super) fn resources(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let at = Version { group: group.to_owned(), version: version.to_owned() };
    let mut resources = Vec::new();
    for kind in of_version(kinds, &at) {
        let definition = &kind.definition;
        let mut resource = json!({
            "name": definition.plural,
            "singularName": definition.singular,
            "namespaced": definition.namespaced,
            "kind": definition.kind,
            "verbs": kind.verbs,
        });
        words(&mut resource, "shortNames", &definition.short_names);
        words(&mut resource, "categories", &definition.categories);
        resources.push(resource);
        if definition.status {
            resources.push(json!({
                "name": format!("{}/status", definition.plural),
                "singularName": "",
                "namespaced": definition.namespaced,
                "kind": definition.kind,
                "verbs": status_verbs(kind),
            }));
        }
    }
    for review in reviews::KINDS.iter().filter(|review| review.group == group && version == "v1") {
        resources.push(json!({
            "name": review.plural,
            "singularName": review.kind.to_lowercase(),
            "namespaced": review.namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        }));
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": at.name(),
        "resources": resources,
    }))
}

/// The groups in one document: the core group's, or all others'.
pub(super) fn aggregated(kinds: &[Arc<Kind>], core: bool, version: &str) -> Value {
    let mut items: Vec<(String, Vec<Value>)> = Vec::new();
    for at in versions(kinds).iter().filter(|at| at.group.is_empty() == core) {
        let of_kinds = of_version(kinds, at).map(|kind| aggregated_kind(kind));
        let of_reviews =
            reviews::KINDS.iter().filter(|review| review.group == at.group && at.version == "v1");
        let of_reviews = of_reviews.map(|review| {
            json!({
                "resource": review.plural,
                "responseKind": {"group": review.group, "version": "v1", "kind": review.kind},
                "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": review.kind.to_lowercase(),
                "verbs": ["create"],
            })
        });
        let resources: Vec<Value> = of_kinds.chain(of_reviews).collect();
        let versioned = json!({"version": at.version, "resources": resources, "freshness": "Current"});
        match items.last_mut().filter(|(group, _)| *group == at.group) {
            Some((_, versions)) => versions.push(versioned),
            None => items.push((at.group.clone(), vec![versioned])),
        }
    }
    let items: Vec<Value> = items
        .into_iter()
        .map(|(group, versions)| {
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_kind(kind: &Kind) -> Value {
    let definition = &kind.definition;
    let answers = json!({
        "group": definition.group,
        "version": definition.version,
        "kind": definition.kind,
    });
    let mut resource = json!({
        "resource": definition.plural,
        "responseKind": answers,
        "scope": if definition.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": definition.singular,
        "verbs": kind.verbs,
    });
    words(&mut resource, "shortNames", &definition.short_names);
    words(&mut resource, "categories", &definition.categories);
    if let (true, Some(fields)) = (definition.status, resource.as_object_mut()) {
        let status =
            json!([{"subresource": "status", "responseKind": answers, "verbs": status_verbs(kind)}]);
        fields.insert("subresources".to_owned(), status);
    }
    resource
}

/// The kinds of a version, in order of plural; of two of one name only the first is reached.
fn of_version<'a>(kinds: &'a [Arc<Kind>], at: &Version) -> impl Iterator<Item = &'a Arc<Kind>> {
    let mut found: Vec<&Arc<Kind>> = kinds
        .iter()
        .filter(|kind| kind.definition.group == at.group && kind.definition.version == at.version)
        .collect();
    found.sort_by(|left, right| left.definition.plural.cmp(&right.definition.plural));
    found.dedup_by(|left, right| left.definition.plural == right.definition.plural);
    found.into_iter()
}

fn status_verbs(kind: &Kind) -> &'static [&'static str] {
    if kind.allows("patch") { &["get", "patch", "update"] } else { &["get"] }
}

fn words(resource: &mut Value, name: &str, words: &[String]) {
    if let (false, Some(fields)) = (words.is_empty(), resource.as_object_mut()) {
        fields.insert(name.to_owned(), json!(words));
    }
}

/// The name of a kind's schema: `com.example.v1.Widget`; of built-in kinds as an API server has them.
pub(super) fn schema_name(kind: &Kind) -> String {
    let definition = &kind.definition;
    if matches!(kind.origin, Origin::BuiltIn) {
        let group = definition.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
        if definition.group == "apiextensions.k8s.io" {
            return format!(
                "io.k8s.apiextensions-apiserver.pkg.apis.{group}.{}.{}",
                definition.version, definition.kind
            );
        }
        if definition.group.is_empty() || definition.group.ends_with("k8s.io") {
            return format!("io.k8s.api.{group}.{}.{}", definition.version, definition.kind);
        }
    }
    let mut parts: Vec<&str> = definition.group.split('.').rev().filter(|part| !part.is_empty()).collect();
    parts.extend([&*definition.version, &*definition.kind]);
    parts.join(".")
}
