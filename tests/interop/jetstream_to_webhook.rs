//! JetStream → webhook whose server fails at random: each event arrives, or lies in the dead letter with its reason.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, context::Context};
use percent_encoding::percent_decode_str;

use crate::bus::Bus;
use crate::faults::{seed, sized};
use crate::forms::ce_header;
use crate::ledger::{Ledger, Report, Seen};
use crate::peers::NatsServer;
use crate::process::{Scratch, free_port, until};
use crate::stored;
use crate::webhook::{Act, Taken, Webhook};

/// Longer than the timeout of a request in the configuration below.
const HANG: Duration = Duration::from_secs(2);
/// Enough that 4 in a hundred random 500s never add up to a dead event.
const ATTEMPTS: u32 = 8;

/// Which events no server will ever take.
fn poison(n: usize) -> bool {
    n % 97 == 13
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_webhook_gets_every_event_or_the_dead_letter_has_it() {
    let events = sized(4_000, 40_000);
    let limit = Duration::from_secs(sized(120, 900));
    let run = Run::start(events, free_port()).await;
    let webhook = run.webhook().await;
    let _bus = Bus::start(&run.scratch, &run.config()).await;
    run.publish().await;
    let poisoned = (0..events).filter(|n| poison(*n)).count();
    until("every event has arrived or is dead", limit, async || {
        (distinct(&webhook) + poisoned == events).then_some(())
    })
    .await;
    let report = run.check(&webhook, limit).await;
    assert!(report.duplicates <= webhook.unanswered(), "{} unanswered: {report}", webhook.unanswered());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_dies_before_a_failing_webhook_loses_nothing() {
    let events = sized(3_000, 30_000);
    let limit = Duration::from_secs(sized(120, 900));
    let mut run = Run::start(events, free_port()).await;
    let webhook = run.webhook().await;
    let mut bus = Bus::start(&run.scratch, &run.config()).await;
    run.publish().await;
    let poisoned = (0..events).filter(|n| poison(*n)).count();
    for kill in 1..=3 {
        until("a quarter more has arrived", limit, async || {
            (distinct(&webhook) + poisoned > events * kill / 4).then_some(())
        })
        .await;
        bus.kill();
        if kill == 2 {
            run.nats.kill();
            run.nats.restart().await;
        }
        bus.restart().await;
    }
    until("every event has arrived or is dead", limit, async || {
        (distinct(&webhook) + poisoned == events).then_some(())
    })
    .await;
    run.check(&webhook, limit).await;
}

/// One run: nats-server with the stream `SOURCE` to read from and the stream `DEAD` for what was refused.
struct Run {
    scratch: Scratch,
    nats: NatsServer,
    ledger: Arc<Ledger>,
    hook: u16,
    seed: u64,
}

impl Run {
    async fn start(events: usize, hook: u16) -> Self {
        let seed = seed();
        let scratch = Scratch::new();
        let nats = NatsServer::start(&scratch).await;
        nats.stream("SOURCE", &["load.>"], Duration::from_mins(2)).await;
        nats.stream("DEAD", &["dead.>"], Duration::from_mins(2)).await;
        Self { scratch, nats, ledger: Arc::new(Ledger::new(seed, events, 200)), hook, seed }
    }

    /// Fails one request in four, in every way there is, and refuses what is poison.
    async fn webhook(&self) -> Webhook {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut hangs = 0;
        Webhook::start(self.hook, move |taken| {
            if number(taken).is_some_and(poison) {
                return Act::Answer(422);
            }
            match random.u8(0..100) {
                0..8 => Act::Answer(503),
                8..12 => Act::Answer(429),
                12..16 => Act::Answer(500),
                16..20 => Act::Break,
                20..23 => Act::TakeAndBreak,
                // A hang holds its key up for the whole timeout: a few are enough.
                23 if hangs < 20 => {
                    hangs += 1;
                    Act::Hang(HANG)
                }
                _ => Act::Take,
            }
        })
        .await
    }

    /// Stores all events in the source.
    async fn publish(&self) {
        let context = jetstream::new(self.nats.client().await);
        let mut acks = Vec::new();
        for n in 0..self.ledger.events() {
            self.ledger.sent(n);
            acks.push((n, publish(&context, &self.ledger, n).await));
            if acks.len() == 256 || n + 1 == self.ledger.events() {
                for (n, ack) in acks.drain(..) {
                    ack.await.expect("the source stores it");
                    self.ledger.acknowledge(n);
                }
            }
        }
    }

    /// What arrived and what is dead are all there is, and each as it was sent.
    async fn check(&self, webhook: &Webhook, limit: Duration) -> Report {
        stored::quiet(&self.nats, "DEAD", limit).await;
        let arrived: Vec<Seen> = webhook.taken().iter().map(seen).collect();
        let dead = stored::read(&self.nats, "DEAD").await;
        let report = self.ledger.check(&arrived);
        println!("webhook: {report}\n  unanswered {} · dead {}", webhook.unanswered(), dead.len());
        let (mut poisoned, mut living) = (report.clone(), report.clone());
        poisoned.missing.retain(|n| poison(*n));
        living.missing.retain(|n| !poison(*n));
        living.assert_kept();
        let mut buried = BTreeSet::new();
        for message in &dead {
            let attributes = message.binary();
            let id = attributes.get("id").expect("the id of a dead event");
            assert_eq!(attributes.get("mbroute").map(String::as_str), Some("hook"), "{attributes:?}");
            let reason = attributes.get("mbreason").expect("why it is dead");
            assert!(reason.contains("422"), "{reason}");
            let attempts = attributes.get("mbattempts").expect("how often it was tried").parse::<u32>();
            assert!(attempts.is_ok_and(|attempts| (1..=ATTEMPTS).contains(&attempts)), "{attributes:?}");
            let n = id.rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).expect("its number");
            assert_eq!(message.payload, self.ledger.payload(n), "the data of a dead event");
            buried.insert(n);
        }
        assert_eq!(
            buried.into_iter().collect::<Vec<_>>(),
            poisoned.missing,
            "the dead letter has what is poison"
        );
        living
    }

    fn config(&self) -> String {
        format!(
            r#"
name: interop
connectors:
  source:
    nats:
      client:
        urls: ["{url}"]
        subscribe: [{{subject: "load.>", jetstream: {{stream: SOURCE, durable: hook, ack_wait: 5s, max_ack_pending: 512}}}}]
  graves: {{nats: {{client: {{urls: ["{url}"], jetstream: {{stream: DEAD}}}}}}}}
  sink: {{http: {{client: {{url: "http://127.0.0.1:{hook}/in", timeout: 1s}}}}}}
routes:
  hook:
    from: [source]
    to: [{{connector: sink, path: "{{topic.1}}", content_mode: binary}}]
    retry: {{max_attempts: {ATTEMPTS}, backoff: {{initial: 20ms, max: 200ms}}}}
    dead_letter: {{connector: graves, subject: "dead.{{route}}"}}
"#,
            url = self.nats.url(),
            hook = self.hook,
        )
    }
}

async fn publish(context: &Context, ledger: &Ledger, n: usize) -> jetstream::context::PublishAckFuture {
    let mut headers = HeaderMap::new();
    for (name, value) in ledger.attributes(n) {
        headers.insert(format!("ce-{name}"), ce_header(&value));
    }
    let subject = format!("load.{}", ledger.key(n));
    context.publish_with_headers(subject, headers, ledger.payload(n)).await.expect("a publish")
}

fn number(taken: &Taken) -> Option<usize> {
    taken.headers.get("ce-interopnumber")?.parse().ok()
}

/// How many different events arrived.
fn distinct(webhook: &Webhook) -> usize {
    webhook.taken().iter().filter_map(number).collect::<BTreeSet<_>>().len()
}

/// For the ledger: the key is the last segment of the path.
fn seen(taken: &Taken) -> Seen {
    let attributes = taken.headers.iter().filter_map(|(name, value)| match name.as_str() {
        "content-type" => Some(("datacontenttype".to_owned(), value.clone())),
        name => {
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            Some((name.strip_prefix("ce-")?.to_owned(), value))
        }
    });
    let key = taken.path.rsplit('/').next().unwrap_or_default().to_owned();
    Seen { attributes: attributes.collect(), key, payload: taken.body.clone() }
}
