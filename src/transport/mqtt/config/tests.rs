//! Tests of the settings.

use super::*;

fn plan(text: &str) -> Result<Plan, ConfigError> {
    ClientSettings::plan(&Section::from_yaml("test", text).unwrap())
}

fn to(connector: &str, entry: &str) -> Result<Target, ConfigError> {
    target(&Section::from_yaml("test", connector).unwrap(), &Section::from_yaml("test", entry).unwrap())
}

#[test]
fn a_url_is_all_it_takes() {
    let plan = plan("urls: [\"mqtt://broker\", \"mqtts://[::1]:9999/\"]").unwrap();
    let names: Vec<String> = plan.brokers.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["mqtt://broker:1883", "mqtts://[::1]:9999"]);
    assert_eq!((plan.settings.version, plan.settings.in_flight), (Version::V5, 1000));
    assert!(plan.clean_start, "nothing to keep a session for");
}

#[test]
fn a_version_is_known_by_all_its_names() {
    for (text, version) in [
        ("5", Version::V5),
        ("\"5\"", Version::V5),
        ("5.0", Version::V5),
        ("3.1.1", Version::V311),
        ("4", Version::V311),
    ] {
        let plan = plan(&format!("{{urls: [\"mqtt://b\"], version: {text}}}"));
        assert_eq!(plan.unwrap().settings.version, version, "{text}");
    }
    assert!(plan("{urls: [\"mqtt://b\"], version: 3}").unwrap_err().to_string().contains("3.1.1"));
}

#[test]
fn acknowledged_subscriptions_keep_their_session_and_say_how_sure_they_are() {
    let guarantee = |text: &str| plan(&format!("{{urls: [\"mqtt://b\"], {text}}}")).unwrap().ingress();
    let sure = guarantee("subscribe: [{topic: a}, {topic: b, qos: 2}]");
    assert_eq!((sure.assurance, &*sure.because), (Assurance::AtLeastOnce, "QoS 1, persistent session"));
    for weak in [
        "subscribe: [{topic: a}, {topic: b, qos: 0}]",
        "clean_start: true, subscribe: [{topic: a}]",
        "session_expiry: 0s, subscribe: [{topic: a}]",
    ] {
        assert_eq!(guarantee(weak).assurance, Assurance::AtMostOnce, "{weak}");
    }
}

#[test]
fn mistakes_are_named_where_they_are() {
    for (text, path, word) in [
        ("{}", "", "urls"),
        ("urls: []", "urls", "no broker"),
        ("urls: [\"http://b\"]", "urls[0]", "scheme"),
        ("urls: [\"mqtt://u:p@b\"]", "urls[0]", "credentials"),
        ("urls: [\"mqtt://b/path\"]", "urls[0]", "path"),
        ("{urls: [\"mqtt://b\"], url: x}", "url", "url"),
        ("{urls: [\"mqtt://b\"], in_flight: 0}", "in_flight", "range"),
        ("{urls: [\"mqtt://b\"], in_flight: 65535}", "in_flight", "range"),
        ("{urls: [\"mqtt://b\"], keep_alive: 10ms}", "keep_alive", "range"),
        ("{urls: [\"mqtt://b\"], tls: {cert: x}}", "tls", "tls.key"),
        ("{urls: [\"mqtt://b\"], scope: local}", "scope", "own"),
        ("{urls: [\"mqtt://b\"], will: {topic: \"a/+\"}}", "will.topic", "wildcard"),
        ("{urls: [\"mqtt://b\"], version: 4, will: {topic: a, delay: 1s}}", "will.delay", "MQTT 5"),
        ("{urls: [\"mqtt://b\"], subscribe: [{topic: \"a/#/b\"}]}", "subscribe[0].topic", "#"),
        ("{urls: [\"mqtt://b\"], subscribe: [{topic: \"a+\"}]}", "subscribe[0].topic", "+"),
        ("{urls: [\"mqtt://b\"], subscribe: [{topic: \"$share/g/a\"}]}", "subscribe[0].topic", "share"),
        (
            "{urls: [\"mqtt://b\"], subscribe: [{topic: a, qos: 3}]}",
            "subscribe[0].qos",
            "quality of service",
        ),
        (
            "{urls: [\"mqtt://b\"], subscribe: [{topic: a, share: g, no_local: true}]}",
            "subscribe[0].no_local",
            "share",
        ),
        (
            "{urls: [\"mqtt://b\"], version: 3.1.1, subscribe: [{topic: a, no_local: true}]}",
            "subscribe[0].no_local",
            "MQTT 5",
        ),
        (
            "{urls: [\"mqtt://b\"], subscribe: [{topic: a, retained: ignore, retain_as_published: true}]}",
            "subscribe[0].retain_as_published",
            "ignore",
        ),
    ] {
        let error = plan(text).unwrap_err();
        assert!(error.path == path && error.to_string().contains(word), "{text}: {error:?}");
    }
}

#[test]
fn a_target_takes_the_layout_its_version_has() {
    let mode = |connector: &str, entry: &str| {
        let target = to(connector, entry)?;
        Ok::<_, ConfigError>(*target.options.downcast_ref::<Publication>().unwrap())
    };
    assert_eq!(mode("urls: []", "topic: a").unwrap().mode, ContentMode::Binary);
    assert_eq!(mode("version: 3.1.1", "topic: a").unwrap().mode, ContentMode::Structured);
    assert_eq!(mode("version: 3.1.1", "{topic: a, content_mode: data}").unwrap().mode, ContentMode::Data);
    let error = mode("version: 4", "{topic: a, content_mode: binary}").unwrap_err();
    assert!(error.path == "content_mode" && error.reason.contains("MQTT 5"), "{error}");
    assert_eq!(mode("{}", "topic: \"\"").unwrap_err().path, "topic");
    assert!(mode("{}", "topic: \"a/{\"").is_err());
    let sure = to("{}", "{topic: a, qos: 0, content_mode: data}").unwrap().guarantee;
    assert_eq!((sure.assurance, sure.identity), (Assurance::AtMostOnce, false));
}
