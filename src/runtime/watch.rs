//! Hears what the outside wants: SIGHUP and changed files reload, SIGTERM and SIGINT drain, their second ends.
//!
//! Editors and Kubernetes replace files by renaming, and a `ConfigMap` is a symbolic link to a directory that is
//! swapped, so the directories are watched, of the path as given and of what it leads to, and what counts is whether
//! the content is another than before. Many writes at once make one reload: it waits for 200 ms of quiet, at most 2 s.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::future::pending;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

/// So long nothing must happen before changed files count.
const QUIET: Duration = Duration::from_millis(200);
/// They count after so long even if something happens all the time.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// What the outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Reload,
    /// Take nothing new in, finish what is under way.
    Drain,
    /// End at once.
    End,
}

/// The signals of the system and the changes of files, one after the other.
#[derive(Debug)]
pub struct Signals {
    hang_up: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
    draining: bool,
    files: Files,
}

impl Signals {
    /// Listens to the signals, from now on instead of their default action, and watches `paths`.
    ///
    /// # Errors
    /// The system gives no signals. That files cannot be watched is logged, and SIGHUP still reloads.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        Ok(Self {
            hang_up: unix::signal(SignalKind::hangup())?,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            draining: false,
            files: Files::new(paths.into_iter().collect()),
        })
    }

    /// Watches these files instead: a reload may have named others.
    pub fn watch(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.files = Files::new(paths.into_iter().collect());
    }

    /// The next signal. Cancel safe, except that a change of files noticed in the last 200 ms may be seen later.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => self.stop(),
            Some(()) = self.interrupt.recv() => self.stop(),
            Some(()) = self.hang_up.recv() => Signal::Reload,
            () = self.files.changed() => Signal::Reload,
        }
    }

    fn stop(&mut self) -> Signal {
        if std::mem::replace(&mut self.draining, true) { Signal::End } else { Signal::Drain }
    }
}

/// Watches files by their directories.
#[derive(Debug)]
struct Files {
    paths: Vec<PathBuf>,
    /// What they held when last looked at; `None` for one that could not be read.
    content: Vec<Option<u64>>,
    watched: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    touched: mpsc::Receiver<()>,
    /// Something happened and was not looked at yet.
    pending: bool,
}

impl Files {
    fn new(paths: Vec<PathBuf>) -> Self {
        let (touch, touched) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change, least of all our own.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                // Full: one that is not seen yet is as good as two.
                touch.try_send(()).ok();
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "changed files are not noticed, SIGHUP reloads"))
            .ok();
        let content = paths.iter().map(|path| fingerprint(path)).collect();
        let mut files = Self { paths, content, watched: BTreeSet::new(), watcher, touched, pending: false };
        files.arm();
        files
    }

    /// Watches the directories the paths are in now; where a link leads to may have changed.
    fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = BTreeSet::new();
        for path in &self.paths {
            wanted.extend(directory(path));
            wanted.extend(path.canonicalize().ok().as_deref().and_then(directory));
        }
        for gone in self.watched.difference(&wanted) {
            // A directory that was removed is not watched any more, and says so.
            drop(watcher.unwatch(gone));
        }
        for new in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                warn!(%error, directory = %new.display(), "changed files are not noticed here, SIGHUP reloads");
            }
        }
        self.watched = wanted;
    }

    /// Waits until a file holds something else than before. One that is missing is waited for.
    async fn changed(&mut self) {
        loop {
            if !self.pending {
                if self.touched.recv().await.is_none() {
                    return pending().await;
                }
                self.pending = true;
            }
            let deadline = Instant::now() + QUIET_MAX;
            while Instant::now() < deadline {
                let quiet = deadline.min(Instant::now() + QUIET);
                if timeout_at(quiet, self.touched.recv()).await.is_err() {
                    break;
                }
            }
            self.pending = false;
            self.arm();
            if self.look() {
                return;
            }
        }
    }

    /// Looks at all files; says whether one has changed. The old content of one that is missing still counts: it is
    /// being replaced, or gone, which is no configuration to change to.
    fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, known) in self.paths.iter().zip(&mut self.content) {
            match fingerprint(path) {
                None => debug!(path = %path.display(), "cannot be read now"),
                now if now == *known => {}
                now => {
                    *known = now;
                    changed = true;
                }
            }
        }
        changed
    }
}

