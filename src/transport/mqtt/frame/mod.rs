//! Packets on the wire, MQTT 5 and 3.1.1 alike: 3.1.1 packets are read and written as the MQTT 5 packets
//! they are a part of, so that nothing above knows two kinds.
//!
//! The packets are rumqttc's. Framing is ours for two reasons: a PUBLISH that is too large must be skipped
//! and acknowledged, or a 3.1.1 broker sends it again for ever; and a packet that ends early must be an
//! error, not a wait for bytes that belong to the next one.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5;

use super::config::Version;

/// A packet, in its MQTT 5 form.
pub(super) type Packet = v5::Packet;

/// The largest remaining length the protocol can write.
pub(super) const LENGTH_MAX: usize = 268_435_455;

/// What came.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "moved once; a box would be an allocation for each packet")]
pub(super) enum Frame {
    /// A packet.
    Packet(Packet),
    /// A PUBLISH larger than allowed; its payload is thrown away as it comes.
    Oversize {
        /// The topic as sent.
        topic: Bytes,
        /// Its quality of service.
        qos: QoS,
        /// Packet identifier; 0 with QoS 0.
        pkid: u16,
        /// Bytes of the whole packet.
        size: usize,
    },
    /// DISCONNECT from the server with its reason code; 0 with 3.1.1, which has none.
    Disconnect {
        /// The reason code as sent.
        code: u8,
        /// The server's own words.
        reason: Option<String>,
    },
}

/// The peer broke the protocol; the connection cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct FrameError(String);

/// Cuts a stream of bytes into packets.
#[derive(Debug)]
pub(super) struct Frames {
    version: Version,
    max: usize,
    skip: usize,
}

impl Frames {
    /// For packets of at most `max` bytes.
    pub(super) fn new(version: Version, max: usize) -> Self {
        Self { version, max, skip: 0 }
    }

    /// Takes the next packet off the front of `input`; `None` when it is not all there yet.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if self.skip > 0 {
            let n = self.skip.min(input.len());
            input.advance(n);
            self.skip -= n;
            if self.skip > 0 {
                return Ok(None);
            }
        }
        let Some((head, remaining)) = fixed_header(input)? else { return Ok(None) };
        let first = input.first().copied().unwrap_or_default();
        let size = head + remaining;
        if size > self.max {
            return self.oversize(input, first, head, size);
        }
        if input.len() < size {
            input.reserve(size - input.len());
            return Ok(None);
        }
        let mut frame = input.split_to(size);
        if first >> 4 == DISCONNECT {
            return Ok(Some(self.disconnect(frame.freeze(), head)));
        }
        let packet = match self.version {
            Version::V5 => Packet::read(&mut frame, None).map_err(|e| malformed(first, &e))?,
            Version::V311 => {
                let packet = v4::Packet::read(&mut frame, usize::MAX).map_err(|e| malformed(first, &e))?;
                from_v4(packet)?
            }
        };
        Ok(Some(Frame::Packet(packet)))
    }

    fn oversize(
        &mut self,
        input: &mut BytesMut,
        first: u8,
        head: usize,
        size: usize,
    ) -> Result<Option<Frame>, FrameError> {
        if first >> 4 != PUBLISH {
            return Err(FrameError(format!("a packet of type {} has {size} bytes", first >> 4)));
        }
        let qos = match (first >> 1) & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return Err(FrameError("a PUBLISH has quality of service 3".to_owned())),
        };
        let Some(length) =
            input.get(head..head + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes)
        else {
            return Ok(None);
        };
        let topic_end = head + 2 + usize::from(length);
        let end = if qos == QoS::AtMostOnce { topic_end } else { topic_end + 2 };
        if end > size {
            return Err(FrameError("a PUBLISH ends inside its topic".to_owned()));
        }
        if input.len() < end {
            return Ok(None);
        }
        let pkid = input.get(topic_end..end).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes);
        let mut front = input.split_to(end).freeze();
        front.truncate(topic_end);
        front.advance(head + 2);
        self.skip = size - end;
        // What is here already goes now; the rest as it comes.
        let n = self.skip.min(input.len());
        input.advance(n);
        self.skip -= n;
        Ok(Some(Frame::Oversize { topic: front, qos, pkid, size }))
    }

    fn disconnect(&self, mut frame: Bytes, head: usize) -> Frame {
        frame.advance(head);
        if self.version == Version::V311 || frame.is_empty() {
            return Frame::Disconnect { code: 0, reason: None };
        }
        Frame::Disconnect { code: frame.get_u8(), reason: reason_string(frame) }
    }
}

