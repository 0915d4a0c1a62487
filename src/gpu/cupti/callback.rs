//! What runs in the program's threads: CUPTI's callback at both ends of a call into the driver.
#![expect(
    unsafe_code,
    reason = "CUPTI hands over pointers to its own structure and to the call's parameters"
)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::callback_ids::{self, MemoryParameters};
use crate::capture::Capture;
use crate::model::{GpuFunction, GpuMemory};

/// What the callback works with. Lives forever: a call may be in the middle of the callback while a subscription ends.
pub(super) struct Hook {
    capture: Arc<Capture>,
    /// By the number of the callback.
    functions: Vec<Option<GpuFunction>>,
    /// Calls of functions that are not known.
    unknown: AtomicU64,
}

impl Hook {
    pub(super) fn new(capture: &Arc<Capture>) -> Hook {
        Hook {
            capture: Arc::clone(capture),
            functions: callback_ids::functions(),
            unknown: AtomicU64::new(0),
        }
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Relaxed)
    }

    fn begins(&self, callback: u32, correlation: u32, context: u32) {
        match self.functions.get(callback as usize) {
            Some(&Some(function)) => {
                self.capture.gpu_call_begins(function, correlation, context);
            }
            _ => {
                self.unknown.fetch_add(1, Relaxed);
            }
        }
    }
}

/// `CUPTI_API_ENTER`; the other site is the return.
const ENTER: u32 = 0;

/// The callback that CUPTI is given.
///
/// Runs at both ends of every call that starts work, so it takes no lock and does not allocate after a thread's first
/// call. Nothing unwinds out of it.
pub(super) extern "C" fn on_call(
    user: *mut c_void,
    _domain: u32,
    callback: u32,
    data: *const c_void,
) {
    if user.is_null() || data.is_null() {
        return;
    }
    // SAFETY: `user` is what `subscribe` was given, a `&'static Hook`.
    let hook = unsafe { &*user.cast::<Hook>() };
    // SAFETY: for callbacks of the driver's domain, `data` is a `CUpti_CallbackData`, 72 bytes that are valid during
    // the call.
    let data = unsafe { CallbackData::read(data) };
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if data.site == ENTER {
            hook.begins(callback, data.correlation, data.context);
        } else if hook
            .functions
            .get(callback as usize)
            .is_some_and(Option::is_some)
        {
            let error = data.error();
            let memory = match error {
                0 => data.memory(callback),
                _ => None,
            };
            hook.capture
                .gpu_call_returns(data.correlation, error, memory);
        }
    }));
}

/// What is read of `CUpti_CallbackData`.
struct CallbackData {
    site: u32,
    parameters: *const u8,
    result: *const u32,
    context: u32,
    correlation: u32,
}

impl CallbackData {
    /// # Safety
    ///
    /// `data` must point to a `CUpti_CallbackData`.
    unsafe fn read(data: *const c_void) -> CallbackData {
        let data = data.cast::<u8>();
        // SAFETY: the offsets are those of the structure, which has 72 bytes and has not changed since CUDA 11.0.
        unsafe {
            CallbackData {
                site: data.cast::<u32>().read_unaligned(),
                parameters: data.add(16).cast::<*const u8>().read_unaligned(),
                result: data.add(24).cast::<*const u32>().read_unaligned(),
                context: data.add(48).cast::<u32>().read_unaligned(),
                correlation: data.add(64).cast::<u32>().read_unaligned(),
            }
        }
    }

    /// Returns the driver's error code, at the return of a call.
    fn error(&self) -> u32 {
        if self.result.is_null() {
            return 0;
        }
        // SAFETY: at the return, the pointer is to the call's `CUresult`.
        unsafe { self.result.read_unaligned() }
    }

    /// Returns the memory that the call took or gave back, at the return of one that succeeded.
    fn memory(&self, callback: u32) -> Option<GpuMemory> {
        let layout = callback_ids::memory_parameters(callback)?;
        if self.parameters.is_null() {
            return None;
        }
        let word = |at: usize| {
            // SAFETY: the functions with such a layout have that many parameters of 8 bytes each.
            unsafe { self.parameters.add(at * 8).cast::<u64>().read_unaligned() }
        };
        let behind = |address: u64| {
            let pointer = std::ptr::with_exposed_provenance::<u64>(address as usize);
            // SAFETY: the call succeeded, so it has written to where this parameter points.
            (!pointer.is_null()).then(|| unsafe { pointer.read_unaligned() })
        };
        Some(match layout {
            MemoryParameters::Release => GpuMemory::new(word(0), None),
            MemoryParameters::Linear => GpuMemory::new(behind(word(0))?, Some(word(1))),
            MemoryParameters::Pitched => {
                let row = behind(word(1))?;
                GpuMemory::new(behind(word(0))?, Some(row.saturating_mul(word(3))))
            }
        })
    }
}
