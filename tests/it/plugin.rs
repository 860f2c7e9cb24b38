//! `meshbus plugin` as a person meets it, as far as that takes no compiler: see `tests/interop/plugins.rs` for the rest.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{bad, good, meshbus};
use crate::guests;

const EVENT: &str = r#"{"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "mbtopic": "a/b"}"#;

fn file(home: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_project_is_written_whole_and_never_over_another() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("drop-all");
    let path = path.to_str().unwrap();
    assert!(good(&["plugin", "new", path]).contains("meshbus plugin build"));
    let manifest = std::fs::read_to_string(format!("{path}/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"drop-all\"") && !manifest.contains("json"), "{manifest}");
    let sdk = std::fs::read_to_string(format!("{path}/sdk/Cargo.toml")).unwrap();
    assert!(!sdk.contains("dependencies"), "it builds without a network: {sdk}");
    // What the SDK consists of is in the project.
    for entry in std::fs::read_dir("plugins/sdk/src").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let own = std::fs::read(format!("plugins/sdk/src/{name}")).unwrap();
        assert_eq!(std::fs::read(format!("{path}/sdk/src/{name}")).unwrap(), own, "{name}");
    }
    let (code, error) = bad(&["plugin", "new", path]);
    assert_eq!((code, error.contains("not overwritten")), (1, true), "{error}");
    let c = home.path().join("in-c");
    good(&["plugin", "new", c.to_str().unwrap(), "--lang", "c"]);
    assert!(c.join("filter.c").is_file() && c.join("sdk/filter_plugin.h").is_file());
    let with_json = home.path().join("j");
    good(&["plugin", "new", with_json.to_str().unwrap(), "--json"]);
    let sdk = std::fs::read_to_string(with_json.join("sdk/Cargo.toml")).unwrap();
    assert_eq!(sdk, std::fs::read_to_string("plugins/sdk/Cargo.toml").unwrap());
}

#[test]
fn what_is_missing_for_a_build_is_named() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("x");
    let path = path.to_str().unwrap();
    let (code, error) = bad(&["plugin", "build", path]);
    assert_eq!((code, error.contains(path)), (1, true), "{error}");
    std::fs::create_dir(path).unwrap();
    let (_, error) = bad(&["plugin", "build", path]);
    assert!(error.contains("neither a Cargo.toml nor .c files"), "{error}");
    if Path::new("/usr/bin/rustc").exists() {
        // The distribution's compiler is found without a search path.
        return;
    }
    good(&["plugin", "new", &format!("{path}/y")]);
    let output = meshbus(&["plugin", "build", &format!("{path}/y")]).env("PATH", path).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for hint in ["rustup target add wasm32-wasip2", "apt-get install rustc-web"] {
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn a_plugin_is_shown_with_what_it_wants_and_offers() {
    let home = TempDir::new().unwrap();
    let path = file(&home, "p.wasm", guests::packed());
    let shown = good(&["plugin", "inspect", &path]);
    for line in ["loads       yes", "world       packed-filter-plugin", "interface   meshbus:filter@0.1.0"]
    {
        assert!(shown.lines().any(|have| have == line), "{shown}");
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&shown).contains("meshbus:filter/packed@0.1.0 called events, packed exports"), "{shown}");
    // As interpreters have it.
    let more = guests::wit_text()
        + "interface made { begin: func(); } world more { include filter-plugin; export made; }";
    let begin = "(func (export \"meshbus:filter/made@0.1.0#begin\"))";
    let more = guests::component_of(&more, "more", &guests::module("", "(i32.const 0)", "", begin));
    let shown = good(&["plugin", "inspect", &file(&home, "more.wasm", more)]);
    assert!(words(&shown).contains("meshbus:filter/made@0.1.0 not called nothing of a filter"), "{shown}");
    let shown = json(&good(&["plugin", "inspect", &path, "-o", "json"]));
    assert_eq!((&shown["loads"], &shown["version"]), (&true.into(), &"0.1.0".into()));
    assert_eq!(shown["exports"].as_array().map(Vec::len), Some(2), "{shown}");
    for (bytes, reason) in [
        (&b"no wasm"[..], "is no Wasm file"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"\0asm\x0d\0\x01\0", "is no filter"),
    ] {
        let (code, error) = bad(&["plugin", "inspect", &file(&home, "bad.wasm", bytes)]);
        assert_eq!((code, error.contains(reason)), (1, true), "{error}");
    }
    let (code, error) = bad(&["plugin", "inspect", "nowhere.wasm"]);
    assert_eq!((code, error.contains("nowhere.wasm")), (1, true), "{error}");
}

