//! Child processes of a bench: the peers, the program and the roles the bench itself plays.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::{Failure, cpu_of, memory_of};

/// How long anything may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child process, killed when dropped. What it writes goes to a file.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program.
    pub(crate) fn start(name: &str, dir: &Path, mut command: Command) -> Result<Self, Failure> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("{name}: {error}: is it installed?"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Starts this bench in another role.
    pub(crate) fn role(role: &str, dir: &Path, args: &[String]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role").arg(role).args(args);
        Self::start(role, dir, command)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its CPU time in nanoseconds.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        cpu_of(self.pid()).ok_or_else(|| format!("{} ended: {}", self.name, self.said()).into())
    }

    /// Its resident memory in MiB, now and at its peak.
    pub(crate) fn memory(&self) -> Result<(f64, f64), Failure> {
        let (now, peak) = memory_of(self.pid()).ok_or_else(|| format!("{} ended", self.name))?;
        Ok((now as f64 / 1024.0, peak as f64 / 1024.0))
    }

    /// Its resident memory in MiB, once that changes no more.
    pub(crate) fn settled(&self) -> Result<f64, Failure> {
        let mut before = self.memory()?.0;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.memory()?.0;
            if (now - before).abs() < 0.1 {
                return Ok(now);
            }
            before = now;
        }
        Ok(before)
    }

    /// What it has written.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `word`.
    pub(crate) fn until_says(&mut self, word: &str) -> Result<(), Failure> {
        self.until(&format!("says {word:?}"), |process| process.said().contains(word))
    }

    /// Waits until something listens.
    pub(crate) fn until_listens(&mut self, port: u16) -> Result<(), Failure> {
        self.until("listens", |_| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Waits until `/readyz` says so.
    pub(crate) fn until_ready(&mut self, health: u16) -> Result<(), Failure> {
        self.until("is ready", |_| is_ready(health).unwrap_or(false))
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if holds(self) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended with {status}: {}", self.name, self.said()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("waited in vain until {} {what}: {}", self.name, self.said()).into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Waits until it ends by itself, well.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        let name = &self.name;
        if status.success() { Ok(()) } else { Err(format!("{name}: {status}: {}", self.said()).into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether the health port says 200.
fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b" 200"))
}

/// The brokers, started for this bench alone.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) nats: Process,
    pub(crate) nats_port: u16,
    pub(crate) mosquitto: Process,
    pub(crate) mqtt_port: u16,
    /// Ends after the processes that write into it.
    pub(crate) dir: TempDir,
}

impl Peers {
    pub(crate) fn start() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("meshbus-bench-").tempdir()?;
        let (nats_port, mqtt_port) = (free_port()?, free_port()?);
        let nats = start_nats(dir.path(), nats_port)?;
        let file = dir.path().join("mosquitto.conf");
        let user = Command::new("id").arg("-un").output()?.stdout;
        let settings = format!(
            "listener {mqtt_port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             max_inflight_messages 1000\nlog_dest stderr\nlog_type error\nuser {}\n",
            String::from_utf8_lossy(&user).trim()
        );
        fs::write(&file, settings)?;
        let program = std::env::var_os("MESHBUS_MOSQUITTO").unwrap_or_else(|| "/usr/sbin/mosquitto".into());
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        let mut mosquitto = Process::start("mosquitto", dir.path(), command)?;
        mosquitto.until_listens(mqtt_port)?;
        Ok(Self { nats, nats_port, mosquitto, mqtt_port, dir })
    }
}

/// nats-server 2.15, where pip puts it; Debian's is older.
pub(crate) fn start_nats(dir: &Path, port: u16) -> Result<Process, Failure> {
    let found = || -> Result<PathBuf, Failure> {
        let ask = "import sysconfig; print(sysconfig.get_path('scripts'))";
        let scripts = Command::new("python3").args(["-c", ask]).output()?.stdout;
        Ok(PathBuf::from(String::from_utf8_lossy(&scripts).trim()).join("nats-server"))
    };
    let named = std::env::var_os("MESHBUS_NATS_SERVER").map(PathBuf::from);
    let program = named.map_or_else(found, Ok)?;
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
    let mut nats = Process::start("nats-server", dir, command)?;
    nats.until_says("Server is ready")?;
    Ok(nats)
}

/// The program with this configuration, ready.
pub(crate) fn start_meshbus(dir: &Path, name: &str, config: &str) -> Result<Process, Failure> {
    let health = free_port()?;
    let file = dir.join(format!("{name}.yaml"));
    let config = format!("name: {name}\nhealth: {{listen: \"127.0.0.1:{health}\"}}\n{config}");
    fs::write(&file, config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshbus"));
    command.arg("run").arg("-c").arg(file);
    let mut process = Process::start(name, dir, command)?;
    process.until_ready(health)?;
    Ok(process)
}

/// A free port outside the range the kernel takes client ports from.
pub(crate) fn free_port() -> Result<u16, Failure> {
    (0..1000)
        .map(|_| fastrand::u16(18_500..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| "no free port between 18500 and 32000".into())
}
