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

/// The version of messages whose package names none.
const UNVERSIONED: &str = "v0";
/// The usual short names of the types of XDS.
const SHORT_NAMES: [(&str, &str); 5] = [
    ("envoy.config.listener.v3.Listener", "lds"),
    ("envoy.config.cluster.v3.Cluster", "cds"),
    ("envoy.config.route.v3.RouteConfiguration", "rds"),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", "eds"),
    ("envoy.extensions.transport_sockets.tls.v3.Secret", "sds"),
];

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

/// The type URL that a word of the command line means: a kind's name or plural in any case, a short name of XDS
/// (`cds`), a proto name, `group/version/Kind`, `v1/Pod` of the core group, or the type URL itself.
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
    if let Some((message, _)) = SHORT_NAMES.iter().find(|(_, short)| short.eq_ignore_ascii_case(word)) {
        return Ok(Cow::Owned(format!("{PROTO_PREFIX}{message}")));
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
                "{word:?} is no type: one of {}, group/version/Kind (apps/v1/Deployment, v1/Pod), lds, cds, rds, \
                 eds, sds, or a proto name (envoy.config.cluster.v3.Cluster)",
                own.join(", ")
            ))
        }
    }
}

/// What a message is called for short: `cds`.
pub fn short_name(message: &str) -> Option<&'static str> {
    SHORT_NAMES.iter().find(|(name, _)| *name == message).map(|(_, short)| *short)
}

/// The full name of the protobuf message, where the type is one.
pub fn proto_name(type_url: &str) -> Option<&str> {
    type_url.strip_prefix(PROTO_PREFIX).filter(|name| !name.is_empty())
}

/// The type as Kubernetes names it.
///
/// Of a proto name the last part is the kind, a `vN…` before it the version (else `v0`), the rest reversed the
/// group, with `-` for `_`. `None` for what is no `group/version/Kind`, and for a message nested in another,
/// outside any package or in one that is not in lower case, which has no such name. [`message_of`] undoes it.
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
    let nested =
        parts.iter().any(|part| part.is_empty() || part.contains(|c: char| c.is_uppercase() || c == '-'));
    if nested || kind.is_empty() {
        return None;
    }
    let version = match parts.last() {
        Some(last) if is_version(last) => parts.pop().unwrap_or(UNVERSIONED),
        _ => UNVERSIONED,
    };
    if parts.is_empty() {
        return None;
    }
    parts.reverse();
    let group = parts.join(".").replace('_', "-");
    Some(GroupVersionKind { group, version: version.to_owned(), kind: kind.to_owned() })
}

/// The full name of the message that is named so, as [`group_version_kind`] names messages.
pub fn message_of(named: &GroupVersionKind) -> String {
    let mut parts: Vec<String> = named.group.split('.').rev().map(|part| part.replace('-', "_")).collect();
    parts.extend((named.version != UNVERSIONED).then(|| named.version.clone()));
    parts.push(named.kind.clone());
    parts.join(".")
}

/// `v1`, `v2alpha`, `v1beta1`; not what stands for none.
fn is_version(part: &str) -> bool {
    let Some(rest) = part.strip_prefix('v').filter(|_| part != UNVERSIONED) else { return false };
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
            ("cds", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
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
            // What stands for no version is none.
            ("io.x.v0.Policy", Some("v0.x.io/v0 Policy policies")),
            ("io.X.Policy", None),
            ("envoy.config.cluster.v3.Cluster.EdsClusterConfig", None),
            ("Cluster", None),
            ("v1.Cluster", None),
        ] {
            assert_eq!(of(name).as_deref(), expected, "{name}");
        }
    }

    #[cfg(feature = "envoy")]
    #[test]
    fn every_message_of_envoy_is_named_by_its_kind() {
        let mut named = std::collections::BTreeMap::new();
        let (mut all, mut nested) = (0, 0);
        for message in crate::schema::protobuf::Descriptors::built_in().messages() {
            all += 1;
            let Some(kind) = group_version_kind(&format!("{PROTO_PREFIX}{message}")) else {
                nested += 1;
                let package = message.rsplit_once('.').map_or("", |(package, _)| package);
                assert!(
                    package.is_empty() || package.contains(char::is_uppercase),
                    "{message} has a package"
                );
                continue;
            };
            assert_eq!(message_of(&kind), message, "{kind:?}");
            let earlier = named.insert((kind.group, kind.version, kind.kind), message.clone());
            assert_eq!(earlier, None, "{message} has a name of its own");
        }
        assert!(all > 500 && nested > 200 && named.len() > 300, "{all} {nested} {}", named.len());
    }

    proptest::proptest! {
        #[test]
        fn a_message_is_named_by_its_kind(name in "[a-z][a-z0-9_]{0,8}(\\.(v[0-9]|[a-z][a-z0-9_]{0,8})){0,4}\\.[A-Z][A-Za-z]{0,8}") {
            let Some(kind) = group_version_kind(&format!("{PROTO_PREFIX}{name}")) else {
                // Nothing but a version is no group.
                let package = name.rsplit_once('.').map_or("", |(package, _)| package);
                proptest::prop_assert!(is_version(package));
                return Ok(());
            };
            proptest::prop_assert_eq!(message_of(&kind), name);
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
