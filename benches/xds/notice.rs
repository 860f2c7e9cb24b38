//! How soon those who follow connections see a node that connects: by NATS, by MQTT, and by a watch of the Kubernetes
//! API, all told by one bus.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::TYPE;
use super::streams::{Streams, follow};
use super::subscribers::{Subscriber, node};
use super::support::process::{Peers, free_port, start_meshbus};
use super::support::{Args, Failure, Report};

/// Between two nodes that connect: more than the interval at whose end those are told that come within one, so that each is
/// told at once.
const EVERY: Duration = Duration::from_millis(150);

pub(crate) fn measure(args: &Args, report: &mut Report) -> Result<(), Failure> {
    let named = ["MESHBUS_NATS_SERVER", "MESHBUS_MOSQUITTO"].map(|name| std::env::var_os(name).is_some());
    let peers = if named == [true; 2] { Some(Peers::start()?) } else { None };
    let dir = tempfile::Builder::new().prefix("meshbus-bench-").tempdir()?;
    let (xds, api) = (free_port()?, free_port()?);
    let mut config = format!(
        "logging: {{level: warn}}\nconnectors:\n  ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\"}}}}}}\n  \
         api: {{k8s: {{server: {{listen: \"127.0.0.1:{api}\"}}}}}}\n"
    );
    if let Some(peers) = &peers {
        write!(
            config,
            "  broker: {{nats: {{client: {{urls: [\"nats://127.0.0.1:{}\"]}}}}}}\n  \
             sensors: {{mqtt: {{client: {{urls: [\"mqtt://127.0.0.1:{}\"]}}}}}}\n\
             routes:\n  seen:\n    from: [{{topic: \"bus/connections/#\"}}]\n    \
             to: [{{connector: broker, subject: \"seen.node\"}}, {{connector: sensors, topic: \"seen/node\"}}]\n",
            peers.nats_port, peers.mqtt_port
        )?;
    }
    let meshbus = start_meshbus(dir.path(), "notice", &config)?;
    let mut all = vec![Subscriber::kubernetes(api)?];
    if let Some(peers) = &peers {
        all.extend([Subscriber::nats(peers.nats_port)?, Subscriber::mqtt(peers.mqtt_port)?]);
    } else {
        let text = "set MESHBUS_NATS_SERVER and MESHBUS_MOSQUITTO to measure them".into();
        report.said("notice of a node that connects, by NATS and MQTT", text);
    }
    let mut seen = Vec::new();
    for subscriber in all {
        seen.push((subscriber, Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    }
    let (mut streams, began) = (Vec::new(), Instant::now());
    for number in 0..args.size(200, 5) {
        let due = began + EVERY * u32::try_from(number)?;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        let mut request = follow(TYPE, None);
        request.node.get_or_insert_default().id = node(number);
        let mut stream = Streams::open(xds, 1, 1)?;
        stream.ask(&request)?;
        streams.push(stream);
        for (subscriber, histogram) in &mut seen {
            let took = subscriber.told_of(number)?.saturating_duration_since(due);
            histogram.record(u64::try_from(took.as_micros())?)?;
        }
    }
    drop(meshbus);
    for (subscriber, histogram) in &seen {
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1000.0;
        report.said(
            &format!("notice of a node that connects, by {}: p50 · p99 · most", subscriber.name),
            format!("{:.2} · {:.2} · {:.2} ms", at(0.5), at(0.99), histogram.max() as f64 / 1000.0),
        );
    }
    Ok(())
}
