//! The engine that all plugins share, and the thread that ends calls which run too long.
//!
//! Compiled code looks at a counter, the epoch, at every loop and call. The ticker raises it each [`TICK`] while a
//! call runs, and sleeps when none has for a while: plugins that nothing reaches cost no CPU.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Engine};

use super::host::{self, State};

/// The precision of deadlines.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call until the ticker sleeps: waking it costs a call some microseconds.
const LINGER: u32 = 1_000;

/// Engine, imports and ticker; one for the process, as compiled code belongs to an engine.
pub(super) struct Host {
    pub(super) engine: Engine,
    /// What every plugin may import.
    pub(super) linker: Linker<State>,
    ticker: Arc<Ticker>,
}

#[derive(Debug, Default)]
struct Ticker {
    running: AtomicUsize,
    asleep: AtomicBool,
}

/// While it lives, a call runs and the epoch moves on.
pub(super) struct Running<'h>(&'h Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

static HOST: LazyLock<Result<(Host, Thread), String>> = LazyLock::new(start);

/// The engine, started when first asked for.
///
/// # Errors
/// This machine cannot run it: no code generator for its processor, no memory for code, no thread.
pub(super) fn host() -> Result<&'static Host, String> {
    match &*HOST {
        Ok((host, _)) => Ok(host),
        Err(reason) => Err(reason.clone()),
    }
}

impl Host {
    /// Tells the ticker that a call runs.
    pub(super) fn running(&self) -> Running<'_> {
        self.ticker.running.fetch_add(1, Ordering::SeqCst);
        if self.ticker.asleep.load(Ordering::SeqCst)
            && let Ok((_, thread)) = &*HOST
        {
            thread.unpark();
        }
        Running(&self.ticker)
    }
}

/// So many ticks end a call after `deadline` at the earliest.
pub(super) fn ticks(deadline: Duration) -> u64 {
    // The one that is running counts for nothing.
    u64::try_from(deadline.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX / 2).saturating_add(1)
}

fn start() -> Result<(Host, Thread), String> {
    let engine = Engine::new(&config()).map_err(|error| format!("no Wasm on this machine: {error:#}"))?;
    let linker = host::linker(&engine).map_err(|error| format!("the imports do not fit: {error:#}"))?;
    let ticker = Arc::new(Ticker::default());
    let (ticking, ticked) = (Arc::clone(&ticker), engine.clone());
    let thread = thread::Builder::new()
        .name("wasm-epoch".to_owned())
        .spawn(move || tick(&ticking, &ticked))
        .map_err(|error| format!("no thread for the deadlines of plugins: {error}"))?;
    let thread = thread.thread().clone();
    Ok((Host { engine, linker, ticker }, thread))
}

fn config() -> Config {
    let mut config = Config::new();
    // Instances are long-lived, one for a route's step, so memory is mapped on demand: a pool would save 10 us at
    // a rebuild and reserve gigabytes of address space for it.
    config.epoch_interruption(true);
    // Compiled once and run for long: worth the better code.
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    config
}

fn tick(ticker: &Ticker, engine: &Engine) {
    let mut idle = 0;
    loop {
        if ticker.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > LINGER {
            ticker.asleep.store(true, Ordering::SeqCst);
            // Looked at once more after saying so: a call that began in between has not seen it.
            if ticker.running.load(Ordering::SeqCst) == 0 {
                thread::park();
            }
            ticker.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}
