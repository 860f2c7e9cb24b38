//! Compiles the `.proto` files of Envoy's API, which the crate `envoy-types` carries, to one set of descriptors.
//!
//! Cargo tells a build script nothing of where a dependency is, unless that has a `links` key. So cargo itself is asked,
//! about a package that depends on nothing else: all that it needs was downloaded for the same build.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost_types::{FileDescriptorProto, SourceCodeInfo};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// A `FileDescriptorSet` whose files stay encoded: as types they would lose the options that are extensions.
#[derive(Clone, PartialEq, prost::Message)]
struct Set {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// Of a file its name alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The crate and its version, which `Cargo.toml` has, too.
const CRATE: &str = "envoy-types";
const VERSION: &str = "0.7.7";
/// Files of our own, beside this package, which import from there.
const OWN: [&str; 1] = ["meshbus/xds/v1/update.proto"];
/// Below the folder of `.proto` files: where imports begin, and whether all there is compiled or what is imported.
const ROOTS: [(&str, bool); 8] = [
    ("data-plane-api", true),
    ("xds", true),
    ("cel-spec/proto", false),
    ("client_model", false),
    ("googleapis", false),
    ("opentelemetry-proto", false),
    ("protoc-gen-validate", false),
    ("ratelimit/api", false),
];
/// The files whose comments are kept.
const DESCRIBED: &str = "envoy/config/";
/// The number of a file's field that holds them.
const SOURCE_CODE_INFO: u32 = 9;
/// A name that `protoc` finds in an outer package, and protox looks for in a nearer one of the same first part.
const RELATIVE: &str = " common.dynamic_forward_proxy.v3.";
const ABSOLUTE: &str = " .envoy.extensions.common.dynamic_forward_proxy.v3.";

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let base = find(&out)?.join("proto");
    let (mut files, mut wanted) = (Files::default(), Vec::new());
    for name in OWN {
        let path = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..").join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        files.0.insert(name.to_owned(), path);
        wanted.push(name.to_owned());
    }
    for (root, all) in ROOTS {
        let mut found = BTreeMap::new();
        collect(&base.join(root), "", &mut found)?;
        wanted.extend(found.keys().filter(|_| all).cloned());
        files.0.extend(found);
    }
    let file = compile(&files, &wanted)?.into_values().map(|file| slim(&file)).collect::<Result<_>>()?;
    let set = Set { file };
    fs::write(out.join("descriptors.binpb"), set.encode_to_vec())?;
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// Where cargo has unpacked the crate.
fn find(out: &Path) -> Result<PathBuf> {
    let asking = out.join("asking");
    fs::create_dir_all(&asking)?;
    let manifest = asking.join("Cargo.toml");
    fs::write(
        &manifest,
        format!(
            "[workspace]\n[package]\nname = \"asking\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [lib]\npath = \"lib.rs\"\n[dependencies]\n{CRATE} = \"={VERSION}\"\n"
        ),
    )?;
    fs::write(asking.join("lib.rs"), "")?;
    // The same versions as everywhere, so that nothing is looked up.
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut locks = here.ancestors().map(|folder| folder.join("Cargo.lock"));
    if let Some(lock) = locks.find(|lock| lock.is_file()) {
        fs::copy(lock, asking.join("Cargo.lock"))?;
    }
    let output = Command::new(variable("CARGO")?)
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform"])
        .arg(variable("HOST")?)
        .arg("--manifest-path")
        .arg(&manifest)
        // Where sources are replaced, the configuration that says so is found from here.
        .current_dir(&here)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata does not find {CRATE} {VERSION}: {said}").into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata tells no packages")?;
    let package = packages.iter().find(|package| package["name"] == CRATE);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let folder = manifest.and_then(|manifest| Path::new(manifest).parent());
    Ok(folder.ok_or_else(|| format!("cargo metadata does not tell where {CRATE} is"))?.to_owned())
}

/// The files below a folder by the names that imports have for them.
fn collect(folder: &Path, name: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let last = path.file_name().and_then(|name| name.to_str()).ok_or("a file has a name in UTF-8")?;
        let name = if name.is_empty() { last.to_owned() } else { format!("{name}/{last}") };
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// Files by the names that imports have for them.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, PathBuf>);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        let path = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        let source = fs::read_to_string(path).map_err(protox::Error::new)?;
        File::from_source(name, &source.replace(RELATIVE, ABSOLUTE))
    }
}

/// The files with all that they import, by name.
fn compile(files: &Files, wanted: &[String]) -> Result<BTreeMap<String, Vec<u8>>> {
    let compiler = || {
        let mut resolver = ChainFileResolver::new();
        resolver.add(files.clone());
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).include_source_info(true);
        compiler
    };
    let mut all = BTreeMap::new();
    let mut add = |compiler: &Compiler| -> Result<()> {
        for file in Set::decode(&compiler.encode_file_descriptor_set()[..])?.file {
            all.insert(Name::decode(&file[..])?.name, file);
        }
        Ok(())
    };
    let mut together = compiler();
    let alone: Vec<&String> = wanted.iter().filter(|name| together.open_file(name).is_err()).collect();
    add(&together)?;
    // A name that begins in an outer package is found only where no other file has a package of its first part.
    for name in alone {
        let mut compiler = compiler();
        compiler.open_file(name).map_err(|error| format!("{name}: {error}"))?;
        add(&compiler)?;
    }
    Ok(all)
}

/// Without what nobody reads: places in the source, and comments of what is not configuration.
fn slim(file: &[u8]) -> Result<Vec<u8>> {
    let read = FileDescriptorProto::decode(file)?;
    let mut slim = Vec::with_capacity(file.len());
    let mut rest = file;
    while !rest.is_empty() {
        let field = rest;
        let (number, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, number, &mut rest, DecodeContext::default())?;
        if number != SOURCE_CODE_INFO {
            slim.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    if let Some(info) = read.source_code_info.as_ref().filter(|_| read.name().starts_with(DESCRIBED)) {
        prost::encoding::message::encode(SOURCE_CODE_INFO, &comments(info), &mut slim);
    }
    Ok(slim)
}

fn comments(info: &SourceCodeInfo) -> SourceCodeInfo {
    let mut location: Vec<_> =
        info.location.iter().filter(|location| location.leading_comments.is_some()).cloned().collect();
    for location in &mut location {
        location.span.clear();
        location.trailing_comments = None;
        location.leading_detached_comments.clear();
    }
    SourceCodeInfo { location }
}
