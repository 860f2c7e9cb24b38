//! Tests of framing.

use proptest::prelude::*;
use rumqttc::v5::mqttbytes::v5::{PubAck, PubAckReason, Publish, PublishProperties};

use super::*;

fn publish(version: Version, qos: QoS, payload: usize) -> Publish {
    let properties = PublishProperties {
        user_properties: vec![("id".into(), "1".into()), ("source".into(), "/s".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    Publish {
        qos,
        pkid: if qos == QoS::AtMostOnce { 0 } else { 7 },
        topic: Bytes::from_static("a/ä".as_bytes()),
        payload: vec![b'x'; payload].into(),
        properties: (version == Version::V5).then_some(properties),
        ..Publish::default()
    }
}

fn all(frames: &mut Frames, bytes: &[u8], step: usize) -> Result<Vec<Frame>, FrameError> {
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for chunk in bytes.chunks(step.max(1)) {
        input.extend_from_slice(chunk);
        while let Some(frame) = frames.next(&mut input)? {
            found.push(frame);
        }
    }
    Ok(found)
}

#[test]
fn both_versions_read_what_they_write() {
    for version in [Version::V5, Version::V311] {
        let mut bytes = BytesMut::new();
        let sent = [
            Packet::Publish(publish(version, QoS::AtMostOnce, 3)),
            Packet::Publish(publish(version, QoS::ExactlyOnce, 0)),
            Packet::PubAck(PubAck::new(9, None)),
        ];
        for packet in &sent {
            encode(version, packet.clone(), &mut bytes).unwrap();
        }
        let found = all(&mut Frames::new(version, 1000), &bytes, usize::MAX).unwrap();
        assert_eq!(found, sent.map(Frame::Packet));
    }
}

#[test]
fn an_oversize_publication_is_skipped_and_named_and_the_next_one_read() {
    for version in [Version::V5, Version::V311] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut bytes = BytesMut::new();
            encode(version, Packet::Publish(publish(version, qos, 5000)), &mut bytes).unwrap();
            let size = bytes.len();
            let next = Packet::Publish(publish(version, qos, 5));
            encode(version, next.clone(), &mut bytes).unwrap();
            for step in [1, 2, 7, 4999, usize::MAX] {
                let pkid = if qos == QoS::AtMostOnce { 0 } else { 7 };
                let topic = Bytes::from_static("a/ä".as_bytes());
                let skipped = Frame::Oversize { topic, qos, pkid, size };
                let found = all(&mut Frames::new(version, 1000), &bytes, step).unwrap();
                assert_eq!(found, [skipped, Frame::Packet(next.clone())], "{version:?} {qos:?} {step}");
            }
        }
    }
}

#[test]
fn a_packet_that_ends_early_is_an_error_and_not_a_wait() {
    // PUBLISH whose topic is longer than the packet; PUBACK without its identifier.
    for bytes in [&[0x30, 3, 0, 9, b'a'][..], &[0x40, 1, 0], &[0x32, 4, 0, 1, b'a', 0]] {
        for version in [Version::V5, Version::V311] {
            assert!(all(&mut Frames::new(version, 1000), bytes, 1).is_err(), "{version:?} {bytes:?}");
        }
    }
    assert!(all(&mut Frames::new(Version::V5, 1000), &[0x30, 0xff, 0xff, 0xff, 0xff], 1).is_err());
}

#[test]
fn a_disconnect_is_read_in_all_its_lengths() {
    let said = [0xe0, 9, 0x95, 7, 31, 0, 4, b'w', b'h', b'y', b'?'];
    for (bytes, code, reason) in [
        (&[0xe0, 0][..], 0, None),
        (&[0xe0, 1, 0x8b], 0x8b, None),
        (&[0xe0, 2, 0x8e, 0], 0x8e, None),
        (&said, 0x95, Some("why?")),
    ] {
        let found = all(&mut Frames::new(Version::V5, 1000), bytes, 1).unwrap();
        assert_eq!(found, [Frame::Disconnect { code, reason: reason.map(str::to_owned) }], "{bytes:?}");
    }
}

#[test]
fn a_refusal_keeps_its_reason() {
    let mut bytes = BytesMut::new();
    let ack = PubAck { reason: PubAckReason::QuotaExceeded, ..PubAck::new(3, None) };
    encode(Version::V5, Packet::PubAck(ack.clone()), &mut bytes).unwrap();
    assert_eq!(
        all(&mut Frames::new(Version::V5, 100), &bytes, 1).unwrap(),
        [Frame::Packet(Packet::PubAck(ack))]
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80), step in 1..80usize, max in 4..64usize, five in any::<bool>(),
    ) {
        let version = if five { Version::V5 } else { Version::V311 };
        drop(all(&mut Frames::new(version, max), &bytes, step));
    }

    #[test]
    fn no_body_makes_it_panic(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..80), five in any::<bool>()) {
        let version = if five { Version::V5 } else { Version::V311 };
        let mut bytes = vec![kind, body.len() as u8];
        bytes.extend(body);
        drop(all(&mut Frames::new(version, 1000), &bytes, usize::MAX));
    }

    #[test]
    fn the_size_is_never_more_than_foretold(payload in 0..20_000usize, five in any::<bool>()) {
        let version = if five { Version::V5 } else { Version::V311 };
        let packet = publish(version, QoS::AtLeastOnce, payload);
        let foretold = size(version, &Publish { pkid: 0, ..packet.clone() });
        let mut bytes = BytesMut::new();
        encode(version, Packet::Publish(packet), &mut bytes).unwrap();
        prop_assert!(bytes.len() <= foretold && foretold <= bytes.len() + 4, "{} {foretold}", bytes.len());
    }
}
