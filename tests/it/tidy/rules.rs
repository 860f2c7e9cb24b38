//! The laws over one file.

use super::source::{Source, line_of, lines_with, places};

/// A law over one file.
pub(super) struct Rule {
    /// What holds.
    pub(super) law: &'static str,
    /// For which files, by path.
    pub(super) applies: fn(&str) -> bool,
    /// Where it does not hold: line, and what is there.
    pub(super) check: fn(&Source) -> Vec<(usize, String)>,
}

/// Longest hand-written file, in lines; the limit itself is too long.
const LINES_MAX: usize = 500;
/// Longest `src/main.rs`, as above.
const MAIN_LINES_MAX: usize = 80;

/// Crates that stand for a protocol or an engine.
const PROTOCOL_CRATES: [&str; 7] = ["tonic", "kube", "async_nats", "rumqttc", "axum", "wasmtime", "hyper"];
/// Each layer, with the modules it must not reach into. `config` reads for transports and filters through their
/// traits, and `runtime` is what connectors run in, so both know `transport`; neither knows any one of them.
const LAYERS: [(&str, &[&str]); 7] = [
    (
        "src/core/",
        &["config", "schema", "transport", "filter", "derive", "capture", "runtime", "app", "cli"],
    ),
    ("src/schema/", &["config", "transport", "filter", "derive", "capture", "runtime", "app", "cli"]),
    ("src/config/", &["capture", "app", "cli"]),
    ("src/runtime/", &["filter", "derive", "capture", "app", "cli"]),
    ("src/transport/", &["filter", "derive", "capture", "app", "cli"]),
    ("src/filter/", &["transport", "derive", "capture", "app", "cli"]),
    ("src/derive/", &["transport", "filter", "runtime", "capture", "app", "cli"]),
];
/// What transports and configuration may use of the runtime; the rest runs them.
const RUNTIME_PARTS: [&str; 9] =
    ["backoff", "certificate", "connection", "listener", "request", "shutdown", "task", "telemetry", "tls"];
pub(super) const TRANSPORTS: [&str; 5] = ["http", "k8s", "mqtt", "nats", "xds"];
const FORBIDDEN_NAMES: [&str; 5] = ["Manager", "Helper", "Util", "Handler", "Common"];
const UNFINISHED: [&str; 6] = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"];
const UNBOUNDED: [&str; 4] = ["tokio::spawn", "tokio::task::spawn", "unbounded_channel", "broadcast::"];
const IMPURE: [&str; 5] = ["async", ".await", "std::net", "std::fs", "tokio"];
const PLACES: [&str; 3] = ["/work/", "/root/", "/home/"];
const HOSTS: [&str; 6] = [
    "index.crates.io",
    "static.crates.io",
    "pypi.org",
    "pythonhosted.org",
    "registry.npmjs.org",
    "proxy.golang.org",
];

pub(super) const RULES: &[Rule] = &[
    Rule { law: "every file opens with //!", applies: is_rust, check: opens_with_purpose },
    Rule { law: "files are shorter than 500 lines", applies: is_rust, check: is_short },
    Rule {
        law: "main.rs is shorter than 80 lines",
        applies: |path| path == "src/main.rs",
        check: |file| longer_than(file, MAIN_LINES_MAX),
    },
    Rule {
        law: "the core names no protocol",
        applies: |path| path.starts_with("src/core/"),
        check: |file| words(&file.code, &PROTOCOL_CRATES),
    },
    Rule {
        law: "dependencies point one way",
        applies: |path| path.starts_with("src/"),
        check: points_one_way,
    },
    Rule {
        law: "transports never import each other",
        applies: |path| {
            ["src/transport/", "src/config/", "src/runtime/"].iter().any(|layer| path.starts_with(layer))
        },
        check: imports_a_sibling,
    },
    Rule {
        law: "codec and schema are pure",
        applies: is_pure,
        check: |file| words(&file.shipped, &IMPURE),
    },
    Rule { law: "nothing is left unfinished", applies: is_not_this_test, check: is_unfinished },
    Rule {
        law: "tasks are spawned in runtime/task.rs, queues are bounded",
        applies: |path| path.starts_with("src/") && path != "src/runtime/task.rs",
        check: |file| words(&file.shipped, &UNBOUNDED),
    },
    Rule {
        law: "no unsafe",
        // Compiled code can be taken from the disk in no other way, and a guest has no other way to give the host
        // memory; the files say why they may.
        applies: |path| {
            is_rust(path) && !["src/filter/wasm/cache.rs", "plugins/sdk/src/rt.rs"].contains(&path)
        },
        check: |file| words(&file.code, &["unsafe"]),
    },
    Rule { law: "names say what it does", applies: is_not_this_test, check: is_named_emptily },
    Rule { law: "no machine's paths or hosts", applies: is_not_this_test, check: names_a_machine },
];

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_pure(path: &str) -> bool {
    let codec = path.ends_with("/codec.rs") || path.contains("/codec/");
    is_rust(path) && (path.starts_with("src/schema/") || path.starts_with("src/transport/") && codec)
}

/// This test names what it forbids.
fn is_not_this_test(path: &str) -> bool {
    !path.starts_with("tests/it/tidy/")
}

