#![doc = include_str!("README.md")]

pub mod core;

pub mod config;
pub mod schema;

pub mod derive;
pub mod filter;
pub mod transport;

pub mod runtime;

pub mod app;
pub mod cli;
