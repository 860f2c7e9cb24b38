//! What addresses promise: there and back, each spelling by example.

use proptest::prelude::*;

use super::*;
use crate::schema::own;

fn topic(text: &str) -> Topic {
    Topic::parse(text.to_owned()).unwrap()
}

#[test]
fn each_kind_of_key_has_its_topic() {
    for (key, expected) in [
        (Key::new("east", "apps/v1/Deployment", "web/shop"), "k8s/east/apps/v1/Deployment/web/shop"),
        (Key::new("east", "core/v1/Node", "/n1"), "k8s/east/core/v1/Node/_/n1"),
        (
            Key::new("istiod", "type.googleapis.com/envoy.config.cluster.v3.Cluster", "a/b"),
            "xds/istiod/envoy.config.cluster.v3.Cluster/a%2Fb",
        ),
        (Key::new("local", Key::VALUE, "alerts/x"), "alerts/x"),
        (Key::new("local", "meshbus.dev/v1/Route", "warnings"), "bus/routes/warnings"),
    ] {
        assert_eq!(topic_of(&key).unwrap().as_str(), expected);
        assert_eq!(key_at(&topic(expected), &key.scope), Some(key));
    }
}

#[test]
fn a_key_without_a_topic_says_why() {
    for (key, word) in [
        (Key::new("local", Key::VALUE, "k8s/x"), "reserved"),
        (Key::new("local", Key::VALUE, "a/#"), "wildcard"),
        (Key::new("local", Key::VALUE, ""), "empty"),
        (Key::new("east", "apps/v1/Deployment", "shop"), "NAMESPACE/NAME"),
        (Key::new("east", "apps/v1/Deployment", "_/shop"), "NAMESPACE/NAME"),
        (Key::new("east", "apps/v1", "a/b"), "no type"),
        (Key::new("local", "meshbus.dev/v1/Connection", "7"), "holds more"),
        (Key::new("x", "type.googleapis.com/a.B", ""), "has a name"),
    ] {
        let reason = topic_of(&key).unwrap_err();
        assert!(reason.contains(word), "{key}: {reason}");
    }
}

#[test]
fn reserved_topics_that_name_no_key_have_none() {
    for text in
        ["k8s", "k8s/east/apps/v1/Deployment/web", "xds/a/b", "xds/a//b", "bus/nacks/7", "flows/a", "bus"]
    {
        assert_eq!(key_at(&topic(text), "local"), None, "{text}");
    }
}

#[test]
fn kubernetes_paths_by_example() {
    for (key, expected) in [
        (Key::new("local", Key::VALUE, "x"), Some("/apis/meshbus.dev/v1/values/x")),
        (
            Key::new("east", "apps/v1/Deployment", "web/shop"),
            Some("/scopes/east/apis/apps/v1/namespaces/web/deployments/shop"),
        ),
        (Key::new("east", "core/v1/Node", "/n1"), Some("/scopes/east/api/v1/nodes/n1")),
        (
            Key::new("local", "type.googleapis.com/envoy.config.cluster.v3.Cluster", "c1"),
            Some("/apis/cluster.config.envoy/v3/clusters/c1"),
        ),
        (Key::new("local", "type.googleapis.com/Nested", "c1"), None),
    ] {
        assert_eq!(kubernetes_path(&key).as_deref(), expected);
    }
    let slashed = kubernetes_path(&Key::new("local", Key::VALUE, "Alerts/a b")).unwrap();
    assert!(slashed.starts_with("/apis/meshbus.dev/v1/values/alerts-a-b-"), "{slashed}");
}

/// Texts with what escapes and separators are made of.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z%/+#_.25 ]{1,8}", "\\PC{1,8}"]
}

fn plain() -> impl Strategy<Value = String> {
    word().prop_map(|text| text.replace('/', "-"))
}

fn keys() -> impl Strategy<Value = Key> {
    let object = (word(), plain(), plain(), plain(), prop_oneof![Just(String::new()), plain()], word())
        .prop_filter("the bus's own kinds and an underscore are not objects of a cluster", |it| {
            it.4 != "_" && it.1 != "meshbus.dev" && it.1 != "type.googleapis.com"
        })
        .prop_map(|(scope, group, version, kind, namespace, name)| {
            Key::new(scope, format!("{group}/{version}/{kind}"), format!("{namespace}/{name}"))
        });
    let resource = (word(), word(), word())
        .prop_map(|(scope, message, name)| Key::new(scope, format!("{PROTO_PREFIX}{message}"), name));
    let value = (word(), word()).prop_map(|(scope, name)| Key::new(scope, Key::VALUE, name));
    let route = word().prop_map(|name| Key::new(Key::LOCAL, "meshbus.dev/v1/Route", name));
    prop_oneof![object, resource, value, route]
}

#[test]
fn a_connection_to_another_server_is_found_by_its_topic() {
    let topic = own::foreign_connection_topic("xds", "istiod", "web.shop-12").unwrap();
    assert_eq!(topic.as_str(), "bus/connections/xds/istiod/web.shop-12");
    let key = Key::new("istiod", own::CONNECTION, "web.shop-12");
    assert_eq!(key_at(&topic, "local"), Some(key));
}

proptest! {
    #[test]
    fn a_key_and_its_topic_are_one_address(key in keys()) {
        if let Ok(topic) = topic_of(&key) {
            prop_assert_eq!(key_at(&topic, &key.scope), Some(key));
        } else {
            // Only a value can lack one here: its name is the topic as it is.
            prop_assert_eq!(&*key.type_url, Key::VALUE);
        }
    }

    #[test]
    fn a_topic_and_its_key_are_one_address(text in "(k8s|xds|bus|a)(/[a-z%2F_]{0,5}){0,7}") {
        let at = topic(&text);
        if let Some(key) = key_at(&at, "local")
            && let Ok(back) = topic_of(&key)
        {
            prop_assert_eq!(back, at);
        }
    }
}
