//! What the generated bindings need of a runtime: memory that the host fills, and constructors run once.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{NonNull, null_mut};

/// Memory for the arguments of one call, given back when dropped.
#[derive(Debug)]
pub struct Cleanup(NonNull<u8>, Layout);

impl Cleanup {
    /// Memory of this layout, and what gives it back; null and nothing for no bytes.
    pub fn new(layout: Layout) -> (*mut u8, Option<Self>) {
        if layout.size() == 0 {
            return (null_mut(), None);
        }
        // SAFETY: the size is not zero.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        (memory.as_ptr(), Some(Self(memory, layout)))
    }

    /// Leaves the memory to whoever has been given it.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout, and nothing else frees it.
        unsafe { dealloc(self.0.as_ptr(), self.1) }
    }
}

/// Runs static constructors before the first call. That we do it by ourselves tells the linker not to do it at each.
#[cfg(target_family = "wasm")]
pub fn run_ctors_once() {
    use std::sync::atomic::{AtomicBool, Ordering};

    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        // SAFETY: made by the linker, and called once, before anything that could depend on it.
        unsafe { __wasm_call_ctors() }
    }
}

/// Called by the bindings so that [`cabi_realloc`] is linked.
pub fn maybe_link_cabi_realloc() {
    #[cfg(all(target_family = "wasm", not(target_env = "p2")))]
    {
        #[used]
        static LINKED: unsafe extern "C" fn(*mut u8, usize, usize, usize) -> *mut u8 = cabi_realloc;
    }
}

/// Where the host gets memory for what it hands over. The standard library of `wasm32-wasip2` brings its own.
///
/// # Safety
/// As the canonical ABI has it: `old` is null and `old_size` 0, or what an earlier call with `align` gave.
#[cfg(all(target_family = "wasm", not(target_env = "p2")))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    // SAFETY: the host asks for valid layouts, and hands back only what it got.
    unsafe {
        let layout = Layout::from_size_align_unchecked(old_size.max(size), align);
        let memory = match (old_size, size) {
            (0, 0) => return align as *mut u8,
            (0, _) => alloc(layout),
            (_, _) => std::alloc::realloc(old, Layout::from_size_align_unchecked(old_size, align), size),
        };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        memory
    }
}
