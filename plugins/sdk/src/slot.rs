//! Where the one filter of an instance lives between calls.

use std::cell::RefCell;

use crate::bindings::meshbus::filter::types::InitError;
use crate::{Event, Filter, Verdict, log};

/// The filter, once `init` has made it.
#[derive(Debug, Default)]
pub struct Slot<F>(RefCell<Option<F>>);

impl<F: Filter> Slot<F> {
    /// Without a filter yet.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Makes the filter, and sees that a panic says why.
    pub fn init(&self, config: &str) -> Result<(), InitError> {
        std::panic::set_hook(Box::new(|panic| log::error(&panic.to_string())));
        let filter = F::init(config).map_err(InitError::InvalidConfig)?;
        *self.0.borrow_mut() = Some(filter);
        Ok(())
    }

    /// One verdict for each event.
    pub fn process(&self, events: Vec<Event>) -> Vec<Verdict> {
        let mut slot = self.0.borrow_mut();
        let Some(filter) = slot.as_mut() else {
            return events
                .iter()
                .map(|_| Verdict::DeadLetter("has no configuration yet".to_owned()))
                .collect();
        };
        events.into_iter().map(|event| filter.process(event)).collect()
    }
}
