//! One connection to a broker: socket, buffers, and the handshake that says what the broker allows.
//!
//! Packets are written to a buffer and leave together; whoever drives the connection awaits
//! [`Connection::exchange`], which loses nothing when it is dropped half-way.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, LastWill, LastWillProperties, Login,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::io::{poll_read_buf, poll_write_buf};
use tracing::debug;

use super::super::codec;
use super::super::config::{Broker, Plan, Qos, Version};
use super::super::frame::{self, Frame, Frames, LENGTH_MAX, Packet};
use crate::config::values::Secret;
use crate::core::{Error, ErrorKind};
use crate::runtime::tls::{ClientTls, client_config};

/// Room made for each read.
const READ_SIZE: usize = 32 * 1024;
/// How long to leave a broker alone that says it is busy.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// How long a broker has to close its side after our DISCONNECT.
const LINGER: Duration = Duration::from_millis(500);

/// What carries bytes: TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection the broker has accepted.
pub(super) struct Connection {
    /// The broker's URL.
    pub(super) peer: String,
    /// What the broker allows.
    pub(super) limits: Limits,
    /// Whether the broker still has our session.
    pub(super) session_present: bool,
    /// When bytes last came.
    pub(super) last_received: Instant,
    /// When bytes last went.
    pub(super) last_sent: Instant,
    version: Version,
    stream: Box<dyn Stream>,
    frames: Frames,
    input: BytesMut,
    output: BytesMut,
    written: u64,
    flushing: bool,
}

/// What the broker allows, from CONNACK; with 3.1.1 what the protocol does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Longest silence.
    pub(super) keep_alive: Duration,
    /// Receive Maximum: publications without acknowledgement.
    pub(super) in_flight: u16,
    /// Highest quality of service.
    pub(super) qos: Qos,
    /// Whether it retains.
    pub(super) retain: bool,
    /// Largest packet.
    pub(super) packet: usize,
    /// Highest topic alias; 0 for none.
    pub(super) aliases: u16,
}

impl Connection {
    /// Puts a packet into the output buffer.
    pub(super) fn send(&mut self, packet: Packet) -> Result<(), Error> {
        frame::encode(self.version, packet, &mut self.output).map_err(|e| self.protocol(e))
    }

