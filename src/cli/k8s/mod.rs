//! A Kubernetes API server on the command line: a cluster's, or that of a bus.
//!
//! It is asked by the transport's own client, under the settings a configuration would have; its refusals are told in
//! its own words.

use std::path::Path;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::Failure;
use super::peer::{Remote, section, wrong_setting};
use super::server::TOKEN;
use super::state::is_object;
use crate::config::suggest;
use crate::runtime::tls;
use crate::schema::kinds::{group_version_kind, type_url};
use crate::transport::k8s::client::api::{Api, Failure as Unanswered};
use crate::transport::k8s::client::discovery::{Resource, ask};
use crate::transport::k8s::config::ClientConfig;

mod get;
mod page;
mod sub;
mod watch;
mod write;

pub(super) use get::{Asked, get};
pub(super) use sub::watch_settings;
pub(super) use write::{delete, put};

/// The client's settings for a server, and the scope it brings where that has a name.
pub(super) type Settings = (Map<String, Value>, Option<String>);

/// Where in a bus's Kubernetes API scopes are.
const SCOPES: &str = "/scopes/";

/// The type of what is not read by the way.
const SECRET: &str = "core/v1/Secret";

/// What `-s` names: `k8s:///` and `k8s:` the server of the kubeconfig, with `?context=` and `?kubeconfig=` another;
/// `k8s://HOST:PORT/PATH` and `k8s+https://…` one by its address. `None` for what is of another protocol.
///
/// # Errors
/// Words that are none of these: exit code 64.
pub(super) fn settings(server: &str, token_file: Option<&Path>) -> Option<Result<Settings, Failure>> {
    let (scheme, rest) = match (server.strip_prefix("k8s+https://"), server.strip_prefix("k8s:")) {
        (Some(rest), _) => ("https", rest),
        (None, Some(rest)) => match rest.strip_prefix("//") {
            Some(rest) => ("http", rest),
            None if rest.is_empty() || rest.starts_with('?') => ("http", rest),
            None => return None,
        },
        (None, None) => return None,
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.trim_end_matches('/');
    Some(match (place.is_empty(), query.is_empty()) {
        (true, _) if scheme == "https" => Err(Failure::usage(format!("--server {server:?} names no host"))),
        (true, _) => of_kubeconfig(query, token_file),
        (false, true) => Ok(of_address(&format!("{scheme}://{place}"), token_file)),
        (false, false) => {
            let hint = "a context is chosen with k8s:///?context=NAME";
            Err(Failure::usage(format!("--server: an address takes no query; {hint}")))
        }
    })
}

fn of_kubeconfig(query: &str, token_file: Option<&Path>) -> Result<Settings, Failure> {
    if token_file.is_some() {
        return Err(Failure::usage("--token-file: a kubeconfig says itself what to show"));
    }
    let mut settings = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name @ ("context" | "kubeconfig"), value)) = pair.split_once('=') else {
            let hint = "k8s:///?context=NAME&kubeconfig=FILE";
            return Err(Failure::usage(format!("--server: {pair:?} is none of {hint}")));
        };
        settings.insert(name.to_owned(), json!(percent_decode_str(value).decode_utf8_lossy()));
    }
    let context = settings.get("context").and_then(Value::as_str).map(str::to_owned);
    Ok((settings, context))
}

fn of_address(url: &str, token_file: Option<&Path>) -> Settings {
    let mut settings = Map::from_iter([("url".to_owned(), json!(url))]);
    if let Some(path) = token_file {
        settings.insert("token".to_owned(), json!({"file": path}));
    } else if std::env::var_os(TOKEN).is_some_and(|token| !token.is_empty()) {
        settings.insert("token".to_owned(), json!({"env": TOKEN}));
    }
    let scope = url.split_once(SCOPES).map(|(_, scope)| scope);
    let scope = scope.map(|scope| percent_decode_str(scope).decode_utf8_lossy().into_owned());
    (settings, scope)
}

/// An API server that answers, and the kinds it has.
struct Cluster {
    api: Api,
    /// In its own order: preferred versions first.
    kinds: Vec<Resource>,
    /// Whether Secrets may be read.
    allow_secrets: bool,
}

/// One object, or all of a namespace; the namespace is empty for all of them, and where there are none.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    namespace: String,
    name: Option<String>,
}

impl Cluster {
    /// Asks a server for its kinds.
    ///
    /// # Errors
    /// Settings that are wrong (exit code 64), a kubeconfig that cannot be used or a server that does not answer (69),
    /// one that refuses us (1).
    async fn open(remote: &Remote, connect: Duration) -> Result<Self, Failure> {
        tls::install_provider();
        let settings = section(&Value::Object(remote.settings.clone()))?;
        let config = ClientConfig::from_section(&settings).map_err(|error| wrong_setting(&error))?;
        let opened = Api::open(&config, connect).await;
        let api = opened.map_err(|error| Failure::unreachable(error.to_string()))?;
        let kinds = ask(&api).await.map_err(|failure| match failure {
            // Of everything else the server says what it is about.
            Unanswered::Refused(_) => Failure::failed(format!("{}: {}", api.peer, told(&failure))),
            failure => failed(&api, failure),
        })?;
        Ok(Self { api, kinds, allow_secrets: config.allow_secrets })
    }

