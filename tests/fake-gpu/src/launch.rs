//! Kernels.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::activities::{self, KERNEL, KERNEL_SERIAL, Record};
use crate::callbacks::Call;
use crate::clock;
use crate::errors::{self, INVALID_HANDLE, Outcome, put};
use crate::knobs::{self, Knob};
use crate::state::{State, lock};

pub struct Function {
    pub name: CString,
    pub duration: AtomicU64,
}

/// What a launch says of its kernel.
#[derive(Clone, Copy)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: usize,
    attributes: *const c_void,
    attribute_count: u32,
}

/// A handle is the address of a function that lives on.
pub unsafe fn function(handle: usize) -> Option<&'static Function> {
    (handle as *const Function).as_ref()
}

pub unsafe fn name_of(handle: usize) -> *const c_char {
    function(handle).map_or(null(), |function| function.name.as_ptr())
}

impl State {
    /// The function of this name; a duration replaces the one it had.
    fn function(&mut self, name: &CStr, duration: Option<u64>) -> &'static Function {
        let known = self
            .functions
            .iter()
            .find(|function| *function.name == *name);
        let function = match known {
            Some(function) => *function,
            None => {
                let function = Function {
                    name: name.to_owned(),
                    duration: AtomicU64::new(knobs::get(Knob::KERNEL_NS).max(0) as u64),
                };
                let function: &'static Function = Box::leak(Box::new(function));
                self.functions.push(function);
                function
            }
        };
        if let Some(duration) = duration {
            function.duration.store(duration, Relaxed);
        }
        function
    }

    /// Counts a launch, and takes the device away when it is time.
    pub fn count_launch(&mut self, now: u64) {
        self.launches += 1;
        if i64::try_from(self.launches) == Ok(knobs::get(Knob::DEVICE_LOST_AFTER)) {
            activities::never_end(&mut self.records, now);
            errors::lose_device(knobs::get(Knob::DEVICE_LOST_CODE) as u32);
        }
    }
}

unsafe fn launch(call: Call, handle: usize, stream: usize, shape: Shape) -> Outcome {
    let function = function(handle).ok_or(INVALID_HANDLE)?;
    let now = clock::now();
    {
        let mut state = lock();
        let stream = state.stream(stream)?;
        if !state.is_captured(stream) {
            let times = state.schedule(stream, now, function.duration.load(Relaxed));
            if state.wants(KERNEL) || state.wants(KERNEL_SERIAL) {
                let device = state.streams[stream].device;
                let record = Record::kernel(
                    function,
                    shape,
                    times,
                    call.correlation,
                    device,
                    stream,
                    None,
                );
                state.push(record);
            }
        }
        state.count_launch(now);
    }
    crate::buffers::supply();
    Ok(())
}

unsafe fn launch_configured(call: Call, function: usize, config: *const Config) -> Outcome {
    let config = config.as_ref().ok_or(errors::INVALID_VALUE)?;
    let shape = Shape {
        grid: config.grid,
        block: config.block,
        shared_bytes: config.shared_bytes,
    };
    launch(call, function, config.stream, shape)
}

traced! {
    307 => fn cuLaunchKernel(
        f: usize, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared_bytes: u32, stream: usize,
        params: *const c_void, extra: *const c_void,
    ) symbol(name_of(f)), |call| {
        launch(call, f, stream, Shape { grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes })
    }

    442 => fn cuLaunchKernel_ptsz(
        f: usize, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared_bytes: u32, stream: usize,
        params: *const c_void, extra: *const c_void,
    ) symbol(name_of(f)), |call| {
        let stream = if stream == 0 { 2 } else { stream };
        launch(call, f, stream, Shape { grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes })
    }

    477 => fn cuLaunchCooperativeKernel(
        f: usize, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared_bytes: u32, stream: usize,
        params: *const c_void,
    ) symbol(name_of(f)), |call| {
        launch(call, f, stream, Shape { grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes })
    }

    652 => fn cuLaunchKernelEx(
        config: *const Config, f: usize, params: *const c_void, extra: *const c_void,
    ) symbol(name_of(f)), |call| {
        launch_configured(call, f, config)
    }
}

driver! {
    fn cuFuncGetName(name: *mut *const c_char, handle: usize) {
        put(name, function(handle).ok_or(INVALID_HANDLE)?.name.as_ptr())
    }

    fn cuModuleGetFunction(out: *mut usize, _module: usize, name: *const c_char) {
        let function = lock().function(CStr::from_ptr(name), None);
        put(out, std::ptr::from_ref(function) as usize)
    }
}

exported! {
    fn fakeKernel(name: *const c_char, duration_ns: u64) -> usize {
        std::ptr::from_ref(lock().function(CStr::from_ptr(name), Some(duration_ns))) as usize
    }
}