#[test]
fn a_plugin_is_tried_on_events_of_a_file_in_any_of_three_forms() {
    let home = TempDir::new().unwrap();
    file(&home, "p.wasm", guests::guest(guests::PASS));
    let home_path = home.path().to_str().unwrap();
    for (events, count) in [
        (EVENT.to_owned(), 1),
        (format!("[{EVENT}, {EVENT}]"), 2),
        (format!("{EVENT}\n\n{EVENT}\n"), 2),
        ("[]".to_owned(), 0),
    ] {
        file(&home, "events.json", events);
        let told = json(&good(&["plugin", "test", home_path, "-o", "json"]));
        assert_eq!(told["events"].as_array().map(Vec::len), Some(count), "{told}");
        assert_eq!(told["cost"]["calls"], count);
    }
    file(&home, "events.json", EVENT);
    let told = good(&["plugin", "test", home_path]);
    assert!(told.starts_with("e1  pass\n1 events: 1 pass\ntime "), "{told}");
}

#[test]
fn why_a_plugin_drops_an_event_is_told_by_a_trial_and_an_explanation() {
    let home = TempDir::new().unwrap();
    let drop = "(i32.store (local.get $out) (i32.const 1)) (i32.store offset=4 (local.get $out) (i32.const 1))
        (i32.store offset=8 (local.get $out) (i32.const 1024)) (i32.store offset=12 (local.get $out) (i32.const 7))";
    let plugin = guests::guest_with(drop, "", "(data (i32.const 1024) \"too old\")");
    let plugin = file(&home, "p.wasm", plugin);
    let events = file(&home, "events.json", EVENT);
    let told = good(&["plugin", "test", &plugin, &events]);
    assert!(told.starts_with("e1  drop  too old\n"), "{told}");
    let told = json(&good(&["plugin", "test", &plugin, &events, "-o", "json"]));
    assert_eq!(told["events"][0]["reason"], "too old", "{told}");
    let routes = "routes: {r: {from: [{topic: \"a/#\"}], to: [{bus: x}], \
                  filters: [{wasm: {path: p.wasm, cache: ''}}]}}\n";
    let config = file(&home, "meshbus.yaml", format!("name: n\n{routes}"));
    let told = good(&["explain", &events, "-c", &config]);
    assert!(told.contains("filter wasm p.wasm drops it: too old"), "{told}");
}

#[test]
fn a_trial_fails_with_the_plugin_its_configuration_or_its_events() {
    let home = TempDir::new().unwrap();
    let events = file(&home, "events.json", EVENT);
    let trap = file(&home, "trap.wasm", guests::guest(guests::TRAP));
    let (code, error) = bad(&["plugin", "test", &trap, &events]);
    assert_eq!((code, error.contains("failed at 1 of 1 events")), (1, true), "{error}");
    let endless = file(&home, "loop.wasm", guests::guest(guests::LOOP));
    let output = meshbus(&["plugin", "test", &endless, &events, "--deadline", "5ms"]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("e1  FAILED  plugin loop.wasm ran longer than its deadline of 5ms"), "{told}");
    let refusing = file(&home, "refusing.wasm", guests::refusing("no colour"));
    let (code, error) = bad(&["plugin", "test", &refusing, &events]);
    assert_eq!((code, error.contains("no colour")), (1, true), "{error}");
    let pass = file(&home, "pass.wasm", guests::guest(guests::PASS));
    for (events, reason) in [("{", "JSON"), (r#"{"id": "1"}"#, "event 1"), ("1", "event 1")] {
        let events = file(&home, "bad.json", events);
        let (code, error) = bad(&["plugin", "test", &pass, &events]);
        assert_eq!((code, error.contains(reason)), (1, true), "{error}");
    }
    let home_path = home.path().to_str().unwrap();
    let (code, error) = bad(&["plugin", "test", home_path]);
    assert_eq!((code, error.contains("holds 4 plugins")), (1, true), "{error}");
    let (code, error) = bad(&["plugin", "test", &pass, &events, "--memory", "much"]);
    assert_eq!((code, error.contains("memory")), (1, true), "{error}");
}
