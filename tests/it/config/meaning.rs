//! What a right configuration means.

use std::path::Path;
use std::time::Duration;

use meshbus::config::{Config, Destination, LogFormat, Permission, TestInput, WhenFull};

use super::wire::{Tap, Wire, read};

const FULL: &str = r#"
name: edge-1
connectors:
  hub: {wire: {client: {urls: ["wire://u:hunter2@h"], token: {env: TOKEN}}}}
  in: {wire: {server: {listen: "127.0.0.1:0"}}}
  bare: {wire: {server: }}
  out: {tap: {client: {urls: []}}}
routes:
  z-first:
    from: [in, {connector: hub, topic: "a/+"}, {topic: "b/#"}]
    dialects: [{exact: {type: x}}, {not: {any: [{prefix: {subject: a}}, {suffix: {subject: b}}]}}]
    to:
      - {connector: out, topic: "t/{type}"}
      - {bus: "alerts/{reason|none}"}
    retry: {max_attempts: 3, backoff: {initial: 1s, max: 2m}}
    dead_letter: {connector: hub, topic: dead}
    when_full: drop_oldest
    in_flight: 5
  a-second:
    to: [{bus: all}]
event_log: {type: memory, changes: {max: 10, max_bytes: 1MiB}}
state: {max_keys: 7}
access: [{principal: ci, token: {file: /run/t}, allow: [publish, subscribe], topics: ["alerts/#"]}]
logging: {level: "info,meshbus=debug", format: json}
admin: {listen: "127.0.0.1:0"}
shutdown: {grace: 3s}
tests:
  - {name: t, route: z-first, input: {file: events/a.json}, expect: [{connector: out, topic: t/x}, {bus: alerts/none}]}
  - {name: u, route: a-second, input: {event: {specversion: "1.0", id: "1"}}, expect: []}
"#;

fn full() -> Config {
    read(&[("conf/a.yaml", FULL)]).unwrap_or_else(|errors| panic!("{errors:?}"))
}

#[test]
fn every_part_of_a_file_is_read() {
    let config = full();
    assert_eq!(config.name, "edge-1");
    let names: Vec<_> = config.connectors.iter().map(|connector| connector.name.as_str()).collect();
    assert_eq!(names, ["hub", "in", "bare", "out"]);
    let names: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["z-first", "a-second"]);

    let route = config.route("z-first").unwrap();
    assert_eq!(route.from.len(), 3);
    assert_eq!(route.from[1].connector.as_deref(), Some("hub"));
    assert_eq!(route.from[1].topic.as_ref().unwrap().to_string(), "a/+");
    assert_eq!(route.from[2].connector, None);
    assert_eq!(route.dialects.len(), 2);
    assert!(matches!(&route.to[0].place, Destination::Connector { name, target }
        if name == "out" && target.address.as_ref().unwrap().text() == "t/{type}"));
    assert!(
        matches!(&route.to[1].place, Destination::Bus(topic) if topic.text() == "alerts/{reason|none}")
    );
    assert_eq!(route.retry.max_attempts, 3);
    assert_eq!(route.retry.backoff.max.0, Duration::from_mins(2));
    assert!(matches!(&route.dead_letter.place, Destination::Connector { name, .. } if name == "hub"));
    assert_eq!((route.when_full, route.in_flight), (WhenFull::DropOldest, 5));

    assert_eq!((config.event_log.changes.max, config.event_log.events.max), (10, 1_000_000));
    assert_eq!((config.state.max_keys, config.state.max_bytes.0), (7, 1 << 30));
    assert_eq!(config.access[0].allow, [Permission::Publish, Permission::Subscribe]);
    assert_eq!(config.logging.format, LogFormat::Json);
    assert_eq!(config.shutdown.grace.0, Duration::from_secs(3));
    assert!(
        matches!(&config.tests[0].input, TestInput::File(path) if path == Path::new("conf/events/a.json"))
    );
    assert_eq!(config.tests[0].expect[0].address(), Some("t/x"));
    assert!(matches!(&config.tests[1].input, TestInput::Event(event) if event["specversion"] == "1.0"));
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let config = read(&[("a.yaml", "routes: {r: {to: [{bus: all}]}}\n")]).unwrap();
    let route = &config.routes[0];
    assert_eq!(config.name, "host-1");
    assert!(route.from.is_empty() && route.dialects.is_empty());
    assert!(matches!(&route.dead_letter.place, Destination::Bus(topic) if topic.text() == "dead/{route}"));
    assert_eq!((route.retry.max_attempts, route.when_full, route.in_flight), (8, WhenFull::Block, 1024));
    assert_eq!(route.retry.backoff.initial.0, Duration::from_millis(100));
    assert_eq!(route.retry.backoff.max.0, Duration::from_secs(30));
    assert_eq!(config.event_log.changes.max_bytes.0, 256 << 20);
    assert_eq!(config.shutdown.grace.0, Duration::from_secs(10));
    assert!(config.admin.is_none() && config.health.is_none() && !config.insecure);
    assert!(read(&[("empty.yaml", "")]).unwrap().connectors.is_empty());
}

