//! A hostile API server: the peer against which the bus's Kubernetes client is proven.
//!
//! It keeps to what a real API server does, and within that is as nasty as one may be: see [`Fault`]. It is written
//! from the protocol alone and shares nothing with the bus. Every die it throws comes from its seed, which it prints.
//! Simpler than a real one: no tables, OpenAPI, protobuf or admission; lists inside objects are atomic in patches.
#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what is wrong here is the test itself")]
#![allow(clippy::indexing_slicing, clippy::string_slice, reason = "as above; indices are the server's own")]
#![allow(clippy::print_stderr, reason = "the seed of a failed test repeats it")]

mod chaos;
mod delete;
mod discovery;
mod drive;
mod event_form;
mod fields;
mod form;
mod kinds;
mod list;
mod patch;
mod route;
mod selector;
mod serve;
mod status;
mod store;
mod watch;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch as signal;
use tokio::task::JoinHandle;

#[allow(unused_imports, reason = "each test binary uses some of them")]
pub(crate) use chaos::{FAULTS, Fault};
#[allow(unused_imports, reason = "as above")]
pub(crate) use drive::{Happened, Object, TEST, event_name};
#[allow(unused_imports, reason = "as above")]
pub(crate) use kinds::Kind;
#[allow(unused_imports, reason = "as above")]
pub(crate) use store::{ChangeType, Request, Write};

use chaos::Chaos;
use store::State;

/// What a hostile server is made of.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Custom kinds beside Event, Namespace, Pod, `ConfigMap`, Deployment and Lease.
    pub(crate) kinds: Vec<Kind>,
    /// Namespaces that exist from the start; `default` and `kube-system` always do.
    pub(crate) namespaces: Vec<String>,
    /// The bearer token every request must bring; `None` asks for none.
    pub(crate) token: Option<String>,
    /// Events have resource versions of their own, as in a separate storage.
    pub(crate) separate_events: bool,
    /// Whether `sendInitialEvents` is served; if not it is refused with 422.
    pub(crate) watch_list: bool,
    /// Whether the bookmark that ends such a list is sent: servers there were that forgot it.
    pub(crate) list_bookmark: bool,
    /// Whether discovery is served aggregated too.
    pub(crate) aggregated_discovery: bool,
    /// Whether Events are served as events.k8s.io/v1 too.
    pub(crate) events_v1: bool,
    /// Between bookmarks; a real server takes about a minute.
    pub(crate) bookmark_every: Duration,
    /// How long a watcher may not read before its stream ends.
    pub(crate) slow_watcher: Duration,
    /// Seconds in `Retry-After`.
    pub(crate) retry_after: u64,
    /// Of each fault, by its number; see [`Self::fault`].
    pub(crate) probability: [f64; FAULTS.len()],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::custom("example.com", "v1", "Widget", "widgets").selectable(&["spec.color"])],
            namespaces: Vec::new(),
            token: None,
            separate_events: false,
            watch_list: true,
            list_bookmark: true,
            aggregated_discovery: true,
            events_v1: true,
            bookmark_every: Duration::from_millis(500),
            slow_watcher: Duration::from_secs(5),
            retry_after: 1,
            probability: [0.0; FAULTS.len()],
        }
    }
}

impl Options {
    /// With this fault at this probability, each time it could strike.
    pub(crate) fn fault(mut self, fault: Fault, probability: f64) -> Self {
        self.probability[fault as usize] = probability;
        self
    }

    /// With every fault at this probability.
    pub(crate) fn all_faults(mut self, probability: f64) -> Self {
        self.probability = [probability; FAULTS.len()];
        self
    }
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Hostile {
    shared: Arc<Shared>,
    address: SocketAddr,
    seed: u64,
    task: JoinHandle<()>,
}

/// What requests, watches and the test have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    chaos: Chaos,
    options: Options,
    /// Fires after every commit.
    changed: signal::Sender<()>,
    /// Every connection of an older generation breaks.
    generation: signal::Sender<u64>,
    /// Whether the server should listen, and whether it does.
    up: signal::Sender<bool>,
    listening: signal::Sender<bool>,
    /// One restart at a time.
    restarting: tokio::sync::Mutex<()>,
    watchers: AtomicUsize,
    slow_watchers: AtomicU64,
}

/// Longest time a server is down in a restart that struck by itself.
const DOWN_MAX: Duration = Duration::from_millis(200);
/// Pieces a trickled line or body is cut in.
const PIECES_MAX: u64 = 16;

