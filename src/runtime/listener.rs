//! TCP listeners: binding with errors that say what to do, and an accept loop that is bounded and drains.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::shutdown::Shutdown;
use super::task;
use crate::core::{Error, ErrorKind};

/// How long accepting waits after the system had no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one line in so long says that the connection limit is reached.
const FULL_NOTE_EVERY: Duration = Duration::from_secs(10);

/// Binds `listen`: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or `:8080` for all interfaces.
///
/// Port 0 takes a free one. Whether an address beyond loopback is allowed is the configuration's business.
///
/// # Errors
/// `Denied` when the address is in use, not ours, or needs privileges, since only the operator can change that;
/// `Unreachable` when it cannot be looked up now. The message names the address and what to do.
pub async fn bind(listen: &str) -> Result<TcpListener, Error> {
    let failed = |kind, reason: String| Error::new(kind, listen).because(reason);
    // On Linux the IPv6 wildcard takes IPv4 as well.
    let host_port = if listen.starts_with(':') { format!("[::]{listen}") } else { listen.to_owned() };
    let addresses: Vec<SocketAddr> = match lookup_host(&host_port).await {
        Ok(addresses) => addresses.collect(),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(failed(
                ErrorKind::Denied,
                format!("{error}; write host:port, such as 127.0.0.1:8080"),
            ));
        }
        Err(error) => return Err(failed(ErrorKind::Unreachable, format!("cannot be looked up: {error}"))),
    };
    let mut last = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            // A machine without IPv6 still has all its IPv4 interfaces.
            Err(error) if listen.starts_with(':') && error.kind() != io::ErrorKind::AddrInUse => {
                let any = SocketAddr::from(([0, 0, 0, 0], address.port()));
                match TcpListener::bind(any).await {
                    Ok(listener) => return Ok(listener),
                    Err(error) => last = Some(error),
                }
            }
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::other("the name has no address"));
    Err(failed(ErrorKind::Denied, explain(listen, &error)))
}

/// Why a bind failed, and what to do about it.
fn explain(listen: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "address in use: another process has {listen}; stop it (`ss -ltnp` names it) or choose another address"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "permission denied to listen on {listen}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has the address of {listen}: see `ip address`")
        }
        _ => format!("cannot listen on {listen}: {error}"),
    }
}

/// Accepts connections until the drain, each in its own task, at most `limit` of them at once: at the limit
/// accepting pauses and the system's backlog holds newcomers.
///
/// On the drain the listener closes and connections go on until their future ends; at the end of the grace period
/// they are dropped. Dropping this future drops them too. `serve` is told the stream, with `TCP_NODELAY` set, and
/// the peer's address; it should hear the shutdown itself, so that an idle connection does not hold up the drain.
pub async fn serve_connections<F, Fut>(listener: TcpListener, limit: u32, shutdown: &Shutdown, mut serve: F)
where
    F: FnMut(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    // A child, so that its end also means that this future was dropped.
    let connections = EndOnDrop(shutdown.child());
    let slots = Arc::new(Semaphore::new(limit as usize));
    let mut noted: Option<Instant> = None;
    let accept = async {
        loop {
            if slots.available_permits() == 0 && noted.is_none_or(|at| at.elapsed() >= FULL_NOTE_EVERY) {
                noted = Some(Instant::now());
                warn!(limit, listen = ?listener.local_addr().ok(), "connection limit reached, accepting pauses");
            }
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (stream, peer) = accept_one(&listener).await;
            let ending = connections.0.clone();
            let connection = serve(stream, peer);
            drop(task::spawn("connection", async move {
                tokio::select! {
                    () = connection => {}
                    () = ending.end() => debug!(%peer, "connection dropped at the end of the grace period"),
                }
                drop(slot);
            }));
        }
    };
    tokio::select! {
        () = shutdown.drain() => {}
        () = accept => {}
    }
    drop(listener);
    // All slots back: every connection has ended.
    drop(slots.acquire_many(limit).await);
}

async fn accept_one(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Only latency is lost where the system cannot.
                drop(stream.set_nodelay(true));
                return (stream, peer);
            }
            Err(error) => {
                // A peer that gave up in the queue is nothing; no descriptors left needs time.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) {
                    warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

struct EndOnDrop(Shutdown);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.start_end();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Serves an echo of one byte a time; tells each accept.
    fn echo(limit: u32) -> (SocketAddr, Shutdown, mpsc::Receiver<()>, tokio::task::JoinHandle<()>) {
        let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(std).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let (accepted, accepts) = mpsc::channel(100);
        let serving = shutdown.clone();
        let handle = task::spawn("echo", async move {
            serve_connections(listener, limit, &serving, |mut stream, _| {
                accepted.try_send(()).unwrap();
                async move {
                    while let Ok(byte) = stream.read_u8().await {
                        stream.write_u8(byte).await.unwrap();
                    }
                }
            })
            .await;
        });
        (address, shutdown, accepts, handle)
    }

    async fn ping(stream: &mut TcpStream) -> bool {
        stream.write_u8(7).await.is_ok() && timeout(DEADLINE, stream.read_u8()).await.unwrap().is_ok()
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let first = bind("127.0.0.1:0").await.unwrap();
        let listen = first.local_addr().unwrap().to_string();
        let error = bind(&listen).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
        let text = error.to_string();
        assert!(text.contains(&format!("address in use: another process has {listen};")), "{text}");
        assert!(text.contains("choose another address"), "{text}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_says_how_one_is_written() {
        for listen in ["8080", "localhost", "127.0.0.1:http"] {
            let error = bind(listen).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{listen}: {error}");
            assert!(error.to_string().contains("write host:port"), "{error}");
        }
        let error = bind("192.0.2.1:0").await.unwrap_err().to_string();
        assert!(error.contains("no interface of this machine"), "{error}");
    }

    #[tokio::test]
    async fn a_port_alone_listens_on_all_interfaces() {
        let listener = bind(":0").await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_unspecified());
        TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).await.unwrap();
    }

    #[tokio::test]
    async fn at_the_limit_a_connection_waits_until_another_ends() {
        let (address, _shutdown, mut accepts, _serving) = echo(1);
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(ping(&mut first).await);
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_u8(1).await.unwrap();
        accepts.recv().await.unwrap();
        assert!(
            timeout(Duration::from_millis(100), accepts.recv()).await.is_err(),
            "accepted beyond the limit"
        );
        drop(first);
        timeout(DEADLINE, accepts.recv()).await.unwrap().unwrap();
        assert_eq!(timeout(DEADLINE, second.read_u8()).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_drain_refuses_newcomers_and_waits_for_those_under_way() {
        let (address, shutdown, _accepts, mut serving) = echo(10);
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ping(&mut stream).await);
        shutdown.start_drain();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(ping(&mut stream).await, "the connection under way goes on");
        assert!(timeout(Duration::from_millis(50), &mut serving).await.is_err());
        drop(stream);
        timeout(DEADLINE, serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_grace_period_drops_connections() {
        let (address, shutdown, _accepts, serving) = echo(10);
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ping(&mut stream).await);
        shutdown.start_end();
        timeout(DEADLINE, serving).await.unwrap().unwrap();
        assert!(!ping(&mut stream).await);
    }

    #[tokio::test]
    async fn dropping_the_loop_drops_its_connections() {
        let (address, _shutdown, _accepts, serving) = echo(10);
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ping(&mut stream).await);
        serving.abort();
        assert!(!ping(&mut stream).await);
    }
}
