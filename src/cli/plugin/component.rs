//! Components of what compilers make: most make core modules.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface, for modules that do not carry it.
const WIT: &str = include_str!("../../../plugins/wit/meshbus-filter.wit");
const WORLD: &str = "filter-plugin";
/// How a component begins, and a module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The component of a module that carries the interface it was built for; a component stays as it is.
///
/// # Errors
/// The module does not have what the interface asks for, or wants what nothing gives.
pub(super) fn encode(wasm: Vec<u8>) -> Result<Vec<u8>, String> {
    if wasm.starts_with(COMPONENT) {
        return Ok(wasm);
    }
    let encoder = ComponentEncoder::default().validate(true).module(&wasm);
    encoder.and_then(|mut encoder| encoder.encode()).map_err(|error| {
        let error = format!("{error:#}");
        let hint = if error.contains("wasi_snapshot_preview1") {
            "; it uses the C library for what filters have not: files, standard output, clocks"
        } else {
            ""
        };
        format!("is no filter: {error}{hint}")
    })
}

/// The module with the interface of filters in it.
///
/// # Errors
/// It is no module.
pub(super) fn embed(mut module: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let embedded = resolve
        .push_str("meshbus-filter.wit", WIT)
        .and_then(|package| resolve.select_world(&[package], Some(WORLD)))
        .and_then(|world| embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8));
    embedded.map(|()| module).map_err(|error| format!("is no module: {error:#}"))
}
