//! gRPC's length-prefixed messages: one byte that says whether it is compressed, four of length, the message
//! ([gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::status::{Code, Status};

/// Bytes before each message.
pub const PREFIX: usize = 5;

/// Takes messages out of a body that comes in pieces.
#[derive(Debug)]
pub struct Frames {
    max: usize,
    buffer: BytesMut,
}

impl Frames {
    /// For messages of up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, buffer: BytesMut::new() }
    }

    /// Adds what came.
    pub fn push(&mut self, piece: &Bytes) {
        self.buffer.extend_from_slice(piece);
    }

    /// The bytes still to come of the message that is under way; 0 where none is.
    pub fn missing(&self) -> usize {
        self.announced().map_or(0, |(_, len)| (PREFIX + len).saturating_sub(self.buffer.len()))
    }

    /// Whether nothing of a message is here.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for one that is announced as too long, before it is taken; `UNIMPLEMENTED` for one that is
    /// compressed. The stream cannot be read on.
    pub fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((compressed, len)) = self.announced() else { return Ok(None) };
        if compressed {
            let text = "compressed messages are not supported: send them with grpc-encoding identity";
            return Err(Status::new(Code::Unimplemented, text));
        }
        if len > self.max {
            let text = format!("the message has {len} bytes, the most is {}", self.max);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if self.buffer.len() < PREFIX + len {
            self.buffer.reserve(PREFIX + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = self.buffer.split_to(len).freeze();
        if self.buffer.is_empty() {
            // An idle stream keeps no room.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }

    /// Whether it is compressed, and its length.
    fn announced(&self) -> Option<(bool, usize)> {
        let mut prefix = self.buffer.get(..PREFIX)?;
        let compressed = prefix.get_u8() != 0;
        Some((compressed, prefix.get_u32() as usize))
    }
}

/// A message with its prefix.
pub fn framed(message: &impl prost::Message) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + len);
    put_prefix(&mut frame, len);
    // Fails only where there is no room.
    let _infallible = message.encode(&mut frame);
    frame.freeze()
}

/// Writes the prefix of an uncompressed message.
pub fn put_prefix(frame: &mut impl BufMut, len: usize) {
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use meshbus_proto::google::Any;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1_usize..17, 1..100),
        ) {
            let messages: Vec<Any> =
                messages.into_iter().map(|value| Any { type_url: String::new(), value: value.into() }).collect();
            let mut wire: Bytes = messages.iter().flat_map(framed).collect::<Vec<u8>>().into();
            let mut frames = Frames::new(100);
            let mut read = Vec::new();
            for cut in cuts.iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                frames.push(&wire.split_to((*cut).min(wire.len())));
                while let Some(message) = frames.take().unwrap() {
                    read.push(<Any as prost::Message>::decode(message).unwrap());
                }
            }
            prop_assert_eq!(read, messages);
            prop_assert!(frames.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let mut frames = Frames::new(1000);
            for piece in pieces {
                frames.push(&piece.into());
                while let Ok(Some(_)) = frames.take() {}
            }
        }
    }

    #[test]
    fn a_message_too_long_is_refused_before_it_is_taken() {
        let mut frames = Frames::new(10);
        frames.push(&Bytes::from_static(&[0, 0, 0, 0, 11]));
        let refused = frames.take().unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(refused.message, "the message has 11 bytes, the most is 10");
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut frames = Frames::new(10);
        assert_eq!(frames.missing(), 0);
        frames.push(&Bytes::from_static(&[0, 0, 0, 0, 8, 1, 2]));
        assert_eq!((frames.missing(), frames.take()), (6, Ok(None)));
    }

    #[test]
    fn a_compressed_message_is_refused_by_name() {
        let mut frames = Frames::new(10);
        frames.push(&Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(frames.take().unwrap_err().code, Code::Unimplemented);
    }
}
