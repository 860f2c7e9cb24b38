//! Spawns tasks: the only place that does, so that each has a name and no panic goes unnoticed.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::error;

use crate::core::error::panic_message;

/// Runs `future` on the runtime. A panic in it is logged with `name`, ends this task alone, and is seen by
/// whoever awaits the handle. Dropping the handle lets the task run on.
pub fn spawn<F>(name: impl Into<ByteString>, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let name = name.into();
    tokio::spawn(async move {
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => output,
            Err(payload) => {
                error!(task = %name, panic = panic_message(payload.as_ref()), "task panicked");
                resume_unwind(payload)
            }
        }
    })
}

/// Runs `work`, which may block, on a thread where that holds up nobody.
///
/// # Panics
/// Where `work` does.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            // Not cancelled by us: only the end of the runtime does, with which this ends too.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_its_task_and_is_seen_by_the_handle() {
        let bad = spawn("bad", async { panic!("on purpose") });
        let good = spawn("good", async { 7 });
        assert!(bad.await.unwrap_err().is_panic());
        assert_eq!(good.await.unwrap(), 7);
    }
}
