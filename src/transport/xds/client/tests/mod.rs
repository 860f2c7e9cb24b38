//! The client against servers: this crate's own, and one that says whatever a test wants.

mod delta;
mod hostile;
mod istio;
mod own;
mod sotw;
mod whole;
mod writes;
