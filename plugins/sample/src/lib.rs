//! Keeps all events of some keys and none of the others: what is kept tells whole stories.
//!
//! `config: {percent: 10, key: subject}`: so many of a hundred keys; `key` is the attribute that holds the key. Which
//! keys are kept depends on their text only: every bus with the same percentage keeps the same, and one with more keeps
//! these, too. Events without a key pass.

use meshbus_filter::json::{self, Value};
use meshbus_filter::{Event, Filter, Verdict, export};

struct Sample {
    /// The attribute.
    key: String,
    percent: u64,
}

impl Filter for Sample {
    fn init(config: &str) -> Result<Self, String> {
        let config: Value = json::from_str(config).map_err(|error| error.to_string())?;
        let percent = config["percent"].as_u64().filter(|percent| *percent <= 100);
        let percent = percent.ok_or("`percent` is no number from 0 to 100")?;
        let key = config.get("key").map_or(Some("subject"), Value::as_str);
        Ok(Self { key: key.ok_or("`key` is not the name of an attribute")?.to_owned(), percent })
    }

    fn process(&mut self, event: Event) -> Verdict {
        match event.attribute(&self.key) {
            Some(key) if hash(&key) % 100 >= self.percent => Verdict::drop_because("not sampled"),
            _ => Verdict::Pass,
        }
    }
}

/// FNV-1a of 64 bits, mixed once more so that all bits tell.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32
}

export!(Sample);

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(percent: u64) -> Vec<usize> {
        let mut filter =
            Sample::init(&json::json!({"percent": percent, "key": "pod"}).to_string()).unwrap();
        let passes = |key: &usize| {
            let event = Event::new("1", "s", "t").with("pod", format!("web/shop-{key}"));
            filter.process(event) == Verdict::Pass
        };
        (0..10_000).filter(passes).collect()
    }

    #[test]
    fn so_many_of_a_hundred_keys_are_kept() {
        let (few, more) = (kept(10), kept(30));
        assert!((900..1100).contains(&few.len()), "{}", few.len());
        assert!(few.iter().all(|key| more.contains(key)), "who keeps more keeps these");
        assert_eq!((kept(0).len(), kept(100).len()), (0, 10_000));
    }

    #[test]
    fn an_event_without_a_key_passes() {
        let mut filter = Sample::init(r#"{"percent": 0}"#).unwrap();
        assert_eq!(filter.process(Event::new("1", "s", "t")), Verdict::Pass);
        assert!(Sample::init(r#"{"percent": 101}"#).is_err());
    }
}
