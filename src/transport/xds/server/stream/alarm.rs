//! The timer of a stream: set when it is for another time, not each time that the stream waits.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// See the [module](self). Takes nothing until there is a time to wait for.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Waits until a time; without one, for ever. Cancel safe.
    pub(super) async fn at(&mut self, due: Option<Instant>) {
        let Some(due) = due else { return std::future::pending().await };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        poll_fn(|cx| {
            // Also where it has rung: then it is for another time.
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            timer.as_mut().poll(cx)
        })
        .await;
    }
}
