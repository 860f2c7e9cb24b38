//! One instance of a plugin: its memory, its deadline, and what may come of a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::exports::meshbus::filter::{filter, packed};
use super::bindings::meshbus::filter::types::{Event, InitError, Verdict as Answer};
use super::engine::{Host, host, ticks};
use super::host::State;
use super::limits::{OUT_OF_MEMORY, OUTPUT_MAX, REASON_MAX, START_DEADLINES, START_MIN};
use super::patch::cut;
use super::plugin::{Loaded, Plugin};
use super::settings::Checked;

/// Most resources a guest may hold: standard output and the like.
const HANDLES_MAX: usize = 256;
/// What the engine puts before a trap's name.
const TEXT_OF_TRAP: &str = "wasm trap: ";

/// Why a call failed, in the words of a reason: they follow the plugin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ran longer than this.
    Deadline(Duration),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(deadline) => write!(f, "ran longer than its deadline of {deadline:?}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A running guest. After a fault it must be dropped: its memory is in no state to go on from.
pub(super) struct Instance {
    host: &'static Host,
    store: Store<State>,
    filter: filter::Guest,
    packed: Option<packed::Guest>,
    deadline: Duration,
}

impl Instance {
    /// Makes one of `loaded` and hands it its configuration.
    ///
    /// # Errors
    /// It does not begin within its limits, or does not take its configuration.
    pub(super) fn start(plugin: &Plugin, loaded: &Loaded, settings: &Checked) -> Result<Self, Fault> {
        let host = host().map_err(Fault::Other)?;
        let state = State::new(settings.memory, Arc::clone(&plugin.name), Arc::clone(&plugin.figures));
        let mut store = Store::new(&host.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(OUTPUT_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        let deadline = settings.deadline.saturating_mul(START_DEADLINES).max(START_MIN);
        let _running = host.running();
        watch(&mut store, deadline);
        let failed = |error| fault(&error, deadline);
        let instance = loaded.pre.instantiate(&mut store).map_err(failed)?;
        let filter = loaded.filter.load(&mut store, &instance).map_err(failed)?;
        let packed = loaded.packed.as_ref().map(|packed| packed.load(&mut store, &instance));
        let packed = packed.transpose().map_err(failed)?;
        match filter.call_init(&mut store, &settings.config).map_err(failed)? {
            Ok(()) => {
                watch(&mut store, settings.deadline);
                Ok(Self { host, store, filter, packed, deadline: settings.deadline })
            }
            Err(InitError::InvalidConfig(why)) => {
                Err(Fault::Other(format!("does not take its `config:`: {}", cut(&why, REASON_MAX))))
            }
            Err(InitError::Failed(why)) => {
                Err(Fault::Other(format!("did not begin: {}", cut(&why, REASON_MAX))))
            }
        }
    }

    /// Bytes of memory it has.
    pub(super) fn memory(&self) -> usize {
        self.store.data().limits.used()
    }

    /// Whether it takes events packed.
    pub(super) fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// Asks for the verdicts on `events`.
    pub(super) fn process(&mut self, route: &str, events: &[Event<'_>]) -> Result<Vec<Answer>, Fault> {
        let _running = self.begin(route);
        self.filter.call_process(&mut self.store, events).map_err(|error| fault(&error, self.deadline))
    }

    /// Asks for the verdicts on `count` events packed in `frames`.
    pub(super) fn process_packed(
        &mut self,
        route: &str,
        count: u32,
        frames: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let _running = self.begin(route);
        let Some(packed) = &self.packed else {
            return Err(Fault::Other("takes nothing packed".to_owned()));
        };
        packed
            .call_process_packed(&mut self.store, count, frames)
            .map_err(|error| fault(&error, self.deadline))
    }

    fn begin(&mut self, route: &str) -> super::engine::Running<'static> {
        self.store.data_mut().begin(route);
        self.store.set_epoch_deadline(ticks(self.deadline));
        self.host.running()
    }
}

/// Ends what runs for longer than `deadline`, from now on.
fn watch(store: &mut Store<State>, deadline: Duration) {
    store.data_mut().begin("");
    store.set_epoch_deadline(ticks(deadline));
    store.epoch_deadline_callback(move |mut store| {
        if store.data_mut().is_overdue(deadline) {
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(UpdateDeadline::Continue(ticks(deadline)))
    });
}

fn fault(error: &wasmtime::Error, deadline: Duration) -> Fault {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Fault::Deadline(deadline),
        Some(Trap::UnreachableCodeReached) => {
            Fault::Other("trapped: unreachable, so a panic or an abort".to_owned())
        }
        Some(trap) => {
            let trap = trap.to_string();
            Fault::Other(format!("trapped: {}", trap.strip_prefix(TEXT_OF_TRAP).unwrap_or(&trap)))
        }
        None => {
            let text = format!("{error:#}");
            match text.find(OUT_OF_MEMORY).and_then(|at| text.get(at..)) {
                Some(text) => Fault::Other(cut(text, REASON_MAX).into_owned()),
                None => Fault::Other(format!("failed: {}", cut(&text, REASON_MAX))),
            }
        }
    }
}
