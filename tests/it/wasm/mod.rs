//! Wasm filters: what a plugin may be, what it may do, and what its faults cost.

mod answers;
mod bindings;
mod faults;
mod garbage;
mod imports;
mod isolation;
mod loading;
mod stock;
mod stored;
mod swap;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshbus::config::Section;
use meshbus::core::filter::{Filter, FilterFactory, Input, Verdict};
use meshbus::core::{Envelope, Seq, Topic};
use meshbus::filter::Kind;
use meshbus::filter::wasm::Wasm;
use tempfile::TempDir;
use tokio::time::Instant;

/// A plugin's file and the filter that a configuration makes of it.
struct Rig {
    home: TempDir,
    factory: Arc<dyn FilterFactory>,
}

impl Rig {
    /// `settings` are YAML lines after `path:`.
    fn new(plugin: &[u8], settings: &str) -> Self {
        Self::named("plugin.wasm", plugin, settings)
    }

    fn named(name: &str, plugin: &[u8], settings: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(name), plugin).unwrap();
        let factory = factory_of(name, home.path(), settings);
        Self { home, factory }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("plugin.wasm")
    }

    fn filter(&self) -> Box<dyn Filter> {
        self.factory.prepare().expect("the plugin is sound");
        self.factory.build().expect("the plugin begins")
    }

    /// Why it is not taken.
    fn refused(&self) -> String {
        self.factory.prepare().expect_err("the plugin was taken").to_string()
    }
}

/// The factory of `plugin.wasm` in `home`, as a reload makes it.
fn factory(home: &Path, settings: &str) -> Arc<dyn FilterFactory> {
    factory_of("plugin.wasm", home, settings)
}

/// Compiled code is kept nowhere unless `settings` say so.
fn factory_of(name: &str, home: &Path, settings: &str) -> Arc<dyn FilterFactory> {
    let cache = if settings.contains("cache:") { "" } else { "cache: ''\n" };
    let text = format!("path: {name}\n{cache}{settings}");
    let file = home.join("meshbus.yaml");
    let section = Section::from_yaml(file.to_str().unwrap(), &text).unwrap();
    Wasm.read(&section).map_err(|error| error.to_string()).unwrap()
}

fn event(id: usize) -> Envelope {
    let mut event =
        Envelope::event(Topic::parse("orders/new").unwrap(), id.to_string(), "/shop", "com.example.order");
    event.subject = Some("order 7".into());
    event.extensions.set("tenant", "blue");
    event.data = r#"{"total": 7}"#.into();
    event
}

/// What `filter` says to `events`, in batches as large as there may be.
fn ask(filter: &mut dyn Filter, events: &[Envelope]) -> Vec<Verdict> {
    let inputs: Vec<Input<'_>> = events.iter().map(input).collect();
    inputs.chunks(meshbus::core::filter::BATCH_MAX).flat_map(|batch| filter.process(batch)).collect()
}

fn input(envelope: &Envelope) -> Input<'_> {
    let now = Instant::now();
    Input { envelope, attempt: 1, seq: Seq(1), route: "r", since: now, now }
}

/// The reason of a rejection.
fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Reject(reason) => reason,
        other => panic!("not rejected: {other:?}"),
    }
}

/// `short` in a common run, `long` with `MESHBUS_LONG=1`.
fn long<T>(short: T, long: T) -> T {
    if std::env::var_os("MESHBUS_LONG").is_some_and(|long| long != "0") { long } else { short }
}
