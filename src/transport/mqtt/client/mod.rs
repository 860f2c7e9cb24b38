//! The MQTT client connector: one connection to a broker, on which messages come in and go out.
//!
//! It speaks rumqttc's packets, not through rumqttc's event loop. That one loses a packet when its `poll` is
//! dropped while the socket is full, fails for ever on the PUBREL of a resumed session, keeps a place of its
//! window for each refused publication with quality of service 2, ends the connection over a late pong while a consumer is slow,
//! and writes each packet with a system call of its own.
//!
//! One task, no spawning: [`Session::run`] takes in what has come, sends what may go, and then waits for
//! whichever comes first. While the bus takes nothing, pings and acknowledgements of our own publications go on.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rumqttc::v5::mqttbytes::v5::{
    Filter, PingReq, RetainForwardRule, SubAck, Subscribe, SubscribeReasonCode,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{info, warn};

use super::codec::{self, Origin};
use super::config::{IN_FLIGHT_MAX, Plan, Qos, RetainHandling, Retained, Subscription, Version};
use super::frame::{Frame, Packet};
use crate::core::delivery::{Delivery, Guarantee};
use crate::core::write::Write;
use crate::core::{Error, ErrorKind};
use crate::transport::{Connector, Link};

mod connection;
mod intake;
mod outgoing;
mod state;

use connection::{BUSY, Connection, dial};
use intake::Intake;
use outgoing::Outgoing;
use state::StateWrite;

/// Identifier of the one SUBSCRIBE packet; publications use those below.
const SUBSCRIBE_ID: u16 = IN_FLIGHT_MAX + 1;
/// How long a broker has at least to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A sleep that nothing waits for.
const FAR: Duration = Duration::from_hours(1);

/// A connection to a broker. What is under way outlives each single run.
#[derive(Debug)]
pub(super) struct Client {
    plan: Plan,
    /// Until the first run.
    origin: Option<Origin>,
    under_way: Option<UnderWay>,
    /// Whether this process has subscribed before.
    subscribed: bool,
    /// Whether a session was left without putting in order what is under way: it panicked.
    torn: bool,
}

#[derive(Debug)]
struct UnderWay {
    intake: Intake,
    outgoing: Outgoing,
}

impl UnderWay {
    /// The connection is lost.
    fn lost(&mut self) {
        self.intake.lost();
        self.outgoing.lost();
    }
}

impl Client {
    /// A connector with checked settings.
    pub(super) fn new(plan: Plan, origin: Origin) -> Self {
        Self { plan, origin: Some(origin), under_way: None, subscribed: false, torn: false }
    }

    async fn connect_and_run(&mut self, link: &mut Link) -> Result<(), Error> {
        let client_id = match &self.plan.settings.client_id {
            Some(id) => id.clone(),
            None => format!("meshbus-{}-{}", link.bus.name(), link.name),
        };
        let connection = tokio::select! {
            connection = dial(&self.plan, &client_id) => connection?,
            () = link.shutdown.end() => return Ok(()),
        };
        link.stats.connected.add(1);
        info!(
            connector = %link.name, broker = %connection.peer, session_present = connection.session_present,
            "connected"
        );
        if let Some(origin) = self.origin.take() {
            let settings = &self.plan.settings;
            let intake = Intake::new(link.bus.clone(), origin, link.stats.clone(), &self.plan);
            let outgoing = Outgoing::new(
                settings.version,
                settings.in_flight,
                settings.topic_alias,
                link.stats.clone(),
            );
            self.under_way = Some(UnderWay { intake, outgoing });
        }
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        if std::mem::replace(&mut self.torn, true) {
            under_way.lost();
        }
        under_way.intake.resume(&connection);
        under_way.outgoing.resume(&connection);
        let session = Session {
            plan: &self.plan,
            connection,
            under_way,
            subscribed: &mut self.subscribed,
            batch: Vec::new(),
            subscribing: false,
            pinged: Instant::now(),
            unanswered: None,
            mailbox_closed: false,
            bus_gone: false,
        };
        let ended = session.run(link).await;
        under_way.lost();
        self.torn = false;
        if let Err(error) = &ended {
            link.ready.down(error.to_string());
        }
        ended
    }
}

impl Connector for Client {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.connect_and_run(link))
    }

    fn ingress(&self) -> Guarantee {
        self.plan.ingress()
    }

    fn writes(&self) -> bool {
        true
    }
}

/// One connection's life.
struct Session<'a> {
    plan: &'a Plan,
    connection: Connection,
    under_way: &'a mut UnderWay,
    subscribed: &'a mut bool,
    /// Deliveries on their way from the mailbox; empty between turns.
    batch: Vec<Delivery>,
    /// Whether SUBACK is still to come.
    subscribing: bool,
    /// When the last ping went.
    pinged: Instant,
    /// The first ping that nothing came after.
    unanswered: Option<Instant>,
    mailbox_closed: bool,
    bus_gone: bool,
}

/// What a wait ended with.
enum Turn {
    /// Something moved: see what follows from it.
    Moved,
    /// A write of state; `None` when no more will come.
    Write(Option<Box<Write>>),
    /// The alarm rang.
    Alarm,
    /// Stop taking in.
    Drain,
    /// Stop.
    End,
}

