//! The main promise of the Kubernetes client: Events of a cluster reach JetStream, none lost, while the bus is killed
//! and the API server does whatever an API server may. [`occurrences`] says exactly what that means.

mod occurrences;
mod real;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use self::occurrences::{Happened, Report, Told, check};
use crate::bus::Bus;
use crate::faults::{plan, seed, sized};
use crate::hostile::{Fault, Hostile, Options, event_name};
use crate::peers::NatsServer;
use crate::process::Scratch;
use crate::stored;

const NAMESPACES: [&str; 3] = ["default", "shop", "web"];
/// Events that may be repeated next: those of a real cluster are recent ones.
const RECENT: usize = 200;
/// How long what is told may wait for a frozen server before the bus is killed: longer than a cursor's pace.
const FROZEN: Duration = Duration::from_millis(500);

/// What strikes once at least, whatever the dice say. First what needs lines of a watch: when many Events are there, a
/// bus that is killed again and again has lists to do with most of its time.
const LINES: [Fault; 2] = [Fault::CutInLine, Fault::CutBetweenLines];
/// Where the server forgets positions.
const GONE: [Fault; 4] = [Fault::GoneInStream, Fault::GoneAtStart, Fault::EmptyWatch, Fault::Compaction];
/// Where it does not.
const PAGES: [Fault; 1] = [Fault::PageExpiry];
const REQUESTS: [Fault; 5] =
    [Fault::TooManyRequests, Fault::GatewayTimeout, Fault::Unavailable, Fault::Reset, Fault::Restart];

/// Kills beyond those of the plan, and the time between them.
const LATE_KILLS: usize = 15;
const LATE: Duration = Duration::from_secs(8);

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Created and repeated, half each.
    occurrences: usize,
    /// In a second.
    rate: u32,
    kills: usize,
    /// Whether the server forgets positions, too.
    forgets: bool,
    dedupe: bool,
}

/// The form of the promise that can be told in one line: half of the occurrences are repeats, the bus dies twenty times.
#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_events_none_is_lost_though_the_bus_is_killed_and_the_server_forgets() {
    let run = Run {
        occurrences: sized(10_000, 100_000),
        rate: sized(300, 500),
        kills: 20,
        forgets: true,
        dedupe: true,
    };
    let report = run.carry_out().await;
    report.assert_kept();
    assert_eq!(report.repeated, 0, "Nats-Msg-Id did not hold: {report}");
}

/// Where no position is forgotten, the bus owes more: each change is told by itself, under its own id.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_as_it_happened_while_the_server_remembers() {
    let run = Run {
        occurrences: sized(4_000, 40_000),
        rate: sized(400, 500),
        kills: 8,
        forgets: false,
        dedupe: false,
    };
    let report = run.carry_out().await;
    report.assert_each();
    assert!(report.repeated > 0, "no kill came between a delivery and what keeps it: {report}");
}

impl Run {
    async fn carry_out(self) -> Report {
        let limit = Duration::from_secs(sized(240, 900));
        let seed = seed();
        let scratch = Scratch::new();
        let nats = NatsServer::start(&scratch).await;
        let _stream = nats.stream("LEDGER", &["events.>"], limit * 2).await;
        let hostile = Hostile::start(seed, self.options(seed)).await;
        let mut bus = Bus::start(&scratch, &self.config(&scratch, &hostile, &nats)).await;
        let emitted = AtomicUsize::new(0);
        let started = tokio::time::Instant::now();
        let work = async {
            tokio::join!(self.emit(seed, &hostile, &emitted), self.kill(seed, &nats, &mut bus, &emitted))
        };
        let done = tokio::time::timeout(limit, work).await.is_ok();
        assert!(done, "stuck: {} of {} emitted", emitted.load(Ordering::Relaxed), self.occurrences);
        self.strike(&hostile, &mut bus).await;
        println!("faults: {:?}", hostile.score());
        hostile.quiet();
        hostile.disconnect();
        let history = history(&hostile);
        assert_eq!(history.len(), self.occurrences, "the server's history is the ledger");
        let report = settle(&nats, &history, limit).await;
        println!("{self:?} in {:?}: {report}", started.elapsed());
        bus.ready(Duration::from_secs(30)).await;
        report
    }

    /// Kills the bus on until each fault has struck: what was forced late waits for a list or a watch to begin.
    async fn strike(self, hostile: &Hostile, bus: &mut Bus) {
        let never = || self.faults().filter(|fault| hostile.happened(*fault) == 0).collect::<Vec<_>>();
        for _ in 0..LATE_KILLS {
            let until = tokio::time::Instant::now() + LATE;
            while !never().is_empty() && tokio::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if never().is_empty() {
                return;
            }
            bus.kill();
            bus.restart_live().await;
        }
        panic!("never struck: {:?}", never());
    }

    /// What is to strike.
    fn faults(self) -> impl Iterator<Item = Fault> {
        let more: &[Fault] = if self.forgets { &GONE } else { &PAGES };
        LINES.iter().chain(more).chain(&REQUESTS).copied()
    }

