//! A kind as it is served: its names, where its objects come from, and what may be done with them.

use std::sync::Arc;

use bytestring::ByteString;
use serde_json::Value;

use crate::core::Key;
use crate::core::spelling::path_segment;
use crate::schema::protobuf::Descriptors;
use crate::schema::registry::Definition;

/// What the data of a kind's keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The object itself, in this very version.
    Object,
    /// An Event of either API group: one key, stored as it came, served as both.
    Event,
    /// Anything: the object is made around it. Values, XDS resources, the bus's own things.
    Made,
    /// An event of the log, not state: the bus's `CloudEvent`.
    Occurrence,
}

/// Who says what objects of a kind look like.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// This server knows it.
    BuiltIn,
    /// A `CustomResourceDefinition` in the scope; its key's sequence, by which what is compiled of it is kept.
    Custom(u64),
    /// The cluster that owns the scope told of it.
    Cluster,
    /// There is state of this type, or it is one that discovery services serve.
    Found,
}

/// One kind of one scope, in one version.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its names.
    pub(super) definition: Arc<Definition>,
    /// Who says what it looks like.
    pub(super) origin: Origin,
    /// What the data of its keys is.
    pub(super) form: Form,
    /// The type of its keys: that of the version stored, where there are several.
    pub(super) stored_as: ByteString,
    /// What may be done with it, in the API's words: `get`, `list`, `watch`, `create`, …
    pub(super) verbs: &'static [&'static str],
    /// The OpenAPI v3 schema of an object; `None` where nothing is known of it.
    pub(super) schema: Option<Arc<Value>>,
    /// Of a protobuf message: the types that are known, by which it is shown and written.
    pub(super) messages: Option<Arc<Descriptors>>,
}

impl Kind {
    /// Whether this verb is served.
    pub(super) fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The key of an object: of those the source names `<namespace>/<name>`. Kinds whose objects are made have
    /// keys of any name, which a path segment may only stand for: see `Names`.
    pub(super) fn key(&self, scope: &ByteString, namespace: &str, name: &str) -> Key {
        let name = match self.form {
            Form::Object | Form::Event => format!("{namespace}/{name}").into(),
            Form::Made | Form::Occurrence => ByteString::from(name),
        };
        Key::new(scope.clone(), self.stored_as.clone(), name)
    }

    /// Namespace and name of a key's object, as they stand in its metadata and in paths.
    pub(super) fn name_of<'a>(&self, key: &'a Key) -> (&'a str, std::borrow::Cow<'a, str>) {
        let (namespace, name) = self.true_name(key);
        (namespace, path_segment(name))
    }

    /// Namespace and name of a key's object, as its source calls it.
    pub(super) fn true_name<'a>(&self, key: &'a Key) -> (&'a str, &'a str) {
        match self.form {
            Form::Object | Form::Event => key.name.split_once('/').unwrap_or(("", &key.name)),
            Form::Made | Form::Occurrence => ("", &key.name),
        }
    }
}
