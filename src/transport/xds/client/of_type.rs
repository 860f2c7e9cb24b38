//! One type on a client's stream.

use bytestring::ByteString;
use hashbrown::HashSet;
use meshbus_proto::google;
use tokio::time::Instant;

use crate::transport::xds::codec::received::Received;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::waiting::Answered;
use crate::transport::xds::codec::wants::{Request, Wants};

/// See the [module](self).
pub(super) struct OfType {
    pub(super) wants: Wants,
    /// Whether versions were told with the first request.
    pub(super) resumed: bool,
    /// What the table has, where the server was not told so, as far as it was not told again: if it is not until all is
    /// told, it is gone.
    pub(super) untold: HashSet<ByteString>,
    /// When what was told is taken for all, if nothing else comes.
    pub(super) quiet: Option<Instant>,
    /// Refusals in a row.
    pub(super) refusals: u32,
    /// A refusal that waits, and until when: of what, and why.
    pub(super) held: Option<(Instant, Received, google::Status)>,
}

impl OfType {
    pub(super) fn new(wants: Wants) -> Self {
        Self { wants, resumed: false, untold: HashSet::new(), quiet: None, refusals: 0, held: None }
    }

    /// When something is to be done.
    pub(super) fn times(&self) -> impl Iterator<Item = Instant> {
        let held = self.held.as_ref().map(|(until, ..)| *until);
        held.into_iter().chain(self.quiet)
    }

    /// The refusal that has waited long enough.
    pub(super) fn refuse(&mut self, variant: Variant, now: Instant) -> Option<Request> {
        let (_, said, error) = self.held.take_if(|(until, ..)| *until <= now)?;
        Some(self.wants.answer(variant, &said, Some(error)))
    }

    /// Notes what a response says.
    pub(super) fn heard(&mut self, variant: Variant, received: &Received) {
        self.wants.heard(variant, received);
        if received.tells_absence() {
            for name in received.mentioned() {
                self.untold.remove(name);
            }
        } else {
            self.untold.clear();
        }
    }

    /// Whether nothing came for long enough after what may have been all.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.quiet.is_some_and(|quiet| quiet <= now)
    }

    /// Whether it was answered, but for names which by the protocol do not exist by now.
    pub(super) fn is_late(&self) -> bool {
        let waiting = self.wants.waiting();
        waiting.answered() == Answered::Partly
            && waiting.has_heard()
            && !waiting.is_for_all()
            && !waiting.is_promised()
    }

    /// Whether all that was asked for is answered.
    pub(super) fn is_answered(&self) -> bool {
        self.wants.waiting().answered() == Answered::Whole
    }

    /// All that will come for now has come. Gives what is gone.
    pub(super) fn rest(&mut self) -> Vec<ByteString> {
        self.quiet = None;
        self.wants.rest();
        self.untold.drain().collect()
    }
}
