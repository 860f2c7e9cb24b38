//! A plugin's file as it stands: what it wants, what it offers, and whether it fits.

use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::engine::host;
use super::plugin::{self, IMPORTS, PACKAGE};
use super::{settings, wasi};
use crate::config::Section;

/// What a file holds.
#[derive(Debug)]
pub struct Inspection {
    /// Bytes of the file.
    pub size: u64,
    /// `sha256:` and 64 hexadecimal digits, as `digest:` of a `wasm:` filter has it.
    pub digest: String,
    /// What it wants of the host, in the file's order; empty for what is no component.
    pub imports: Vec<Import>,
    /// The names of what it offers; empty for what is no component.
    pub exports: Vec<String>,
    /// Whether it can be taken up; the error is what the bus would say.
    pub fits: Result<(), String>,
}

/// One thing that a plugin wants of the host.
#[derive(Debug)]
pub struct Import {
    /// With its version: `meshbus:filter/log@0.1.0`.
    pub name: String,
    /// Whether it gets it.
    pub granted: Granted,
}

/// By whom an import is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The interface of filters.
    Own,
    /// The part of WASI 0.2 that reaches nothing outside of the plugin.
    Wasi,
    /// Nobody: the plugin does not load.
    No,
}

/// Looks into the file at `path`. It is compiled, and not begun: that takes its configuration. May block.
///
/// # Errors
/// The file cannot be read, or no plugin runs on this machine.
pub fn inspect(path: &Path) -> Result<Inspection, String> {
    let bytes = plugin::read(path)?;
    let host = host()?;
    let section = Section::from_yaml("plugin", "path: plugin.wasm").map_err(|error| error.to_string())?;
    let settings = settings::read(&section).map_err(|error| error.to_string())?;
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    let mut found = Inspection {
        size: bytes.len() as u64,
        digest: format!("sha256:{}", HEXLOWER.encode(&digest)),
        imports: Vec::new(),
        exports: Vec::new(),
        fits: Ok(()),
    };
    match plugin::compile(host, &bytes, &digest, &settings) {
        Err(reason) => found.fits = Err(reason),
        Ok(component) => {
            let imports = component.component_type();
            let imports = imports.imports(&host.engine);
            found.imports = imports.map(|(name, _)| import(name)).collect();
            found.exports = plugin::exports(host, &component);
            found.fits = plugin::load(&bytes, digest, &settings).map(drop);
        }
    }
    Ok(found)
}

fn import(name: &str) -> Import {
    let ours = name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'));
    let granted = if ours.is_some_and(|(interface, _)| IMPORTS.contains(&interface)) {
        Granted::Own
    } else if wasi::is_known(name) {
        Granted::Wasi
    } else {
        Granted::No
    };
    Import { name: name.to_owned(), granted }
}
