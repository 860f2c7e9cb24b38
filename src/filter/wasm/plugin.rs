//! A plugin's file as it is loaded: read, checked, compiled, tried, and swapped when it changes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use arc_swap::ArcSwapOption;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::info;
use wasmtime::component::{Component, InstancePre};

use super::bindings::exports::meshbus::filter::{filter, packed};
use super::breaker::Breaker;
use super::cache::{self, Cache};
use super::engine::{Host, host};
use super::figures::Figures;
use super::host::State;
use super::instance::Instance;
use super::limits::{FILE_MAX, REASON_MAX};
use super::patch::cut;
use super::settings::Checked;
use super::wasi;
use crate::runtime::metrics::PluginFigures;

/// What every filter exports; its version is what a guest was built for.
pub(super) const PACKAGE: &str = "meshbus:filter/";
const VERSION: &str = "0.1";
/// The interfaces of our own that a guest may import.
pub(super) const IMPORTS: [&str; 4] = ["types", "log", "metrics", "clock"];

/// A plugin, shared by all filters that name its file, so that a new version reaches them all.
#[derive(Debug)]
pub(super) struct Plugin {
    /// The file's name, for people.
    pub(super) name: Arc<str>,
    pub(super) figures: Arc<Figures>,
    path: PathBuf,
    digest: Option<String>,
    current: ArcSwapOption<Loaded>,
    /// How many versions `current` has had.
    versions: AtomicU64,
    /// One load at a time.
    loading: Mutex<()>,
}

/// One version of a plugin, ready to be instantiated.
pub(super) struct Loaded {
    digest: [u8; 32],
    pub(super) pre: InstancePre<State>,
    pub(super) filter: filter::GuestIndices,
    pub(super) packed: Option<packed::GuestIndices>,
    /// Shared by all routes: a plugin found bad in one is off in all.
    pub(super) breaker: Breaker,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = HEXLOWER.encode(&self.digest);
        f.debug_struct("Loaded").field("digest", &digest).finish_non_exhaustive()
    }
}

type Known = HashMap<(PathBuf, Option<String>), Weak<Plugin>>;

/// The plugins some filter still holds. Two readings of one configuration find the same here: what runs and what a
/// reload prepares.
static PLUGINS: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The plugin of this file.
pub(super) fn shared(path: &Path, digest: Option<&str>) -> Arc<Plugin> {
    let mut plugins = PLUGINS.lock();
    let key = (path.to_owned(), digest.map(str::to_owned));
    if let Some(plugin) = plugins.get(&key).and_then(Weak::upgrade) {
        return plugin;
    }
    plugins.retain(|_, plugin| plugin.strong_count() > 0);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let plugin = Arc::new(Plugin {
        name: name.as_ref().into(),
        figures: Arc::default(),
        path: path.to_owned(),
        digest: digest.map(str::to_owned),
        current: ArcSwapOption::empty(),
        versions: AtomicU64::new(0),
        loading: Mutex::new(()),
    });
    plugins.insert(key, Arc::downgrade(&plugin));
    plugin
}

/// The version with this digest that routes with or without another `digest:` have of the file.
fn in_use(path: &Path, digest: [u8; 32]) -> Option<Arc<Loaded>> {
    let plugins = PLUGINS.lock();
    let same = plugins.values().filter_map(Weak::upgrade).filter(|plugin| plugin.path == path);
    same.filter_map(|plugin| plugin.current.load_full()).find(|loaded| loaded.digest == digest)
}

/// Figures of all plugins in use, by the name of their file.
pub(super) fn figures() -> Vec<PluginFigures> {
    let plugins: Vec<_> = PLUGINS.lock().values().filter_map(Weak::upgrade).collect();
    let read = |plugin: Arc<Plugin>| {
        let off = plugin.current().as_ref().is_some_and(|loaded| loaded.breaker.is_open());
        plugin.figures.read(Arc::clone(&plugin.name), off)
    };
    let mut all: Vec<PluginFigures> = plugins.into_iter().map(read).collect();
    all.sort_unstable_by(|a, b| a.plugin.cmp(&b.plugin));
    // One file under two digests, or two files of one name: their figures would be one series twice.
    all.dedup_by(|later, first| {
        let same = later.plugin == first.plugin;
        if same {
            first.add(later);
        }
        same
    });
    all
}

impl Plugin {
    /// The version in use; `None` before the first [`refresh`](Self::refresh).
    pub(super) fn current(&self) -> arc_swap::Guard<Option<Arc<Loaded>>> {
        self.current.load()
    }

    /// How many versions there have been; a cheap look at whether [`current`](Self::current) is another.
    pub(super) fn versions(&self) -> u64 {
        self.versions.load(Ordering::Acquire)
    }

