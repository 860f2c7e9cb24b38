//! One connection to a server, from its making to its loss.
//!
//! async-nats would reconnect by itself, send what still lies in its queue over the new connection, and
//! report a flush as done whose bytes were lost with the old one. Then nobody could say what has arrived, and
//! a first try could overtake a second. So here a connection is made once: when it is lost all that hangs on
//! it ends, and the supervisor calls the connector again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError, Subscriber};
use bytestring::ByteString;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::super::config::{ClientConfig, TlsConfig};
use crate::config::values::Secret;
use crate::core::stats::ConnectorStats;
use crate::core::{Error, ErrorKind};

/// Nobody can listen there, so that a reconnect fails at once: see the [module](self).
const NOWHERE: &str = "nats://127.0.0.1:0";
/// Servers of a cluster remembered beyond those in the configuration.
const KNOWN_MAX: usize = 64;
/// Complaints of the server that wait to be read.
const FAULTS_WAITING: usize = 64;
/// Longest wait for the echo that shows whether echoes come at all.
const ECHO_LIMIT: Duration = Duration::from_secs(2);
/// At most one line in the log per so long about messages the client library had no room for.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) context: jetstream::Context,
    /// Answers come to `INBOX.NUMBER`.
    pub(super) inbox: String,
    /// The server, for errors and the log.
    pub(super) peer: String,
    /// What stands for the server in the `source` of messages that have none.
    pub(super) authority: String,
    /// Whether the server takes a reason with `+TERM`.
    pub(super) takes_reasons: bool,
}

/// The reading ends of a connection.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Answers, by number. It ends with the connection.
    pub(super) replies: Subscriber,
    /// What the server complains about, in its words.
    pub(super) faults: mpsc::Receiver<String>,
}

impl Session {
    /// Connects. `known` are servers of the cluster learnt from earlier connections, to which it adds.
    ///
    /// # Errors
    /// `Denied` when the server refuses the credentials, `Unreachable` when no server can be reached.
    pub(super) async fn connect(
        config: &ClientConfig,
        connector: &str,
        known: &mut Vec<ServerAddr>,
        stats: &Arc<ConnectorStats>,
    ) -> Result<(Self, Inbox), Error> {
        let configured = config.addresses();
        let peer = peer_of(&configured);
        let unreachable =
            |error: async_nats::Error| Error::new(ErrorKind::Unreachable, &peer).because(error);
        let mut servers = configured.clone();
        servers.extend(known.iter().filter(|server| !configured.contains(server)).cloned());
        let (faults_sender, faults) = mpsc::channel(FAULTS_WAITING);
        let options = options(config, servers.len())
            .and_then(|options| authenticate(config, options))
            .map_err(|reason| Error::new(ErrorKind::Denied, &peer).because(reason))?
            .name(format!("meshbus {connector}"))
            .event_callback(events(connector.into(), Arc::clone(stats), faults_sender));
        let client = options.connect(servers).await.map_err(|error| {
            let kind = match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    ErrorKind::Denied
                }
                _ => ErrorKind::Unreachable,
            };
            Error::new(kind, &peer).because(error)
        })?;
        client.set_server_pool(NOWHERE).await.map_err(|error| unreachable(error.into()))?;
        let info = client.server_info();
        learn(known, &info.connect_urls);
        let authority =
            info.cluster.clone().unwrap_or_else(|| configured.first().map(authority).unwrap_or_default());
        let builder = ContextBuilder::new();
        let context = match config.jetstream.as_ref().and_then(|jetstream| jetstream.domain.as_ref()) {
            Some(domain) => builder.domain(domain).timeout(config.timeout.0).build(client.clone()),
            None => builder.timeout(config.timeout.0).build(client.clone()),
        };
        let inbox = client.new_inbox();
        let replies =
            client.subscribe(format!("{inbox}.*")).await.map_err(|error| unreachable(error.into()))?;
        let takes_reasons = client.is_server_compatible(2, 11, 0);
        let session = Self { client, context, inbox, peer, authority, takes_reasons };
        Ok((session, Inbox { replies, faults }))
    }

    /// Sends an empty message to this connection itself and waits until it is back: then the server has read
    /// all that was sent before. `false` when echoes do not come: not permitted, or not wanted.
    ///
    /// # Errors
    /// The connection was lost.
    pub(super) async fn echoes(&self, inbox: &mut Inbox, config: &ClientConfig) -> Result<bool, Error> {
        if config.no_echo {
            self.client.flush().await.map_err(|error| self.lost().because(error))?;
            return Ok(false);
        }
        let token = format!("{}.0", self.inbox);
        self.client
            .publish(token, bytes::Bytes::new())
            .await
            .map_err(|error| self.lost().because(error))?;
        match timeout(ECHO_LIMIT.min(config.timeout.0), inbox.replies.next()).await {
            Ok(Some(_)) => Ok(true),
            Ok(None) => Err(self.lost()),
            Err(_) => Ok(false),
        }
    }

    /// The error of a connection that is no more.
    pub(super) fn lost(&self) -> Error {
        Error::new(ErrorKind::Disconnected, &self.peer)
    }

    /// An error of this connection, with its reason.
    pub(super) fn error(&self, kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error::new(kind, &self.peer).because(reason.into())
    }
}

