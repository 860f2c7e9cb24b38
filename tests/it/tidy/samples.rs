//! For each law a text that breaks it and one that only looks as if: a law whose check finds nothing holds nothing.

use super::source::Source;
use super::{findings, layout, rules};

/// Law, path, text, and the lines with a finding.
type Sample = (&'static str, &'static str, &'static str, &'static [usize]);

const SAMPLES: &[Sample] = &[
    ("every file opens with //!", "src/a.rs", "use x;\n//! late", &[1]),
    ("every file opens with //!", "src/a.rs", "//! \n", &[1]),
    ("every file opens with //!", "src/a.rs", "//! What it is for.\n", &[]),
    (
        "the core names no protocol",
        "src/core/a.rs",
        "//! a\nuse kube::Client;\nlet x = hyper ::x;",
        &[2, 3],
    ),
    (
        "the core names no protocol",
        "src/core/a.rs",
        "//! kube\n// hyper\nlet x = \"axum\"; kubeconfig();",
        &[],
    ),
    ("the core names no protocol", "src/schema/a.rs", "use kube::Client;", &[]),
    ("dependencies point one way", "src/core/a.rs", "use crate::config::X;\nuse crate::core::Y;", &[1]),
    ("dependencies point one way", "src/core/a.rs", "use crate::{core::Y,\n  transport::{Z}};\n", &[1]),
    ("dependencies point one way", "src/core/a.rs", "use crate::{core::{X as Y, Z}, cli};", &[1]),
    (
        "dependencies point one way",
        "src/transport/http/a.rs",
        "use crate::runtime::{listener, tls::{A, B}};",
        &[],
    ),
    (
        "dependencies point one way",
        "src/transport/http/a.rs",
        "use crate::runtime::{listener::{A}, admin};",
        &[1],
    ),
    ("dependencies point one way", "src/core/a.rs", "use super::super::runtime::task;", &[1]),
    ("dependencies point one way", "src/schema/a.rs", "fn x() { crate::transport::x() }", &[1]),
    ("dependencies point one way", "src/schema/a.rs", "use crate::core::Envelope;", &[]),
    (
        "dependencies point one way",
        "src/config/a.rs",
        "use crate::app::App;\nuse crate::runtime::admin;",
        &[1, 2],
    ),
    ("dependencies point one way", "src/config/a.rs", "use crate::transport::Transport;", &[]),
    (
        "dependencies point one way",
        "src/runtime/a.rs",
        "use crate::app::App;\nuse crate::transport::Link;",
        &[1],
    ),
    ("dependencies point one way", "src/transport/nats/a.rs", "use crate::runtime::supervisor::X;", &[1]),
    (
        "dependencies point one way",
        "src/transport/nats/a.rs",
        "use crate::runtime::tls;\nuse crate::config::X;",
        &[],
    ),
    ("dependencies point one way", "src/transport/nats/a.rs", "use crate::cli::X;", &[1]),
    (
        "transports never import each other",
        "src/transport/nats/client.rs",
        "use crate::transport::mqtt::X;",
        &[1],
    ),
    (
        "transports never import each other",
        "src/transport/nats/codec.rs",
        "use super::super::http::X;",
        &[1],
    ),
    ("transports never import each other", "src/transport/nats/mod.rs", "use super::http::X;", &[1]),
    (
        "transports never import each other",
        "src/transport/nats/mod.rs",
        "use http::X;\nuse super::Link;",
        &[],
    ),
    ("transports never import each other", "src/config/a.rs", "use crate::transport::mqtt::X;", &[1]),
    ("transports never import each other", "src/transport/mod.rs", "&super::transport::http::Http", &[]),
    (
        "codec and schema are pure",
        "src/transport/nats/codec.rs",
        "async fn a() {}\nx.await;\nuse tokio::x;",
        &[1, 2, 3],
    ),
    ("codec and schema are pure", "src/transport/http/codec/batch.rs", "std::fs::read()", &[1]),
    ("codec and schema are pure", "src/schema/a.rs", "use std::net::TcpStream;", &[1]),
    (
        "codec and schema are pure",
        "src/transport/nats/codec.rs",
        "use async_nats::HeaderMap; // async",
        &[],
    ),
    ("codec and schema are pure", "src/schema/a.rs", "#[cfg(test)]\nmod tests {\nuse std::fs; }", &[]),
    ("codec and schema are pure", "src/transport/nats/client.rs", "async fn a() {}", &[]),
    (
        "nothing is left unfinished",
        "src/a.rs",
        "// TODO: x\ntodo!()\n// FIXME\n// XXX\ndbg!(1)",
        &[1, 2, 3, 4, 5],
    ),
    ("nothing is left unfinished", "src/a.rs", "fn a() { unimplemented!() }", &[1]),
    ("nothing is left unfinished", "tests/run", "# TODO", &[1]),
    ("nothing is left unfinished", "src/a.rs", "let TODOS = 1; // todo list", &[]),
    (TASKS, "src/a.rs", "tokio::spawn(x);\nmpsc::unbounded_channel();\nbroadcast::channel(1);", &[1, 2, 3]),
    (TASKS, "src/a.rs", "task::spawn(\"x\", y);\n#[cfg(test)]\nmod tests {\ntokio::spawn(x);\n}", &[]),
    (TASKS, "src/runtime/task.rs", "tokio::spawn(x);", &[]),
    (TASKS, "src/a/tests.rs", "tokio::spawn(x);", &[]),
    ("no unsafe", "src/a.rs", "//! a\nunsafe { x() }", &[2]),
    ("no unsafe", "tests/it/a.rs", "unsafe fn a() {}", &[1]),
    ("no unsafe", "src/a.rs", "// unsafe\nlet unsafe_code = 1;", &[]),
    (
        "names say what it does",
        "src/a.rs",
        "struct ConnectionManager;\nmod utils;\nenum EventHandler {}",
        &[1, 2, 3],
    ),
    ("names say what it does", "src/http_helpers.rs", "", &[1]),
    ("names say what it does", "tests/interop/common/mod.rs", "", &[1]),
    ("names say what it does", "src/a.rs", "struct Community;\nmod commons_of;\nfn common() {}", &[2]),
    ("no machine's paths or hosts", "a.md", "see /work/x\n`/root/.cargo`\nindex.crates.io", &[1, 2, 3]),
    ("no machine's paths or hosts", "tests/run", "cd /home/me", &[1]),
    ("no machine's paths or hosts", "a.md", "src/work/x, ~/.kube/config, https://a.example/home/x", &[]),
    ("files are shorter than 500 lines", "src/a.rs", "\n", &[]),
];

