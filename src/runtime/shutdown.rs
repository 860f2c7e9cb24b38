//! Shutting down in two steps: drain, then end.

use tokio_util::sync::CancellationToken;

/// Tells tasks to drain and then to end. Cheap to clone; a child follows its parent.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    end: CancellationToken,
}

impl Shutdown {
    /// A new one, not shutting down.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that follows this one and can be triggered alone, to stop one connector.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), end: self.end.child_token() }
    }

    /// Starts the drain: take nothing new in, finish what is under way.
    pub fn start_drain(&self) {
        self.drain.cancel();
    }

    /// Ends at once; implies the drain.
    pub fn start_end(&self) {
        self.drain.cancel();
        self.end.cancel();
    }

    /// Resolves when draining: sources stop taking in, sinks go on until their mailbox closes.
    pub async fn drain(&self) {
        self.drain.cancelled().await;
    }

    /// Resolves when the grace period is over.
    pub async fn end(&self) {
        self.end.cancelled().await;
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}
