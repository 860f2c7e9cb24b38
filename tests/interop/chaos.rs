//! The faults of a run, carried out: kills and restarts of each process by its own plan, all at the same time.

use std::time::Duration;

use crate::bus::Bus;
use crate::faults::{Fault, Progress, plan};
use crate::peers::{Mosquitto, NatsServer};

/// How often nats-server is killed, and meshbus too.
pub(crate) const KILLS: usize = 5;

/// What is broken in a run. Everything runs again when [`Chaos::run`] returns.
#[derive(Debug)]
pub(crate) struct Chaos {
    pub(crate) bus: Bus,
    pub(crate) nats: NatsServer,
    /// Stopped once, where there is one.
    pub(crate) mosquitto: Option<Mosquitto>,
}

impl Chaos {
    /// Kills nats-server and the bus five times each and stops Mosquitto once, as the seed says.
    pub(crate) async fn run(&mut self, seed: u64, events: usize, progress: &Progress) {
        let nats_plan = plan("nats-server", seed, KILLS, events);
        let bus_plan = plan("meshbus", seed, KILLS, events);
        let mosquitto_plan = plan("mosquitto", seed, usize::from(self.mosquitto.is_some()), events);
        let Self { bus, nats, mosquitto } = self;
        let nats_faults = async {
            for fault in nats_plan {
                due(progress, fault).await;
                say("nats-server ends", progress);
                nats.kill();
                tokio::time::sleep(fault.down).await;
                nats.restart().await;
                say("nats-server runs again", progress);
            }
        };
        let bus_faults = async {
            for fault in bus_plan {
                due(progress, fault).await;
                say("meshbus ends", progress);
                bus.kill();
                tokio::time::sleep(fault.down).await;
                bus.restart_live().await;
                say("meshbus runs again", progress);
            }
        };
        let mosquitto_faults = async {
            let Some(mosquitto) = mosquitto else { return };
            for fault in mosquitto_plan {
                due(progress, fault).await;
                say("mosquitto ends", progress);
                mosquitto.stop().await;
                tokio::time::sleep(fault.down).await;
                mosquitto.restart().await;
                say("mosquitto runs again", progress);
            }
        };
        tokio::join!(nats_faults, bus_faults, mosquitto_faults);
        self.bus.ready(Duration::from_mins(1)).await;
    }

    /// How often something was cut off with events in flight.
    pub(crate) fn cuts(&self) -> usize {
        2 * KILLS + usize::from(self.mosquitto.is_some())
    }
}

async fn due(progress: &Progress, fault: Fault) {
    progress.reach(fault.at).await;
    tokio::time::sleep(fault.later).await;
}

/// For whoever reads the log of a failed run.
fn say(what: &str, progress: &Progress) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    println!("{:.3} with {} stored: {what}", now.as_secs_f64() % 1000.0, progress.stored());
}
