//! What holds for any objects and any managers.

use proptest::prelude::*;

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4_i64).prop_map(Value::from),
        Just(json!(1.0)),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 4, |inner| {
        let names = "(name|port|protocol|ports|names|size|tags|part|box|free|template|metadata|finalizers|f:a|v:1|v:1.0|k:\\{\"a\":1\\}|i:0|\\.)";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_managed() -> impl Strategy<Value = Value> {
    let entry = (any_json(), "(a|b|c)", "(Apply|Update|Other)", "(|status)").prop_map(
        |(fields, manager, operation, subresource)| {
            json!({"manager": manager, "operation": operation, "apiVersion": "example.com/v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}, "subresource": subresource})
        },
    );
    prop_oneof![any_json(), prop::collection::vec(entry, 0..4).prop_map(Value::from)]
}

/// A spec of the widget's type, as far as what is applied has to be.
fn any_spec() -> impl Strategy<Value = Value> {
    let text = || prop::option::of("[a-c]");
    let names = prop::collection::btree_set("[a-e]", 0..4).prop_map(Vec::from_iter).prop_shuffle();
    let ports = prop::collection::btree_map(1..4_i64, text(), 0..3);
    (prop::option::of(0..3_i64), text(), prop::option::of(names), prop::option::of(ports), any_json())
        .prop_map(|(size, color, names, ports, free)| {
            let ports = ports.map(|ports| {
                let port = |(port, name): (i64, Option<String>)| match name {
                    Some(name) => json!({"port": port, "name": name}),
                    None => json!({"port": port}),
                };
                ports.into_iter().map(port).collect::<Vec<Value>>()
            });
            let spec = json!({"size": size, "color": color, "names": names, "ports": ports,
                "free": Some(free).filter(Value::is_object)});
            let fields = spec.as_object().unwrap().clone();
            fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
        })
}

/// Whether anything is left of a value without what is empty in it.
fn drop_empty(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| drop_empty(field));
            !fields.is_empty()
        }
        Value::Array(items) => {
            items.retain_mut(drop_empty);
            !items.is_empty()
        }
        other => !other.is_null(),
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(live in any_json(), spec in any_json(), managed in any_managed()) {
        let schema = schema();
        let mut live = json!({"metadata": {"name": "a", "managedFields": managed}, "spec": live});
        for typing in [Typing::of(Some(&schema)), Typing::of(None)] {
            for manager in ["a", "kubectl"] {
                if let Ok(applied) = apply(Some(&live), &widget(spec.clone()), writer(manager), true, typing) {
                    live = update(Some(&live), applied, writer("b"), typing);
                }
            }
            live = update(None, live, writer("c"), typing);
        }
    }

    #[test]
    fn applying_again_changes_nothing(live in any_spec(), spec in any_spec()) {
        let schema = schema();
        for typing in [Typing::of(Some(&schema)), Typing::of(None)] {
            let live = apply(None, &widget(live.clone()), writer("b"), false, typing).unwrap();
            let once = apply(Some(&live), &widget(spec.clone()), writer("a"), true, typing).unwrap();
            let again = apply(Some(&once), &widget(spec.clone()), later("a"), false, typing);
            prop_assert_eq!(again, Ok(once));
        }
    }

    #[test]
    fn what_one_manager_alone_applied_goes_with_it(mut other in any_spec(), spec in any_spec()) {
        // A map that another has as empty goes with the last that was put in it.
        drop_empty(&mut other);
        other["on"] = json!(true);
        let schema = schema();
        for typing in [Typing::of(Some(&schema)), Typing::of(None)] {
            let first = apply(None, &widget(other.clone()), writer("b"), false, typing).unwrap();
            if let Ok(both) = apply(Some(&first), &widget(spec.clone()), writer("a"), false, typing) {
                let mut nothing = widget(json!({}));
                nothing.as_object_mut().unwrap().remove("spec");
                let left = apply(Some(&both), &nothing, writer("a"), false, typing).unwrap();
                prop_assert_eq!(fields(&left, "a"), Value::Null);
                prop_assert_eq!(fields(&left, "b"), fields(&first, "b"));
                // Lists may have taken another order by then.
                let set = |object: &Value| field_set(&object["spec"], Typing::of(schema.pointer("/properties/spec")));
                prop_assert_eq!(set(&left), set(&first));
            }
        }
    }

    #[test]
    fn a_set_reads_back_as_it_was(fields in any_json()) {
        let set = FieldSet::decode(&fields);
        prop_assert_eq!(FieldSet::decode(&set.encode()), set);
    }
}