const PUBLISH: u8 = 3;
const DISCONNECT: u8 = 14;

/// Writes a packet to the end of `output`. Nothing is written on an error.
pub(super) fn encode(version: Version, packet: Packet, output: &mut BytesMut) -> Result<(), FrameError> {
    let start = output.len();
    let written = match version {
        Version::V5 => packet.write(output, None).map_err(|e| e.to_string()),
        Version::V311 => {
            into_v4(packet).and_then(|packet| packet.write(output, LENGTH_MAX).map_err(|e| e.to_string()))
        }
    };
    match written {
        Ok(_) => Ok(()),
        Err(reason) => {
            output.truncate(start);
            Err(FrameError(reason))
        }
    }
}

/// DISCONNECT with a reason code, which 3.1.1 leaves out.
pub(super) fn disconnect(version: Version, code: u8, output: &mut BytesMut) {
    match version {
        Version::V5 if code != 0 => output.extend_from_slice(&[DISCONNECT << 4, 1, code]),
        _ => output.extend_from_slice(&[DISCONNECT << 4, 0]),
    }
}

/// Bytes that a PUBLISH has on the wire, at most.
pub(super) fn size(version: Version, publish: &v5::Publish) -> usize {
    let remaining = match version {
        // Counted before the packet has its identifier; the length field may need one byte more with it.
        Version::V5 => return publish.size() + 3,
        Version::V311 => 2 + publish.topic.len() + 2 + publish.payload.len(),
    };
    let length = match remaining {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    1 + length + remaining
}

/// Bytes of the fixed header and of what follows it.
fn fixed_header(input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut length = 0_usize;
    for (at, byte) in input.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, length)));
        }
    }
    if input.len() > 4 {
        return Err(FrameError("a packet's length has more than four bytes".to_owned()));
    }
    Ok(None)
}

