//! Whether a scope shows all that its owner has: the table begins empty, and until an owner has listed its source once,
//! what is missing there says nothing.
//!
//! Only an owner that says so when it has told all is waited for; every other scope is complete from the start. Once
//! complete, a scope stays so: an owner that loses its source leaves what it told.

use bytestring::ByteString;

use super::bus::{Bus, Ingress};

impl Bus {
    /// From now on the scope is incomplete, until its owner says otherwise.
    pub fn expect_all(&self, scope: ByteString) {
        self.0.incomplete.send_if_modified(|scopes| scopes.insert(scope));
    }

    /// Nobody is waited for there any more: its owner is gone.
    pub fn expect_nothing(&self, scope: &str) {
        self.0.incomplete.send_if_modified(|scopes| scopes.remove(scope));
    }

    /// Whether the scope shows all that its owner has.
    pub fn is_complete(&self, scope: &str) -> bool {
        !self.0.incomplete.borrow().contains(scope)
    }

    /// Waits until the scope shows all that its owner has. Cancel safe.
    pub async fn complete(&self, scope: &str) {
        let mut incomplete = self.0.incomplete.subscribe();
        // The sender is the bus's own, which is borrowed here: it does not end meanwhile.
        drop(incomplete.wait_for(|scopes| !scopes.contains(scope)).await);
    }
}

impl Ingress {
    /// All that there is to tell has been told once.
    pub fn told_all(&self) {
        self.expect_nothing(self.scope());
    }
}
