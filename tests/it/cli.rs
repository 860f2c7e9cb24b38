//! The command line as a person or a script meets it: words, output, exit codes. Verbs that need no server.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const VERBS: [&str; 18] = [
    "init",
    "run",
    "validate",
    "schema",
    "test",
    "pub",
    "put",
    "delete",
    "sub",
    "get",
    "address",
    "eval",
    "explain",
    "tap",
    "graph",
    "kubeconfig",
    "plugin",
    "completions",
];

/// The program in the root of the package, its environment without anything of ours.
pub(crate) fn meshbus(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshbus"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["MESHBUS_CONFIG", "MESHBUS_SERVER", "MESHBUS_ADMIN", "MESHBUS_TOKEN", "COLUMNS"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    meshbus(args).output().unwrap()
}

fn run_with(args: &[&str], input: &str) -> Output {
    let mut child = meshbus(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Standard output of what must succeed.
pub(crate) fn good(args: &[&str]) -> String {
    text_of(run(args), args)
}

fn text_of(output: Output, args: &[&str]) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and standard error.
pub(crate) fn bad(args: &[&str]) -> (i32, String) {
    let output = run(args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn write(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a command said, without the name of the temporary directory.
fn shown(output: &Output, directory: &TempDir) -> String {
    let text = format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    text.replace(directory.path().to_str().unwrap(), "DIR")
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    insta::assert_snapshot!("help", good(&["--help"]));
    for verb in VERBS {
        let help = good(&[verb, "--help"]);
        assert!(help.contains("meshbus ") && help.contains("xample"), "{verb} has no example:\n{help}");
        insta::assert_snapshot!(format!("help_{verb}"), help);
    }
    for verb in ["new", "build", "inspect", "test"] {
        insta::assert_snapshot!(format!("help_plugin_{verb}"), good(&["plugin", verb, "--help"]));
    }
}

#[test]
fn wrong_words_are_exit_code_64() {
    for args in [
        &["nonsense"][..],
        &["sub"],
        &["sub", "a/#/b"],
        &["sub", "a", "--from", "yesterday"],
        &["sub", "a", "--where", "type = "],
        &["sub", "a", "--where", "LEN(type) = 3"],
        &["eval", "type ="],
        &["sub", "a", "--exact", "Type=x"],
        &["sub", "a", "--timeout", "5"],
        &["sub", "a", "-s", "ftp://127.0.0.1"],
        &["sub", "a", "-s", "127.0.0.1:8080"],
        &["sub", "a", "-s", "nats://127.0.0.1:4222", "--from", "snapshot"],
        &["sub", "a", "-s", "mqtt://127.0.0.1:1883", "--from", "17"],
        &["pub", "a/+"],
        &["pub", "a", "--attr", "no-name=x"],
        &["pub", "a", "-s", "mqtt://127.0.0.1:1883", "--to", "nothing=1"],
        &["pub", "a", "-s", "nats://127.0.0.1:4222", "--with", "nothing=1"],
        &["put", "thing", "x", "-f", "-"],
        &["put", "value", "x", "-f", "Cargo.toml", "-n", "web"],
        &["put", "value", "x", "-f", "Cargo.toml", "-s", "nats://127.0.0.1:4222"],
        &["put", "value", "x", "-f", "Cargo.toml", "-s", "mqtt://127.0.0.1:1883", "--if-seq", "1"],
        &["get", "values", "-s", "mqtt://127.0.0.1:1883"],
        &["get", "values", "-o", "raw"],
        &["get", "values", "-l", "a in b"],
        &["address", "a/#"],
        &["init", "nothing"],
        &["completions", "tcsh"],
        &["plugin", "new", "No Name"],
        &["plugin", "new", "std"],
        &["plugin", "new", "x", "--lang", "c", "--json"],
        &["plugin", "test", "x.wasm", "--config", "{"],
    ] {
        let (code, error) = bad(args);
        assert_eq!(code, 64, "{args:?}: {error}");
        assert!(!error.trim().is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn a_server_that_is_not_there_is_exit_code_69_and_named() {
    // Port 1 of loopback: nobody listens there.
    for url in ["http://127.0.0.1:1", "nats://127.0.0.1:1", "mqtt://127.0.0.1:1"] {
        for args in [&["pub", "a", "-d", "x"][..], &["sub", "a"]] {
            let (code, error) = bad(&[args, &["-s", url]].concat());
            assert_eq!((code, error.contains("127.0.0.1:1")), (69, true), "{args:?} {url}: {error}");
        }
    }
    for args in [
        &["put", "value", "a", "-f", "Cargo.toml", "-s", "http://127.0.0.1:1"][..],
        &["delete", "value", "a", "-s", "mqtt://127.0.0.1:1"],
        &["get", "values", "-s", "http://127.0.0.1:1"],
        &["get", "value", "x", "-s", "http://127.0.0.1:1"],
        &["tap", "r", "--admin", "http://127.0.0.1:1"],
        &["explain", "config/events/alert.json", "-s", "http://127.0.0.1:1"],
    ] {
        let (code, error) = bad(args);
        assert_eq!((code, error.contains("127.0.0.1:1")), (69, true), "{args:?}: {error}");
    }
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    let (code, error) = bad(&["pub", "a", "-s", "nats://me:hunter2@127.0.0.1:1"]);
    assert_eq!((code, error.contains("hunter2")), (69, false), "{error}");
    let (code, error) = bad(&["pub", "a", "-s", "http://me:hunter2@127.0.0.1:1"]);
    assert_eq!((code, error.contains("hunter2")), (64, false), "{error}");
}

#[test]
fn every_use_case_is_a_valid_file() {
    let list = good(&["init", "--list"]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("edge.yaml");
        let path = path.to_str().unwrap();
        good(&["init", name, "-o", path]);
        let said = good(&["validate", "-c", path]);
        assert!(said.starts_with(&format!("{path}: ok: ")), "{said}");
        if said.contains("test") {
            good(&["test", "-c", path]);
        }
        let (code, error) = bad(&["init", name, "-o", path]);
        assert_eq!((code, error.contains("not overwritten")), (1, true), "{error}");
    }
    assert_eq!(good(&["init"]), std::fs::read_to_string("config/minimal.yaml").unwrap());
}

#[test]
fn a_list_of_use_cases_has_a_line_for_each_example_file() {
    let list = good(&["init", "--list"]);
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
            let summary =
                line.unwrap_or_else(|| panic!("no {name} in:\n{list}")).trim_start_matches(name).trim();
            assert!(summary.len() > 10, "{name} says nothing of itself");
        }
    }
}

#[test]
fn validate_tells_every_mistake_with_its_place() {
    let directory = TempDir::new().unwrap();
    let path = write(
        &directory,
        "bad.yaml",
        "connectors:\n  web: {http: {server: {lisen: \"127.0.0.1:0\"}}}\n  b: {nats: {client: {urls: [\"ftp://x\"]}}}\n\
         routes:\n  r: {from: [wbe], to: [{connector: b, subject: \"a b\"}]}\n",
    );
    let output = run(&["validate", "-c", &path]);
    insta::assert_snapshot!("validate_mistakes", shown(&output, &directory));
    let (code, error) = bad(&["validate", "-c", "nowhere.yaml"]);
    assert_eq!((code, error.contains("nowhere.yaml")), (78, true), "{error}");
}

#[test]
fn validate_prints_what_is_in_force_without_secrets() {
    let directory = TempDir::new().unwrap();
    let base = write(&directory, "a.yaml", "name: edge\nconnectors:\n  web: {http: {server: {}}}\n");
    let more = write(
        &directory,
        "b.yaml",
        "connectors:\n  b: {nats: {client: {urls: [\"nats://u:hunter2@127.0.0.1:4222\"]}}}\n",
    );
    let said = good(&["validate", "-c", &base, "-c", &more]);
    assert_eq!(said, format!("{base} + {more}: ok: 2 connectors, 0 routes\n"));
    let printed = good(&["validate", "--print", "-c", &base, "-c", &more]);
    assert!(printed.contains("nats://***@127.0.0.1:4222") && !printed.contains("hunter2"), "{printed}");
    let by_variable =
        meshbus(&["validate"]).env("MESHBUS_CONFIG", format!("{base}:{more}")).output().unwrap();
    assert_eq!(text_of(by_variable, &["validate"]), said);
}

#[test]
fn validate_connect_names_the_peers_that_are_away() {
    let directory = TempDir::new().unwrap();
    let path = write(
        &directory,
        "c.yaml",
        "connectors:\n  broker: {nats: {client: {urls: [\"nats://127.0.0.1:1\"], subscribe: [{subject: a}]}}}\n  \
         devices: {mqtt: {client: {urls: [\"mqtt://127.0.0.1:1\"], subscribe: [{topic: a}]}}}\n  \
         hook: {http: {client: {url: \"http://127.0.0.1:1/x\"}}}\n  web: {http: {server: {}}}\n",
    );
    let output = run(&["validate", "-c", &path, "--connect"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(69), "{said}");
    for name in ["broker", "devices", "hook"] {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        assert!(line.contains("not ready: ") && line.contains("refused"), "{name}: {said}");
    }
    assert_eq!(said.lines().count(), 4, "a server is no peer: {said}");
}

#[test]
fn eval_gives_value_and_error_and_points_at_mistakes() {
    let directory = TempDir::new().unwrap();
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","count":3,"mbtopic":"a/b","data":{"n":[7]}}"#;
    let file = write(&directory, "event.json", event);
    for (expression, code, expected) in [
        ("type = 't' AND count > 2", 0, r#"{"value":true,"error":null}"#),
        ("data.n[0] + count", 0, r#"{"value":10,"error":null}"#),
        ("UPPER(mbtopic)", 0, r#"{"value":"A/B","error":null}"#),
        ("missing", 0, r#"{"value":false,"error":"missingAttribute"}"#),
        ("1 / 0", 0, r#"{"value":0,"error":"math"}"#),
        ("-1", 0, r#"{"value":-1,"error":null}"#),
        ("NOPE(1)", 0, r#"{"value":false,"error":"missingFunction"}"#),
        ("ABC(", 64, r#"{"value":false,"error":"parse"}"#),
    ] {
        let output = run(&["eval", expression, &file]);
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!((told.trim_end(), output.status.code()), (expected, Some(code)), "{expression}");
    }
    let piped = ["eval", "id", "-"];
    assert_eq!(text_of(run_with(&piped, event), &piped), "{\"value\":\"1\",\"error\":null}\n");
    assert_eq!(good(&["eval", "LENGTH('abc') = 3"]), "{\"value\":true,\"error\":null}\n");
    let (_, error) = bad(&["eval", "type = = 't'"]);
    assert_eq!(error, "type = = 't'\n       ^ a value is missing before this\n");
    let (_, error) = bad(&["eval", "count = missing", &file]);
    assert_eq!(error, "missingAttribute: missing is missing (column 9)\n");
    let (code, error) = bad(&["eval", "id", "Cargo.toml"]);
    assert!(code == 1 && error.contains("Cargo.toml: no CloudEvent"), "{error}");
}

#[test]
fn explain_tells_each_routes_clause_or_sinks() {
    let config = ["-c", "config/http-to-nats.yaml"];
    let told = good(&[&["explain", "config/events/alert.json", "--from", "ingest"], &config[..]].concat());
    insta::assert_snapshot!("explain", told);
    let json = good(&[&["explain", "config/events/alert.json", "-o", "json"], &config[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["routes"][0]["takes"], false, "it came in by no connector: {json}");
    assert_eq!(json["delivered_without_routes"], true);
    let piped = ["explain", "-", "-c", "config/fan-out.yaml", "--topic", "events/x", "--from", "ingest"];
    let event = r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "x"}"#;
    insta::assert_snapshot!("explain_fan_out", text_of(run_with(&piped, event), &piped));
    let filtered = [
        "explain",
        "config/events/alert.json",
        "-c",
        "config/filters.yaml",
        "--topic",
        "alerts/raw",
        "--from",
        "web",
    ];
    insta::assert_snapshot!("explain_filters", good(&filtered));
    let (code, error) = bad(&["explain", "Cargo.toml", "-c", "config/minimal.yaml"]);
    assert_eq!(code, 1, "{error}");
}

#[test]
fn a_configurations_own_tests_tell_what_differs() {
    let directory = TempDir::new().unwrap();
    write(
        &directory,
        "ev.json",
        r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "web"}"#,
    );
    let path = write(
        &directory,
        "c.yaml",
        "connectors:\n  in: {http: {server: {}}}\n  out: {nats: {client: {urls: [\"nats://127.0.0.1:4222\"]}}}\n\
         routes:\n  r:\n    from: [{connector: in, topic: a/b}]\n    dialects: [{exact: {type: t}}]\n    \
         to: [{connector: out, subject: \"x.{subject}\"}, {bus: \"y/{color}\"}]\n\
         tests:\n  - {name: goes, route: r, input: {file: ev.json}, expect: [{connector: out}]}\n  \
         - {name: elsewhere, route: r, input: {file: ev.json}, expect: [{connector: out, subject: x.db}, {bus: y/red}]}\n  \
         - {name: refused, route: r, input: {event: {specversion: \"1.0\", id: \"1\", source: s, type: u}}, expect: []}\n  \
         - {name: taken after all, route: r, input: {file: ev.json}, expect: []}\n  \
         - {name: wrong type, route: r, input: {event: {specversion: \"1.0\", id: \"1\", source: s, type: u}}, expect: [{bus: y/red}]}\n  \
         - {name: no file, route: r, input: {file: none.json}, expect: []}\n",
    );
    assert!(good(&["test", "-c", "config/filters.yaml"]).starts_with("ok      an alert is summed up"));
    insta::assert_snapshot!("test_report", shown(&run(&["test", "-c", &path]), &directory));
    assert_eq!(good(&["test", "-c", &path, "--only", "goes"]), "ok      goes\n");
    let (code, error) = bad(&["test", "-c", &path, "--only", "nothing"]);
    assert_eq!((code, error.contains("no such tests")), (1, true), "{error}");
}

#[test]
fn a_graph_shows_connectors_routes_and_the_bus() {
    insta::assert_snapshot!("graph_filters", good(&["graph", "-c", "config/filters.yaml"]));
    insta::assert_snapshot!("graph_mermaid", good(&["graph", "-c", "config/fan-out.yaml"]));
    insta::assert_snapshot!("graph_dot", good(&["graph", "-c", "config/fan-out.yaml", "--format", "dot"]));
}

#[test]
fn an_address_is_told_in_all_spellings() {
    let mut told = String::new();
    for args in [
        &["sensors/a.1/temp"][..],
        &["--as", "subject", "sensors.a//1.temp"],
        &["--as", "key", "sensors/a.1/temp=20x"],
        &["apps/v1/Deployment", "web/shop", "--scope", "east"],
        &["v1/Node", "/n1", "--scope", "east"],
        &["envoy.config.cluster.v3.Cluster", "outbound|80||x", "--scope", "istiod"],
        &["k8s/east/apps/v1/Deployment/web/shop"],
        &["bus/nacks/7"],
        &["connections", "7"],
        &["a b/c"],
    ] {
        let out = good(&[&["address"], args].concat());
        told += "$ meshbus address ";
        told += &args.join(" ");
        told += "\n";
        told += &out;
        told += "\n";
    }
    insta::assert_snapshot!("address", told);
    let json: serde_json::Value = serde_json::from_str(&good(&["address", "a/b", "-o", "json"])).unwrap();
    assert_eq!(json["subject"], "a.b");
}

#[test]
fn the_schema_is_that_of_the_file_in_config() {
    let schema: serde_json::Value = serde_json::from_str(&good(&["schema"])).unwrap();
    let file = std::fs::read_to_string("config/schema.json").unwrap();
    assert_eq!(schema, serde_json::from_str::<serde_json::Value>(&file).unwrap());
}

#[test]
fn completions_parse() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = good(&["completions", shell]);
        for verb in VERBS {
            assert!(script.contains(verb), "{shell} completes no {verb}");
        }
    }
    let directory = TempDir::new().unwrap();
    let path = write(&directory, "meshbus.bash", &good(&["completions", "bash"]));
    let checked = Command::new("bash").args(["-n", &path]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = meshbus(&["schema"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn a_kubeconfig_without_a_server_has_the_scope_every_bus_has() {
    let text = good(&["kubeconfig", "-s", "http://127.0.0.1:9"]);
    assert!(
        text.contains("name: meshbus-local") && text.contains("server: \"http://127.0.0.1:9\""),
        "{text}"
    );
    let named =
        good(&["kubeconfig", "--scope", "east/1", "--name", "edge", "-s", "https://bus.example.com/"]);
    let server = "server: \"https://bus.example.com/scopes/east%2F1\"";
    assert!(named.contains("current-context: edge-east/1") && named.contains(server), "{named}");
}

#[test]
fn a_kubeconfig_that_cannot_be_merged_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(&directory, "config", "clusters: 1\n");
    let merge = ["kubeconfig", "--merge", "--scope", "local"];
    let output = meshbus(&merge).env("KUBECONFIG", &path).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("clusters is no list"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "clusters: 1\n");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
