//! Definitions: each rule, what a real server made of one, and anything at all.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn definition() -> Value {
    let mut object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"color": {"type": "string"}, "on": {"type": "object"}}}
                }}},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "selectableFields": [{"jsonPath": ".spec.color"}]
            }]
        }
    });
    default(&mut object);
    object
}

/// What is said of the definition with something in it set otherwise.
fn wrong(pointer: &str, value: Value) -> Vec<String> {
    let mut object = definition();
    *object.pointer_mut(pointer).unwrap() = value;
    Crd::parse(&object).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_definition_is_read() {
    let crd = Crd::parse(&definition()).unwrap();
    assert_eq!((crd.group.as_str(), crd.namespaced), ("example.com", true));
    assert_eq!((crd.names.singular.as_str(), crd.names.list_kind.as_str()), ("widget", "WidgetList"));
    let version = crd.version("v1").unwrap();
    assert!(version.served && version.storage && version.status && version.deprecation.is_none());
    assert_eq!(version.selectable, [".spec.color"]);
    assert_eq!(version.columns[0].kind, "integer");
    assert!(crd.version("v2").is_none() && crd.storage().is_some());
}

#[test]
fn names_are_held_to_their_rules() {
    assert_eq!(
        wrong("/metadata/name", json!("gadgets.example.com")),
        [
            r#"metadata.name: Invalid value: "gadgets.example.com": must be spec.names.plural+"."+spec.group"#
        ]
    );
    assert!(wrong("/spec/group", json!("example")).contains(
        &r#"spec.group: Invalid value: "example": should be a domain with at least one dot"#.to_owned()
    ));
    assert_eq!(
        wrong("/spec/names/listKind", json!("Widget")),
        [r#"spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same"#]
    );
    assert!(
        wrong("/spec/names/shortNames/0", json!("W"))[0]
            .starts_with(r#"spec.names.shortNames[0]: Invalid value: "W": a DNS-1035 label must consist"#)
    );
    assert_eq!(
        wrong("/spec/scope", json!("World")),
        [r#"spec.scope: Unsupported value: "World": supported values: "Cluster", "Namespaced""#]
    );
}

#[test]
fn versions_are_held_to_their_rules() {
    let storage = wrong("/spec/versions/0/storage", json!(false));
    assert!(storage[0].ends_with("must have exactly one version marked as storage version"), "{storage:?}");
    assert_eq!(
        wrong("/spec/versions/0/schema", json!({})),
        ["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]
    );
    assert_eq!(
        wrong("/spec/versions/0/schema/openAPIV3Schema/properties/spec/type", json!("")),
        [
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for \
          specified object fields"
        ]
    );
    let root = wrong(
        "/spec/versions/0/schema/openAPIV3Schema",
        json!({"type": "object", "not": {"required": ["a"]}}),
    );
    assert!(
        root[0]
            .ends_with("fields are allowed at the root of the schema if the status subresource is enabled")
    );
    assert_eq!(
        wrong("/spec/conversion/strategy", json!("Webhook")),
        [r#"spec.conversion.strategy: Unsupported value: "Webhook": supported values: "None""#]
    );
}

#[test]
fn columns_and_selectable_fields_are_held_to_their_rules() {
    assert_eq!(
        wrong("/spec/versions/0/additionalPrinterColumns/0", json!({"name": "A", "type": "float"})),
        [
            r#"spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "float": must be one of boolean,date,integer,number,string"#,
            "spec.versions[0].additionalPrinterColumns[0].jsonPath: Required value",
        ]
    );
    let selectable =
        |path: &str| wrong("/spec/versions/0/selectableFields/0/jsonPath", json!(path)).remove(0);
    assert!(selectable(".spec.on").ends_with("Enum string fields and strings with formats are allowed."));
    assert!(selectable(".metadata.name").ends_with("must not point to fields in metadata"));
    assert!(selectable(".spec.nope").contains("is an invalid path:"));
    assert_eq!(
        wrong(
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.color"}])
        ),
        [r#"spec.versions[0].selectableFields[1].jsonPath: Duplicate value: ".spec.color""#]
    );
}

#[test]
fn a_deprecated_version_warns() {
    let mut object = definition();
    object["spec"]["versions"][0]["deprecated"] = json!(true);
    let warning = |object: &Value| Crd::parse(object).unwrap().versions[0].deprecation.clone();
    assert_eq!(warning(&object).unwrap(), "example.com/v1 Widget is deprecated");
    object["spec"]["versions"][0]["deprecationWarning"] = json!("use v2");
    assert_eq!(warning(&object).unwrap(), "use v2");
    object["spec"]["versions"][0]["deprecated"] = json!(false);
    assert_eq!(
        Crd::parse(&object).unwrap_err()[0].to_string(),
        r#"spec.versions[0].deprecationWarning: Invalid value: "use v2": can only be set for deprecated versions"#
    );
}

#[test]
fn what_names_the_resource_cannot_change() {
    let mut old = definition();
    establish(&mut old, "2026-11-22T06:34:25Z");
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["versions"][0]["name"] = json!("v2");
    let texts: Vec<String> = validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(texts[0], r#"spec.scope: Invalid value: "Cluster": field is immutable"#);
    assert!(texts[1].starts_with(
        r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was"#
    ));
    assert!(validate_update(&old, &old).is_empty());
}

#[test]
fn an_established_definition_has_its_names_accepted_and_keeps_its_times() {
    let mut object = definition();
    assert!(!is_established(&object));
    establish(&mut object, "2026-11-22T06:34:25Z");
    assert!(is_established(&object));
    assert_eq!(object["status"]["acceptedNames"], object["spec"]["names"]);
    let once = object.clone();
    establish(&mut object, "2027-01-01T00:00:00Z");
    assert_eq!(object, once);
}

#[test]
fn a_recorded_server_defaults_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/k8s/recordings.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no recordings beside the repository");
        return;
    };
    let mut held = 0;
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let posted = record["method"] == "POST"
            && record["status"] == 201
            && record["path"].as_str().unwrap().contains("/customresourcedefinitions");
        let body = |name: &str| serde_json::from_str::<Value>(record[name].as_str().unwrap_or("")).ok();
        let (true, Some(mut object), Some(answer)) = (posted, body("request_body"), body("response_body"))
        else {
            continue;
        };
        default(&mut object);
        assert_eq!(object["spec"], answer["spec"]);
        assert_eq!(object["status"], answer["status"]);
        Crd::parse(&object).unwrap();
        held += 1;
    }
    assert!(held >= 1, "no recording was held");
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let words =
        vec!["spec", "names", "versions", "schema", "openAPIV3Schema", "name", "type", "object", "status"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(words.clone()).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        let key = prop::sample::select(words.clone()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_on_any_json(mut object in arbitrary_json(), old in arbitrary_json()) {
        default(&mut object);
        establish(&mut object, "2026-11-22T06:34:25Z");
        Crd::parse(&object).ok();
        validate_update(&object, &old);
        let once = object.clone();
        default(&mut object);
        establish(&mut object, "2026-11-23T06:34:25Z");
        prop_assert_eq!(once, object);
    }
}
