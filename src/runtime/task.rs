//! Spawns tasks: the only place that does, so that each has a name and no panic goes unnoticed.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::error;

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

/// What a panic said, as far as it is text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
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

    #[test]
    fn a_panic_message_is_read_from_both_kinds_of_text() {
        assert_eq!(panic_message(&"text"), "text");
        assert_eq!(panic_message(&"owned".to_owned()), "owned");
        assert_eq!(panic_message(&7_u8), "no message");
    }
}
