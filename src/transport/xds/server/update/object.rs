//! Objects of Kubernetes as they are written: JSON that says of itself what its name says, as far as it does.

use serde_json::Value;

use crate::core::Key;
use crate::schema::kinds::group_version_kind;

/// Whether data is an object that its key can have.
///
/// # Errors
/// Which member is another than the key says.
pub(super) fn check(key: &Key, data: &[u8]) -> Result<(), String> {
    let object: Value =
        serde_json::from_slice(data).map_err(|error| format!("is no JSON of an object: {error}"))?;
    if !object.is_object() {
        return Err("is no object: its JSON begins with {".to_owned());
    }
    let kind = group_version_kind(&key.type_url)
        .ok_or_else(|| format!("{:?} is no type: group/version/Kind", &*key.type_url))?;
    let api_version = match &*kind.group {
        "core" => kind.version.clone(),
        group => format!("{group}/{}", kind.version),
    };
    let (namespace, name) = key.name.split_once('/').unwrap_or(("", &key.name));
    for (place, wanted) in [
        ("/apiVersion", &*api_version),
        ("/kind", &*kind.kind),
        ("/metadata/namespace", namespace),
        ("/metadata/name", name),
    ] {
        let given = object.pointer(place).filter(|given| !given.is_null() && *given != "");
        if given.is_some_and(|given| given != wanted) {
            let place = place.trim_start_matches('/').replace('/', ".");
            return Err(format!("{place} is {}: by type and name it is {wanted:?}", object_text(given)));
        }
    }
    Ok(())
}

fn object_text(value: Option<&Value>) -> String {
    value.map(Value::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_may_leave_out_what_its_name_says_but_not_say_otherwise() {
        let key = Key::new("local", "apps/v1/Deployment", "shop/web");
        let of = |data: &str| check(&key, data.as_bytes());
        assert_eq!(of("{}"), Ok(()));
        let whole =
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"namespace":"shop","name":"web"}}"#;
        assert_eq!(of(whole), Ok(()));
        for (data, said) in [
            ("[]", "is no object"),
            ("k8s", "is no JSON"),
            (r#"{"kind":"Pod"}"#, r#"kind is "Pod": by type and name it is "Deployment""#),
            (r#"{"metadata":{"name":"other"}}"#, r#"metadata.name is "other""#),
            (r#"{"metadata":{"namespace":1}}"#, "metadata.namespace is 1"),
        ] {
            assert!(of(data).unwrap_err().starts_with(said), "{data}: {:?}", of(data));
        }
        let core = Key::new("local", "core/v1/Node", "/n");
        assert_eq!(check(&core, br#"{"apiVersion":"v1","metadata":{"name":"n"}}"#), Ok(()));
    }
}
