//! Cursors in a file: of each watch its position and the objects there were, in one transaction each.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytestring::ByteString;
use redb::{Database, ReadableDatabase, TableDefinition};

use super::super::super::codec::envelope::Before;
use super::{Known, Progress, Saved};
use crate::runtime::task::blocking;

const POSITIONS: TableDefinition<'_, &str, &str> = TableDefinition::new("positions");
/// Watch and name of the key, to uid, version and count.
const OBJECTS: TableDefinition<'_, (&str, &str), (&str, &str, i32)> = TableDefinition::new("objects");
/// What redb may hold in memory; the file is written far more often than it is read.
const CACHE: usize = 4 << 20;

/// See the [module](self).
#[derive(Clone)]
pub(in super::super) struct File {
    database: Arc<Database>,
    path: Arc<Path>,
}

impl File {
    /// Opens or makes the file and the directory it is in. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn fmt::Display| {
            format!("{error}; set cursor: {{path: FILE}}, or {{store: lease}} to do without a file")
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| wrong(&error))?;
        }
        let database = Database::builder().set_cache_size(CACHE).create(path);
        let database = database.map_err(|error| wrong(&error))?;
        Ok(Self { database: Arc::new(database), path: path.into() })
    }

    pub(super) async fn load(&self, watch: &str) -> Result<Option<Saved>, String> {
        let (file, watch) = (self.clone(), watch.to_owned());
        let loaded = blocking(move || file.read(&watch)).await;
        loaded.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    pub(super) async fn save(&self, watch: &str, progress: &Progress) -> Result<(), String> {
        let (file, watch, progress) = (self.clone(), watch.to_owned(), progress.clone());
        let saved = blocking(move || file.write(&watch, &progress)).await;
        saved.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn read(&self, watch: &str) -> Result<Option<Saved>, redb::Error> {
        let reading = self.database.begin_read()?;
        let positions = match reading.open_table(POSITIONS) {
            Ok(positions) => positions,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let position = positions.get(watch)?.map(|position| ByteString::from(position.value()));
        let mut known = Known::default();
        let objects = reading.open_table(OBJECTS)?;
        for entry in objects.range((watch, "")..)? {
            let (key, value) = entry?;
            let ((of, name), (uid, version, count)) = (key.value(), value.value());
            if of != watch {
                break;
            }
            known.insert(name.into(), Before { uid: uid.into(), version: version.into(), count });
        }
        let any = position.is_some() || !known.is_empty();
        Ok(any.then(|| Saved { position: position.unwrap_or_default(), known: Some(known) }))
    }

    fn write(&self, watch: &str, progress: &Progress) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        {
            let mut positions = writing.open_table(POSITIONS)?;
            let mut objects = writing.open_table(OBJECTS)?;
            for (name, known) in &progress.changes {
                match known {
                    Some(Before { uid, version, count }) => {
                        objects.insert((watch, &**name), (&**uid, &**version, *count))?;
                    }
                    None => drop(objects.remove((watch, &**name))?),
                }
            }
            if let Some(position) = &progress.position {
                positions.insert(watch, &**position)?;
            }
        }
        writing.commit()?;
        Ok(())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where the cursors of a connector are, unless it is told.
pub(super) fn default_path(connector: &str) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = absolute("STATE_DIRECTORY")
        .or_else(|| absolute("XDG_STATE_HOME").map(|base| base.join("meshbus")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state/meshbus")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/meshbus"));
    // A connector's name may hold what no file's may.
    let name = crate::core::spelling::path_segment(connector);
    directory.join(format!("cursor-{name}.redb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, version: Option<&str>) -> (ByteString, Option<Before>) {
        let known = version.map(|version| Before { uid: "u".into(), version: version.into(), count: 3 });
        (name.into(), known)
    }

    #[tokio::test]
    async fn what_is_kept_is_there_after_a_restart_for_each_watch_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/cursors.redb");
        let file = File::open(&path).unwrap();
        assert!(file.load("one").await.unwrap().is_none());
        let progress = Progress {
            position: Some("7".into()),
            changes: [change("a/x", Some("5")), change("a/y", Some("6"))].into_iter().collect(),
        };
        file.save("one", &progress).await.unwrap();
        let went = Progress { changes: [change("a/x", None)].into_iter().collect(), ..Progress::default() };
        file.save("one", &went).await.unwrap();
        let two = Progress { changes: [change("a/z", Some("1"))].into_iter().collect(), ..progress };
        file.save("two", &two).await.unwrap();
        assert!(File::open(&path).is_err(), "a file has one owner");
        drop(file);
        let file = File::open(&path).unwrap();
        let saved = file.load("one").await.unwrap().unwrap();
        assert_eq!(&*saved.position, "7");
        assert_eq!(
            saved.known.unwrap().into_iter().collect::<Vec<_>>(),
            [("a/y".into(), Before { uid: "u".into(), version: "6".into(), count: 3 })]
        );
        assert_eq!(file.load("two").await.unwrap().unwrap().known.unwrap().len(), 1);
    }
}
