//! Where it is kept how far each watch has come, so that a restart goes on there.

use std::collections::HashMap;
use std::time::Duration;

use bytestring::ByteString;
use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};

use super::super::codec::envelope::Before;
use super::super::config::{ClientConfig, Store, WatchConfig};
use super::api::Api;
use super::window::Progress;
use crate::core::{Error, ErrorKind};

mod file;
mod lease;

use file::File;
use lease::Lease;

/// What is known of objects, by the name of their key.
pub(super) type Known = HashMap<ByteString, Before, RandomState>;

/// Hexadecimal digits that tell one watch's settings from another's.
const HASH_DIGITS: usize = 16;

/// What was kept of a watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Saved {
    /// How far it had come; empty where it ended within its very first list.
    pub(super) position: ByteString,
    /// The objects there were; `None` where only the position is kept.
    pub(super) known: Option<Known>,
}

/// What keeps the cursors of a connector.
#[derive(Clone, Debug)]
pub(super) enum Cursors {
    /// Nothing does.
    None,
    File(File),
    Lease(Box<Lease>),
}

impl Cursors {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// `Unreachable` where the file cannot be opened, or is open in another process.
    pub(super) async fn open(config: &ClientConfig, connector: &str, api: &Api) -> Result<Self, Error> {
        match config.cursor.store {
            // Who only writes keeps nothing.
            _ if config.watch.is_empty() => Ok(Self::None),
            Store::None => Ok(Self::None),
            Store::Lease => Ok(config.lease().map_or(Self::None, |(namespace, name)| {
                Self::Lease(Box::new(Lease::new(api.clone(), namespace, name, &config.field_manager)))
            })),
            Store::File => {
                let path = config.cursor.path.clone().unwrap_or_else(|| file::default_path(connector));
                let shown = path.display().to_string();
                let opened = crate::runtime::task::blocking(move || File::open(&path)).await;
                let wrong = |reason: String| Error::new(ErrorKind::Unreachable, shown).because(reason);
                Ok(Self::File(opened.map_err(wrong)?))
            }
        }
    }

    /// How often it is worth to keep progress.
    pub(super) fn pace(&self) -> Duration {
        match self {
            Self::None | Self::File(_) => Duration::from_millis(200),
            Self::Lease(_) => Duration::from_secs(2),
        }
    }

    /// What was kept of a watch.
    ///
    /// # Errors
    /// Says what failed.
    pub(super) async fn load(&self, watch: &str) -> Result<Option<Saved>, String> {
        match self {
            Self::None => Ok(None),
            Self::File(file) => file.load(watch).await,
            Self::Lease(lease) => lease.load(watch).await,
        }
    }

    /// Whether it is kept which objects routes may have been told of.
    pub(super) fn keeps_objects(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Keeps progress.
    ///
    /// # Errors
    /// Says what failed; it is then to be kept with what comes next.
    pub(super) async fn save(&self, watch: &str, progress: &Progress) -> Result<(), String> {
        match self {
            Self::None => Ok(()),
            Self::File(file) => file.save(watch, progress).await,
            Self::Lease(lease) => match &progress.position {
                Some(position) => lease.save(watch, position).await,
                None => Ok(()),
            },
        }
    }
}

/// Names what a watch covers: with other selectors, what was kept means nothing.
pub(super) fn name_of(cluster: &str, watch: &WatchConfig) -> String {
    let mut namespaces = watch.namespaces.clone();
    namespaces.sort_unstable();
    let covers = format!(
        "{cluster}\n{}\n{}\n{}\n{}\n{}",
        watch.key_type(),
        namespaces.join(","),
        watch.label_selector.as_deref().unwrap_or_default(),
        watch.field_selector.as_deref().unwrap_or_default(),
        watch.metadata_only,
    );
    let digits = data_encoding::HEXLOWER.encode(&Sha256::digest(covers.as_bytes()));
    let hash: String = digits.chars().take(HASH_DIGITS).collect();
    format!("{}/{hash}", watch.key_type())
}
