//! The kinds a scope has without a definition: their names, schemas, rules, defaults and tables.
//!
//! Facts are those of release 1.36. Pods are there so that tools which make or show them work: their usual fields
//! are known, the rest is kept, and they are not run.

use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::{Map, Value};

use crate::schema::columns::Column;
use crate::schema::registry::Definition;
use crate::schema::structural::meta::{self, NameRule};
use crate::schema::structural::{ERRORS_MAX, FieldError, Structural, names};

use super::crd;

mod defaults;
mod event;
mod pod;
mod rules;
mod table;
#[cfg(test)]
mod tests;

/// A rule about a new object beyond its metadata.
type Rule = fn(&Value) -> Vec<FieldError>;
/// A rule about a change beyond its metadata: the new object, then the old one.
type UpdateRule = fn(&Value, &Value) -> Vec<FieldError>;

/// One kind in one version.
#[derive(Debug)]
pub struct BuiltIn {
    /// The type of its keys: `core/v1/Pod`.
    pub type_url: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `Pod`
    pub kind: &'static str,
    /// `pods`
    pub plural: &'static str,
    /// `pod`
    pub singular: &'static str,
    /// `po`
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether its status is written apart from the rest.
    pub status: bool,
    /// Whether its objects have a `metadata.generation`.
    pub generation: bool,
    /// Whether PUT needs no `metadata.resourceVersion`.
    pub unconditional_update: bool,
    /// Whether PUT makes an object that is not there.
    pub create_on_update: bool,
    name_rule: NameRule,
    rule: Rule,
    update_rule: UpdateRule,
    defaults: fn(&mut Map<String, Value>),
    columns: fn() -> Vec<Column>,
    schema_text: &'static str,
    schema: OnceLock<Arc<Value>>,
    structural: OnceLock<Structural>,
    table: OnceLock<Vec<Column>>,
}

/// All of them.
pub fn all() -> &'static [BuiltIn] {
    KINDS.as_slice()
}

/// The kind of that type.
pub fn find(type_url: &str) -> Option<&'static BuiltIn> {
    KINDS.iter().find(|kind| kind.type_url == type_url)
}

impl BuiltIn {
    /// Its names, as kinds of other origins have them.
    pub fn definition(&self) -> Definition {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Definition {
            type_url: self.type_url.into(),
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
            singular: self.singular.to_owned(),
            short_names: words(self.short_names),
            categories: words(self.categories),
            namespaced: self.namespaced,
            status: self.status,
        }
    }

    /// The `OpenAPI` v3 schema of an object.
    pub fn schema(&self) -> &Arc<Value> {
        self.schema.get_or_init(|| {
            let mut schema: Value = serde_json::from_str(self.schema_text).unwrap_or_default();
            if let Some(metadata) = schema.pointer_mut("/properties/metadata") {
                metadata.clone_from(&meta::SCHEMA);
            }
            Arc::new(schema)
        })
    }

    /// The compiled schema: for pruning, for the types of fields, and for the keys of lists.
    pub fn structural(&self) -> &Structural {
        self.structural.get_or_init(|| Structural::compile_built_in(self.schema()).unwrap_or_default())
    }

    /// Sets what the server sets in a new object that leaves it out.
    pub fn default(&self, object: &mut Value) {
        if let Some(object) = object.as_object_mut() {
            (self.defaults)(object);
        }
    }

    /// What is wrong with a new object, its metadata included.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = meta::validate(object, self.namespaced, self.name_rule);
        errors.extend((self.rule)(object));
        errors.truncate(ERRORS_MAX);
        errors
    }

    /// What is wrong with a change of an object.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = meta::validate_update(new, old);
        errors.extend((self.update_rule)(new, old));
        errors.truncate(ERRORS_MAX);
        errors
    }

    /// The columns of its table, as the API server has them.
    pub fn columns(&self) -> &[Column] {
        self.table.get_or_init(self.columns)
    }
}

/// What the kinds have in common.
fn base() -> BuiltIn {
    BuiltIn {
        type_url: "",
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        status: false,
        generation: false,
        unconditional_update: true,
        create_on_update: false,
        name_rule: names::dns_subdomain,
        rule: |_| Vec::new(),
        update_rule: |_, _| Vec::new(),
        defaults: |_| {},
        columns: Vec::new,
        schema_text: "",
        schema: OnceLock::new(),
        structural: OnceLock::new(),
        table: OnceLock::new(),
    }
}

