//! Filters that keep nothing: one value that judges each event by itself, shared by all that run.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use crate::core::Reason;
use crate::core::filter::{Filter, FilterFactory, Input, Verdict};

/// Judges one event by itself.
pub(super) trait Judge: Send + Sync + fmt::Debug + 'static {
    /// See [`FilterFactory::name`].
    fn name(&self) -> ByteString;

    /// See [`Filter::process`].
    fn judge(&self, input: &Input<'_>) -> Verdict;
}

/// A judge as a filter, and as what makes it.
#[derive(Debug)]
pub(super) struct Stateless<T>(Arc<T>);

impl<T: Judge> Stateless<T> {
    pub(super) fn factory(judge: T) -> Arc<dyn FilterFactory> {
        Arc::new(Self(Arc::new(judge)))
    }
}

impl<T: Judge> FilterFactory for Stateless<T> {
    fn name(&self) -> ByteString {
        self.0.name()
    }

    fn build(&self) -> Result<Box<dyn Filter>, Reason> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl<T: Judge> Filter for Stateless<T> {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        batch.iter().map(|input| self.0.judge(input)).collect()
    }
}
