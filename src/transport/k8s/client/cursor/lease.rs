//! Cursors in the annotations of a Lease: positions only, for buses without a volume and for several that take turns.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::api::{Api, segment};
use super::Saved;

/// What begins the names of our annotations.
const PREFIX: &str = "cursor.meshbus.dev/";
/// Longest position that is kept: those of API servers are short numbers.
const POSITION_MAX: usize = 256;
/// How often a write is tried that another one came before.
const TRIES: usize = 3;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(in super::super) struct Lease {
    api: Api,
    collection: String,
    name: String,
    manager: String,
}

impl Lease {
    pub(super) fn new(api: Api, namespace: &str, name: &str, manager: &str) -> Self {
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", segment(namespace));
        Self { api, collection, name: name.to_owned(), manager: manager.to_owned() }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection, segment(&self.name))
    }

    pub(super) async fn load(&self, watch: &str) -> Result<Option<Saved>, String> {
        let body = match self.api.object(&self.path()).await {
            Ok(body) => body,
            Err(failure) if failure.code() == Some(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(self.wrong(&failure)),
        };
        let lease: Value = serde_json::from_slice(&body).map_err(|error| self.wrong(&error))?;
        let annotations = lease.get("metadata").and_then(|metadata| metadata.get("annotations"));
        let position = annotations.and_then(|all| all.get(annotation(watch))).and_then(Value::as_str);
        let position = position.filter(|position| !position.is_empty());
        Ok(position.map(|position| Saved { position: position.into(), known: None }))
    }

    pub(super) async fn save(&self, watch: &str, position: &str) -> Result<(), String> {
        if position.len() > POSITION_MAX {
            return Err(self.wrong(&format!("a position of {} bytes is too long", position.len())));
        }
        let mut annotations = Map::new();
        annotations.insert(annotation(watch), position.into());
        let metadata = json!({"name": self.name, "annotations": annotations});
        let patch = Bytes::from(json!({ "metadata": metadata }).to_string());
        let whole = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata});
        let manager = format!("?fieldManager={}", segment(&self.manager));
        let (path, collection) =
            (format!("{}{manager}", self.path()), format!("{}{manager}", self.collection));
        for _ in 0..TRIES {
            let media_type = "application/merge-patch+json";
            let patched = self.api.write(Method::PATCH, &path, media_type, patch.clone()).await;
            match patched {
                Ok(_) => return Ok(()),
                Err(failure) if failure.code() == Some(StatusCode::NOT_FOUND) => {}
                Err(failure) if failure.code() == Some(StatusCode::CONFLICT) => continue,
                Err(failure) => return Err(self.wrong(&failure)),
            }
            let body = Bytes::from(whole.to_string());
            match self.api.write(Method::POST, &collection, "application/json", body).await {
                Ok(_) => return Ok(()),
                // Another one made it meanwhile.
                Err(failure) if failure.code() == Some(StatusCode::CONFLICT) => {}
                Err(failure) => return Err(self.wrong(&failure)),
            }
        }
        Err(self.wrong(&"others write it all the time"))
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}{}: {error}", self.api.peer, self.path().trim_start_matches('/'))
    }
}

/// The annotation of a watch: of its name what an annotation's may hold.
fn annotation(watch: &str) -> String {
    let hash = watch.rsplit('/').next().unwrap_or(watch);
    let kind = watch.split('/').nth(2).unwrap_or("watch");
    let name: String = format!("{kind}-{hash}").chars().take(63).collect();
    format!("{PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_names_kind_and_selectors() {
        assert_eq!(
            annotation("core/v1/Event/0123456789abcdef"),
            "cursor.meshbus.dev/Event-0123456789abcdef"
        );
    }
}