    /// The next frame that has come.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        self.frames.next(&mut self.input).map_err(|e| self.protocol(e))
    }

    /// Bytes that wait to be written.
    pub(super) fn backlog(&self) -> usize {
        self.output.len()
    }

    /// Bytes given to the socket so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// What [`written`](Self::written) will be once all that waits now is out.
    pub(super) fn position(&self) -> u64 {
        self.written + self.output.len() as u64
    }

    /// Writes what waits and, with `read`, reads what is there; resolves when something moved. Cancel safe.
    pub(super) async fn exchange(&mut self, read: bool) -> Result<(), Error> {
        poll_fn(|cx| self.poll_exchange(cx, read)).await.map_err(|e| self.disconnected(e))
    }

    /// Writes all that waits.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        while !self.output.is_empty() || self.flushing {
            self.exchange(false).await?;
        }
        Ok(())
    }

    /// Says DISCONNECT, and reads on until the broker closes: a socket closed over unread bytes resets the
    /// connection, and the broker might never see the DISCONNECT.
    pub(super) async fn close(mut self) -> Result<(), Error> {
        frame::disconnect(self.version, 0, &mut self.output);
        self.flush().await?;
        let linger = async {
            poll_fn(|cx| Pin::new(&mut *self.stream).poll_shutdown(cx)).await?;
            loop {
                self.input.clear();
                self.input.reserve(READ_SIZE);
                if poll_fn(|cx| poll_read_buf(Pin::new(&mut *self.stream), cx, &mut self.input)).await? == 0
                {
                    return Ok::<_, std::io::Error>(());
                }
            }
        };
        // The goodbye is said; whatever fails now changes nothing.
        let _closed = timeout(LINGER, linger).await;
        Ok(())
    }

    /// The connection is lost.
    pub(super) fn disconnected(&self, source: impl Into<crate::core::error::BoxError>) -> Error {
        Error::new(ErrorKind::Disconnected, &self.peer).because(source)
    }

    /// The broker broke the protocol.
    pub(super) fn protocol(&self, source: impl Into<crate::core::error::BoxError>) -> Error {
        Error::new(ErrorKind::Protocol, &self.peer).because(source)
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<std::io::Result<()>> {
        let mut moved = false;
        while !self.output.is_empty() {
            match poll_write_buf(Pin::new(&mut *self.stream), cx, &mut self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.written += n as u64;
                    self.flushing = true;
                    moved = true;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => break,
            }
        }
        if self.flushing {
            match Pin::new(&mut *self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushing = false,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {}
            }
        }
        if moved {
            self.last_sent = Instant::now();
        }
        if read {
            self.input.reserve(READ_SIZE / 4);
            match poll_read_buf(Pin::new(&mut *self.stream), cx, &mut self.input) {
                Poll::Ready(Ok(0)) => {
                    let closed = "closed by the broker";
                    return Poll::Ready(Err(std::io::Error::new(
                        std::io::ErrorKind::UnexpectedEof,
                        closed,
                    )));
                }
                Poll::Ready(Ok(_)) => {
                    self.last_received = Instant::now();
                    moved = true;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {}
            }
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Connects to the first broker that accepts us.
///
/// # Errors
/// That of the first broker worth trying again; `Denied` only when all refuse us.
pub(super) async fn dial(plan: &Plan, client_id: &str) -> Result<Connection, Error> {
    let mut first: Option<Error> = None;
    for broker in &plan.brokers {
        match timeout(plan.settings.connect_timeout.0, connect(plan, broker, client_id)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                debug!(%broker, %error, "broker not connected");
                if first.as_ref().is_none_or(|first| first.kind == ErrorKind::Denied) {
                    first = Some(error);
                }
            }
            Err(_) => {
                let late = format!("no CONNACK within {:?}", plan.settings.connect_timeout.0);
                let error = Error::new(ErrorKind::Unreachable, broker.to_string()).because(late);
                if first.as_ref().is_none_or(|first| first.kind == ErrorKind::Denied) {
                    first = Some(error);
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::new(ErrorKind::Unreachable, "urls").because("names no broker")))
}

async fn connect(plan: &Plan, broker: &Broker, client_id: &str) -> Result<Connection, Error> {
    let peer = broker.to_string();
    let packet =
        connect_packet(plan, client_id).map_err(|e| Error::new(ErrorKind::Denied, &peer).because(e))?;
    let stream = open(plan, broker).await?;
    let settings = &plan.settings;
    let now = Instant::now();
    let mut connection = Connection {
        peer,
        limits: Limits {
            keep_alive: settings.keep_alive.0,
            in_flight: u16::MAX,
            qos: Qos::ExactlyOnce,
            retain: true,
            packet: LENGTH_MAX,
            aliases: 0,
        },
        session_present: false,
        last_received: now,
        last_sent: now,
        version: settings.version,
        stream,
        frames: Frames::new(settings.version, settings.max_packet_size.0 as usize),
        input: BytesMut::with_capacity(READ_SIZE),
        output: BytesMut::with_capacity(READ_SIZE),
        written: 0,
        flushing: false,
    };
    connection.send(packet)?;
    let ack = loop {
        match connection.next_frame()? {
            None => connection.exchange(true).await?,
            Some(Frame::Packet(Packet::ConnAck(ack))) => break ack,
            Some(other) => return Err(connection.protocol(format!("expected CONNACK, got {other:?}"))),
        }
    };
    connection.accepted(ack, settings.max_packet_size.0 as usize)?;
    Ok(connection)
}

impl Connection {
    fn accepted(&mut self, ack: ConnAck, own_packet_limit: usize) -> Result<(), Error> {
        if ack.code != ConnectReturnCode::Success {
            return Err(refused(&self.peer, &ack));
        }
        self.session_present = ack.session_present;
        let limits = &mut self.limits;
        match ack.properties {
            // 3.1.1 has no way to say so, and a broker closes on what is too large for it.
            None if self.version == Version::V311 => limits.packet = own_packet_limit,
            None => {}
            Some(allowed) => {
                if let Some(seconds) = allowed.server_keep_alive {
                    limits.keep_alive = Duration::from_secs(seconds.into());
                }
                limits.in_flight = allowed.receive_max.unwrap_or(limits.in_flight).max(1);
                limits.qos = allowed.max_qos.and_then(|qos| Qos::try_from(qos).ok()).unwrap_or(limits.qos);
                limits.retain = allowed.retain_available != Some(0);
                limits.packet = allowed.max_packet_size.map_or(limits.packet, |size| size as usize);
                limits.aliases = allowed.topic_alias_max.unwrap_or(0);
            }
        }
        Ok(())
    }
}

async fn open(plan: &Plan, broker: &Broker) -> Result<Box<dyn Stream>, Error> {
    let unreachable = |e: std::io::Error| Error::new(ErrorKind::Unreachable, broker.to_string()).because(e);
    let tcp = TcpStream::connect((broker.host.as_str(), broker.port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    if !broker.tls {
        return Ok(Box::new(tcp));
    }
    let denied = |e: String| Error::new(ErrorKind::Denied, broker.to_string()).because(e);
    let tls = &plan.settings.tls;
    let trust = ClientTls { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() };
    let alpn: Vec<&str> = tls.alpn.iter().map(String::as_str).collect();
    let config = client_config(&trust, &alpn).map_err(|e| denied(format!("tls.{e}")))?;
    let name = ServerName::try_from(broker.host.clone()).map_err(|e| denied(e.to_string()))?;
    Ok(Box::new(TlsConnector::from(config).connect(name, tcp).await.map_err(unreachable)?))
}

fn connect_packet(plan: &Plan, client_id: &str) -> Result<Packet, String> {
    let settings = &plan.settings;
    let password = settings.password.as_ref().map(Secret::read).transpose()?;
    let login = (settings.user.is_some() || password.is_some()).then(|| Login {
        username: settings.user.clone().unwrap_or_default(),
        password: password.unwrap_or_default(),
    });
    let will = settings.will.as_ref().map(|will| LastWill {
        topic: will.topic.clone().into(),
        message: will.payload.clone().into(),
        qos: codec::qos(will.qos),
        retain: will.retain,
        properties: will.delay.map(|delay| LastWillProperties {
            delay_interval: Some(u32::try_from(delay.0.as_secs()).unwrap_or(u32::MAX)),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }),
    });
    let kept = if plan.clean_start { 0 } else { settings.session_expiry.0.as_secs() };
    let connect = Connect {
        keep_alive: u16::try_from(settings.keep_alive.0.as_secs()).unwrap_or(u16::MAX),
        client_id: client_id.to_owned(),
        clean_start: plan.clean_start,
        properties: Some(ConnectProperties {
            session_expiry_interval: Some(u32::try_from(kept).unwrap_or(u32::MAX)),
            receive_maximum: Some(settings.in_flight),
            // No Maximum Packet Size: a broker that knows it drops what is larger and says so to nobody
            // (MQTT-3.1.2-25). We skip it ourselves, and it goes to the dead letter.
            max_packet_size: None,
            ..ConnectProperties::new()
        }),
    };
    Ok(Packet::Connect(connect, will, login))
}

fn refused(peer: &str, ack: &ConnAck) -> Error {
    use ConnectReturnCode as Code;
    let (kind, hint) = match ack.code {
        Code::BadUserNamePassword => (ErrorKind::Denied, ": check user and password"),
        Code::NotAuthorized | Code::Banned | Code::BadAuthenticationMethod => (ErrorKind::Denied, ""),
        Code::BadClientId | Code::ClientIdentifierNotValid => {
            (ErrorKind::Denied, ": set another client_id")
        }
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            (ErrorKind::Denied, ": set version: 3.1.1 or 5")
        }
        Code::QoSNotSupported | Code::RetainNotSupported | Code::TopicNameInvalid => {
            (ErrorKind::Denied, ": change the will")
        }
        Code::ServerBusy
        | Code::ServerUnavailable
        | Code::ServiceUnavailable
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded => (ErrorKind::Busy(BUSY), ""),
        Code::UseAnotherServer | Code::ServerMoved => (ErrorKind::Unreachable, ": change urls"),
        _ => (ErrorKind::Protocol, ""),
    };
    let properties = ack.properties.as_ref();
    let said = properties.and_then(|p| p.reason_string.as_ref().or(p.server_reference.as_ref()));
    let said = said.map(|text| format!(" ({text})")).unwrap_or_default();
    Error::new(kind, peer).because(format!("CONNACK {:?}{said}{hint}", ack.code))
}