    /// Reads the file; where it holds another version than the one in use, or none is, checks it, compiles it, tries
    /// it with `settings`, and only then takes it up. Filters change to it between two batches. May block.
    ///
    /// # Errors
    /// What is wrong with the file or with the settings for it; the version in use stays.
    pub(super) fn refresh(&self, settings: &Checked) -> Result<(), String> {
        let _loading = self.loading.lock();
        let began = Instant::now();
        let bytes = read(&self.path)?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let text = format!("sha256:{}", HEXLOWER.encode(&digest));
        if let Some(wanted) = &self.digest
            && *wanted != text
        {
            return Err(format!(
                "{}: its digest is {text}, not the {wanted} that is asked for",
                self.path.display()
            ));
        }
        let old = self.current.load_full();
        let wrong = |reason: String| format!("{}: {reason}", self.path.display());
        let same = old.clone().filter(|old| old.digest == digest).or_else(|| in_use(&self.path, digest));
        let fresh = match same {
            Some(same) => same,
            None => Arc::new(load(&bytes, digest, settings).map_err(wrong)?),
        };
        self.try_out(&fresh, settings).map_err(wrong)?;
        if old.as_ref().is_none_or(|old| old.digest != digest) {
            if old.is_some() {
                self.figures.swaps.add(1);
            }
            self.current.store(Some(fresh));
            self.versions.fetch_add(1, Ordering::Release);
            let millis = began.elapsed().as_millis() as u64;
            info!(plugin = &*self.name, digest = text, millis, "plugin taken up");
        }
        Ok(())
    }

    /// Begins an instance with its configuration and asks it for nothing.
    fn try_out(&self, loaded: &Loaded, settings: &Checked) -> Result<(), String> {
        let mut instance = Instance::start(self, loaded, settings).map_err(|fault| fault.to_string())?;
        let answers =
            instance.process("", &[]).map_err(|fault| format!("asked for nothing, it {fault}"))?;
        if !answers.is_empty() {
            return Err(format!("asked for nothing, it gave {} verdicts", answers.len()));
        }
        Ok(())
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{}: cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("{}: is larger than {FILE_MAX} bytes", path.display()));
    }
    Ok(bytes)
}

pub(super) fn load(bytes: &[u8], digest: [u8; 32], settings: &Checked) -> Result<Loaded, String> {
    let host = host()?;
    let component = compile(host, bytes, &digest, settings)?;
    check_imports(host, &component)?;
    check_exports(host, &component)?;
    let mut linker = host.linker.clone();
    let unfit = |error: wasmtime::Error| {
        let error = format!("{error:#}");
        format!("does not fit meshbus:filter@{VERSION}: {}", cut(&error, REASON_MAX))
    };
    wasi::link(&mut linker, &component).map_err(unfit)?;
    let pre = linker.instantiate_pre(&component).map_err(unfit)?;
    let filter = filter::GuestIndices::new(&pre).map_err(unfit)?;
    let packed = exports(host, &component).iter().any(|name| name.starts_with("meshbus:filter/packed@"));
    let packed = packed.then(|| packed::GuestIndices::new(&pre)).transpose().map_err(unfit)?;
    Ok(Loaded { digest, pre, filter, packed, breaker: Breaker::default() })
}

pub(super) fn compile(
    host: &Host,
    bytes: &[u8],
    digest: &[u8; 32],
    settings: &Checked,
) -> Result<Component, String> {
    if !bytes.starts_with(b"\0asm") {
        return Err("is no Wasm file: it does not begin with \\0asm".to_owned());
    }
    if bytes.get(4..8) == Some(&[1, 0, 0, 0]) {
        return Err("is a core module, not a component; build it for wasm32-wasip2, or run \
                    `wasm-tools component new` on it"
            .to_owned());
    }
    let cache = Cache::open(settings.cache.as_deref());
    let key = cache::key(&host.engine, digest);
    if let Some(component) = cache.as_ref().and_then(|cache| cache.load(&host.engine, &key)) {
        return Ok(component);
    }
    let component = Component::from_binary(&host.engine, bytes).map_err(|error| {
        let error = format!("{error:#}");
        format!("is no component that runs here: {}", cut(&error, REASON_MAX))
    })?;
    if let Some(cache) = cache {
        cache.store(&key, &component);
    }
    Ok(component)
}

/// Everything it imports is there to be given.
fn check_imports(host: &Host, component: &Component) -> Result<(), String> {
    let ty = component.component_type();
    for (name, _) in ty.imports(&host.engine) {
        if let Some((interface, version)) = name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'))
        {
            if !is_ours(version) {
                return Err(wrong_version(name));
            }
            if IMPORTS.contains(&interface) {
                continue;
            }
        }
        if !wasi::is_known(name) {
            return Err(format!(
                "imports {}, which filters are not granted: there are {} of meshbus:filter@{VERSION} and \
                 clocks, random numbers and output of WASI 0.2, but no files, network or HTTP; build it \
                 without what needs that",
                cut(name, REASON_MAX),
                IMPORTS.join(", "),
            ));
        }
    }
    Ok(())
}

fn check_exports(host: &Host, component: &Component) -> Result<(), String> {
    let exports = exports(host, component);
    let found = exports.iter().find_map(|name| name.strip_prefix("meshbus:filter/filter@"));
    match found {
        Some(version) if is_ours(version) => Ok(()),
        Some(version) => Err(wrong_version(&format!("meshbus:filter/filter@{version}"))),
        None => {
            let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            Err(format!(
                "is no filter: it exports {}; expected meshbus:filter/filter@{VERSION}.x, as the world \
                 filter-plugin has it",
                cut(&found, REASON_MAX)
            ))
        }
    }
}

pub(super) fn exports(host: &Host, component: &Component) -> Vec<String> {
    component.component_type().exports(&host.engine).map(|(name, _)| name.to_owned()).collect()
}

fn is_ours(version: &str) -> bool {
    version.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with('.'))
}

fn wrong_version(found: &str) -> String {
    format!("was built for {}; this bus runs meshbus:filter@{VERSION}.x", cut(found, REASON_MAX))
}
