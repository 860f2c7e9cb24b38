//! Events on the command line: made from arguments, read from and written as one JSON CloudEvent.

use bytes::Bytes;

use crate::core::{Change, Envelope, Topic};
use crate::schema::cloudevents::json;

/// The `type` of an event that is given none.
pub(super) const MESSAGE_TYPE: &str = "dev.meshbus.message.v1";
/// The `source` of an event that is given none.
pub(super) const SOURCE: &str = "//meshbus/cli";
/// The extension that tells an event's topic, where nothing else does.
pub(super) const TOPIC: &str = "mbtopic";

/// An event by its JSON; its topic is that of its extension `mbtopic`, where it has one.
pub(super) fn decode(text: &Bytes) -> Result<Envelope, String> {
    let unplaced = Topic::parse("events").map_err(|error| error.to_string())?;
    let mut envelope = json::decode(text, unplaced).map_err(|error| error.to_string())?;
    if let Some(topic) = envelope.extensions.get(TOPIC).and_then(|topic| Topic::parse(topic.to_text()).ok())
    {
        envelope.topic = topic;
    }
    Ok(envelope)
}

/// An event that a bus of this process took in, as it was sent, with its topic as extension `mbtopic`.
pub(super) fn as_sent(envelope: &Envelope, bus: &str) -> Envelope {
    let mut envelope = envelope.clone();
    let extensions = &mut envelope.extensions;
    // The marks of a loop guard that nobody else will ever look at.
    let hops = extensions.get("mbhops").and_then(|hops| hops.to_text().parse::<i32>().ok()).unwrap_or(1);
    if extensions.get("mborigin").is_some_and(|origin| *origin.to_text() == *bus) {
        extensions.remove("mborigin");
        extensions.remove("mbhops");
    } else {
        extensions.set("mbhops", hops - 1);
    }
    if envelope.change != Change::Occurred {
        // A position in a log that ends with this process.
        extensions.remove("mbseq");
    }
    extensions.set(TOPIC, envelope.topic.text().clone());
    envelope.change = Change::Occurred;
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_passed_our_own_bus_shows_no_marks_of_it() {
        let topic = Topic::parse("a/b").unwrap();
        let mut event = Envelope::event(topic, "1", "s", "t");
        event.extensions.set("mborigin", "cli-1");
        event.extensions.set("mbhops", 1);
        let sent = as_sent(&event, "cli-1");
        assert_eq!(sent.extensions.get("mborigin"), None);
        assert_eq!(sent.extensions.get("mbhops"), None);
        assert_eq!(sent.attribute("mbtopic").as_deref(), Some("a/b"));
        assert_eq!(as_sent(&event, "other").attribute("mbhops").as_deref(), Some("0"));
    }
}
