//! Structural `OpenAPI` v3 schemas, as `CustomResourceDefinition`s have them: checked, then used to validate, prune
//! and default objects.
//!
//! Follows [structural schemas] of the Kubernetes API, release 1.36; errors are in its API server's words. Not
//! evaluated: `x-kubernetes-validations`, which need an expression language of their own; they are kept in what is
//! served and hold nothing here.
//!
//! A schema comes from a stranger: its depth, its count of nodes and the size of its patterns are bounded, patterns
//! match in linear time, references are not followed, and what one validation may cost is bounded too.
//!
//! [structural schemas]: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema

use serde_json::Value;

mod decode;
mod default;
mod error;
mod format;
pub mod meta;
pub mod names;
mod node;
mod number;
mod parse;
mod pattern;
mod prune;
mod rules;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use error::quote;
pub use error::{ERRORS_MAX, FieldError, FieldErrorReason, aggregate};
pub use node::ScalarKind;

use node::Node;

/// Deepest nesting of a schema, and of what is pruned without one.
pub const DEPTH_MAX: usize = 256;

/// Most nodes of one schema.
pub const NODES_MAX: usize = 100_000;

/// The schema of the objects of one kind in one version.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    root: Node,
}

impl Structural {
    /// Compiles `openAPIV3Schema` of a custom resource; the errors' paths begin there.
    ///
    /// # Errors
    ///
    /// Says everything that is wrong with the schema, at most [`ERRORS_MAX`] things.
    pub fn compile(schema: &Value) -> Result<Self, Vec<FieldError>> {
        Self::compile_at(schema, "openAPIV3Schema")
    }

    /// As [`Self::compile`], with the path of the schema in its definition: `spec.versions[0].schema.openAPIV3Schema`.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`].
    pub fn compile_at(schema: &Value, path: &str) -> Result<Self, Vec<FieldError>> {
        parse::parse(schema, path, parse::Rules::Custom).map(|root| Self { root })
    }

    /// Compiles a schema of the server's own, which may say what metadata is and need not be structural.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`].
    pub fn compile_built_in(schema: &Value) -> Result<Self, Vec<FieldError>> {
        parse::parse(schema, "schema", parse::Rules::BuiltIn).map(|root| Self { root })
    }

    /// What is wrong with an object, at most [`ERRORS_MAX`] things. Metadata is held to the types of `ObjectMeta`
    /// only; the rules of names are [`meta::validate`]'s.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::validate(&self.root, object)
    }

    /// Whether an object has the types this says, as a server tells it that reads objects into its own types; `kind`
    /// is the kind of the object. Metadata is held to the types of `ObjectMeta`.
    ///
    /// # Errors
    ///
    /// `json: cannot unmarshal number into Go struct field ConfigMap.data of type string`
    pub fn decode(&self, object: &Value, kind: &str) -> Result<(), String> {
        decode::decode(&self.root, object, kind)
    }

    /// Sets what is missing and has a default, and drops nulls that may not be.
    pub fn default(&self, object: &mut Value) {
        default::default(&self.root, object);
    }

    /// Removes fields the schema does not name, and of metadata what `ObjectMeta` does not; the paths of what was
    /// removed, sorted: `spec.sizzle`, `metadata.foo`.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.root, object)
    }

    /// The type of the field at a simple path (`.spec.color`), where it is a single value.
    ///
    /// # Errors
    ///
    /// Says why there is no such field.
    pub fn scalar_at(&self, json_path: &str) -> Result<Option<ScalarKind>, String> {
        self.root.scalar_at(json_path)
    }
}