impl Session<'_> {
    async fn run(mut self, link: &mut Link) -> Result<(), Error> {
        self.subscribe()?;
        if !self.subscribing {
            link.ready.up();
        }
        let mut draining = false;
        let mut alarm = Box::pin(sleep_until(Instant::now() + FAR));
        loop {
            let reading = self.take_in(link)?;
            self.under_way.intake.settle(&mut self.connection)?;
            self.under_way.intake.publish();
            self.under_way.outgoing.pump(&mut self.connection)?;
            if draining && self.is_done() {
                return self.connection.close().await;
            }
            self.set(alarm.as_mut());
            match self.wait(link, reading, draining, alarm.as_mut()).await? {
                Turn::Moved => {}
                Turn::Write(None) => self.bus_gone = true,
                Turn::Write(Some(write)) => self.write(*write, link),
                Turn::Alarm => {
                    alarm.as_mut().reset(Instant::now() + FAR);
                    self.alarm()?;
                }
                Turn::Drain => {
                    draining = true;
                    self.under_way.intake.close();
                }
                Turn::End => {
                    // The time for more than what goes at once is over.
                    let _late =
                        tokio::time::timeout(Duration::from_millis(200), self.connection.close()).await;
                    return Ok(());
                }
            }
            self.under_way.outgoing.written(self.connection.written());
        }
    }

    async fn wait(
        &mut self,
        link: &mut Link,
        reading: bool,
        draining: bool,
        alarm: std::pin::Pin<&mut Sleep>,
    ) -> Result<Turn, Error> {
        let UnderWay { intake, outgoing } = &mut *self.under_way;
        let room = outgoing.room();
        tokio::select! {
            moved = self.connection.exchange(reading) => moved.map(|()| Turn::Moved),
            () = intake.progress() => Ok(Turn::Moved),
            n = link.deliveries.recv(&mut self.batch, room), if room > 0 && !self.mailbox_closed => {
                self.mailbox_closed = n == 0;
                outgoing.take(&mut self.batch);
                Ok(Turn::Moved)
            }
            write = link.writes.recv(), if room > 0 && !self.bus_gone => Ok(Turn::Write(write.map(Box::new))),
            () = alarm => Ok(Turn::Alarm),
            () = link.shutdown.drain(), if !draining => Ok(Turn::Drain),
            () = link.shutdown.end() => Ok(Turn::End),
        }
    }

    /// Whether a drain is over.
    fn is_done(&self) -> bool {
        self.mailbox_closed && self.under_way.intake.is_idle() && self.under_way.outgoing.is_idle()
    }

    /// Reads what has come, as far as it fits; whether to read on.
    fn take_in(&mut self, link: &Link) -> Result<bool, Error> {
        if !self.under_way.intake.refit() {
            return Ok(false);
        }
        while let Some(frame) = self.connection.next_frame()? {
            match frame {
                Frame::Packet(Packet::Publish(publish)) => {
                    if !self.under_way.intake.accept(publish) {
                        return Ok(false);
                    }
                }
                Frame::Packet(packet) => self.receive(packet, link)?,
                Frame::Oversize { topic, qos, pkid, size } => {
                    self.under_way.intake.oversize(&topic, qos, pkid, size);
                }
                Frame::Disconnect { code, reason } => {
                    return Err(self.dismissed(code, reason.unwrap_or_default()));
                }
            }
        }
        Ok(true)
    }

    fn receive(&mut self, packet: Packet, link: &Link) -> Result<(), Error> {
        let UnderWay { intake, outgoing } = &mut *self.under_way;
        match packet {
            Packet::PubAck(ack) => {
                if let Some(state) = outgoing.puback(&ack) {
                    intake.confirmed(state);
                }
            }
            Packet::PubRec(ack) => outgoing.pubrec(&ack, &mut self.connection)?,
            Packet::PubComp(ack) => outgoing.pubcomp(ack.pkid),
            Packet::PubRel(release) => intake.pubrel(release.pkid, &mut self.connection)?,
            Packet::SubAck(ack) => self.subscribed(&ack, link)?,
            // Any packet answers a ping: see dead_at.
            Packet::PingResp(_) => {}
            other => return Err(self.connection.protocol(format!("unexpected packet {other:?}"))),
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), Error> {
        let settings = &self.plan.settings;
        let present = self.connection.session_present;
        let known = present && *self.subscribed;
        let filters: Vec<Filter> = settings
            .subscribe
            .iter()
            // 3.1.1 sends what it retains at each SUBSCRIBE: for events that would be a repetition.
            .filter(|s| !(known && settings.version == Version::V311 && s.retained != Retained::State))
            .map(|subscription| filter(subscription, known))
            .collect();
        if filters.is_empty() {
            return Ok(());
        }
        self.subscribing = true;
        self.connection.send(Packet::Subscribe(Subscribe { pkid: SUBSCRIBE_ID, filters, properties: None }))
    }

    fn subscribed(&mut self, ack: &SubAck, link: &Link) -> Result<(), Error> {
        if !self.subscribing || ack.pkid != SUBSCRIBE_ID {
            return Ok(());
        }
        for (subscription, code) in self.plan.settings.subscribe.iter().zip(&ack.return_codes) {
            let filter = subscription.filter();
            match code {
                SubscribeReasonCode::Success(granted) if *granted < codec::qos(subscription.qos) => {
                    warn!(connector = %link.name, %filter, ?granted, "the broker grants a lower quality of service");
                }
                SubscribeReasonCode::Success(_) => {}
                refused => {
                    let said =
                        ack.properties.as_ref().and_then(|p| p.reason_string.as_deref()).unwrap_or("");
                    let reason = format!("subscription {filter:?} refused: {refused:?} {said}");
                    return Err(
                        Error::new(ErrorKind::Denied, &self.connection.peer).because(reason.trim_end())
                    );
                }
            }
        }
        self.subscribing = false;
        *self.subscribed = true;
        link.ready.up();
        Ok(())
    }

    fn write(&mut self, write: Write, link: &Link) {
        let UnderWay { intake, outgoing } = &mut *self.under_way;
        let version = self.plan.settings.version;
        if let Some(write) = StateWrite::prepare(write, intake.origin(), &link.bus, version) {
            outgoing.write(write);
        }
    }

    /// The server's DISCONNECT (MQTT 5 section 3.14.2.1).
    fn dismissed(&mut self, code: u8, said: String) -> Error {
        let reason = format!("DISCONNECT 0x{code:02x} {said}");
        let reason = reason.trim_end();
        let (kind, hint) = match code {
            0x87 => (ErrorKind::Denied, ""),
            0x89 | 0x96 | 0x97 | 0x9f => (ErrorKind::Busy(BUSY), ""),
            0x8e => (ErrorKind::Disconnected, ": another client has our client_id"),
            0x81 | 0x82 | 0x90 | 0x95 | 0x99 | 0x9a | 0x9b => {
                self.under_way.outgoing.blame(reason);
                (ErrorKind::Disconnected, "")
            }
            _ => (ErrorKind::Disconnected, ""),
        };
        Error::new(kind, &self.connection.peer).because(format!("{reason}{hint}"))
    }

    /// Sets the alarm to what is due next. It may ring early, never late.
    fn set(&self, alarm: std::pin::Pin<&mut Sleep>) {
        let intake = &self.under_way.intake;
        let due = [intake.held_until(), intake.retry_at(), self.ping_at(), self.dead_at()];
        if let Some(due) = due.into_iter().flatten().min()
            && due < alarm.deadline()
        {
            alarm.reset(due);
        }
    }

    /// When to ping: after silence either way, a quarter early, since the broker's own clock runs too.
    fn ping_at(&self) -> Option<Instant> {
        let keep_alive = self.connection.limits.keep_alive;
        let silence = self.connection.last_sent.min(self.connection.last_received);
        (!keep_alive.is_zero()).then(|| silence.max(self.pinged) + keep_alive * 3 / 4)
    }

    /// When to give up a broker that does not answer pings. Any packet is an answer; one we do not read, we
    /// cannot see.
    fn dead_at(&self) -> Option<Instant> {
        let since = self.unanswered.filter(|since| self.connection.last_received <= *since)?;
        let held = self.under_way.intake.held_until().is_some();
        (!held).then(|| since + self.connection.limits.keep_alive.max(PING_TIMEOUT))
    }

    fn alarm(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.under_way.intake.held_until().is_some_and(|until| until <= now) {
            self.under_way.intake.give_way();
            self.unanswered = None;
        }
        if self.dead_at().is_some_and(|at| at <= now) {
            return Err(self.connection.disconnected("no answer to a ping"));
        }
        if self.ping_at().is_some_and(|at| at <= now) {
            if self.unanswered.is_none_or(|since| self.connection.last_received > since) {
                self.unanswered = Some(now);
            }
            self.pinged = now;
            self.connection.send(Packet::PingReq(PingReq))?;
        }
        Ok(())
    }
}

fn filter(subscription: &Subscription, known: bool) -> Filter {
    let handling = subscription.retain_handling.unwrap_or(match subscription.retained {
        Retained::Ignore => RetainHandling::Never,
        Retained::Event => RetainHandling::New,
        // The session brings what changed while we were away, but not into a table that is new.
        Retained::State if known && subscription.qos > Qos::AtMostOnce => RetainHandling::New,
        Retained::State => RetainHandling::Always,
    });
    let rule = match handling {
        RetainHandling::Always => RetainForwardRule::OnEverySubscribe,
        RetainHandling::New => RetainForwardRule::OnNewSubscribe,
        RetainHandling::Never => RetainForwardRule::Never,
    };
    Filter {
        path: subscription.filter(),
        qos: codec::qos(subscription.qos),
        nolocal: subscription.no_local.unwrap_or(subscription.share.is_none()),
        preserve_retain: subscription
            .retain_as_published
            .unwrap_or(subscription.retained == Retained::State),
        retain_forward_rule: rule,
    }
}

#[cfg(test)]
mod tests;
