//! `meshbus plugin inspect`: what a plugin's file holds, and whether the bus would take it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::cli::{Failure, output};
use crate::filter::wasm::{Granted, Import, Inspection, inspect};

/// What the interfaces of the bus and of WASI are for, by the beginning of their names.
const PURPOSES: [(&str, &str); 10] = [
    ("meshbus:filter/types@", "the types of events and verdicts"),
    ("meshbus:filter/log@", "lines in the log of the bus"),
    ("meshbus:filter/metrics@", "figures beside those of the bus"),
    ("meshbus:filter/clock@", "the time"),
    ("wasi:clocks/", "the time"),
    ("wasi:random/", "random numbers"),
    ("wasi:cli/", "standard streams; output becomes lines of the log"),
    ("wasi:io/", "standard streams; output becomes lines of the log"),
    ("wasi:filesystem/", "files; there are none"),
    ("wasi:", "a part of WASI that reaches outside"),
];

/// What the bus calls of a plugin, by the beginning of its name. Interpreters export more, for their own making.
const CALLED: [(&str, &str); 2] = [
    ("meshbus:filter/filter@", "its configuration and events"),
    ("meshbus:filter/packed@", "events, packed"),
];

/// Show what a plugin wants and offers, and whether it loads
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus plugin inspect x/x.wasm
  meshbus plugin inspect x/x.wasm -o json

It is compiled and not run: its own configuration is checked by `meshbus plugin test`. Exit code 1 when it
does not load.")]
pub(super) struct Inspect {
    /// The plugin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Inspect {
    pub(super) fn run(self) -> Result<(), Failure> {
        let found = inspect(&self.file).map_err(Failure::failed)?;
        match self.output {
            Output::Json => output::line(output::pretty(&as_json(&found))?)?,
            Output::Text => output::write(as_text(&found))?,
        }
        found.fits.map_err(|reason| Failure::failed(format!("{}: {reason}", self.file.display())))
    }
}

/// World and version, by what is exported.
fn world(found: &Inspection) -> (Option<&'static str>, Option<&str>) {
    let interface = |name: &str| {
        let version = |export: &'_ String| -> Option<usize> {
            let prefix = format!("meshbus:filter/{name}@");
            export.starts_with(&prefix).then_some(prefix.len())
        };
        found.exports.iter().find_map(|export| export.get(version(export)?..))
    };
    match (interface("filter"), interface("packed")) {
        (version @ Some(_), Some(_)) => (Some("packed-filter-plugin"), version),
        (version @ Some(_), None) => (Some("filter-plugin"), version),
        (None, _) => (None, None),
    }
}

fn purpose(import: &Import) -> &'static str {
    PURPOSES
        .iter()
        .find(|(prefix, _)| import.name.starts_with(prefix))
        .map_or("nothing a filter is given", |(_, purpose)| purpose)
}

fn called(export: &str) -> Option<&'static str> {
    CALLED.iter().find(|(prefix, _)| export.starts_with(prefix)).map(|(_, purpose)| *purpose)
}

fn granted(import: &Import) -> &'static str {
    match import.granted {
        Granted::Own | Granted::Wasi => "granted",
        Granted::No => "not granted",
    }
}

fn as_text(found: &Inspection) -> String {
    let (world, version) = world(found);
    let loads = match &found.fits {
        Ok(()) => "yes".to_owned(),
        Err(reason) => format!("no: {reason}"),
    };
    let head = [
        ("loads", loads),
        ("world", world.unwrap_or("none that the bus knows").to_owned()),
        ("interface", version.map_or("none".to_owned(), |version| format!("meshbus:filter@{version}"))),
        ("size", format!("{} bytes", found.size)),
        ("digest", found.digest.clone()),
    ];
    let head: Vec<Vec<String>> =
        head.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let exports = found.exports.iter().map(|name| match called(name) {
        Some(purpose) => ["exports", name, "called", purpose],
        None => ["exports", name, "not called", "nothing of a filter"],
    });
    let imports =
        found.imports.iter().map(|import| ["imports", &import.name, granted(import), purpose(import)]);
    let rows: Vec<Vec<String>> =
        exports.chain(imports).map(|cells| cells.map(str::to_owned).to_vec()).collect();
    Table::default().rows(&head) + &Table::default().rows(&rows)
}

fn as_json(found: &Inspection) -> Value {
    let (world, version) = world(found);
    let import = |import: &Import| json!({"name": import.name, "granted": import.granted != Granted::No, "for": purpose(import)});
    json!({
        "loads": found.fits.is_ok(),
        "reason": found.fits.as_ref().err(),
        "world": world,
        "version": version,
        "size": found.size,
        "digest": found.digest,
        "exports": found.exports,
        "imports": found.imports.iter().map(import).collect::<Vec<_>>(),
    })
}
