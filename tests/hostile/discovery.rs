//! What the server says of itself: groups, versions and resources, in the old form and the aggregated ones.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Options;
use super::kinds::{EVENT, EVENTS_GROUP, Kind, NAMESPACE};

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The answer to a discovery path with its media type; `None` is no such path.
pub(crate) fn answer(
    kinds: &[Kind],
    options: &Options,
    path: &str,
    accept: &str,
) -> Option<(String, Value)> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let plain = |value| Some(("application/json".to_owned(), value));
    let version = options.aggregated_discovery.then(|| aggregated_version(accept)).flatten();
    match (segments.as_slice(), version) {
        (["version"], _) => plain(json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.26.6", "compiler": "gc",
            "platform": "linux/amd64",
        })),
        (["api"], Some(version)) => Some(aggregated(kinds, options, version, &[String::new()])),
        (["apis"], Some(version)) => Some(aggregated(kinds, options, version, &groups(kinds, options))),
        (["api"], None) => plain(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
        })),
        (["apis"], None) => {
            let groups: Vec<Value> =
                groups(kinds, options).iter().map(|name| group(kinds, options, name)).collect();
            plain(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        (["apis", name], _) if groups(kinds, options).iter().any(|group| group == name) => {
            let mut group = group(kinds, options, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            plain(group)
        }
        (["api", "v1"], _) => plain(resources(kinds, options, "", "v1")?),
        (["apis", name, version], _) => plain(resources(kinds, options, name, version)?),
        _ => None,
    }
}

/// The first aggregated form the client takes, if it prefers one.
fn aggregated_version(accept: &str) -> Option<&'static str> {
    for choice in accept.split(',') {
        let parts: Vec<&str> = choice.split(';').map(str::trim).collect();
        if parts == ["application/json"] || parts == ["*/*"] {
            return None;
        }
        if parts.contains(&"g=apidiscovery.k8s.io") && parts.contains(&"as=APIGroupDiscoveryList") {
            if parts.contains(&"v=v2") {
                return Some("v2");
            }
            if parts.contains(&"v=v2beta1") {
                return Some("v2beta1");
            }
        }
    }
    None
}

/// Named groups, the core group not among them.
fn groups(kinds: &[Kind], options: &Options) -> Vec<String> {
    let mut groups: BTreeSet<String> =
        kinds.iter().map(|kind| kind.group.clone()).filter(|group| !group.is_empty()).collect();
    if options.events_v1 {
        groups.insert(EVENTS_GROUP.to_owned());
    }
    groups.into_iter().collect()
}

/// Kinds of a group with their versions.
fn members<'a>(kinds: &'a [Kind], options: &Options, group: &str) -> Vec<(String, &'a Kind)> {
    if group == EVENTS_GROUP && options.events_v1 {
        return vec![("v1".to_owned(), &kinds[EVENT])];
    }
    let of_group = kinds.iter().filter(|kind| kind.group == group);
    of_group.map(|kind| (kind.version.clone(), kind)).collect()
}

fn versions(kinds: &[Kind], options: &Options, group: &str) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for (version, _) in members(kinds, options, group) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

fn group(kinds: &[Kind], options: &Options, name: &str) -> Value {
    let named = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions(kinds, options, name).iter().map(named).collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn verbs(kinds: &[Kind], kind: &Kind) -> Vec<&'static str> {
    let one_by_one = kind.kind == kinds[NAMESPACE].kind && kind.group.is_empty();
    VERBS.into_iter().filter(|verb| !one_by_one || *verb != "deletecollection").collect()
}

fn resources(kinds: &[Kind], options: &Options, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for (_, kind) in members(kinds, options, group).iter().filter(|(of, _)| of == version) {
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": verbs(kinds, kind),
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = kind.short_names.as_slice().into();
        }
        resources.push(resource);
        if kind.status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources})
    })
}

fn aggregated(kinds: &[Kind], options: &Options, form: &str, groups: &[String]) -> (String, Value) {
    let resource = |kind: &Kind| {
        let response_kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let mut resource = json!({
            "resource": kind.plural, "responseKind": response_kind,
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": kind.kind.to_lowercase(), "verbs": verbs(kinds, kind),
        });
        if !kind.custom {
            // Built-in kinds leave the group and version to the list around them.
            resource["responseKind"] = json!({"group": "", "version": "", "kind": kind.kind});
        }
        if !kind.short_names.is_empty() {
            resource["shortNames"] = kind.short_names.as_slice().into();
        }
        if kind.status {
            resource["subresources"] = json!([{
                "subresource": "status", "responseKind": resource["responseKind"], "verbs": STATUS_VERBS,
            }]);
        }
        resource
    };
    let version = |group: &str, version: &String| {
        let of_version = members(kinds, options, group).into_iter().filter(|(of, _)| of == version);
        let resources: Vec<Value> = of_version.map(|(_, kind)| resource(kind)).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let item = |group: &String| {
        let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
        let versions: Vec<Value> =
            versions(kinds, options, group).iter().map(|one| version(group, one)).collect();
        json!({"metadata": metadata, "versions": versions})
    };
    let items: Vec<Value> = groups.iter().map(item).collect();
    let media_type = format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {}, "items": items,
    });
    (media_type, list)
}