    /// Refuses to read Secrets unless that is allowed.
    fn check_readable(&self, kind: &Resource) -> Result<(), Failure> {
        if &*kind.definition.type_url == SECRET && !self.allow_secrets {
            let hint = "--with allow_secrets=true";
            return Err(Failure::usage(format!("Secrets are not read unless that is allowed: {hint}")));
        }
        Ok(())
    }

    fn failed(&self, failure: Unanswered) -> Failure {
        failed(&self.api, failure)
    }

    /// The kind that a word means: a plural, singular or short name, alone or with `.group` or `.version.group`, a kind,
    /// `group/version/Kind`, or a proto name.
    fn kind(&self, word: &str) -> Result<&Resource, Failure> {
        named(&self.kinds, word).ok_or_else(|| {
            let plurals: Vec<&str> =
                self.kinds.iter().map(|kind| kind.definition.plural.as_str()).collect();
            let near = suggest::nearest(word, &plurals);
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            Failure::failed(format!("{} has no type {word:?}{hint}", self.api.peer))
        })
    }

    /// Where an object, or a collection, is.
    fn place(
        &self,
        kind: &Resource,
        name: Option<&str>,
        namespace: Option<&str>,
        all: bool,
    ) -> Result<Place, Failure> {
        place(kind, name, namespace, all, &self.api.namespace)
    }
}

/// How messages name an object: `apps/v1/Deployment web/shop`.
fn shown(kind: &Resource, place: &Place) -> String {
    let name = place.name.as_deref().unwrap_or_default();
    let slash = if place.namespace.is_empty() { "" } else { "/" };
    super::output::shown(&format!("{} {}{slash}{name}", kind.definition.type_url, place.namespace))
}

fn failed(api: &Api, failure: Unanswered) -> Failure {
    match failure {
        Unanswered::Broken(why) => Failure::unreachable(format!("{}: {why}", api.peer)),
        other => Failure::failed(told(&other)),
    }
}

fn told(failure: &Unanswered) -> String {
    super::output::shown(failure.to_string().trim())
}

fn named<'a>(kinds: &'a [Resource], word: &str) -> Option<&'a Resource> {
    if word.contains('/') {
        let wanted = type_url(word).ok()?;
        return kinds.iter().find(|kind| kind.definition.type_url == *wanted);
    }
    let (name, rest) = word.split_once('.').unwrap_or((word, ""));
    let in_group = |kind: &&Resource| {
        let definition = &kind.definition;
        let version = format!("{}.", definition.version);
        rest.is_empty()
            || rest == definition.group
            || rest.strip_prefix(&version) == Some(definition.group.as_str())
    };
    let is = |have: &str| have.eq_ignore_ascii_case(name);
    let candidates = || kinds.iter().filter(in_group);
    let full = candidates().find(|kind| {
        let definition = &kind.definition;
        is(&definition.plural) || is(&definition.singular) || is(&definition.kind)
    });
    let short = || candidates().find(|kind| kind.definition.short_names.iter().any(|short| is(short)));
    let proto = || {
        let of = group_version_kind(&type_url(word).ok().filter(|_| !rest.is_empty())?)?;
        kinds.iter().find(|kind| {
            let definition = &kind.definition;
            (&definition.group, &definition.version, &definition.kind) == (&of.group, &of.version, &of.kind)
        })
    };
    full.or_else(short).or_else(proto)
}

