//! Takes the descriptors out of the crate that carries them, so that its types are not linked.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(PathBuf::from(out).join("descriptors.binpb"), xds_api::FILE_DESCRIPTOR_SET)
}
