//! `sub` at an API server: the transport's own connector watches what is asked for, and its events are shown.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::page::JSON;
use super::{Cluster, SECRET, failed};
use crate::cli::peer::Remote;
use crate::cli::{Failure, output};
use crate::core::selector::{Level, TopicFilter};
use crate::transport::k8s::client::api::PAGE_MAX;
use crate::transport::k8s::client::discovery::Resource;

/// The topics of all objects.
const ALL: &str = "k8s/#";
/// Events of the newer group are those of the core group.
const EVENT: &str = "core/v1/Event";
const NEWER_EVENT: &str = "events.k8s.io/v1/Event";
/// Where a topic of an object has its scope, its type and its namespace.
const SCOPE: usize = 1;
const TYPE: std::ops::Range<usize> = 2..5;
const NAMESPACE: usize = 5;
/// What the scope is called where nothing names it.
const SCOPE_DEFAULT: &str = "cluster";

/// Makes settings of a connector that watches what `words` names: a topic filter (`k8s/+/apps/v1/Deployment/#`), or
/// types, separated by commas. Gives the filter that its events must match.
///
/// # Errors
/// As the exit codes have it: unknown or refused types 1, words 64, no answer 69.
pub(in crate::cli) async fn watch_settings(
    remote: &mut Remote,
    words: &str,
    connect: Duration,
) -> Result<TopicFilter, Failure> {
    let filter = topic_filter(words)?;
    let cluster = Cluster::open(remote, connect).await?;
    let watched = |kind: &&Resource| kind.can("list") && kind.can("watch");
    let (filter, kinds, exact) = if let Some(filter) = filter {
        let kinds = cluster.kinds.iter().filter(watched).filter(|kind| takes(&filter, kind)).collect();
        let exact = TYPE.into_iter().all(|at| literal(&filter, at).is_some());
        (filter, kinds, exact)
    } else {
        let kinds: Result<Vec<&Resource>, Failure> =
            words.split(',').map(|word| cluster.kind(word.trim())).collect();
        (parse(ALL)?, kinds?, true)
    };
    let mut types: Vec<(&Resource, Map<String, Value>)> = Vec::new();
    for kind in kinds {
        let type_url = &*kind.definition.type_url;
        let twice = types.iter().any(|(have, _)| key_type(have) == key_type(kind));
        // What a wildcard names by the way is no wish to see secrets; nor are the bus's own kinds a cluster's.
        let aside = type_url == SECRET || kind.definition.group == "meshbus.dev";
        if twice || (aside && !exact) {
            continue;
        }
        cluster.check_readable(kind)?;
        if kind.definition.group == "meshbus.dev" {
            let plural = &kind.definition.plural;
            return Err(Failure::usage(format!("{plural}: what a bus has of its own is told over http")));
        }
        let mut watch = Map::from_iter([("type".to_owned(), json!(type_url))]);
        let namespace = literal(&filter, NAMESPACE).filter(|_| kind.definition.namespaced);
        if let Some(namespace) = namespace {
            watch.insert("namespaces".to_owned(), json!([namespace]));
        }
        types.push((kind, watch));
    }
    let watch = allowed(&cluster, types, exact, literal(&filter, NAMESPACE)).await?;
    if watch.is_empty() {
        return Err(Failure::failed(format!("{} has nothing that {words} matches", cluster.api.peer)));
    }
    let settings = &mut remote.settings;
    settings.insert("watch".to_owned(), Value::Array(watch));
    settings.insert("cursor".to_owned(), json!({"store": "none"}));
    remote.scope = Some(scope(remote.scope.take(), &filter)?);
    Ok(filter)
}

/// What the scope is called: as the server's name has it, which the filter must not contradict; else as the filter has.
fn scope(named: Option<String>, filter: &TopicFilter) -> Result<String, Failure> {
    let asked = literal(filter, SCOPE).map(|text| percent_decode_str(text).decode_utf8_lossy());
    match (named, asked) {
        (Some(named), Some(asked)) if named != asked => {
            let hint = format!("k8s/{named}/… or k8s/+/…");
            Err(Failure::usage(format!("there is no scope {asked:?} at this server: {hint}")))
        }
        (Some(named), _) => Ok(named),
        (None, asked) => Ok(asked.map_or_else(|| SCOPE_DEFAULT.to_owned(), Into::into)),
    }
}