static KINDS: LazyLock<Vec<BuiltIn>> =
    LazyLock::new(|| core_kinds().into_iter().chain(group_kinds()).chain(events()).collect());

fn core_kinds() -> [BuiltIn; 4] {
    [
        BuiltIn {
            type_url: "core/v1/ConfigMap",
            kind: "ConfigMap",
            plural: "configmaps",
            singular: "configmap",
            short_names: &["cm"],
            rule: rules::config_map,
            update_rule: rules::config_map_update,
            columns: table::config_map,
            schema_text: include_str!("schemas/config_map.json"),
            ..base()
        },
        BuiltIn {
            type_url: "core/v1/Namespace",
            kind: "Namespace",
            plural: "namespaces",
            singular: "namespace",
            short_names: &["ns"],
            namespaced: false,
            status: true,
            name_rule: names::dns_label,
            rule: rules::namespace,
            update_rule: |new, _| rules::namespace(new),
            defaults: defaults::namespace,
            columns: table::namespace,
            schema_text: include_str!("schemas/namespace.json"),
            ..base()
        },
        BuiltIn {
            type_url: "core/v1/Pod",
            kind: "Pod",
            plural: "pods",
            singular: "pod",
            short_names: &["po"],
            categories: &["all"],
            status: true,
            generation: true,
            rule: rules::pod,
            update_rule: |new, _| rules::pod(new),
            defaults: defaults::pod,
            columns: table::pod,
            schema_text: include_str!("schemas/pod.json"),
            ..base()
        },
        BuiltIn {
            type_url: "core/v1/ServiceAccount",
            kind: "ServiceAccount",
            plural: "serviceaccounts",
            singular: "serviceaccount",
            short_names: &["sa"],
            columns: table::service_account,
            schema_text: include_str!("schemas/service_account.json"),
            ..base()
        },
    ]
}

fn group_kinds() -> [BuiltIn; 2] {
    [
        BuiltIn {
            type_url: "apiextensions.k8s.io/v1/CustomResourceDefinition",
            group: "apiextensions.k8s.io",
            kind: "CustomResourceDefinition",
            plural: "customresourcedefinitions",
            singular: "customresourcedefinition",
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            namespaced: false,
            status: true,
            generation: true,
            unconditional_update: false,
            rule: |object| rules::beyond_meta(crd::Crd::parse(object).err().unwrap_or_default()),
            update_rule: |new, old| rules::beyond_meta(crd::validate_update(new, old)),
            defaults: crd::default_map,
            columns: table::custom_resource_definition,
            schema_text: include_str!("schemas/custom_resource_definition.json"),
            ..base()
        },
        BuiltIn {
            type_url: "coordination.k8s.io/v1/Lease",
            group: "coordination.k8s.io",
            kind: "Lease",
            plural: "leases",
            singular: "lease",
            unconditional_update: false,
            create_on_update: true,
            rule: rules::lease,
            update_rule: |new, _| rules::lease(new),
            defaults: defaults::lease,
            columns: table::lease,
            schema_text: include_str!("schemas/lease.json"),
            ..base()
        },
    ]
}

/// One kind in two groups.
fn events() -> [BuiltIn; 2] {
    [
        BuiltIn {
            type_url: "core/v1/Event",
            kind: "Event",
            plural: "events",
            singular: "event",
            short_names: &["ev"],
            create_on_update: true,
            name_rule: names::path_segment_name,
            rule: event::core,
            update_rule: |new, _| event::core(new),
            defaults: defaults::core_event,
            columns: table::event,
            schema_text: include_str!("schemas/event.json"),
            ..base()
        },
        BuiltIn {
            type_url: "events.k8s.io/v1/Event",
            group: "events.k8s.io",
            kind: "Event",
            plural: "events",
            singular: "event",
            short_names: &["ev"],
            create_on_update: true,
            rule: event::create,
            update_rule: event::update,
            defaults: defaults::event,
            columns: table::event,
            schema_text: include_str!("schemas/event_v1.json"),
            ..base()
        },
    ]
}
