//! Says when key spaces have settled: a connector's when it is in step with its peer, the bus's own some time after all
//! connectors of the start are, since routes and clients fill it.

use std::time::Duration;

use bytestring::ByteString;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::core::{Bus, Key};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;

/// How long is waited for connectors whose peers are away before the bus's own key space settles without them.
const PEERS_MAX: Duration = Duration::from_mins(5);

/// Settles `scope` when its connector is in step for the first time.
pub(super) fn with(bus: &Bus, scope: ByteString, mut synced: watch::Receiver<bool>) {
    let bus = bus.clone();
    drop(task::spawn("settle", async move {
        // A connector that is gone never settles it: what it brought stays.
        if synced.wait_for(|synced| *synced).await.is_ok() {
            bus.settled().settle(scope);
        }
    }));
}

/// Settles `local` when `after` is over since the last of `scopes` has settled.
pub(super) fn local(bus: &Bus, scopes: Vec<ByteString>, after: Duration, shutdown: Shutdown) {
    let bus = bus.clone();
    drop(task::spawn("settle local", async move {
        let filled = async {
            for scope in &scopes {
                bus.settled().wait(scope).await;
            }
        };
        let settle = async {
            // Over or not: what an unreachable peer would bring is not waited for without end.
            let _elapsed = timeout(PEERS_MAX, filled).await;
            sleep(after).await;
            bus.settled().settle(ByteString::from_static(Key::LOCAL));
        };
        tokio::select! {
            () = settle => {}
            () = shutdown.drain() => {}
        }
    }));
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::core::BusOptions;

    #[tokio::test(start_paused = true)]
    async fn the_bus_s_own_key_space_settles_after_those_of_its_connectors() {
        let (bus, begin) = (Bus::new(BusOptions::default()), Instant::now());
        let synced = watch::Sender::new(false);
        with(&bus, "east".into(), synced.subscribe());
        local(&bus, vec!["east".into()], Duration::from_secs(30), Shutdown::new());
        sleep(Duration::from_secs(10)).await;
        assert!(!bus.settled().contains("east"));
        synced.send_replace(true);
        bus.settled().wait("east").await;
        bus.settled().wait(Key::LOCAL).await;
        assert_eq!(begin.elapsed().as_secs(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_away_holds_up_its_own_key_space_only() {
        let (bus, begin) = (Bus::new(BusOptions::default()), Instant::now());
        let synced = watch::Sender::new(false);
        with(&bus, "east".into(), synced.subscribe());
        local(&bus, vec!["east".into()], Duration::ZERO, Shutdown::new());
        bus.settled().wait(Key::LOCAL).await;
        assert_eq!(begin.elapsed(), PEERS_MAX);
        drop(synced);
        sleep(PEERS_MAX).await;
        assert!(!bus.settled().contains("east"));
    }
}
