//! Metrics of connectors that list and watch the state of their peer, or that hold back changes; of others there are none.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{ConnectorFigures, CounterOf, counter, gauge, labels};
use crate::core::stats::FollowingStats;

const COUNTS: [CounterOf<FollowingStats>; 5] = [
    ("meshbus_connector_listed", "Lists of what there is.", |it| it.listed.get()),
    ("meshbus_connector_gone", "Positions that the peer no longer had.", |it| it.gone.get()),
    ("meshbus_connector_gaps", "Times that changes in between may have been missed.", |it| it.gaps.get()),
    ("meshbus_connector_repeated", "Changes that came again and were known.", |it| it.repeated.get()),
    ("meshbus_connector_held_back", "Changes that were not told: too many at once.", |it| {
        it.held_back.get()
    }),
];

const LEVELS: [CounterOf<FollowingStats>; 3] = [
    ("meshbus_connector_waiting", "Changes that wait for answers of routes.", |it| it.waiting.get()),
    ("meshbus_connector_lag_milliseconds", "How old the last change was when it came.", |it| it.lag.get()),
    ("meshbus_connector_kept_timestamp_seconds", "When progress was last kept.", |it| it.kept.get()),
];

pub(super) fn encode(out: &mut DescriptorEncoder, connectors: &[ConnectorFigures]) -> fmt::Result {
    let follows = |figures: &&ConnectorFigures| {
        let of = &figures.stats.following;
        of.listed.get() > 0 || of.held_back.get() > 0
    };
    let following: Vec<&ConnectorFigures> = connectors.iter().filter(follows).collect();
    if following.is_empty() {
        return Ok(());
    }
    for (metric, help, count) in COUNTS {
        let mut counts = out.encode_descriptor(metric, help, None, MetricType::Counter)?;
        for connector in &following {
            counter(&mut counts, &labels(connector), count(&connector.stats.following))?;
        }
    }
    for (metric, help, level) in LEVELS {
        let mut levels = out.encode_descriptor(metric, help, None, MetricType::Gauge)?;
        for connector in &following {
            gauge(&mut levels, &labels(connector), level(&connector.stats.following))?;
        }
    }
    Ok(())
}
