//! Plugins in Rust: the toolchain that is there, and one run of Cargo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::build::{Built, printed};
use crate::cli::Failure;

/// The targets that make plugins, the one that makes smaller ones first.
const TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip2"];
/// The target whose library needs nothing but the compiler.
const FROM_SOURCE: &str = "wasm32-unknown-unknown";
/// Cargo and the compiler: what the search path has, then the distribution's.
const TOOLCHAINS: [(&str, &str); 2] = [("cargo", "rustc"), ("/usr/bin/cargo", "/usr/bin/rustc")];
const MISSING: &str = "\
there is no Rust toolchain for Wasm here; one of these gives one:
  rustup target add wasm32-wasip2        (or wasm32-unknown-unknown)
  apt-get install rustc-web cargo-web rust-web-src lld-22";

/// How a plugin is compiled.
#[derive(Debug)]
struct Toolchain {
    cargo: &'static str,
    rustc: &'static str,
    target: &'static str,
    /// For a target without a library of its own: the linker, and the library is built, too.
    from_source: Option<PathBuf>,
}

/// What Cargo says of one thing it built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: BTreeSet<String>,
    name: String,
}

/// Builds every plugin of the package or workspace in `directory`.
///
/// # Errors
/// There is no toolchain, Cargo fails, or there is no plugin.
pub(super) fn build(directory: &Path) -> Result<Vec<Built>, Failure> {
    let toolchain = find(directory).ok_or_else(|| Failure::failed(MISSING))?;
    let output = toolchain.command(directory).output();
    let failed = |reason: String| Failure::failed(format!("{}: {reason}", directory.display()));
    let output = output.map_err(|error| failed(format!("{}: {error}", toolchain.cargo)))?;
    if !output.status.success() {
        return Err(failed(format!("cargo build: {}; see above", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut built = Vec::new();
    for message in messages {
        if let Some(plugin) = message.plugin().map_err(failed)? {
            built.push(plugin);
        }
    }
    if built.is_empty() {
        return Err(failed("holds no plugin: Cargo.toml needs [lib] crate-type = [\"cdylib\"]".to_owned()));
    }
    Ok(built)
}

impl Message {
    /// The plugin that was built, if it is one.
    fn plugin(self) -> Result<Option<Built>, String> {
        let library = self.target.filter(|target| target.kind.contains("cdylib"));
        let (Some(target), Some(manifest)) = (library, self.manifest_path) else { return Ok(None) };
        let wasm = self.filenames.iter().find(|file| file.extension().is_some_and(|end| end == "wasm"));
        let (Some(path), "compiler-artifact") = (wasm, self.reason.as_str()) else { return Ok(None) };
        let wasm = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let sources = manifest.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Some(Built { name: target.name.replace('_', "-"), sources, wasm }))
    }
}

impl Toolchain {
    fn command(&self, directory: &Path) -> Command {
        let mut cargo = Command::new(self.cargo);
        cargo.current_dir(directory).env("RUSTC", self.rustc).stdin(Stdio::null()).stderr(Stdio::inherit());
        cargo.args([
            "build",
            "--release",
            "--message-format=json-render-diagnostics",
            "--target",
            self.target,
        ]);
        if let Some(linker) = &self.from_source {
            // The library is built by the compiler it belongs to, which lets only itself do so.
            cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        cargo
    }
}

/// The first toolchain with a target's library, else the first with all that it takes to build it.
fn find(directory: &Path) -> Option<Toolchain> {
    let roots = TOOLCHAINS.map(|(cargo, rustc)| (cargo, rustc, sysroot(directory, cargo, rustc)));
    for (cargo, rustc, root) in &roots {
        let Some(root) = root else { continue };
        let has = |target: &&str| root.join("lib/rustlib").join(target).join("lib").is_dir();
        if let Some(target) = TARGETS.into_iter().find(has) {
            return Some(Toolchain { cargo, rustc, target, from_source: None });
        }
    }
    roots.iter().find_map(|(cargo, rustc, root)| {
        let root = root.as_ref()?;
        let has_source = root.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file();
        let linker = has_source.then(|| linker(directory, rustc, root)).flatten()?;
        Some(Toolchain { cargo, rustc, target: FROM_SOURCE, from_source: Some(linker) })
    })
}

/// Where the compiler has its things; `None` without a compiler or without Cargo.
fn sysroot(directory: &Path, cargo: &str, rustc: &str) -> Option<PathBuf> {
    printed(Command::new(cargo).current_dir(directory).arg("--version"))?;
    printed(Command::new(rustc).current_dir(directory).args(["--print", "sysroot"])).map(PathBuf::from)
}

/// The linker that came with the compiler, or the distribution's of the same LLVM.
fn linker(directory: &Path, rustc: &str, root: &Path) -> Option<PathBuf> {
    let version = printed(Command::new(rustc).current_dir(directory).arg("-vV"))?;
    let line = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let own = root.join("lib/rustlib").join(line("host:")?).join("bin/rust-lld");
    let llvm = line("LLVM version:")?.split('.').next()?;
    let system = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin/wasm-ld"));
    [own, system].into_iter().find(|linker| linker.exists())
}
