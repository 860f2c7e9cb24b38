//! Child processes of a test: start, kill, stop and start again on the same address, never left behind.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// The directory of one test; kept and named when the test fails.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("meshbus-interop-").tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory below, made when absent.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory below the temporary one");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("files of the failed test are kept in {}", self.0.path().display());
        }
    }
}

/// One child process and how to start it again. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Not started yet; standard output and error go to `NAME.log` in the scratch directory.
    pub(crate) fn new(scratch: &Scratch, name: &str, program: impl Into<PathBuf>) -> Self {
        let log = scratch.path().join(format!("{name}.log"));
        Self { name: name.to_owned(), program: program.into(), args: vec![], env: vec![], log, child: None }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it. The caller waits until it answers.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log file"))
            .stderr(log)
            .spawn();
        self.child =
            Some(child.unwrap_or_else(|e| panic!("{}: {}: {e}", self.name, self.program.display())));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or_else(|| panic!("{} does not run", self.name), Child::id)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        child.kill().and_then(|()| child.wait()).expect("a child can be killed");
    }

    /// Sends a signal by its name: `HUP`, `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let args = [format!("-{signal}"), self.pid().to_string()];
        let status = Command::new("kill").args(args).status().expect("the program kill");
        assert!(status.success(), "{}: cannot send SIG{signal}", self.name);
    }

    /// Waits until it ends by itself.
    pub(crate) async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        let child = self.child.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name));
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                self.child = None;
                return status;
            }
            let name = &self.name;
            assert!(Instant::now() < deadline, "{name} did not end within {limit:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(limit).await
    }

    /// Why it is not there, when it ended by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("{} ended by itself, {status}; its log:\n{}", self.name, self.log_tail()))
    }

    /// Resident memory in bytes, from `/proc`.
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
    }

    /// The last 4 KiB of what it wrote.
    pub(crate) fn log_tail(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let length = file.metadata().map_or(0, |meta| meta.len());
            let _at = file.seek(SeekFrom::Start(length.saturating_sub(4096)));
            let _read = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// All it wrote.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            let _status = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- last lines of {}:\n{}---", self.name, self.log_tail());
        }
    }
}

/// A free port outside the range the kernel takes client ports from: while a peer is down, a client that
/// tries again must not connect to itself or find a stranger there.
///
/// No port is given twice: who gets one may bind it later, as may others that run beside it.
pub(crate) fn free_port() -> u16 {
    const PORTS: Range<u16> = 18_500..32_000;
    static GIVEN: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(PORTS)));
    for _ in PORTS {
        let next = |port| Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
        let port = GIVEN.fetch_update(Relaxed, Relaxed, next).unwrap_or(PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

/// Asks again until there is an answer. Panics with `what` after the limit.
pub(crate) async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
