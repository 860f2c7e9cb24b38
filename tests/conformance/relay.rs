//! A TCP relay between two ends, to cut and heal: to both it looks like a network that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Listens on a port of its own and passes everything on. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    /// Whether the link is up.
    up: watch::Sender<bool>,
    /// Connections passed on so far.
    passed: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Before `127.0.0.1:PORT`, which need not be served yet.
    pub(crate) async fn before(port: u16) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port for the relay");
        let own = socket.local_addr().expect("an address").port();
        let up = watch::Sender::new(true);
        let passed = Arc::new(AtomicU32::new(0));
        let accepting = tokio::spawn(accept(socket, port, up.subscribe(), Arc::clone(&passed)));
        Self { port: own, up, passed, accepting }
    }

    /// How many connections were passed on so far.
    pub(crate) fn passed(&self) -> u32 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Drops every connection; new ones are closed at once.
    pub(crate) fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets new connections through again.
    pub(crate) fn heal(&self) {
        self.up.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        // The connections end with it.
        self.cut();
    }
}

async fn accept(socket: TcpListener, port: u16, up: watch::Receiver<bool>, passed: Arc<AtomicU32>) {
    while let Ok((mut near, _)) = socket.accept().await {
        let mut up = up.clone();
        if !*up.borrow_and_update() {
            continue;
        }
        passed.fetch_add(1, Ordering::Relaxed);
        drop(tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let _unbuffered = (near.set_nodelay(true), far.set_nodelay(true));
            tokio::select! {
                _ended = copy_bidirectional(&mut near, &mut far) => {}
                _cut = up.wait_for(|up| !up) => {}
            }
        }));
    }
}
