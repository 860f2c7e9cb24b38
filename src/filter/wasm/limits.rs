//! What a plugin may use, however it is written; what the operator may set is in [`settings`](super::settings).

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Largest file of a plugin.
pub(super) const FILE_MAX: u64 = 128 << 20;
/// Most bytes that a call may hand over to the host, as they are counted in the host's memory: an answer, or the
/// arguments of one import.
pub(super) const OUTPUT_MAX: usize = 16 << 20;
/// Most bytes of data that go into one call, unless a single event has more. Attributes are not counted: they are few,
/// and what is too much for the guest comes again one by one.
pub(super) const INPUT_MAX: usize = 1 << 20;
/// Longest text a guest gives as a reason; the rest is cut.
pub(super) const REASON_MAX: usize = 512;
/// Longest name of an output.
pub(super) const OUTPUT_NAME_MAX: usize = 128;
/// How much longer than a call an instance may take to begin: an interpreter unpacks itself.
pub(super) const START_DEADLINES: u32 = 20;
/// The shortest time an instance is given to begin, however short the deadline of its calls.
pub(super) const START_MIN: Duration = Duration::from_secs(1);
/// Core instances, tables and memories of one component: an SDK's guest has one each, an interpreter with an
/// adapter a handful.
const INSTANCES_MAX: usize = 64;
const TABLES_MAX: usize = 64;
const MEMORIES_MAX: usize = 16;
/// Entries of one table: functions that can be called by reference.
const TABLE_ENTRIES_MAX: usize = 100_000;

/// The message of a trap for want of memory, looked for to name the fault.
pub(super) const OUT_OF_MEMORY: &str = "needs more memory than its limit";

/// Counts the memory of one instance, over all its linear memories.
#[derive(Debug)]
pub(super) struct Limits {
    /// Most bytes.
    memory: usize,
    used: usize,
}

impl Limits {
    pub(super) fn new(memory: usize) -> Self {
        Self { memory, used: 0 }
    }

    /// Bytes in use, over all linear memories.
    pub(super) fn used(&self) -> usize {
        self.used
    }
}

/// Growing beyond a limit is a trap rather than a failed `memory.grow`: what a guest does then is to abort, only later
/// and without a word on why.
impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.memory {
            let error = format!("{OUT_OF_MEMORY} of {} bytes: {used} bytes", self.memory);
            return Err(wasmtime::Error::msg(error));
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ENTRIES_MAX {
            let error = format!("a table of {desired} entries; at most {TABLE_ENTRIES_MAX} are allowed");
            return Err(wasmtime::Error::msg(error));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
