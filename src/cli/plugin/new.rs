//! `meshbus plugin new`: a small project that builds as it is, with the SDK in it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::{Failure, output};

/// What stands for the project's name in a template.
const NAME: &str = "my-filter";
/// Longest name.
const NAME_MAX: usize = 64;
/// What Cargo does not take as the name of a package, or the compiler as that of a crate.
const TAKEN: [&str; 8] = ["alloc", "build", "core", "deps", "meshbus-filter", "proc-macro", "std", "test"];

/// A file of a template: where it goes, and what it holds.
type File = (&'static str, &'static str);

static RUST: &[File] = &[
    ("Cargo.toml", include_str!("../../../plugins/templates/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("../../../plugins/templates/rust/src/lib.rs")),
    ("events.json", include_str!("../../../plugins/templates/events.json")),
    (".gitignore", include_str!("../../../plugins/templates/gitignore")),
    ("sdk/Cargo.toml", include_str!("../../../plugins/sdk/Cargo.toml")),
    ("sdk/src/lib.rs", include_str!("../../../plugins/sdk/src/lib.rs")),
    ("sdk/src/bindings.rs", include_str!("../../../plugins/sdk/src/bindings.rs")),
    ("sdk/src/clock.rs", include_str!("../../../plugins/sdk/src/clock.rs")),
    ("sdk/src/event.rs", include_str!("../../../plugins/sdk/src/event.rs")),
    ("sdk/src/log.rs", include_str!("../../../plugins/sdk/src/log.rs")),
    ("sdk/src/metrics.rs", include_str!("../../../plugins/sdk/src/metrics.rs")),
    ("sdk/src/output.rs", include_str!("../../../plugins/sdk/src/output.rs")),
    ("sdk/src/rt.rs", include_str!("../../../plugins/sdk/src/rt.rs")),
    ("sdk/src/slot.rs", include_str!("../../../plugins/sdk/src/slot.rs")),
];

/// What a project without JSON has in place of what: Cargo asks the registry about a dependency even if it is not used.
static JSON: &[(&str, &str, &str)] = &[
    ("Cargo.toml", ", features = [\"json\"]", ""),
    ("sdk/Cargo.toml", "json = [\"dep:serde_json\"]", "json = []"),
    ("sdk/Cargo.toml", "\n[dependencies]\nserde_json = { version = \"1.0\", optional = true }\n", ""),
];

static C: &[File] = &[
    ("filter.c", include_str!("../../../plugins/c/filter.c")),
    ("sdk/component_type.c", include_str!("../../../plugins/c/sdk/component_type.c")),
    ("sdk/filter_plugin.c", include_str!("../../../plugins/c/sdk/filter_plugin.c")),
    ("sdk/filter_plugin.h", include_str!("../../../plugins/c/sdk/filter_plugin.h")),
    ("events.json", include_str!("../../../plugins/templates/events.json")),
    (".gitignore", include_str!("../../../plugins/templates/gitignore")),
];

/// Write a small plugin that builds as it is
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  meshbus plugin new x && meshbus plugin build x && meshbus plugin test x

The SDK is copied into the project, below sdk/, so that it builds in any directory and without a network. With
--json it can read data as JSON, and Cargo fetches serde_json. events.json is what `plugin test` tries it on.")]
pub(super) struct New {
    /// Directory to make; its last part is the plugin's name: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME")]
    path: PathBuf,
    /// The language it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Let it read and write data as JSON; Rust only
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Language {
    Rust,
    C,
}

impl New {
    pub(super) fn run(self) -> Result<(), Failure> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        check(name).map_err(|reason| Failure::usage(format!("{}: {reason}", self.path.display())))?;
        if self.path.exists() {
            let reason = format!("{}: exists and is not overwritten", self.path.display());
            return Err(Failure::failed(reason));
        }
        let files = match self.lang {
            Language::Rust => RUST,
            Language::C if self.json => return Err(Failure::usage("--json is for plugins in Rust")),
            Language::C => C,
        };
        for (file, text) in files {
            let mut text = text.replace(NAME, name);
            for (place, with, without) in JSON.iter().filter(|(place, ..)| place == file) {
                debug_assert!(text.contains(with), "{place} has changed");
                if !self.json {
                    text = text.replace(with, without);
                }
            }
            write(&self.path.join(file), &text)?;
        }
        let path = self.path.display();
        output::line(format!(
            "{path} written; try: meshbus plugin build {path} && meshbus plugin test {path}"
        ))
    }
}

fn check(name: &str) -> Result<(), String> {
    let form = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let sound = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(form);
    if !sound || name.ends_with('-') || name.len() > NAME_MAX {
        return Err(format!(
            "{name:?} is no name for a plugin: lower-case letters, digits and hyphens, a letter first, at most {NAME_MAX}"
        ));
    }
    if TAKEN.contains(&name) || KEYWORDS.contains(&name) {
        return Err(format!("{name:?} is a word of Rust's: take another name"));
    }
    Ok(())
}

/// Words that no crate can have as its name.
const KEYWORDS: [&str; 49] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self",
    "static", "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "while",
];

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, text));
    written.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        for good in ["x", "drop-deletes", "a1"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "-x", "x-", "1x", "X", "a_b", "a b", "../", "std", "fn", "é", &"x".repeat(65)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
