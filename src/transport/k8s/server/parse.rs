//! Paths and queries of the API, read: which scope, which resource or document. Pure.
//!
//! Segments are split before they are decoded, so a name may hold `%2F`, which is part of it then.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::transport::k8s::codec::status::{Reason, Status};

/// Most bytes of a path and its query.
const URI_MAX: usize = 64 * 1024;
/// Most parameters of a query.
const PARAMETERS_MAX: usize = 256;

/// A request's path and query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The key space in the path; `None` for the default one.
    pub(super) scope: Option<String>,
    /// The path as it is below the scope, split and decoded.
    pub(super) path: Vec<String>,
    /// What resource it would be.
    pub(super) resource: Option<Named>,
    /// The query, decoded, in order.
    pub(super) query: Vec<(String, String)>,
}

/// A resource as a path names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
    /// Empty where there is none.
    pub(super) namespace: String,
    pub(super) plural: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// One of the old paths that always watch.
    pub(super) watch: bool,
}

/// Reads a path and its query.
///
/// # Errors
/// 400 when it is too long or its escapes are no UTF-8.
pub(super) fn place(path: &str, query: &str) -> Result<Place, Status> {
    if path.len() + query.len() > URI_MAX {
        return Err(Status::new(
            Reason::BadRequest,
            format!("a path and its query have at most {URI_MAX} bytes"),
        ));
    }
    let mut path = path
        .split('/')
        .skip(1)
        .map(|segment| decode(segment, "the path").map(Cow::into_owned))
        .collect::<Result<Vec<_>, _>>()?;
    if path.last().is_some_and(String::is_empty) {
        path.pop();
    }
    let scope = match path.as_slice() {
        [first, scope, ..] if first == "scopes" && !scope.is_empty() => Some(scope.clone()),
        _ => None,
    };
    if scope.is_some() {
        path.drain(..2);
    }
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(PARAMETERS_MAX)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // As forms have it: `+` is a space, and a plus is %2B.
            let text = |text: &str| decode(&text.replace('+', " "), "the query").map(Cow::into_owned);
            Ok((text(name)?, text(value)?))
        })
        .collect::<Result<Vec<_>, Status>>()?;
    Ok(Place { resource: resource(&path), scope, path, query })
}

/// The resource that a path below `/api` or `/apis` names; `None` for documents.
fn resource(path: &[String]) -> Option<Named> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        // These two are the namespace's own; all else below a namespace lives in it.
        ["namespaces", _, "status" | "finalize"] if group.is_empty() => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(name), None),
        [plural, name, subresource] => (plural, Some(name), Some(subresource)),
        _ => return None,
    };
    let text = |text: &&str| (*text).to_owned();
    Some(Named {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        plural: text(plural),
        name: name.map(text),
        subresource: subresource.map(text),
        watch,
    })
}

fn decode<'a>(text: &'a str, what: &str) -> Result<Cow<'a, str>, Status> {
    percent_decode_str(text).decode_utf8().map_err(|_| {
        Status::new(Reason::BadRequest, format!("{what} holds escapes that are no UTF-8: {text:?}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(path: &str) -> Option<String> {
        let place = place(path, "").unwrap();
        place.resource.map(|it| {
            let watch = if it.watch { " watch" } else { "" };
            format!(
                "{}|{}|{}|{}|{}|{}{watch}",
                it.group,
                it.version,
                it.namespace,
                it.plural,
                it.name.as_deref().unwrap_or("-"),
                it.subresource.as_deref().unwrap_or("-")
            )
        })
    }

    #[test]
    fn r13_segments_are_decoded_after_they_are_split() {
        assert_eq!(
            of("/apis/cluster.config.envoy/v3/clusters/outbound%7C80%7C%7Ca%2Fb").as_deref(),
            Some("cluster.config.envoy|v3||clusters|outbound|80||a/b|-")
        );
        let read = place("/api", "a=1+2&b=%2B&c&d=%3D&watch=1").unwrap().query;
        let read: Vec<(&str, &str)> = read.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(read, [("a", "1 2"), ("b", "+"), ("c", ""), ("d", "="), ("watch", "1")]);
        assert_eq!(place("/%ff", "").unwrap_err().code.as_u16(), 400);
        assert_eq!(place("/a", "b=%ff").unwrap_err().code.as_u16(), 400);
    }

    #[test]
    fn paths_name_resources() {
        for (path, expected) in [
            ("/api/v1/configmaps", "|v1||configmaps|-|-"),
            ("/api/v1/configmaps/", "|v1||configmaps|-|-"),
            ("/api/v1/namespaces", "|v1||namespaces|-|-"),
            ("/api/v1/namespaces/web", "|v1||namespaces|web|-"),
            ("/api/v1/namespaces/web/status", "|v1||namespaces|web|status"),
            ("/api/v1/namespaces/web/configmaps", "|v1|web|configmaps|-|-"),
            ("/api/v1/namespaces/web/configmaps/a", "|v1|web|configmaps|a|-"),
            ("/apis/apps/v1/namespaces/web/deployments/a/status", "apps|v1|web|deployments|a|status"),
            ("/apis/apps/v1/nodes/a/status", "apps|v1||nodes|a|status"),
            ("/api/v1/watch/namespaces/web/configmaps/a", "|v1|web|configmaps|a|- watch"),
            ("/api/v1/watch/configmaps", "|v1||configmaps|-|- watch"),
            ("/scopes/east/api/v1/pods", "|v1||pods|-|-"),
        ] {
            assert_eq!(of(path).as_deref(), Some(expected), "{path}");
        }
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/a/v1",
            "/apis/a",
            "/version",
            "/openapi/v3/api/v1",
            "/api/v1//x",
            "/a/b/c",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        let below = place("/scopes/east/api/v1", "").unwrap();
        assert_eq!((below.scope.as_deref(), below.path.len()), (Some("east"), 2));
    }

    proptest! {
        #[test]
        fn reading_never_panics(path in ".{0,40}", query in ".{0,40}") {
            drop(place(&path, &query));
        }
    }
}
