//! Threads for filters: a few, shared by all routes, so that a filter that takes its time holds up no runtime
//! worker.
//!
//! A route has one batch here at a time, and batches are taken in the order in which they came: a route whose
//! filters are slow takes its turn as all do. There are more threads than processors, so that those whose
//! filters are slow still leave one for those whose are not. One is started when all that run are busy; idle
//! they cost nothing.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Fewest and most threads; between them twice as many as there are processors.
const THREADS: (usize, usize) = (4, 16);

type Work = Box<dyn FnOnce() + Send>;

/// The threads. Dropped, they end when they have done what waits.
#[derive(Debug)]
pub(super) struct FilterThreads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    max: usize,
}

#[derive(Default)]
struct State {
    /// At most one a route.
    waiting: VecDeque<Work>,
    running: usize,
    idle: usize,
    closed: bool,
}

impl FilterThreads {
    /// None is started yet.
    pub(super) fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_max((2 * processors).clamp(THREADS.0, THREADS.1))
    }

    fn with_max(max: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), arrived: Condvar::new(), max }))
    }

    /// Runs `work` on one of the threads; here, where not even one can be started.
    pub(super) fn run(&self, work: Work) {
        let mut state = self.0.state.lock();
        state.waiting.push_back(work);
        if state.waiting.len() <= state.idle || state.running >= self.0.max {
            drop(state);
            self.0.arrived.notify_one();
            return;
        }
        state.running += 1;
        drop(state);
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new().name("filter".to_owned()).spawn(move || shared.work());
        if let Err(error) = started {
            let mut state = self.0.state.lock();
            state.running -= 1;
            // Those that run see to it.
            let alone = if state.running == 0 { state.waiting.pop_front() } else { None };
            drop(state);
            tracing::warn!(%error, "no thread for a filter could be started");
            if let Some(work) = alone {
                work();
            }
        }
    }
}

impl Drop for FilterThreads {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.arrived.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                // A filter's own panics are caught where its events are known; this keeps the thread.
                drop(catch_unwind(AssertUnwindSafe(work)));
                state = self.state.lock();
            } else if state.closed {
                state.running -= 1;
                return;
            } else {
                state.idle += 1;
                self.arrived.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("running", &self.running)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn no_more_threads_run_than_may_and_all_work_is_done() {
        let threads = FilterThreads::with_max(3);
        let (sender, receiver) = mpsc::channel();
        for number in 0..200 {
            let sender = sender.clone();
            threads.run(Box::new(move || sender.send((number, thread::current().id())).unwrap()));
        }
        let done: Vec<_> = (0..200).map(|_| receiver.recv_timeout(SOON).unwrap()).collect();
        let mut numbers: Vec<_> = done.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
        let used: std::collections::HashSet<_> = done.iter().map(|(_, thread)| thread).collect();
        assert!(used.len() <= 3);
    }

    #[test]
    fn work_that_blocks_leaves_a_thread_for_the_next() {
        let threads = FilterThreads::with_max(2);
        let (release, blocked) = mpsc::channel::<()>();
        threads.run(Box::new(move || assert!(blocked.recv().is_err())));
        let (sender, receiver) = mpsc::channel();
        threads.run(Box::new(move || sender.send(()).unwrap()));
        receiver.recv_timeout(SOON).unwrap();
        drop(release);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let threads = FilterThreads::with_max(1);
        threads.run(Box::new(|| panic!("on purpose")));
        let (sender, receiver) = mpsc::channel();
        threads.run(Box::new(move || sender.send(()).unwrap()));
        receiver.recv_timeout(SOON).unwrap();
    }

    #[test]
    fn dropped_threads_do_what_waits_and_end() {
        let threads = FilterThreads::with_max(1);
        let shared = Arc::clone(&threads.0);
        let (sender, receiver) = mpsc::channel();
        for _ in 0..10 {
            let sender = sender.clone();
            threads.run(Box::new(move || sender.send(()).unwrap()));
        }
        drop(threads);
        (0..10).for_each(|_| receiver.recv_timeout(SOON).unwrap());
        let deadline = Instant::now() + SOON;
        while shared.state.lock().running > 0 {
            assert!(Instant::now() < deadline, "the thread did not end");
            thread::yield_now();
        }
    }
}
