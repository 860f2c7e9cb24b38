//! Tells the size of each event's data in the attribute `size`, and drops what is smaller than `config:` says.

use meshbus_filter::{Event, Filter, Output, Verdict, export};

struct Size {
    /// Bytes.
    least: usize,
}

impl Filter for Size {
    fn init(config: &str) -> Result<Self, String> {
        let wrong = |_| format!("{config} is no number of bytes; such as `config: 10`");
        let least = if config == "null" { 1 } else { config.parse().map_err(wrong)? };
        Ok(Self { least })
    }

    fn process(&mut self, event: Event) -> Verdict {
        let size = event.data().len();
        if size < self.least {
            return Verdict::drop_because("too small");
        }
        Output::new().set("size", i32::try_from(size).unwrap_or(i32::MAX)).into()
    }
}

export!(Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_events_are_dropped_and_others_tell_their_size() {
        let mut filter = Size::init("4").unwrap();
        let event = Event::new("1", "/test", "test");
        assert_eq!(filter.process(event.clone().with_data("abc")), Verdict::drop_because("too small"));
        assert_eq!(filter.process(event.with_data("abcd")), Output::new().set("size", 4).into());
        assert!(Size::init("many").is_err());
    }
}
