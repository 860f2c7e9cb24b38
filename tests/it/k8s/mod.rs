//! The Kubernetes side: the hostile API server keeps the subtle rules that the client is proven against.

mod client;
#[cfg(feature = "k8s")]
mod connector;
mod faults;
mod reading;
mod watching;
mod writing;
