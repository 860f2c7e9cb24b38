//! Addresses of state: from key to topic and back, and how Kubernetes and XDS call the same thing.
//!
//! | key | topic |
//! |---|---|
//! | (`east`, `apps/v1/Deployment`, `web/shop`) | `k8s/east/apps/v1/Deployment/web/shop` |
//! | (`east`, `core/v1/Node`, `/n1`) | `k8s/east/core/v1/Node/_/n1` |
//! | (`istiod`, `type.googleapis.com/envoy.config.cluster.v3.Cluster`, `a/b`) | `xds/istiod/envoy.config.cluster.v3.Cluster/a%2Fb` |
//! | (any, `meshbus.dev/v1/Value`, `alerts/x`) | `alerts/x` |
//! | (`local`, `meshbus.dev/v1/Route`, `warnings`) | `bus/routes/warnings` |
//! | (`local`, `meshbus.dev/v1/Connector`, `broker`) | `bus/connectors/broker` |
//!
//! The topic of a connection to another server than the bus's (`bus/connections/xds/istiod/web.shop-12`) names the scope, too.
//! Connections and flows have topics that hold more than their key: those cannot be told from it. Pure.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::kinds::{OWN, PROTO_PREFIX, group_version_kind, proto_name};
use crate::core::spelling::path_segment;
use crate::core::{Key, Topic};

#[cfg(test)]
mod tests;

/// All but what RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What stands for no namespace in a topic.
const NO_NAMESPACE: &str = "_";

/// The topic on which a key's changes travel. [`key_at`] undoes it.
///
/// # Errors
/// Says why the key has none.
pub fn topic_of(key: &Key) -> Result<Topic, String> {
    let wrong = |error: crate::core::topic::InvalidTopic| error.to_string();
    if &*key.type_url == Key::VALUE {
        let topic = Topic::parse(key.name.clone()).map_err(wrong)?;
        let state_only = topic.is_reserved();
        return if state_only {
            Err(format!("{topic} is reserved: no value lives there"))
        } else {
            Ok(topic)
        };
    }
    if let Some(message) = proto_name(&key.type_url) {
        if key.name.is_empty() {
            return Err("a resource has a name".to_owned());
        }
        return Topic::from_tokens(["xds", &*key.scope, message, &*key.name]).map_err(wrong);
    }
    let kind = group_version_kind(&key.type_url)
        .ok_or_else(|| format!("{} is no type: group/version/Kind or {PROTO_PREFIX}NAME", key.type_url))?;
    if kind.is_own() {
        return match &*kind.kind {
            "Route" if &*key.scope == Key::LOCAL && &*kind.version == "v1" => {
                Topic::from_tokens(["bus", "routes", &*key.name]).map_err(wrong)
            }
            "Connector" if &*key.scope == Key::LOCAL && &*kind.version == "v1" => {
                Topic::from_tokens(["bus", "connectors", &*key.name]).map_err(wrong)
            }
            other => Err(format!("the topic of a {other} holds more than its name")),
        };
    }
    let Some((namespace, name)) = key.name.split_once('/') else {
        return Err(format!("{:?} is no name of a {}: NAMESPACE/NAME or /NAME", key.name, kind.kind));
    };
    if name.is_empty() || namespace == NO_NAMESPACE {
        return Err(format!("{:?} is no name of a {}: NAMESPACE/NAME or /NAME", key.name, kind.kind));
    }
    let namespace = if namespace.is_empty() { NO_NAMESPACE } else { namespace };
    let tokens = ["k8s", &*key.scope, &kind.group, &kind.version, &kind.kind, namespace, name];
    Topic::from_tokens(tokens).map_err(wrong)
}

/// The key whose changes travel on a topic; `scope` is that of a plain value, whose topic does not say.
///
/// `None` where no state lives: in a reserved part of the topics that names no key.
pub fn key_at(topic: &Topic, scope: &str) -> Option<Key> {
    if !topic.is_reserved() {
        return Some(Key::new(scope, Key::VALUE, topic.as_str()));
    }
    let tokens: Vec<_> = topic.tokens().collect();
    let tokens: Vec<&str> = tokens.iter().map(AsRef::as_ref).collect();
    match *tokens.as_slice() {
        ["k8s", scope, group, version, kind, namespace, name] => {
            let all = [scope, group, version, kind, namespace, name];
            // A type is three words: a slash in one would make it another.
            let typed = all.iter().all(|part| !part.is_empty())
                && [group, version, kind, namespace].iter().all(|part| !part.contains('/'))
                && format!("{group}/{version}") != OWN
                && group != "type.googleapis.com";
            let namespace = if namespace == NO_NAMESPACE { "" } else { namespace };
            typed.then(|| {
                Key::new(scope, format!("{group}/{version}/{kind}"), format!("{namespace}/{name}"))
            })
        }
        ["xds", scope, message, name] if !message.is_empty() && !name.is_empty() => {
            Some(Key::new(scope, format!("{PROTO_PREFIX}{message}"), name))
        }
        ["bus", "routes", name] => Some(Key::new(Key::LOCAL, "meshbus.dev/v1/Route", name)),
        ["bus", "connectors", name] => Some(Key::new(Key::LOCAL, "meshbus.dev/v1/Connector", name)),
        ["bus", "connections", _, id] => Some(Key::new(Key::LOCAL, "meshbus.dev/v1/Connection", id)),
        ["bus", "connections", _, scope, id] => Some(Key::new(scope, "meshbus.dev/v1/Connection", id)),
        ["flows", _, _, _, _, id] => Some(Key::new(Key::LOCAL, "meshbus.dev/v1/Flow", id)),
        _ => None,
    }
}

/// The path of the key in the Kubernetes API, which serves `local` at its root and others below `/scopes/`.
///
/// The plural of a kind that is not the bus's own is guessed by the rules of English. `None` for what has no
/// kind of its own there.
pub fn kubernetes_path(key: &Key) -> Option<String> {
    let kind = group_version_kind(&key.type_url)?;
    let mut path = String::new();
    if &*key.scope != Key::LOCAL {
        // Writing to a string does not fail.
        let _infallible = write!(path, "/scopes/{}", segment(&key.scope));
    }
    let _infallible = match kind.group.as_str() {
        "core" => write!(path, "/api/{}", segment(&kind.version)),
        group => write!(path, "/apis/{}/{}", segment(group), segment(&kind.version)),
    };
    let is_object = proto_name(&key.type_url).is_none() && !kind.is_own();
    let name = if is_object {
        let (namespace, name) = key.name.split_once('/')?;
        if !namespace.is_empty() {
            let _infallible = write!(path, "/namespaces/{}", segment(namespace));
        }
        name
    } else {
        &*key.name
    };
    let _infallible = write!(path, "/{}/{}", segment(&kind.plural()), segment(&path_segment(name)));
    Some(path)
}

fn segment(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}