fn options(config: &ClientConfig, servers: usize) -> Result<ConnectOptions, String> {
    // Every subscription of a connection has the same room. For answers in flight, and for what a consumer
    // was asked to send (half a batch before the last is read), it must never lack.
    let batches = config.subscribe.iter().filter_map(|entry| entry.jetstream.as_ref()).map(|c| 2 * c.batch);
    let room = config.buffer.max(config.in_flight + 16).max(batches.max().unwrap_or_default());
    let mut options = ConnectOptions::new()
        .connection_timeout(config.timeout.0)
        .request_timeout(Some(config.timeout.0))
        .ping_interval(config.ping_interval.0)
        .subscription_capacity(room)
        .custom_inbox_prefix(&config.inbox_prefix)
        // Each is tried once.
        .max_reconnects(servers)
        .reconnect_delay_callback(|_| Duration::ZERO);
    if config.no_echo {
        options = options.no_echo();
    }
    let Some(TlsConfig { ca, cert, key, required, first }) = config.tls.clone() else { return Ok(options) };
    if let Some(ca) = ca {
        options = options.add_root_certificates(readable(ca)?);
    }
    if let (Some(cert), Some(key)) = (cert, key) {
        options = options.add_client_certificate(readable(cert)?, readable(key)?);
    }
    if first {
        options = options.tls_first();
    }
    Ok(options.require_tls(required))
}

/// async-nats would only say that some file is missing.
fn readable(path: PathBuf) -> Result<PathBuf, String> {
    std::fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn authenticate(config: &ClientConfig, mut options: ConnectOptions) -> Result<ConnectOptions, String> {
    let read = |secret: &Option<Secret>| secret.as_ref().map(Secret::read).transpose();
    if let (Some(user), Some(password)) = (&config.user, read(&config.password)?) {
        options = options.user_and_password(user.clone(), password);
    }
    if let Some(token) = read(&config.token)? {
        options = options.token(token);
    }
    if let Some(seed) = read(&config.nkey)? {
        options = options.nkey(seed);
    }
    if let Some(credentials) = read(&config.credentials)? {
        options = options.credentials(&credentials).map_err(|error| format!("credentials: {error}"))?;
    }
    Ok(options)
}

/// What async-nats reports outside of any call: lost messages are counted, complaints passed on.
fn events(
    connector: ByteString,
    stats: Arc<ConnectorStats>,
    faults: mpsc::Sender<String>,
) -> impl Fn(Event) -> std::future::Ready<()> + Send + Sync {
    let last_logged: Mutex<Option<Instant>> = Mutex::new(None);
    move |event| {
        match event {
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                stats.lost.add(1);
                let mut last = last_logged.lock();
                if last.is_none_or(|last| last.elapsed() >= LOSS_LOG_INTERVAL) {
                    *last = Some(Instant::now());
                    let lost = stats.lost.get();
                    warn!(%connector, lost, "messages lost: the bus takes them in slower than they come");
                }
            }
            Event::ServerError(ServerError::Other(text)) => {
                // A full queue has enough complaints to end the connection or to log.
                drop(faults.try_send(text));
            }
            Event::ServerError(error) => drop(faults.try_send(error.to_string())),
            Event::LameDuckMode => info!(%connector, "the server is about to shut down"),
            other => debug!(%connector, event = %other, "connection"),
        }
        std::future::ready(())
    }
}

fn learn(known: &mut Vec<ServerAddr>, urls: &[String]) {
    for url in urls {
        if let Ok(server) = url.parse::<ServerAddr>()
            && known.len() < KNOWN_MAX
            && !known.contains(&server)
        {
            known.push(server);
        }
    }
}

/// Host and port as they stand for a server: the port only where it is not the usual one.
fn authority(server: &ServerAddr) -> String {
    let host =
        if server.host().contains(':') { format!("[{}]", server.host()) } else { server.host().to_owned() };
    if server.port() == 4222 { host } else { format!("{host}:{}", server.port()) }
}

/// The configured servers without credentials.
pub(super) fn peer_of(servers: &[ServerAddr]) -> String {
    let one = |server: &ServerAddr| format!("{}://{}", server.scheme(), authority(server));
    servers.iter().map(one).collect::<Vec<_>>().join(",")
}
