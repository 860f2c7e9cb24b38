//! Compiled plugins on disk, so that a start costs milliseconds where compiling costs seconds.
//!
//! What is kept is native code that runs with our rights. Hence a directory that nobody else may write, files that
//! carry the digest of what we wrote, and names made of the plugin's digest and the engine's: another version, other
//! settings or another processor find nothing. A cache that cannot be used is no error; compiling always works.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Most plugins kept; the ones used longest ago go first.
const ENTRIES_MAX: usize = 64;
/// Largest compiled plugin that is read.
const ENTRY_MAX: u64 = 1 << 30;
/// Bytes of the digest before the code.
const DIGEST: usize = 32;
const SUFFIX: &str = "cwasm";

/// A directory of compiled plugins.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// The name of a plugin's entry: what it is and what it was compiled by.
pub(super) fn key(engine: &Engine, plugin: &[u8; 32]) -> String {
    struct Digesting(Sha256);
    impl Hasher for Digesting {
        fn finish(&self) -> u64 {
            0
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Digesting(Sha256::new_with_prefix(plugin));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    HEXLOWER.encode(&hasher.0.finalize())
}

impl Cache {
    /// The cache at `directory`, by default the user's; `None` with a line in the log where it cannot be trusted or
    /// used, and where it is switched off by an empty path.
    pub(super) fn open(directory: Option<&Path>) -> Option<Self> {
        let directory = match directory {
            Some(directory) if directory.as_os_str().is_empty() => return None,
            Some(directory) => directory.to_owned(),
            None => default_directory()?,
        };
        match claim(&directory) {
            Ok(()) => Some(Self { directory }),
            Err(reason) => {
                let directory = directory.display();
                warn!(%directory, %reason, "compiled plugins are not kept");
                None
            }
        }
    }

    /// What was kept under `key`; anything that is not whole is as good as nothing.
    pub(super) fn load(&self, engine: &Engine, key: &str) -> Option<Component> {
        let path = self.path(key);
        let code = match read(&path) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                debug!(%error, path = %path.display(), "compiled plugin not read");
                return None;
            }
        };
        #[expect(unsafe_code, reason = "the engine has no other way to take compiled code")]
        // SAFETY: the code is native and must be what this engine made. The directory is ours alone (`claim`), the
        // digest before it says that it is what we wrote, and the name that this engine wrote it.
        let component = unsafe { Component::deserialize(engine, &code) };
        component
            .inspect_err(|error| debug!(%error, path = %path.display(), "compiled plugin not taken"))
            .ok()
    }

    /// Keeps `component` under `key`. That it cannot be is logged: the next start compiles again.
    pub(super) fn store(&self, key: &str, component: &Component) {
        let written =
            component.serialize().map_err(io::Error::other).and_then(|code| self.write(key, &code));
        if let Err(error) = written {
            warn!(%error, directory = %self.directory.display(), "compiled plugin not kept");
        }
        self.prune();
    }

    fn write(&self, key: &str, code: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        // Under another name until it is whole; of two that write the same, the last one wins.
        let partial = path.with_extension(format!("{}-{}", std::process::id(), fastrand::u32(..)));
        let mut file = create(&partial)?;
        let written = file.write_all(&Sha256::digest(code)).and_then(|()| file.write_all(code));
        written.and_then(|()| fs::rename(&partial, &path)).inspect_err(|_| {
            // The first error is the one to tell.
            fs::remove_file(&partial).ok();
        })
    }

    /// Removes what is more than [`ENTRIES_MAX`], oldest first.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut kept: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        kept.sort_unstable();
        let surplus = kept.len().saturating_sub(ENTRIES_MAX);
        for (_, path) in kept.into_iter().take(surplus) {
            debug!(path = %path.display(), "compiled plugin no longer kept");
            // One that another process removed at the same time is gone as well.
            fs::remove_file(path).ok();
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.{SUFFIX}"))
    }
}

fn default_directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("meshbus").join("wasm"))
}

/// Makes `directory` where it is missing, and checks that nobody but us can write to it.
fn claim(directory: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| format!("cannot be made: {error}"))?;
    let found = fs::symlink_metadata(directory).map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("is no directory".to_owned());
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err("others may enter it; chmod 700 would do".to_owned());
    }
    // Whose we are is what a file of ours says.
    let probe = directory.join(format!(".probe-{}-{}", std::process::id(), fastrand::u32(..)));
    let file = create(&probe).map_err(|error| format!("cannot be written to: {error}"))?;
    let ours = file.metadata().map(|file| file.uid());
    fs::remove_file(&probe).map_err(|error| error.to_string())?;
    if ours.map_err(|error| error.to_string())? != found.uid() {
        return Err("belongs to another user".to_owned());
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The code in a file, where it is what its digest says.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    File::open(path)?.take(ENTRY_MAX).read_to_end(&mut whole)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "is not what was written");
    let (digest, code) = whole.split_at_checked(DIGEST).ok_or_else(broken)?;
    if *Sha256::digest(code) != *digest {
        return Err(broken());
    }
    Ok(code.to_vec())
}
