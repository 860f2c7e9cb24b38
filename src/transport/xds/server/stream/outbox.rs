//! Responses on their way into a stream's body.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::of_type::OfType;
use crate::core::Seq;
use crate::transport::xds::codec::demand::ALL;
use crate::transport::xds::codec::resource::{Encoded, Extra};
use crate::transport::xds::codec::response::{Draft, Variant, control_plane, nonce};
use crate::transport::xds::codec::status::Status;
use crate::transport::xds::server::full::Parts;
use crate::transport::xds::server::item::Told;

/// Responses up to this length are copied together with their nonce rather than sent as two frames.
const COPIED_MAX: usize = 4096;

/// What is sent, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) variant: Variant,
    /// The bus's name, by which the server is known to clients.
    pub(super) bus: ByteString,
    /// Bytes of one response where it can be cut.
    pub(super) max: usize,
    plane: Bytes,
    last: u32,
    frames: VecDeque<Bytes>,
    /// What is sent next, before anything else.
    filling: Option<Filling>,
}

/// All of a type on its way to a client in more than one response: the others are made when the client reads.
#[derive(Debug)]
pub(super) struct Filling {
    type_url: ByteString,
    parts: Arc<Parts>,
    next: usize,
    /// What tells that all is sent.
    mark: Option<Arc<Encoded>>,
}

/// What one response has to tell.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) resources: Vec<Arc<Encoded>>,
    pub(super) removed: Vec<ByteString>,
    pub(super) errors: Vec<(ByteString, Status)>,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty() && self.errors.is_empty()
    }
}

impl Filling {
    pub(super) fn new(type_url: ByteString, parts: Arc<Parts>) -> Self {
        Self { type_url, parts, next: 0, mark: None }
    }
}

impl Outbox {
    pub(super) fn new(variant: Variant, bus: ByteString, max: usize) -> Self {
        let plane = control_plane(variant, &bus);
        Self { variant, bus, max, plane, last: 0, frames: VecDeque::new(), filling: None }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front();
        if self.frames.is_empty() && self.frames.capacity() > 16 {
            self.frames = VecDeque::new();
        }
        frame
    }

    /// Sends the next part of all of a type. Where it is not the last, the others come before anything else is sent.
    /// Whether there is such a part: the client may have taken so long for the one before that it was given up.
    pub(super) fn fill(&mut self, mut filling: Filling, of: &mut OfType) -> bool {
        let Some(part) = filling.parts.part(filling.next) else { return false };
        self.tell(of, &part.told);
        filling.next += 1;
        if !part.is_last {
            self.filling = Some(filling);
        } else if let Some(mark) = filling.mark {
            self.send_mark(of, &filling.type_url, mark);
        }
        true
    }

    /// What is to be sent before anything else, with its type.
    pub(super) fn take_filling(&mut self) -> Option<(ByteString, Filling)> {
        self.filling.take().map(|filling| (filling.type_url.clone(), filling))
    }

    /// Whether there is something to be sent before anything else.
    pub(super) fn is_filling(&self) -> bool {
        self.filling.is_some()
    }

    /// Sends a response that is shared.
    pub(super) fn tell(&mut self, of: &mut OfType, told: &Told) {
        self.last = self.last.wrapping_add(1);
        of.sent(self.last, told);
        let nonce = nonce(self.last);
        if told.bytes.len() <= COPIED_MAX {
            let mut whole = BytesMut::with_capacity(told.bytes.len() + nonce.len());
            whole.extend_from_slice(&told.bytes);
            whole.extend_from_slice(&nonce);
            self.frames.push_back(whole.freeze());
        } else {
            self.frames.push_back(told.bytes.clone());
            self.frames.push_back(nonce);
        }
    }

    /// Sends what is told to this stream alone, cut where it is long; `whole`: it must not be cut.
    pub(super) fn send(
        &mut self,
        of: &mut OfType,
        type_url: &str,
        at: Seq,
        whole: bool,
        gathered: &Gathered,
    ) {
        let version = at.to_string();
        let (mut rest, mut first) = (gathered.resources.as_slice(), true);
        // One also where there is nothing to tell: the client waits for an answer.
        while first || !rest.is_empty() {
            let fitting = if whole { rest.len() } else { Draft::fitting(self.variant, rest, self.max) };
            let (now, later) = rest.split_at(fitting);
            let draft = Draft {
                variant: self.variant,
                type_url,
                version: &version,
                resources: now,
                removed: if first { &gathered.removed } else { &[] },
                errors: if first { &gathered.errors } else { &[] },
                control_plane: &self.plane,
            };
            self.tell(of, &Told::new(&draft));
            (rest, first) = (later, false);
        }
    }

    /// Tells that all there was of a type at a position is sent; without one, that there may be more.
    pub(super) fn mark(&mut self, of: &mut OfType, type_url: &str, at: Option<Seq>) {
        let version = at.map(|at| at.to_string()).unwrap_or_default();
        let at = at.unwrap_or_default();
        let mark = Encoded::bodiless(at, ByteString::from_static(ALL), version.into(), Extra::default());
        match &mut self.filling {
            Some(filling) => filling.mark = Some(Arc::new(mark)),
            None => self.send_mark(of, type_url, Arc::new(mark)),
        }
    }

    fn send_mark(&mut self, of: &mut OfType, type_url: &str, mark: Arc<Encoded>) {
        let at = mark.seq;
        self.send(of, type_url, at, true, &Gathered { resources: vec![mark], ..Gathered::default() });
    }

    /// The nonce that was sent last.
    pub(super) fn last(&self) -> u32 {
        self.last
    }
}