#[test]
fn files_are_one_configuration() {
    let config = read(&[
        ("a.yaml", "name: x\nconnectors: {a: {wire: {server: {}}}}\n"),
        (
            "b.yaml",
            "routes: {r: {from: [a], to: [{bus: y}]}}\nconnectors: {b: {tap: {client: {urls: []}}}}\n",
        ),
    ])
    .unwrap();
    assert_eq!((config.connectors.len(), config.routes.len()), (2, 1));
}

#[test]
fn insecure_for_all_is_the_default_of_every_server() {
    let text = "insecure: true\nhealth: {listen: \":1\"}\nconnectors:\n  a: {wire: {server: {listen: \":2\"}}}\n  \
                b: {wire: {server: {insecure: false}}}\n  c: {wire: {client: {urls: []}}}\n";
    let config = read(&[("a.yaml", text)]).unwrap();
    let insecure: Vec<_> =
        config.connectors.iter().map(|it| it.section.get("insecure").map(|it| it.to_json())).collect();
    assert_eq!(insecure, [Some(true.into()), Some(false.into()), None]);
}

#[test]
fn the_embedded_default_has_every_server_role() {
    let config = Config::embedded(&|_| Some("h".to_owned()), &[&Tap, &Wire]).unwrap();
    assert_eq!(config.connectors.len(), 1);
    assert!(config.connectors[0].is_server() && config.admin.is_some() && config.health.is_some());
    assert!(config.connectors[0].build(&[&Tap, &Wire]).is_ok());
}

#[test]
fn what_is_printed_hides_secrets_and_reads_back_as_the_same() {
    let config = full();
    let printed = config.print_redacted();
    assert!(!printed.contains("hunter2"), "{printed}");
    let again = read(&[("conf/a.yaml", &printed)]).unwrap();
    assert_eq!(again.print_redacted(), printed);
    insta::assert_snapshot!(printed);
}

#[test]
fn a_fingerprint_changes_with_what_it_is_of_and_with_nothing_else() {
    let before = full();
    let other = FULL.replace("in_flight: 5", "in_flight: 6");
    let after = read(&[("other.yaml", &format!("# moved\n\n{other}"))]).unwrap();
    assert_ne!(before.fingerprint_route("z-first"), after.fingerprint_route("z-first"));
    assert_eq!(before.fingerprint_route("a-second"), after.fingerprint_route("a-second"));
    for name in ["hub", "in", "bare"] {
        assert_eq!(before.fingerprint_connector(name), after.fingerprint_connector(name));
    }
    // A route depends on the connectors it sends to.
    let other = FULL.replace("token: {env: TOKEN}", "token: {env: OTHER}");
    let after = read(&[("a.yaml", &other)]).unwrap();
    assert_ne!(before.fingerprint_connector("hub"), after.fingerprint_connector("hub"));
    assert_ne!(before.fingerprint_route("z-first"), after.fingerprint_route("z-first"));
    assert_eq!(before.fingerprint_route("a-second"), after.fingerprint_route("a-second"));
    assert_eq!(before.fingerprint_route("none"), None);
}

#[test]
fn files_are_read_from_disk_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, "name: from-disk\n").unwrap();
    let config = Config::load(std::slice::from_ref(&path), &|_| None, &[&Wire]).unwrap();
    assert_eq!(config.name, "from-disk");
    let missing = dir.path().join("b.yaml");
    let errors = Config::load(&[path, missing.clone()], &|_| None, &[&Wire]).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().starts_with(&format!("{}: cannot be read: ", missing.display())));
}