    fn config(self, scratch: &Scratch, hostile: &Hostile, nats: &NatsServer) -> String {
        // Where a page is to expire, also a short list has several.
        let page_size = if self.forgets { 500 } else { 100 };
        config(scratch, &hostile.kubeconfig(), nats, page_size, self.dedupe)
    }

    fn options(self, seed: u64) -> Options {
        let namespaces = NAMESPACES[1..].iter().map(ToString::to_string).collect();
        let mut options = Options {
            namespaces,
            retry_after: 0,
            watch_list: seed.is_multiple_of(2),
            ..Options::default()
        };
        // A list has several pages, and all of them must be had in one go.
        for fault in [Fault::TooManyRequests, Fault::Unavailable, Fault::GatewayTimeout, Fault::Reset] {
            options = options.fault(fault, 0.005);
        }
        options = options.fault(Fault::PageExpiry, 0.01).fault(Fault::Restart, 0.002);
        // Those strike with each line.
        options = options.fault(Fault::CutInLine, 0.001).fault(Fault::CutBetweenLines, 0.001);
        options = options.fault(Fault::Trickle, 0.02).fault(Fault::EarlyTimeout, 0.02);
        options = options.fault(Fault::NoRemaining, 0.5);
        if self.forgets {
            options = options.fault(Fault::GoneAtStart, 0.1).fault(Fault::EmptyWatch, 0.1);
            // With each line, and with each write: a few times in a run of any length.
            let per_run = 1.0 / self.occurrences as f64;
            options =
                options.fault(Fault::GoneInStream, 3.0 * per_run).fault(Fault::Compaction, 5.0 * per_run);
        }
        options
    }

    /// Creates Events and repeats recent ones, in the old way and in the new.
    async fn emit(self, seed: u64, hostile: &Hostile, emitted: &AtomicUsize) {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut pace = tokio::time::interval(Duration::from_secs(1) / self.rate);
        let namespace = |number: usize| NAMESPACES[number % NAMESPACES.len()];
        let mut created = 0;
        let mut forced = self.faults();
        let apart = self.occurrences / (self.faults().count() + 2);
        for n in 0..self.occurrences {
            pace.tick().await;
            if n % 2 == 0 {
                hostile.emit(namespace(created), created as u64);
                created += 1;
            } else {
                let number = dice.usize(created.saturating_sub(RECENT)..created);
                // An Event is counted in one way for all its life.
                hostile.repeat(namespace(number), &event_name(number as u64), number.is_multiple_of(2));
            }
            if n % apart == apart - 1
                && let Some(fault) = forced.next()
            {
                hostile.force(fault, 1);
            }
            emitted.store(n + 1, Ordering::Relaxed);
        }
    }

    /// Kills the bus where the seed says; each second time with a sink that is silent for a while before.
    async fn kill(self, seed: u64, nats: &NatsServer, bus: &mut Bus, emitted: &AtomicUsize) {
        for (number, fault) in plan("meshbus", seed, self.kills, self.occurrences).into_iter().enumerate() {
            while (emitted.load(Ordering::Relaxed) as u64) < fault.at {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(fault.later).await;
            let freezes = number % 2 == 0;
            if freezes {
                nats.process.signal("STOP");
                tokio::time::sleep(FROZEN).await;
            }
            bus.kill();
            if freezes {
                nats.process.signal("CONT");
            }
            tokio::time::sleep(fault.down / 2).await;
            bus.restart_live().await;
        }
    }
}

/// The bridge from the cluster of a kubeconfig.
fn config(scratch: &Scratch, cluster: &str, nats: &NatsServer, page_size: u32, dedupe: bool) -> String {
    let kubeconfig = scratch.path().join("kubeconfig");
    std::fs::write(&kubeconfig, cluster).expect("a kubeconfig");
    format!(
        r#"
name: interop
connectors:
  east:
    k8s:
      client:
        kubeconfig: {}
        cursor: {{store: file, path: {}}}
        timeout: 5s
        page_size: {}
        watch: [{{type: core/v1/Event}}]
  broker: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: LEDGER}}, dedupe: {}}}}}}}
routes:
  all:
    from: [east]
    to: [{{connector: broker, subject: "events.{{involvednamespace|none}}", content_mode: binary}}]
"#,
        kubeconfig.display(),
        scratch.path().join("cursor.redb").display(),
        page_size,
        nats.url(),
        dedupe
    )
}

fn history(hostile: &Hostile) -> Vec<Happened> {
    let changes = hostile.history("Event").into_iter().map(|change| {
        let (series, count) = (&change.value["series"]["count"], &change.value["count"]);
        let count = series.as_u64().or(count.as_u64()).expect("a count") as u32;
        Happened { uid: change.uid, version: change.rv, count }
    });
    changes.collect()
}

/// Waits until nothing more comes, and checks; again while something is missing.
async fn settle(nats: &NatsServer, history: &[Happened], limit: Duration) -> Report {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        stored::quiet(nats, "LEDGER", limit).await;
        let told: Vec<Told> = stored::read(nats, "LEDGER").await.iter().map(Told::read).collect();
        let report = check(history, &told);
        if report.lost.is_empty() || tokio::time::Instant::now() > deadline {
            return report;
        }
    }
}