/// The reason string among DISCONNECT's properties; whatever is odd about them is no reason to fail.
fn reason_string(mut properties: Bytes) -> Option<String> {
    const REASON_STRING: u8 = 31;
    // A reason string comes first at every broker seen; a length above 127 takes two bytes.
    while properties.first().is_some_and(|byte| byte & 0x80 != 0) {
        properties.advance(1);
    }
    if properties.len() < 4 {
        return None;
    }
    properties.advance(1);
    if properties.get_u8() != REASON_STRING {
        return None;
    }
    let length = usize::from(properties.get_u16());
    let text = properties.get(..length)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn malformed(first: u8, error: &dyn std::fmt::Display) -> FrameError {
    FrameError(format!("a packet of type {} is malformed: {error}", first >> 4))
}

fn from_v4(packet: v4::Packet) -> Result<Packet, FrameError> {
    use v4::Packet as Old;
    Ok(match packet {
        Old::ConnAck(ack) => Packet::ConnAck(v5::ConnAck {
            session_present: ack.session_present,
            code: match ack.code {
                v4::ConnectReturnCode::Success => v5::ConnectReturnCode::Success,
                v4::ConnectReturnCode::RefusedProtocolVersion => {
                    v5::ConnectReturnCode::RefusedProtocolVersion
                }
                v4::ConnectReturnCode::BadClientId => v5::ConnectReturnCode::BadClientId,
                v4::ConnectReturnCode::ServiceUnavailable => v5::ConnectReturnCode::ServiceUnavailable,
                v4::ConnectReturnCode::BadUserNamePassword => v5::ConnectReturnCode::BadUserNamePassword,
                v4::ConnectReturnCode::NotAuthorized => v5::ConnectReturnCode::NotAuthorized,
            },
            properties: None,
        }),
        Old::Publish(publish) => Packet::Publish(v5::Publish {
            dup: publish.dup,
            qos: new_qos(publish.qos),
            retain: publish.retain,
            topic: Bytes::from(publish.topic),
            pkid: publish.pkid,
            payload: publish.payload,
            properties: None,
        }),
        Old::PubAck(ack) => Packet::PubAck(v5::PubAck::new(ack.pkid, None)),
        Old::PubRec(ack) => Packet::PubRec(v5::PubRec::new(ack.pkid, None)),
        Old::PubRel(ack) => Packet::PubRel(v5::PubRel::new(ack.pkid, None)),
        Old::PubComp(ack) => Packet::PubComp(v5::PubComp::new(ack.pkid, None)),
        Old::SubAck(ack) => Packet::SubAck(v5::SubAck {
            pkid: ack.pkid,
            return_codes: ack
                .return_codes
                .into_iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => v5::SubscribeReasonCode::Success(new_qos(qos)),
                    v4::SubscribeReasonCode::Failure => v5::SubscribeReasonCode::Failure,
                })
                .collect(),
            properties: None,
        }),
        Old::PingResp => Packet::PingResp(v5::PingResp),
        _ => return Err(FrameError("a packet that only clients send".to_owned())),
    })
}

fn into_v4(packet: Packet) -> Result<v4::Packet, String> {
    use v4::Packet as Old;
    let text =
        |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| "a topic is not UTF-8".to_owned());
    Ok(match packet {
        Packet::Connect(connect, will, login) => Old::Connect(v4::Connect {
            protocol: rumqttc::mqttbytes::Protocol::V4,
            keep_alive: connect.keep_alive,
            client_id: connect.client_id,
            clean_session: connect.clean_start,
            last_will: match will {
                None => None,
                Some(will) => Some(v4::LastWill {
                    topic: text(will.topic)?,
                    message: will.message,
                    qos: old_qos(will.qos),
                    retain: will.retain,
                }),
            },
            login: login.map(|login| v4::Login { username: login.username, password: login.password }),
        }),
        Packet::Publish(publish) => Old::Publish(v4::Publish {
            dup: publish.dup,
            qos: old_qos(publish.qos),
            retain: publish.retain,
            topic: text(publish.topic)?,
            pkid: publish.pkid,
            payload: publish.payload,
        }),
        Packet::PubAck(ack) => Old::PubAck(v4::PubAck::new(ack.pkid)),
        Packet::PubRec(ack) => Old::PubRec(v4::PubRec::new(ack.pkid)),
        Packet::PubRel(ack) => Old::PubRel(v4::PubRel::new(ack.pkid)),
        Packet::PubComp(ack) => Old::PubComp(v4::PubComp::new(ack.pkid)),
        Packet::Subscribe(subscribe) => Old::Subscribe(v4::Subscribe {
            pkid: subscribe.pkid,
            filters: subscribe
                .filters
                .into_iter()
                .map(|filter| v4::SubscribeFilter { path: filter.path, qos: old_qos(filter.qos) })
                .collect(),
        }),
        Packet::PingReq(_) => Old::PingReq,
        _ => return Err("a packet that only servers send".to_owned()),
    })
}

fn new_qos(qos: rumqttc::mqttbytes::QoS) -> QoS {
    match qos {
        rumqttc::mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        rumqttc::mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rumqttc::mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn old_qos(qos: QoS) -> rumqttc::mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::mqttbytes::QoS::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests;
