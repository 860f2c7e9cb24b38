//! Impersonation: who calls may ask to be treated as somebody else, as `kubectl --as` does.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::access::{AUTHENTICATED, User, forbidden as forbidden_to};
use crate::transport::k8s::codec::status::{Reason, Status};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// What the user names of service accounts begin with; namespace and name follow.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Whom the caller wants to be; `None` for themselves.
///
/// # Errors
/// 500, as API servers answer it: groups or other facts without the user they are of.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let texts = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.map(str::to_owned).collect()
    };
    let mut extra: Vec<(String, Vec<String>)> = headers
        .keys()
        .filter_map(|name| name.as_str().strip_prefix(EXTRA).map(|key| (name, key)))
        .map(|(name, key)| (percent_decode_str(key).decode_utf8_lossy().into_owned(), texts(name.as_str())))
        .collect();
    extra.sort();
    let (name, uid, groups) = (text(USER), text(UID), texts(GROUP));
    if name.is_empty() {
        return if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            Ok(None)
        } else {
            let message =
                "groups, uid and extra are of a user: impersonation needs the header Impersonate-User";
            Err(Status::new(Reason::InternalError, message))
        };
    }
    Ok(Some(User { name: name.into(), uid: uid.to_owned(), groups: with_implied(name, groups), extra }))
}

/// The groups asked for, and those that the user is in anyway.
fn with_implied(name: &str, mut groups: Vec<String>) -> Vec<String> {
    let namespace = service_account(name).map(|(namespace, _)| namespace);
    if let (true, Some(namespace)) = (groups.is_empty(), namespace) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let implied = if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|group| group == implied) {
        groups.push(implied.to_owned());
    }
    groups
}

/// 403 in the words of an API server.
pub(super) fn forbidden(who: &str, wanted: &str) -> Status {
    match service_account(wanted) {
        Some((namespace, name)) => {
            forbidden_to(who, "impersonate", ("", "serviceaccounts", ""), namespace, name)
        }
        None => forbidden_to(who, "impersonate", ("", "users", ""), "", wanted),
    }
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':').filter(|(_, name)| !name.contains(':'))
}
