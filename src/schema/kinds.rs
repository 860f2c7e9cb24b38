//! Kinds of state by every name people have for them: type URL, proto name, group/version/Kind, plural.
//!
//! The bus's own kinds are listed; those of Kubernetes and XDS are read from how their names are built:
//! `envoy.config.cluster.v3.Cluster` is `cluster.config.envoy/v3 Cluster`. Pure.

use std::borrow::Cow;

use crate::core::Key;

/// What starts the type URL of a protobuf message.
pub const PROTO_PREFIX: &str = "type.googleapis.com/";
/// The API group and version of the bus's own kinds.
pub const OWN: &str = "meshbus.dev/v1";

/// One of the bus's own kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `Value`
    pub kind: &'static str,
    /// `values`
    pub plural: &'static str,
    /// The type of its keys.
    pub type_url: &'static str,
}

/// The bus's own kinds.
pub static KINDS: &[Kind] = &[
    Kind { kind: "Value", plural: "values", type_url: Key::VALUE },
    Kind { kind: "Route", plural: "routes", type_url: "meshbus.dev/v1/Route" },
    Kind { kind: "Connector", plural: "connectors", type_url: "meshbus.dev/v1/Connector" },
    Kind { kind: "Connection", plural: "connections", type_url: "meshbus.dev/v1/Connection" },
    Kind { kind: "Flow", plural: "flows", type_url: "meshbus.dev/v1/Flow" },
    Kind { kind: "CloudEvent", plural: "cloudevents", type_url: "meshbus.dev/v1/CloudEvent" },
];

/// API group, version and kind, as Kubernetes names a type; the core group is `core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupVersionKind {
    /// `apps`, `core`, `cluster.config.envoy`
    pub group: String,
    /// `v1`
    pub version: String,
    /// `Deployment`
    pub kind: String,
}

impl GroupVersionKind {
    /// The plural that the Kubernetes API would guess for the kind.
    pub fn plural(&self) -> String {
        if let Some(own) = KINDS.iter().find(|own| own.kind == self.kind && self.is_own()) {
            return own.plural.to_owned();
        }
        let lower = self.kind.to_lowercase();
        // As apimachinery's UnsafeGuessKindToResource has it.
        match lower.chars().last() {
            Some('s') => format!("{lower}es"),
            Some('y') => format!("{}ies", lower.trim_end_matches('y')),
            _ if lower == "endpoints" => lower,
            _ => format!("{lower}s"),
        }
    }

    /// Whether it is one of the bus's own.
    pub fn is_own(&self) -> bool {
        self.group == "meshbus.dev"
    }
}

/// The type URL that a word of the command line means: a kind's name or plural in any case, a proto name,
/// `group/version/Kind`, `v1/Pod` of the core group, or the type URL itself.
///
/// # Errors
/// Says what would be right.
pub fn type_url(word: &str) -> Result<Cow<'_, str>, String> {
    if let Some(own) = KINDS
        .iter()
        .find(|own| own.kind.eq_ignore_ascii_case(word) || own.plural.eq_ignore_ascii_case(word))
    {
        return Ok(Cow::Borrowed(own.type_url));
    }
    let parts: Vec<&str> = word.split('/').collect();
    let good = !word.contains(char::is_whitespace) && parts.iter().all(|part| !part.is_empty());
    match parts.as_slice() {
        ["type.googleapis.com", name] if good && name.contains('.') => Ok(Cow::Borrowed(word)),
        [_, _, _] if good => Ok(Cow::Borrowed(word)),
        [_, _] if good && word.starts_with('v') => Ok(Cow::Owned(format!("core/{word}"))),
        [name] if good && name.contains('.') => Ok(Cow::Owned(format!("{PROTO_PREFIX}{name}"))),
        _ => {
            let own: Vec<&str> = KINDS.iter().map(|own| own.plural).collect();
            Err(format!(
                "{word:?} is no type: one of {}, group/version/Kind (apps/v1/Deployment, v1/Pod), or a proto \
                 name (envoy.config.cluster.v3.Cluster)",
                own.join(", ")
            ))
        }
    }
}

