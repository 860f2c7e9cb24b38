//! `meshbus plugin build`: from sources to a component, with what compiler there is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::{c, component, rust};
use crate::cli::{Failure, output};

/// Build a plugin, or all of a workspace
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus plugin build x                    # x/x.wasm
  meshbus plugin build plugins --out built  # each plugin of a workspace, in one directory

A directory with a Cargo.toml is Rust, one with .c files is C. For Rust, the first of these that is there:
  rustup target add wasm32-unknown-unknown (or wasm32-wasip2)
  the library's source and a linker, to build the library as well; Debian:
    apt-get install rustc-web cargo-web rust-web-src lld-22
For C: clang with a C library for WASI, of $WASI_SDK_PATH or of the system; Debian:
    apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32")]
pub(super) struct Build {
    /// Directory of the plugin or the workspace
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Write the plugins here; default beside the sources of each
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a compiler made: the plugin's name, the directory of its sources, and a module or component.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    pub(super) sources: PathBuf,
    pub(super) wasm: Vec<u8>,
}

impl Build {
    pub(super) fn run(self) -> Result<(), Failure> {
        let directory = &self.directory;
        let built = if directory.join("Cargo.toml").is_file() {
            rust::build(directory)?
        } else {
            c::build(directory)?
        };
        for Built { name, sources, wasm } in built {
            let component =
                component::encode(wasm).map_err(|reason| Failure::failed(format!("{name}: {reason}")))?;
            let path = self.out.as_ref().unwrap_or(&sources).join(format!("{name}.wasm"));
            write(&path, &component)?;
            output::line(format!("{} written, {} bytes", path.display(), component.len()))?;
        }
        Ok(())
    }
}

/// Under another name until it is whole: a running bus takes up what appears.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let partial = path.with_extension("wasm.partial");
    let directory = path.parent().unwrap_or(Path::new(""));
    let written = fs::create_dir_all(directory)
        .and_then(|()| fs::write(&partial, bytes))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// What a program prints; `None` where it is not there or fails.
pub(super) fn printed(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