fn words(text: &str, words: &[&str]) -> Vec<(usize, String)> {
    let found =
        |word: &&str| lines_with(text, word).into_iter().map(|line| (line, (*word).to_owned())).collect();
    words.iter().flat_map::<Vec<_>, _>(found).collect()
}

fn opens_with_purpose(file: &Source) -> Vec<(usize, String)> {
    let says = file.text.strip_prefix("//! ").is_some_and(|rest| !rest.trim_start().is_empty());
    // The crate's own page is the folder's README.
    let opens = says || file.text.starts_with("#![doc = include_str!(\"README.md\")]");
    if opens { vec![] } else { vec![(1, "says no purpose".to_owned())] }
}

fn is_short(file: &Source) -> Vec<(usize, String)> {
    longer_than(file, LINES_MAX)
}

fn longer_than(file: &Source, max: usize) -> Vec<(usize, String)> {
    let lines = file.text.lines().count();
    if lines < max { vec![] } else { vec![(max, format!("has {lines} lines"))] }
}

/// The paths a file uses, from the root of the crate: `core::bus`, also out of `crate::{core::{bus, log}, …}`.
fn used_paths(code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for root in ["crate::", "super::"] {
        for at in places(code, root) {
            let mut paths = Vec::new();
            expand(&code[at + root.len()..], "", &mut paths);
            used.extend(paths.into_iter().map(|path| (line_of(code, at), path)));
        }
    }
    used
}

/// Expands the tree of a `use`, and gives what follows it.
fn expand<'a>(tree: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    let mut rest = tree.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            let after = expand(rest, prefix, paths).trim_start();
            // What is no tree, as in a macro, ends the group.
            let Some(next) = after.strip_prefix(',').or_else(|| after.starts_with('}').then_some(after))
            else {
                break;
            };
            rest = next.trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if let Some(deeper) = after.strip_prefix("::") {
        return expand(deeper, &format!("{prefix}{name}::"), paths);
    }
    paths.push(format!("{prefix}{name}"));
    after
        .strip_prefix(" as ")
        .map_or(after, |alias| alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'))
}

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

fn points_one_way(file: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let forbidden =
        LAYERS.iter().find(|(layer, _)| file.path.starts_with(layer)).map_or(&[][..], |(_, not)| *not);
    for (line, path) in used_paths(&file.code) {
        if forbidden.contains(&first(&path)) {
            found.push((line, path));
        } else if let Some(part) = path.strip_prefix("runtime::")
            && (file.path.starts_with("src/transport/") || file.path.starts_with("src/config/"))
            && !RUNTIME_PARTS.contains(&first(part))
        {
            found.push((line, path));
        }
    }
    found
}

fn imports_a_sibling(file: &Source) -> Vec<(usize, String)> {
    let own = file
        .path
        .strip_prefix("src/transport/")
        .map_or("", |rest| rest.split('/').next().unwrap_or_default());
    let mut found = Vec::new();
    for other in TRANSPORTS.into_iter().filter(|other| *other != own) {
        let paths = [format!("transport::{other}"), format!("super::super::{other}")];
        found.extend(words(&file.code, &[&paths[0], &paths[1]]));
        if file.path.ends_with(&format!("/{own}/mod.rs")) {
            found.extend(words(&file.code, &[&format!("super::{other}")]));
        }
    }
    // The table itself names them all.
    if matches!(own, "mod.rs" | "link.rs") { vec![] } else { found }
}

fn is_unfinished(file: &Source) -> Vec<(usize, String)> {
    words(&file.text, &UNFINISHED)
}

fn is_named_emptily(file: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let stems = file.path.split(['/', '.', '_', '-']).map(|part| part.trim_end_matches('s').to_lowercase());
    for stem in stems {
        if FORBIDDEN_NAMES.iter().any(|name| name.to_lowercase() == stem) {
            found.push((1, format!("a path with {stem}")));
        }
    }
    for kind in ["struct", "enum", "trait", "type", "mod", "union"] {
        for at in places(&file.code, kind) {
            let name = file.code[at + kind.len()..].trim_start();
            let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len());
            let name = &name[..end];
            let lower = name.to_lowercase();
            let parts: Vec<&str> = lower.split('_').map(|part| part.trim_end_matches('s')).collect();
            let bad = |word: &&str| name.contains(word) || parts.contains(&word.to_lowercase().as_str());
            if FORBIDDEN_NAMES.iter().any(bad) {
                found.push((line_of(&file.code, at), format!("{kind} {name}")));
            }
        }
    }
    found
}

fn names_a_machine(file: &Source) -> Vec<(usize, String)> {
    let mut found = words(&file.text, &HOSTS);
    for place in PLACES {
        let absolute = |at: &usize| {
            // Part of a longer path or URL is no absolute path.
            !file.text[..*at].ends_with(|c: char| c.is_alphanumeric() || "_-.~}/*".contains(c))
        };
        let at = file.text.match_indices(place).map(|(at, _)| at).filter(absolute);
        found.extend(at.map(|at| (line_of(&file.text, at), place.to_owned())));
    }
    found
}