impl Hostile {
    /// Starts one on a free port of the loopback address.
    pub(crate) async fn start(seed: u64, options: Options) -> Self {
        eprintln!("hostile API server with seed {seed}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let chaos = Chaos::new(seed, options.probability);
        let state =
            State::new(kinds::table(&options.kinds), chaos.pick(100..1_000), options.separate_events);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            chaos,
            options,
            changed: signal::channel(()).0,
            generation: signal::channel(0).0,
            up: signal::channel(true).0,
            listening: signal::channel(true).0,
            restarting: tokio::sync::Mutex::new(()),
            watchers: AtomicUsize::new(0),
            slow_watchers: AtomicU64::new(0),
        });
        let task = tokio::spawn(serve::run(Arc::clone(&shared), listener, address));
        let hostile = Self { shared, address, seed, task };
        let mut namespaces = vec!["default".to_owned(), "kube-system".to_owned()];
        namespaces.extend_from_slice(&hostile.shared.options.namespaces);
        for namespace in namespaces {
            hostile.create("Namespace", "", &namespace, serde_json::json!({}));
        }
        hostile
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:…`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The seed that repeats its dice.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// A kubeconfig whose one context, `hostile`, is this server.
    pub(crate) fn kubeconfig(&self) -> String {
        let token = self.shared.options.token.as_deref().unwrap_or("none-needed");
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: hostile\n\
             clusters:\n- name: hostile\n  cluster:\n    server: {}\n\
             users:\n- name: tester\n  user:\n    token: \"{token}\"\n\
             contexts:\n- name: hostile\n  context:\n    cluster: hostile\n    user: tester\n    \
             namespace: default\n",
            self.url()
        )
    }

    /// Breaks every connection and listens no more; what is stored stays.
    pub(crate) async fn stop(&self) {
        self.shared.go(false).await;
    }

    /// Listens again, on the same port, with empty caches.
    pub(crate) async fn go_on(&self) {
        self.shared.state.lock().drop_caches();
        self.shared.go(true).await;
    }

    /// [`Self::stop`] and [`Self::go_on`].
    pub(crate) async fn restart(&self) {
        let one = self.shared.restarting.lock().await;
        self.stop().await;
        self.go_on().await;
        drop(one);
    }

    /// Breaks every connection while the server stays up.
    pub(crate) fn disconnect(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Compaction after writes of others: no resource version known so far can be resumed from. Running watches go on.
    pub(crate) fn lose_history(&self) {
        self.shared.forget();
    }

    /// Sets the probability of a fault from now on.
    pub(crate) fn set_fault(&self, fault: Fault, probability: f64) {
        self.shared.chaos.set(fault, probability);
    }

    /// Lets a fault strike the next `times` it could.
    pub(crate) fn force(&self, fault: Fault, times: u32) {
        self.shared.chaos.force(fault, times);
    }

    /// No faults from now on.
    pub(crate) fn quiet(&self) {
        self.shared.chaos.quiet();
    }

    /// How often a fault struck.
    pub(crate) fn happened(&self, fault: Fault) -> u64 {
        self.shared.chaos.happened(fault)
    }

    /// Every fault with how often it struck.
    pub(crate) fn score(&self) -> Vec<(Fault, u64)> {
        FAULTS.iter().map(|fault| (*fault, self.happened(*fault))).collect()
    }

    /// Watches that run now.
    pub(crate) fn watchers(&self) -> usize {
        self.shared.watchers.load(Ordering::SeqCst)
    }

    /// Watches that were ended because nobody read them.
    pub(crate) fn slow_watchers(&self) -> u64 {
        self.shared.slow_watchers.load(Ordering::SeqCst)
    }

    /// Every request so far, in order of arrival, refused ones too.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().requests.clone()
    }

    /// Every committed write so far, in order.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.shared.state.lock().writes.clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
        self.disconnect();
    }
}

impl Shared {
    async fn go(&self, up: bool) {
        let mut listening = self.listening.subscribe();
        self.up.send_replace(up);
        // It errs only when the server is gone.
        drop(listening.wait_for(|listens| *listens == up).await);
        if !up {
            self.generation.send_modify(|generation| *generation += 1);
        }
    }

    /// A restart that struck by itself.
    async fn restart(&self) {
        let Ok(one) = self.restarting.try_lock() else { return };
        self.go(false).await;
        tokio::time::sleep(self.chaos.time(Duration::ZERO, DOWN_MAX)).await;
        self.state.lock().drop_caches();
        self.go(true).await;
        drop(one);
    }

    /// Compacts; answers the oldest version that is left of the main storage.
    fn forget(&self) -> u64 {
        let mut state = self.state.lock();
        state.compact(self.chaos.pick(1..10));
        state.compacted(kinds::NAMESPACE)
    }

    /// Cuts bytes in some pieces of random lengths.
    fn pieces(&self, bytes: &Bytes) -> Vec<Bytes> {
        let mut cuts: Vec<usize> =
            (0..PIECES_MAX).map(|_| self.chaos.pick(0..bytes.len() as u64 + 1) as usize).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut start = 0;
        let mut pieces = Vec::new();
        for end in cuts.into_iter().filter(|end| *end > 0) {
            if end > start {
                pieces.push(bytes.slice(start..end));
                start = end;
            }
        }
        pieces
    }
}
