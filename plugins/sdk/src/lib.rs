//! Filters for meshbus: a type, [`Filter`] for it, and [`export!`].
//!
//! ```
//! use meshbus_filter::{Event, Filter, Output, Verdict, export};
//!
//! struct Mark(String);
//!
//! impl Filter for Mark {
//!     fn init(config: &str) -> Result<Self, String> {
//!         Ok(Self(config.to_owned()))
//!     }
//!
//!     fn process(&mut self, event: Event) -> Verdict {
//!         if event.data().is_empty() { Verdict::Pass } else { Output::new().set("mark", self.0.as_str()).into() }
//!     }
//! }
//!
//! export!(Mark);
//! ```
//!
//! Everything but the guest's side of the interface is plain Rust: a filter is tested with `cargo test` like any other
//! type, and run on events from a file with `meshbus plugin test`. Memory lives as long as the instance, which a fault
//! ends: state is a help, never the truth. A panic is a fault; its message goes to the log of the bus.

// Generated from `../wit` by wit-bindgen 0.63: see plugins/README.md.
#[rustfmt::skip]
#[doc(hidden)]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod bindings;
pub mod clock;
mod event;
pub mod log;
pub mod metrics;
mod output;
#[doc(hidden)]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
pub mod rt;
mod slot;

#[doc(inline)]
pub use bindings::meshbus::filter::types::{
    AttrValue, Attributes, Body, Event, Output, Timestamp, Verdict,
};
#[cfg(feature = "json")]
pub use serde_json as json;
#[doc(hidden)]
pub use slot::Slot;

/// What a plugin does with events.
pub trait Filter: Sized {
    /// Makes the filter, before any event. `config` is the `config:` of the route as JSON, `null` without one.
    ///
    /// # Errors
    /// What is wrong with `config`: the operator reads it, and the configuration is not taken up.
    fn init(config: &str) -> Result<Self, String>;

    /// Decides on one event.
    fn process(&mut self, event: Event) -> Verdict;
}

/// Makes a [`Filter`] the one that this crate exports. Once for each crate, which has `crate-type = ["cdylib"]`.
#[macro_export]
macro_rules! export {
    ($filter:ty) => {
        // In native tests nothing is exported, and nothing is unused for that.
        #[cfg(not(target_family = "wasm"))]
        const _: fn(&str) -> ::core::result::Result<$filter, ::std::string::String> =
            <$filter as $crate::Filter>::init;
        #[cfg(not(target_family = "wasm"))]
        const _: fn(&mut $filter, $crate::Event) -> $crate::Verdict = <$filter as $crate::Filter>::process;

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::exports::meshbus::filter::filter::{Event, Guest, InitError, Verdict};

            ::std::thread_local! {
                static SLOT: $crate::Slot<$filter> = const { $crate::Slot::new() };
            }

            struct Exported;

            impl Guest for Exported {
                fn init(config: ::std::string::String) -> ::core::result::Result<(), InitError> {
                    SLOT.with(|slot| slot.init(&config))
                }

                fn process(events: ::std::vec::Vec<Event>) -> ::std::vec::Vec<Verdict> {
                    SLOT.with(|slot| slot.process(events))
                }
            }

    $crate::bindings::export_bindings!(Exported with_types_in $crate::bindings);
        };
    };
}
