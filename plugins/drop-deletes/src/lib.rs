//! Drops deletions of state, so that whoever reads on the other side keeps what it has.

use meshbus_filter::{Event, Filter, Verdict, export};

struct DropDeletes;

impl Filter for DropDeletes {
    fn init(_config: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, event: Event) -> Verdict {
        match event.kind() {
            "dev.meshbus.resource.deleted.v1" => Verdict::drop_because("a deletion"),
            _ => Verdict::Pass,
        }
    }
}

export!(DropDeletes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deletions_are_dropped() {
        let of = |kind| DropDeletes.process(Event::new("1", "s", kind));
        assert_eq!(of("dev.meshbus.resource.added.v1"), Verdict::Pass);
        assert_eq!(of("dev.meshbus.resource.deleted.v1"), Verdict::drop_because("a deletion"));
    }
}
