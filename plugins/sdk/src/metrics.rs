//! Figures, shown with those of the bus. A plugin has a bounded number of series; in native tests there is none.

#[cfg(target_family = "wasm")]
use crate::bindings::meshbus::filter::metrics as host;

/// Counts `value` more.
#[cfg_attr(not(target_family = "wasm"), allow(unused_variables))]
pub fn count(name: &str, value: u64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    host::counter_add(name, value, &owned(labels));
}

/// Sets what is measured now.
#[cfg_attr(not(target_family = "wasm"), allow(unused_variables))]
pub fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    host::gauge_set(name, value, &owned(labels));
}

/// Adds one measurement.
#[cfg_attr(not(target_family = "wasm"), allow(unused_variables))]
pub fn record(name: &str, value: f64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    host::histogram_record(name, value, &owned(labels));
}

#[cfg(target_family = "wasm")]
fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