fn place(
    kind: &Resource,
    name: Option<&str>,
    namespace: Option<&str>,
    all: bool,
    default: &str,
) -> Result<Place, Failure> {
    let definition = &kind.definition;
    if !definition.namespaced {
        if namespace.is_some() {
            return Err(Failure::usage(format!("--namespace: a {} has none", definition.kind)));
        }
        // As names of keys are written; those of values and XDS resources are any text.
        let plain = |name: &str| match name.strip_prefix('/') {
            Some(rest) if is_object(&definition.type_url) => rest.to_owned(),
            _ => name.to_owned(),
        };
        return Ok(Place { namespace: String::new(), name: name.map(plain) });
    }
    let chosen = || namespace.unwrap_or(default).to_owned();
    match name.map(|name| name.split_once('/').map_or((None, name), |(first, rest)| (Some(first), rest))) {
        None if all => Ok(Place { namespace: String::new(), name: None }),
        None => Ok(Place { namespace: chosen(), name: None }),
        Some((None, name)) => Ok(Place { namespace: chosen(), name: Some(name.to_owned()) }),
        Some((Some(_), _)) if namespace.is_some() => {
            Err(Failure::usage("the name has a namespace already: leave --namespace out"))
        }
        Some((Some(""), name)) => {
            Err(Failure::usage(format!("a {} lives in a namespace: NAMESPACE/{name}", definition.kind)))
        }
        Some((Some(first), name)) => Ok(Place { namespace: first.to_owned(), name: Some(name.to_owned()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::registry::Definition;

    fn kinds() -> Vec<Resource> {
        let types = [
            ("core/v1/Pod", "po"),
            ("core/v1/Event", "ev"),
            ("core/v1/Node", "no"),
            ("apps/v1/Deployment", "deploy"),
            ("events.k8s.io/v1/Event", "ev"),
            ("cluster.config.envoy/v3/Cluster", "cds"),
            ("meshbus.dev/v1/Value", "val"),
        ];
        let resource = |(type_url, short): (&'static str, &str)| {
            let mut definition = Definition::guess(&type_url.into()).unwrap();
            definition.short_names = vec![short.to_owned()];
            definition.namespaced &= !matches!(&*definition.kind, "Node" | "Cluster");
            Resource { definition, verbs: vec!["get".to_owned()] }
        };
        types.map(resource).into()
    }

    #[test]
    fn a_server_is_named_by_a_kubeconfig_or_an_address() {
        let read =
            |server: &str| settings(server, None).map(|settings| settings.map_err(|it| it.to_string()));
        let is = |value: Value, scope: Option<&str>| {
            let Value::Object(settings) = value else { panic!("settings are a map") };
            Some(Ok((settings, scope.map(str::to_owned))))
        };
        assert_eq!(read("k8s:"), is(json!({}), None));
        assert_eq!(read("k8s:///"), is(json!({}), None));
        assert_eq!(read("k8s:///?context=a%40b"), is(json!({"context": "a@b"}), Some("a@b")));
        assert_eq!(read("k8s:?kubeconfig=/a/b"), is(json!({"kubeconfig": "/a/b"}), None));
        assert_eq!(read("k8s://h:1/"), is(json!({"url": "http://h:1"}), None));
        let east = json!({"url": "https://h/scopes/e%20a"});
        assert_eq!(read("k8s+https://h/scopes/e%20a"), is(east, Some("e a")));
        for wrong in ["k8s:///?contxt=a", "k8s://h?context=a", "k8s+https:///"] {
            assert!(read(wrong).unwrap().is_err(), "{wrong}");
        }
        for other in ["k8s:h:1", "http://h", "nats://h"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(settings("k8s:///", Some(Path::new("t"))).unwrap().is_err());
        let (with_token, _) = settings("k8s://h", Some(Path::new("/t"))).unwrap().unwrap();
        assert_eq!(with_token["token"], json!({"file": "/t"}));
    }

    #[test]
    fn a_kind_has_many_names() {
        let kinds = kinds();
        for (word, expected) in [
            ("pods", "core/v1/Pod"),
            ("POD", "core/v1/Pod"),
            ("v1/Pod", "core/v1/Pod"),
            ("deploy", "apps/v1/Deployment"),
            ("deployments.apps", "apps/v1/Deployment"),
            ("deployments.v1.apps", "apps/v1/Deployment"),
            ("apps/v1/Deployment", "apps/v1/Deployment"),
            ("ev", "core/v1/Event"),
            ("events.events.k8s.io", "events.k8s.io/v1/Event"),
            ("envoy.config.cluster.v3.Cluster", "cluster.config.envoy/v3/Cluster"),
            ("values", "meshbus.dev/v1/Value"),
        ] {
            let found = named(&kinds, word).map(|kind| &*kind.definition.type_url);
            assert_eq!(found, Some(expected), "{word}");
        }
        for word in ["", "widgets", "deployments.extensions", "apps/v2/Deployment", "pods."] {
            let found = named(&kinds, word).map(|kind| &*kind.definition.type_url);
            assert_eq!(found, if word == "pods." { Some("core/v1/Pod") } else { None }, "{word}");
        }
    }

    #[test]
    fn a_place_is_told_as_kubectl_and_as_keys_have_it() {
        let kinds = kinds();
        let of = |kind: &str, name: Option<&str>, namespace: Option<&str>, all: bool| {
            let place = place(named(&kinds, kind).unwrap(), name, namespace, all, "mine");
            place
                .map(|it| (it.namespace, it.name.unwrap_or_default()))
                .map_err(|failure| failure.to_string())
        };
        let is = |namespace: &str, name: &str| Ok((namespace.to_owned(), name.to_owned()));
        assert_eq!(of("pods", None, None, false), is("mine", ""));
        assert_eq!(of("pods", None, None, true), is("", ""));
        assert_eq!(of("pods", Some("a"), Some("web"), false), is("web", "a"));
        assert_eq!(of("pods", Some("web/a"), None, false), is("web", "a"));
        assert_eq!(of("nodes", Some("/a"), None, false), is("", "a"));
        assert_eq!(of("values", Some("/a/b"), None, false), is("", "/a/b"));
        assert!(of("pods", Some("web/a"), Some("web"), false).is_err());
        assert!(of("pods", Some("/a"), None, false).is_err());
        assert!(of("nodes", None, Some("web"), false).is_err());
    }
}
