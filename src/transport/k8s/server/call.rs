//! A request, read: which scope, which resource or document, which way, and by whom.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, Method};

use super::kind::Kind;
use crate::transport::k8s::codec::status::{Reason, Status};

/// What a request is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// Objects of a kind.
    Resource(Resource),
    /// A document or an action that is no resource: its path below the scope, split and percent-decoded.
    Path(Vec<String>),
}

/// Objects of a kind: all, those of a namespace, or one.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// Which kind.
    pub(super) kind: Arc<Kind>,
    /// The namespace in the path; empty where there is none: cluster-scoped, or all namespaces.
    pub(super) namespace: String,
    /// The name in the path; `None` for a collection.
    pub(super) name: Option<String>,
    /// `status`, where the path ends so.
    pub(super) subresource: Option<String>,
    /// Whether the path is one of the old ones that always watch (`/api/v1/watch/…`).
    pub(super) watch: bool,
}

/// One request.
#[derive(Debug)]
pub(super) struct Call {
    /// The key space.
    pub(super) scope: ByteString,
    /// `/scopes/NAME`, or empty for the default scope: what comes before paths in documents.
    pub(super) base: String,
    /// What it is about.
    pub(super) about: About,
    /// How.
    pub(super) method: Method,
    /// The query, decoded, in order.
    pub(super) query: Vec<(String, String)>,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body, read within its bounds; empty for methods that have none.
    pub(super) body: Bytes,
}

impl Call {
    /// The first value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter says yes, as an API server reads booleans: given without value, `1`, `true`, `t`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.parameter(name)
            .is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

impl Resource {
    /// Whether there is such a part of its kind: the status is the only one there may be.
    ///
    /// # Errors
    /// 404 for another.
    pub(super) fn check_subresource(&self) -> Result<(), Status> {
        match self.subresource.as_deref() {
            None => Ok(()),
            Some("status") if self.kind.definition.status => Ok(()),
            Some(_) => {
                Err(Status::new(Reason::NotFound, "the server could not find the requested resource"))
            }
        }
    }
}
