//! The Rust side of the world in `plugins/wit`, generated: types as the guest sees them, one trait for each import.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::pedantic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated: the WIT file is the documentation"
)]

wasmtime::component::bindgen!({
    path: "plugins/wit",
    world: "packed-filter-plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
});