/// The directory a path is in; a bare name is in the current one.
fn directory(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// Of a file's content; `None` where it cannot be read. What is no file (a pipe of the shell's `<(…)`) can be read
/// only once and never changes. Read in place: configuration is small and looked at only when something happened.
fn fingerprint(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    if std::fs::metadata(path).ok()?.is_file() {
        std::fs::read(path).ok()?.hash(&mut hasher);
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);
    /// Longer than the debounce: nothing seen in it is nothing noticed.
    const NOTHING: Duration = Duration::from_millis(600);

    async fn noticed(files: &mut Files) {
        timeout(DEADLINE, files.changed()).await.expect("the change was not noticed");
    }

    async fn not_noticed(files: &mut Files) {
        assert!(timeout(NOTHING, files.changed()).await.is_err(), "noticed without a change");
    }

    #[tokio::test]
    async fn many_writes_make_one_change_and_the_same_content_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("meshbus.yaml");
        fs::write(&path, "0").unwrap();
        let mut files = Files::new(vec![path.clone()]);
        for i in 1..20 {
            fs::write(&path, i.to_string()).unwrap();
        }
        noticed(&mut files).await;
        not_noticed(&mut files).await;
        fs::write(&path, "19").unwrap();
        fs::write(home.path().join("other"), "x").unwrap();
        not_noticed(&mut files).await;
    }

    #[tokio::test]
    async fn a_file_replaced_by_rename_is_noticed_again_and_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("meshbus.yaml");
        fs::write(&path, "0").unwrap();
        let mut files = Files::new(vec![path.clone()]);
        for i in 1..4 {
            let new = home.path().join("meshbus.yaml.swp");
            fs::write(&new, i.to_string()).unwrap();
            fs::rename(&new, &path).unwrap();
            noticed(&mut files).await;
        }
    }

    #[tokio::test]
    async fn a_removed_file_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let (path, other) = (home.path().join("a.yaml"), home.path().join("b.yaml"));
        fs::write(&path, "0").unwrap();
        fs::write(&other, "0").unwrap();
        let mut files = Files::new(vec![path.clone(), other.clone()]);
        fs::remove_file(&path).unwrap();
        not_noticed(&mut files).await;
        fs::write(&other, "1").unwrap();
        noticed(&mut files).await;
        fs::write(&path, "1").unwrap();
        noticed(&mut files).await;
    }

    #[tokio::test]
    async fn a_config_map_is_noticed_when_its_directory_is_swapped() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let write = |directory: &str, text: &str| {
            fs::create_dir(at(directory)).unwrap();
            fs::write(at(directory).join("meshbus.yaml"), text).unwrap();
        };
        write("..1", "0");
        symlink("..1", at("..data")).unwrap();
        symlink("..data/meshbus.yaml", at("meshbus.yaml")).unwrap();
        let mut files = Files::new(vec![at("meshbus.yaml")]);
        for (old, new) in [("..1", "..2"), ("..2", "..3")] {
            write(new, new);
            symlink(new, at("..new")).unwrap();
            fs::rename(at("..new"), at("..data")).unwrap();
            fs::remove_dir_all(at(old)).unwrap();
            noticed(&mut files).await;
        }
    }

    #[tokio::test]
    async fn a_file_behind_a_link_into_another_directory_is_noticed() {
        let (home, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, real) = (home.path().join("meshbus.yaml"), away.path().join("real.yaml"));
        fs::write(&real, "0").unwrap();
        symlink(&real, &link).unwrap();
        let mut files = Files::new(vec![link]);
        fs::write(&real, "1").unwrap();
        noticed(&mut files).await;
    }

    #[tokio::test]
    async fn hang_up_reloads_and_the_second_request_to_stop_ends() {
        let mut signals = Signals::new([]).unwrap();
        for (signal, expected) in [
            ("-HUP", Signal::Reload),
            ("-TERM", Signal::Drain),
            ("-HUP", Signal::Reload),
            ("-INT", Signal::End),
        ] {
            // To this process alone, whose handlers are in place.
            let sent =
                Command::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap();
            assert!(sent.success());
            assert_eq!(timeout(DEADLINE, signals.next()).await.expect("no signal"), expected, "{signal}");
        }
    }
}