/// The full name of the protobuf message, where the type is one.
pub fn proto_name(type_url: &str) -> Option<&str> {
    type_url.strip_prefix(PROTO_PREFIX).filter(|name| !name.is_empty())
}

/// The type as Kubernetes names it.
///
/// Of a proto name the last part is the kind, a `vN…` before it the version (else `v0`), the rest reversed the
/// group, with `-` for `_`. `None` for what is no `group/version/Kind`, and for a message nested in another or
/// outside any package, which has no such name.
pub fn group_version_kind(type_url: &str) -> Option<GroupVersionKind> {
    let Some(name) = proto_name(type_url) else {
        let parts: Vec<&str> = type_url.split('/').collect();
        let [group, version, kind] = *parts else { return None };
        let all = [group, version, kind];
        return all.iter().all(|part| !part.is_empty()).then(|| GroupVersionKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        });
    };
    let (package, kind) = name.rsplit_once('.')?;
    let mut parts: Vec<&str> = package.split('.').collect();
    let nested = parts.iter().any(|part| part.is_empty() || part.starts_with(|c: char| c.is_uppercase()));
    if nested || kind.is_empty() {
        return None;
    }
    let version = match parts.last() {
        Some(last) if is_version(last) => parts.pop().unwrap_or("v0"),
        _ => "v0",
    };
    if parts.is_empty() {
        return None;
    }
    parts.reverse();
    let group = parts.join(".").replace('_', "-");
    Some(GroupVersionKind { group, version: version.to_owned(), kind: kind.to_owned() })
}

/// `v1`, `v2alpha`, `v1beta1`.
fn is_version(part: &str) -> bool {
    let Some(rest) = part.strip_prefix('v') else { return false };
    rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_for_a_type_is_understood() {
        for (word, expected) in [
            ("value", "meshbus.dev/v1/Value"),
            ("Values", "meshbus.dev/v1/Value"),
            ("meshbus.dev/v1/Value", "meshbus.dev/v1/Value"),
            ("apps/v1/Deployment", "apps/v1/Deployment"),
            ("v1/Pod", "core/v1/Pod"),
            ("envoy.config.cluster.v3.Cluster", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
            ("type.googleapis.com/envoy.api.v2.Cluster", "type.googleapis.com/envoy.api.v2.Cluster"),
        ] {
            assert_eq!(type_url(word).as_deref(), Ok(expected), "{word}");
        }
        for word in ["", "thing", "a/b", "apps//Deployment", "a/b/c/d", "a b/v1/C"] {
            assert!(type_url(word).unwrap_err().contains("apps/v1/Deployment"), "{word}");
        }
    }

    #[test]
    fn a_proto_name_is_a_kind_of_kubernetes() {
        let of = |name: &str| {
            group_version_kind(&format!("{PROTO_PREFIX}{name}"))
                .map(|it| format!("{}/{} {} {}", it.group, it.version, it.kind, it.plural()))
        };
        for (name, expected) in [
            ("envoy.config.cluster.v3.Cluster", Some("cluster.config.envoy/v3 Cluster clusters")),
            (
                "envoy.extensions.transport_sockets.tls.v3.Secret",
                Some("tls.transport-sockets.extensions.envoy/v3 Secret secrets"),
            ),
            ("google.protobuf.Any", Some("protobuf.google/v0 Any anies")),
            ("io.x.v1beta1.Policy", Some("x.io/v1beta1 Policy policies")),
            ("envoy.config.cluster.v3.Cluster.EdsClusterConfig", None),
            ("Cluster", None),
            ("v1.Cluster", None),
        ] {
            assert_eq!(of(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_group_version_kind_is_itself() {
        let kind = group_version_kind("core/v1/Pod").unwrap();
        assert_eq!((&*kind.group, &*kind.version, &*kind.kind), ("core", "v1", "Pod"));
        assert_eq!(group_version_kind("core/v1"), None);
        assert_eq!(group_version_kind("a//b"), None);
    }
}
