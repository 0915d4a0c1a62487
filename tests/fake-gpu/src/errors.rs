//! The driver's error codes, and a device that is lost.

use std::ffi::c_char;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const NOT_INITIALIZED: u32 = 3;
pub const NO_DEVICE: u32 = 100;
pub const INVALID_DEVICE: u32 = 101;
pub const INVALID_CONTEXT: u32 = 201;
pub const INVALID_HANDLE: u32 = 400;
pub const NOT_FOUND: u32 = 500;
pub const NOT_READY: u32 = 600;
pub const CAPTURE_UNSUPPORTED: u32 = 900;

/// What every driver function answers once the device is lost; 0 before.
static LOST: AtomicU32 = AtomicU32::new(0);

pub type Outcome = Result<(), u32>;

pub fn code(outcome: Outcome) -> u32 {
    outcome.err().unwrap_or(0)
}

pub fn device_present() -> Outcome {
    match LOST.load(Relaxed) {
        0 => Ok(()),
        code => Err(code),
    }
}

pub fn lose_device(code: u32) {
    LOST.store(code, Relaxed);
}

/// Answers through an out-parameter.
pub unsafe fn put<T>(out: *mut T, value: T) -> Outcome {
    if out.is_null() {
        return Err(INVALID_VALUE);
    }
    out.write(value);
    Ok(())
}

fn name(code: u32) -> Option<(&'static str, &'static str)> {
    Some(match code {
        0 => ("CUDA_SUCCESS\0", "no error\0"),
        1 => ("CUDA_ERROR_INVALID_VALUE\0", "invalid argument\0"),
        2 => ("CUDA_ERROR_OUT_OF_MEMORY\0", "out of memory\0"),
        3 => ("CUDA_ERROR_NOT_INITIALIZED\0", "initialization error\0"),
        34 => (
            "CUDA_ERROR_STUB_LIBRARY\0",
            "CUDA driver is a stub library\0",
        ),
        46 => (
            "CUDA_ERROR_DEVICE_UNAVAILABLE\0",
            "device busy or unavailable\0",
        ),
        100 => (
            "CUDA_ERROR_NO_DEVICE\0",
            "no CUDA-capable device is detected\0",
        ),
        101 => ("CUDA_ERROR_INVALID_DEVICE\0", "invalid device ordinal\0"),
        201 => ("CUDA_ERROR_INVALID_CONTEXT\0", "invalid device context\0"),
        400 => ("CUDA_ERROR_INVALID_HANDLE\0", "invalid resource handle\0"),
        500 => ("CUDA_ERROR_NOT_FOUND\0", "named symbol not found\0"),
        600 => ("CUDA_ERROR_NOT_READY\0", "device not ready\0"),
        719 => ("CUDA_ERROR_LAUNCH_FAILED\0", "unspecified launch failure\0"),
        803 => (
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\0",
            "unsupported display driver / cuda driver combination\0",
        ),
        900 => (
            "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED\0",
            "operation not permitted when stream is capturing\0",
        ),
        _ => return None,
    })
}

unsafe fn text(out: *mut *const c_char, text: Option<&'static str>) -> u32 {
    let pointer = text.map_or(std::ptr::null(), |text| text.as_ptr().cast());
    match put(out, pointer) {
        Ok(()) if pointer.is_null() => INVALID_VALUE,
        outcome => code(outcome),
    }
}

exported! {
    fn cuGetErrorName(error: u32, out: *mut *const c_char) -> u32 {
        text(out, name(error).map(|names| names.0))
    }

    fn cuGetErrorString(error: u32, out: *mut *const c_char) -> u32 {
        text(out, name(error).map(|names| names.1))
    }
}
