//! Which key spaces are filled: whether what is absent in one is gone, or may only not be there yet.
//!
//! The table of a bus that has just begun is empty, while those who followed an earlier one still have what was in it.
//! Until a key space has settled, they must not be told that this is gone.

use bytestring::ByteString;
use hashbrown::HashSet;
use tokio::sync::watch;

/// The key spaces of which the table holds all that their owner has. One that has settled stays so.
#[derive(Debug, Default)]
pub struct Settled(watch::Sender<HashSet<ByteString>>);

impl Settled {
    /// Notes that all the owner of a key space has is in the table, as far as it can know.
    pub fn settle(&self, scope: ByteString) {
        self.0.send_if_modified(|scopes| scopes.insert(scope));
    }

    /// Whether the key space has settled.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.borrow().contains(scope)
    }

    /// Waits until it has. Cancel safe.
    pub async fn wait(&self, scope: &str) {
        let mut scopes = self.0.subscribe();
        // The sender is ours, so it is there.
        let _scopes = scopes.wait_for(|scopes| scopes.contains(scope)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_key_space_that_has_settled_stays_so_and_is_waited_for_by_its_name() {
        let settled = Settled::default();
        assert!(!settled.contains("east") && settled.wait("east").now_or_never().is_none());
        settled.settle("east".into());
        settled.settle("east".into());
        assert!(settled.contains("east") && !settled.contains("west"));
        assert!(settled.wait("east").now_or_never().is_some());
        assert!(settled.wait("west").now_or_never().is_none());
    }
}