const TASKS: &str = "tasks are spawned in runtime/task.rs, queues are bounded";

fn lines_of(law: &str, files: &[Source]) -> Vec<usize> {
    findings(files).into_iter().filter(|finding| finding.law == law).map(|finding| finding.line).collect()
}

#[test]
fn each_law_fires_on_what_breaks_it_and_on_nothing_else() {
    for (law, path, text, lines) in SAMPLES {
        let found = lines_of(law, &[Source::new(path, text)]);
        assert_eq!(found, *lines, "{law}: {path}: {text:?}");
    }
    let long = "//! a\n".repeat(500);
    assert_eq!(lines_of("files are shorter than 500 lines", &[Source::new("src/a.rs", &long)]), [500]);
    assert_eq!(lines_of("main.rs is shorter than 80 lines", &[Source::new("src/main.rs", &long)]), [80]);
}

#[test]
fn each_law_has_a_sample() {
    let others = ["main.rs is shorter than 80 lines", "files are shorter than 500 lines"];
    for rule in rules::RULES {
        let fires = SAMPLES.iter().any(|(law, _, _, lines)| *law == rule.law && !lines.is_empty());
        assert!(fires || others.contains(&rule.law), "nothing shows that {:?} fires", rule.law);
    }
}

#[test]
fn what_is_missing_in_the_tree_is_named() {
    let tree =
        |paths: &[&str]| -> Vec<Source> { paths.iter().map(|path| Source::new(path, "//! a")).collect() };
    let missing = |law: &str, paths: &[&str]| -> Vec<String> {
        layout::check(&tree(paths))
            .into_iter()
            .filter(|found| found.law == law)
            .map(|found| found.path)
            .collect()
    };
    let nats = ["mod", "config", "codec/mod", "client"].map(|part| format!("src/transport/nats/{part}.rs"));
    let nats: Vec<&str> = nats.iter().map(String::as_str).collect();
    assert_eq!(missing(layout::FIVE_FILES, &nats), ["src/transport/nats/server.rs"]);
    assert_eq!(missing(layout::README, &["src/a.rs", "proto/README.md", "proto/a"]), ["src/README.md"]);
    let top = ["Cargo.toml", "LICENSE", "README.md", "tests/run"];
    assert_eq!(missing(layout::TOP_FILES, &top), [".ci/run"]);
}

#[test]
fn a_finding_names_file_line_and_law() {
    let found = findings(&[Source::new("src/core/a.rs", "//! a\nuse kube::X;")]);
    let found = found.iter().find(|finding| finding.line == 2).unwrap();
    assert_eq!(found.to_string(), "src/core/a.rs:2: the core names no protocol: kube");
}