/// Those that may be listed. A type that was named must be; what a wildcard takes in is left out with a word.
async fn allowed(
    cluster: &Cluster,
    types: Vec<(&Resource, Map<String, Value>)>,
    exact: bool,
    namespace: Option<&str>,
) -> Result<Vec<Value>, Failure> {
    let mut watch = Vec::new();
    for (kind, settings) in types {
        let path = format!("{}?limit=1", kind.path(namespace.unwrap_or_default()));
        match cluster.api.get(&path, JSON, PAGE_MAX).await {
            Ok(_) => watch.push(Value::Object(settings)),
            Err(failure) if failure.is_final() && !exact => {
                let type_url = &kind.definition.type_url;
                output::note(format!("without {type_url}: {}", output::shown(&failure.to_string())));
            }
            Err(failure) => return Err(failed(&cluster.api, failure)),
        }
    }
    Ok(watch)
}

/// The words as a topic filter; `None` where they are types.
fn topic_filter(words: &str) -> Result<Option<TopicFilter>, Failure> {
    let first = words.split('/').next().unwrap_or_default();
    match first {
        "k8s" | "+" | "*" | "#" | ">" => {}
        _ => return Ok(None),
    }
    parse(words).map(Some)
}

fn parse(filter: &str) -> Result<TopicFilter, Failure> {
    TopicFilter::parse(filter).map_err(|error| Failure::usage(error.to_string()))
}

/// Whether the filter may match topics of a kind's objects.
fn takes(filter: &TopicFilter, kind: &Resource) -> bool {
    let mut parts = key_type(kind).split('/');
    for at in 0.. {
        match filter.levels().get(at) {
            None => return false,
            Some(Level::Rest | Level::Some) => return true,
            _ if at >= TYPE.end => return true,
            Some(Level::One) if !TYPE.contains(&at) => {}
            Some(Level::One) => drop(parts.next()),
            Some(Level::Literal(text)) if TYPE.contains(&at) => {
                if parts.next() != Some(text) {
                    return false;
                }
            }
            Some(Level::Literal(text)) if at == 0 && *text != "k8s" => return false,
            Some(Level::Literal(_)) => {}
        }
    }
    false
}

fn key_type(kind: &Resource) -> &str {
    match &*kind.definition.type_url {
        NEWER_EVENT => EVENT,
        type_url => type_url,
    }
}

/// What stands at a level of the filter, before any wildcard that takes several.
fn literal(filter: &TopicFilter, at: usize) -> Option<&str> {
    match filter.levels().get(at) {
        Some(Level::Literal(text)) if *text != "_" => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::registry::Definition;

    #[test]
    fn a_filter_takes_the_kinds_that_it_may_match() {
        let kind = |type_url: &'static str| Resource {
            definition: Definition::guess(&type_url.into()).unwrap(),
            verbs: Vec::new(),
        };
        let (pod, deployment, event) = (kind("core/v1/Pod"), kind("apps/v1/Deployment"), kind(NEWER_EVENT));
        for (filter, expected) in [
            ("k8s/+/apps/v1/Deployment/#", [false, true, false]),
            ("k8s/east/+/v1/+/web/+", [true, true, true]),
            ("k8s/+/core/>", [true, false, true]),
            ("#", [true, true, true]),
            ("+/+/core/v1/Event/#", [false, false, true]),
            ("k8s/east", [false, false, false]),
            ("xds/#", [false, false, false]),
        ] {
            let parsed = parse(filter).unwrap();
            assert_eq!([&pod, &deployment, &event].map(|kind| takes(&parsed, kind)), expected, "{filter}");
        }
    }

    #[test]
    fn words_are_a_filter_or_types() {
        for (words, is_filter) in
            [("k8s/#", true), ("#", true), ("+/a", true), ("apps/v1/Deployment", false), ("pods,ev", false)]
        {
            assert_eq!(topic_filter(words).unwrap().is_some(), is_filter, "{words}");
        }
        assert_eq!(literal(&parse("k8s/+/apps/v1/Deployment/web/#").unwrap(), NAMESPACE), Some("web"));
        for (named, filter, expected) in [
            (Some("east"), "k8s/+/#", Some("east")),
            (Some("east"), "k8s/east/#", Some("east")),
            (Some("east"), "k8s/west/#", None),
            (Some("a/b"), "k8s/a%2Fb/#", Some("a/b")),
            (None, "k8s/west/#", Some("west")),
            (None, "k8s/#", Some("cluster")),
        ] {
            let found = scope(named.map(str::to_owned), &parse(filter).unwrap()).ok();
            assert_eq!(found.as_deref(), expected, "{named:?} {filter}");
        }
        assert_eq!(literal(&parse("k8s/+/core/v1/Node/_/a").unwrap(), NAMESPACE), None);
    }
}
