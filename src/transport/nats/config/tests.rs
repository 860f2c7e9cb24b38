//! Settings that are right are taken, and each mistake names its field.

use super::*;

const URL: &str = "urls: [\"nats://127.0.0.1:4222\"]\n";

fn parse(text: &str) -> Result<ClientConfig, ConfigError> {
    ClientConfig::parse(&Section::from_yaml("t.yaml", text).unwrap())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = parse(URL).unwrap();
    assert!(config.dedupe && !config.no_echo && config.jetstream.is_none());
    assert_eq!((config.in_flight, config.buffer), (1024, 8192));
    assert_eq!(config.ack_timeout, Duration::from_secs(5));
}

#[test]
fn a_consumer_takes_its_stream_from_the_connector() {
    let text = format!(
        "{URL}jetstream: {{stream: EVENTS}}\nsubscribe: [{{subject: \"a.>\", jetstream: {{consumer: c}}}}]"
    );
    let config = parse(&text).unwrap();
    let consumer = config.subscribe[0].jetstream.as_ref().unwrap();
    assert_eq!((consumer.durable.as_str(), consumer.max_ack_pending), ("c", 1024));
}

#[test]
fn each_mistake_names_its_field() {
    for (text, field) in [
        ("urls: []", "urls"),
        ("urls: [\"http://h\"]", "urls[0]"),
        ("urls: [\"nats://h\"]\nuser: u", "user"),
        ("urls: [\"nats://h\"]\ntoken: {env: T}\nnkey: {env: N}", "nkey"),
        ("urls: [\"nats://h\"]\nin_flight: 0", "in_flight"),
        ("urls: [\"nats://h\"]\njetstream: {stream: a.b}", "jetstream.stream"),
        ("urls: [\"nats://h\"]\nsubscribe: [{subject: \"a.>.b\"}]", "subscribe[0].subject"),
        ("urls: [\"nats://h\"]\nsubscribe: [{subject: \"a.#\"}]", "subscribe[0].subject"),
        (
            "urls: [\"nats://h\"]\nsubscribe: [{subject: a, jetstream: {durable: d}}]",
            "subscribe[0].jetstream",
        ),
        (
            "urls: [\"nats://h\"]\nsubscribe: [{subject: a, queue: q, jetstream: {stream: S, durable: d}}]",
            "subscribe[0].queue",
        ),
    ] {
        assert!(error(text).contains(&format!(": {field}: ")), "{text} gave {}", error(text));
    }
}

#[test]
fn a_subject_to_publish_to_has_no_wildcard_and_no_empty_token() {
    for (subject, right) in [
        ("alerts.web", true),
        ("alerts.{ns|none}.{reason}", true),
        ("a.*", false),
        ("a.>", false),
        ("a..b", false),
        ("a b", false),
        ("", false),
    ] {
        assert_eq!(check_literal(subject).is_ok(), right, "{subject}");
    }
}
