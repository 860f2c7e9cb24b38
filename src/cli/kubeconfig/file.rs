//! The kubeconfig file: which it is, and changing it whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::Failure;

/// Longest file taken for a kubeconfig.
const FILE_MAX: u64 = 4 << 20;
/// Who may read a new one: it may hold tokens.
const MODE: u32 = 0o600;

/// The file that kubectl writes to: the first of `$KUBECONFIG` that there is, else its last; else `~/.kube/config`.
///
/// # Errors
/// No home directory.
pub(super) fn path() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let named: Vec<PathBuf> =
        std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
    if let Some(path) = named.iter().find(|path| path.exists()).or(named.last()) {
        return Ok(path.clone());
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home =
        home.ok_or_else(|| Failure::failed("no home directory: set KUBECONFIG to the file to use"))?;
    Ok(home.join(".kube/config"))
}

/// Replaces the text of a file by what `change` makes of it; tells whether that is another.
///
/// # Errors
/// Says which file and why; it is as it was then.
pub(super) fn update(
    path: &Path,
    change: impl FnOnce(&str) -> Result<String, String>,
) -> Result<bool, Failure> {
    let failed = |why: String| Failure::failed(format!("{}: {why}", path.display()));
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    }
    // What a link points to is written, so that the link stays.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let _lock = Lock::take(path).map_err(failed)?;
    let before = read(&target).map_err(failed)?;
    let after = change(before.as_deref().unwrap_or_default()).map_err(failed)?;
    if before.as_ref() == Some(&after) {
        return Ok(false);
    }
    replace(&target, &after).map_err(|error| failed(error.to_string()))?;
    Ok(true)
}

/// `None` where there is no file.
fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if !metadata.is_file() => return Err("is no file".to_owned()),
        Ok(metadata) if metadata.len() > FILE_MAX => {
            return Err(format!("is no kubeconfig: it has more than {FILE_MAX} bytes"));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| error.to_string())
}

/// Under another name until it is whole.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let partial = beside(path, &format!(".meshbus-{}", std::process::id()));
    let written = write(&partial, path, text).and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        drop(std::fs::remove_file(&partial));
    }
    written
}

fn write(partial: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(partial)?;
    if let Ok(metadata) = std::fs::metadata(path) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The lock that kubectl takes while it writes: a file beside it.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, String> {
        let lock = beside(path, ".lock");
        let taken = OpenOptions::new().write(true).create_new(true).open(&lock);
        match taken.map(|_file: File| ()) {
            Ok(()) => Ok(Self(lock)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(format!(
                "another program writes to it: try again, or remove {} if none does",
                lock.display()
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_changed_whole_and_keeps_who_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/config");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert!(update(&path, |before| Ok(format!("{before}a"))).unwrap());
        assert_eq!((std::fs::read_to_string(&path).unwrap(), mode(&path)), ("a".to_owned(), 0o600));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(update(&link, |before| Ok(format!("{before}b"))).unwrap());
        assert!(!update(&link, |before| Ok(before.to_owned())).unwrap());
        assert_eq!((std::fs::read_to_string(&path).unwrap(), mode(&path)), ("ab".to_owned(), 0o640));
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        update(&path, |_| Err("is wrong".to_owned())).unwrap_err();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn who_else_writes_is_waited_out_by_the_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(beside(&path, ".lock"), "").unwrap();
        let refused = update(&path, |_| Ok("a".to_owned())).unwrap_err().to_string();
        assert!(refused.contains("config.lock"), "{refused}");
        assert!(!path.exists() && beside(&path, ".lock").exists());
    }
}
