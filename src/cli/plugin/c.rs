//! Plugins in C: clang with a C library for WASI, of which a filter uses what reaches nothing outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build::{Built, printed};
use super::component;
use crate::cli::Failure;

/// The distributions' names of the compiler, newest first after the plain one.
const NEWEST: u32 = 24;
const OLDEST: u32 = 14;
const TARGET: &str = "--target=wasm32-wasi";
/// Most source files of a plugin.
const SOURCES_MAX: usize = 1000;
const MISSING: &str = "\
there is no C compiler for Wasm here; one of these gives one:
  apt-get install clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32        (or the same of another version)
  a WASI SDK, its directory in $WASI_SDK_PATH";

/// A compiler and where its C library is.
#[derive(Debug)]
struct Compiler {
    clang: PathBuf,
    sysroot: PathBuf,
}

/// Builds the plugin of all `.c` files in `directory` and in its `sdk/`.
///
/// # Errors
/// There are none, there is no compiler, or it fails.
pub(super) fn build(directory: &Path) -> Result<Vec<Built>, Failure> {
    let shown = directory.display();
    let failed = |reason: String| Failure::failed(format!("{shown}: {reason}"));
    let mut sources = sources(directory).map_err(|error| failed(error.to_string()))?;
    if sources.is_empty() {
        return Err(failed("holds neither a Cargo.toml nor .c files".to_owned()));
    }
    if let Ok(more) = self::sources(&directory.join("sdk")) {
        sources.extend(more);
    }
    let compiler = find().ok_or_else(|| Failure::failed(MISSING))?;
    let absolute = fs::canonicalize(directory).map_err(|error| failed(error.to_string()))?;
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or("plugin").to_owned();
    let made = directory.join(format!(".{name}.{}.partial", std::process::id()));
    let status = compiler.command(directory, &sources, &made).status();
    let wasm = fs::read(&made);
    // It is not there if the compiler failed.
    fs::remove_file(&made).ok();
    let status = status.map_err(|error| failed(format!("{}: {error}", compiler.clang.display())))?;
    if !status.success() {
        return Err(failed(format!("{}: {status}; see above", compiler.clang.display())));
    }
    let wasm = wasm.map_err(|error| failed(format!("{}: {error}", made.display())))?;
    let wasm = component::embed(wasm).map_err(failed)?;
    Ok(vec![Built { name, sources: directory.to_owned(), wasm }])
}

fn sources(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.take(SOURCES_MAX) {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "c") {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Compiler {
    fn command(&self, directory: &Path, sources: &[PathBuf], into: &Path) -> Command {
        let mut clang = Command::new(&self.clang);
        clang.stdin(Stdio::null()).arg(TARGET).arg("--sysroot").arg(&self.sysroot);
        // A library without `main`, small, and loud about mistakes.
        clang.args(["-mexec-model=reactor", "-Os", "-Wall", "-Wl,--strip-all"]);
        clang.arg("-I").arg(directory.join("sdk")).arg("-o").arg(into);
        // After `--` a name is no option, whatever it begins with.
        clang.arg("--").args(sources);
        clang
    }
}

/// The SDK that is named, else the system's.
fn find() -> Option<Compiler> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH").map(PathBuf::from) {
        let compiler = Compiler { clang: sdk.join("bin/clang"), sysroot: sdk.join("share/wasi-sysroot") };
        return compiler.clang.is_file().then_some(compiler);
    }
    let sysroot = PathBuf::from("/usr");
    if !sysroot.join("lib/wasm32-wasi/libc.a").is_file() {
        return None;
    }
    let versions = (OLDEST..=NEWEST).rev().map(|version| format!("clang-{version}"));
    let clang = std::iter::once("clang".to_owned()).chain(versions).find(|clang| {
        // One that has its own part of a C library for this target, too.
        printed(Command::new(clang).args([TARGET, "-print-libgcc-file-name"]))
            .is_some_and(|library| Path::new(&library).is_file())
    })?;
    Some(Compiler { clang: clang.into(), sysroot })
}
