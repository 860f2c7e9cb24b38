//! Streams and consumers on the server: found, or made where the configuration says so.

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{self, ConsumerErrorKind, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, ErrorCode};
use tracing::{info, warn};

use super::super::config::{
    ClientConfig, ConsumerConfig, Deliver, Retention, Storage, StreamConfig, SubscribeConfig,
};
use super::session::Session;
use crate::core::error::causes;
use crate::core::{Error, ErrorKind};

/// Makes sure that the stream to publish to is there.
///
/// # Errors
/// It is not and is not to be created, or JetStream does not answer.
pub(super) async fn stream(session: &Session, config: &ClientConfig) -> Result<(), Error> {
    let Some(wanted) = &config.jetstream else { return Ok(()) };
    match (find(session, &wanted.stream).await, &wanted.create) {
        (Ok(_), _) => Ok(()),
        (Err(missing), Some(create)) if missing.kind == ErrorKind::Protocol => {
            info!(stream = wanted.stream, peer = session.peer, "creating the stream");
            let created = session.context.create_stream(stream_config(&wanted.stream, create)).await;
            created.map(drop).map_err(|error| {
                Error::new(ErrorKind::Unreachable, &session.peer)
                    .because(format!("cannot create stream {}: {error}", wanted.stream))
            })
        }
        (Err(error), _) => Err(error),
    }
}

/// The consumer of an entry of `subscribe`, made where it does not exist, and when its stream was created.
///
/// # Errors
/// The stream is not there, the consumer is of another kind, or JetStream does not answer.
pub(super) async fn consumer(
    session: &Session,
    config: &ClientConfig,
    entry: &SubscribeConfig,
    wanted: &ConsumerConfig,
) -> Result<(Consumer<pull::Config>, i128), Error> {
    let name = stream_name(config, wanted);
    let stream = find(session, name).await?;
    let created = stream.cached_info().created.unix_timestamp_nanos();
    let consumer = stream.get_or_create_consumer(&wanted.durable, consumer_config(entry, wanted)).await;
    let consumer = consumer.map_err(|error| {
        let kind = match error.kind() {
            // Names and kinds do not mend by themselves, but an operator can, without a reload of ours.
            ConsumerErrorKind::InvalidConsumerType | ConsumerErrorKind::InvalidName => ErrorKind::Protocol,
            _ => ErrorKind::Unreachable,
        };
        session.error(kind, format!("consumer {} of stream {name}: {error}", wanted.durable))
    })?;
    let found = &consumer.cached_info().config;
    if found.ack_policy != AckPolicy::Explicit {
        return Err(session.error(
            ErrorKind::Protocol,
            format!(
                "consumer {} of stream {name} has no explicit acknowledgement: delete it or name another",
                wanted.durable
            ),
        ));
    }
    let all = found.filter_subject.is_empty() && entry.subject == ">";
    if found.filter_subject != entry.subject && !all {
        return Err(session.error(
            ErrorKind::Protocol,
            format!(
                "consumer {} of stream {name} has subject {:?}, not {:?}: delete it or name another",
                wanted.durable, found.filter_subject, entry.subject
            ),
        ));
    }
    if found.max_deliver > 0 {
        warn!(
            consumer = wanted.durable,
            max_deliver = found.max_deliver,
            "the server gives up a message after so many tries"
        );
    }
    if wanted.ordered
        && usize::try_from(found.max_ack_pending)
            .map_or(true, |most| most == 0 || most > wanted.max_ack_pending)
    {
        warn!(
            consumer = wanted.durable,
            server = found.max_ack_pending,
            here = wanted.max_ack_pending,
            "max_ack_pending on the server is above the one here: order may not outlast a lost connection"
        );
    }
    Ok((consumer, created))
}

/// The stream an entry takes from.
pub(super) fn stream_name<'a>(config: &'a ClientConfig, consumer: &'a ConsumerConfig) -> &'a str {
    let default = config.jetstream.as_ref().map(|jetstream| jetstream.stream.as_str());
    consumer.stream.as_deref().or(default).unwrap_or_default()
}

/// Whether one of a stream's subjects, with wildcards, has this one.
pub(super) fn takes_subject(filters: &[String], subject: &str) -> bool {
    filters.iter().any(|filter| {
        let mut tokens = subject.split('.');
        for wanted in filter.split('.') {
            match (wanted, tokens.next()) {
                (">", found) => return found.is_some(),
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    })
}

async fn find(session: &Session, name: &str) -> Result<Stream, Error> {
    session.context.get_stream(name).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND => session.error(
            ErrorKind::Protocol,
            format!("stream {name} does not exist: create it, or let the connector by jetstream: {{create: …}}"),
        ),
        _ => session.error(ErrorKind::Unreachable, format!("stream {name}: {}", causes(&error))),
    })
}

fn stream_config(name: &str, create: &StreamConfig) -> stream::Config {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    stream::Config {
        name: name.to_owned(),
        subjects: create.subjects.clone(),
        storage: match create.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        retention: match create.retention {
            Retention::Limits => RetentionPolicy::Limits,
            Retention::Interest => RetentionPolicy::Interest,
            Retention::WorkQueue => RetentionPolicy::WorkQueue,
        },
        max_age: create.max_age.map(|age| age.0).unwrap_or_default(),
        max_bytes: create.max_bytes.map_or(-1, |size| whole(size.0)),
        max_messages: create.max_messages.map_or(-1, whole),
        num_replicas: create.replicas,
        duplicate_window: create.duplicate_window.map(|window| window.0).unwrap_or_default(),
        ..Default::default()
    }
}

fn consumer_config(entry: &SubscribeConfig, wanted: &ConsumerConfig) -> jetstream::consumer::pull::Config {
    pull::Config {
        durable_name: Some(wanted.durable.clone()),
        deliver_policy: match wanted.deliver {
            Deliver::All => DeliverPolicy::All,
            Deliver::Last => DeliverPolicy::Last,
            Deliver::LastPerSubject => DeliverPolicy::LastPerSubject,
            Deliver::New => DeliverPolicy::New,
            Deliver::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: wanted.ack_wait.0,
        max_ack_pending: i64::try_from(wanted.max_ack_pending).unwrap_or(i64::MAX),
        filter_subject: entry.subject.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_what_its_subjects_match() {
        for (filter, subject, has) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*.c", "a.b.d", false),
            ("a.b", "a", false),
        ] {
            assert_eq!(takes_subject(&[filter.to_owned()], subject), has, "{filter} {subject}");
        }
    }
}
