//! The laws over the whole tree: which files there must be.

use std::collections::BTreeSet;

use super::Finding;
use super::source::Source;

/// Top-level folders that explain themselves, where they exist.
const EXPLAINED: [&str; 5] = ["benches", "plugins", "proto", "src", "tests"];
/// What every transport's folder holds, as a file or a folder.
const TRANSPORT_PARTS: [&str; 5] = ["mod", "config", "codec", "client", "server"];
/// What every repository of ours holds.
const TOP: [&str; 5] = ["Cargo.toml", "LICENSE", "README.md", "tests/run", ".ci/run"];

pub(super) const FIVE_FILES: &str = "every transport has the same five files";
pub(super) const README: &str = "every top folder has a README";
pub(super) const TOP_FILES: &str = "the top level is complete";

/// What is missing.
pub(super) fn check(files: &[Source]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let missing = |path: String, law| Finding { path, line: 1, law, what: "is missing".to_owned() };
    let mut found = Vec::new();
    for folder in EXPLAINED {
        let readme = format!("{folder}/README.md");
        if paths.iter().any(|path| path.starts_with(&format!("{folder}/")))
            && !paths.contains(readme.as_str())
        {
            found.push(missing(readme, README));
        }
    }
    for transport in transports(&paths) {
        for part in TRANSPORT_PARTS {
            let file = format!("src/transport/{transport}/{part}.rs");
            let folder = format!("src/transport/{transport}/{part}/mod.rs");
            if !paths.contains(file.as_str()) && !paths.contains(folder.as_str()) {
                found.push(missing(file, FIVE_FILES));
            }
        }
    }
    for path in TOP.into_iter().filter(|path| !paths.contains(path)) {
        found.push(missing(path.to_owned(), TOP_FILES));
    }
    found
}

fn transports<'a>(paths: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let folder = |path: &&'a str| Some(path.strip_prefix("src/transport/")?.split_once('/')?.0);
    paths.iter().filter_map(folder).collect()
}
