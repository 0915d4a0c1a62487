//! The driver's functions that are used besides the program's own calls: to see which devices there are.
#![expect(
    unsafe_code,
    reason = "the driver is a C library; every function pointer is called through the signature of `cuda.h`"
)]

use std::ffi::{CStr, OsString, c_char, c_int, c_void};

use super::event_api::EventApi;
use super::symbols::{Symbols, open_first, open_loaded};
use crate::model::GpuDevice;

/// `CUresult`: 0 is success.
type Status = u32;

/// The functions of the driver, which is never unloaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Driver {
    init: unsafe extern "C" fn(u32) -> Status,
    device_count: unsafe extern "C" fn(*mut c_int) -> Status,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> Status,
    device_name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Status,
    device_memory: unsafe extern "C" fn(*mut usize, c_int) -> Status,
    device_attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Status,
    /// The second has the identity of a part of a device where it is cut up (MIG).
    device_uuid: Option<unsafe extern "C" fn(*mut [u8; 16], c_int) -> Status>,
    contexts: Option<Contexts>,
    events: Option<EventApi>,
}

/// The functions by which work is waited for.
#[derive(Debug, Clone, Copy)]
struct Contexts {
    primary_state: unsafe extern "C" fn(c_int, *mut u32, *mut c_int) -> Status,
    retain_primary: unsafe extern "C" fn(*mut *mut c_void, c_int) -> Status,
    release_primary: unsafe extern "C" fn(c_int) -> Status,
    set_current: unsafe extern "C" fn(*mut c_void) -> Status,
    synchronize: unsafe extern "C" fn() -> Status,
    /// Absent before CUDA 10.1.
    exchange_capture_mode: Option<unsafe extern "C" fn(*mut u32) -> Status>,
}

/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
const RELAXED: u32 = 2;

#[cfg(not(windows))]
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];
#[cfg(windows)]
const NAMES: [&str; 1] = ["nvcuda.dll"];

/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
const MULTIPROCESSORS: c_int = 16;

impl Driver {
    /// Opens the driver and starts it up; says why not otherwise.
    pub(super) fn open() -> Result<Driver, String> {
        let names = NAMES.map(OsString::from);
        let library = match open_loaded(&names) {
            Some(library) => library,
            None => open_first(&names)
                .map_err(|error| {
                    format!(
                        "no CUDA driver can be opened ({error}); install NVIDIA's driver, or in a container start it with \
                         the driver's libraries (docker run --gpus all)"
                    )
                })?,
        };
        let symbols = Symbols::new(&library);
        // SAFETY: each symbol is given the signature that `cuda.h` declares for it.
        let driver = unsafe {
            Driver::from_symbols(&symbols).map_err(|error| {
                format!("the CUDA driver cannot be used: {error}; install one of CUDA 11 or newer")
            })?
        };
        // Never unloaded: the program has pointers into it.
        std::mem::forget(library);
        // SAFETY: takes a number that must be 0.
        match unsafe { (driver.init)(0) } {
            0 => Ok(driver),
            status => Err(does_not_start(status)),
        }
    }

    /// # Safety
    ///
    /// The symbols must be those of the driver.
    unsafe fn from_symbols(symbols: &Symbols<'_>) -> Result<Driver, String> {
        // SAFETY: as the caller says.
        unsafe {
            Ok(Driver {
                init: symbols.get(c"cuInit")?,
                device_count: symbols.get(c"cuDeviceGetCount")?,
                device: symbols.get(c"cuDeviceGet")?,
                device_name: symbols.get(c"cuDeviceGetName")?,
                device_memory: symbols.get(c"cuDeviceTotalMem_v2")?,
                device_attribute: symbols.get(c"cuDeviceGetAttribute")?,
                device_uuid: symbols
                    .get(c"cuDeviceGetUuid_v2")
                    .or_else(|_| symbols.get(c"cuDeviceGetUuid"))
                    .ok(),
                contexts: Contexts::from_symbols(symbols).ok(),
                events: EventApi::from_symbols(symbols).ok(),
            })
        }
    }

    /// Returns the functions for events; says why there are none otherwise.
    pub(super) fn events(&self) -> Result<EventApi, &'static str> {
        self.events
            .ok_or("the CUDA driver lacks functions for events; install one of CUDA 10.1 or newer")
    }

    /// Waits until the devices are done with what the process had them do in their primary contexts, which are those of
    /// the runtime and of cudarc. May never return, where a device hangs. Leaves this
    /// thread without a context.
    pub(super) fn synchronize(&self) {
        let Some(contexts) = self.contexts else {
            return;
        };
        let mut count = 0;
        // SAFETY: the pointer is to a number of ours.
        if unsafe { (self.device_count)(&raw mut count) } != 0 {
            return;
        }
        for ordinal in 0..count {
            let mut device = 0;
            // SAFETY: the pointer is to a number of ours.
            if unsafe { (self.device)(&raw mut device, ordinal) } == 0 {
                contexts.synchronize(device);
            }
        }
    }

    /// Returns the devices that the process may see, by their ordinals.
    pub(super) fn devices(&self) -> Vec<GpuDevice> {
        let mut count = 0;
        // SAFETY: the pointer is to a number of ours.
        if unsafe { (self.device_count)(&raw mut count) } != 0 {
            return Vec::new();
        }
        (0..count)
            .filter_map(|ordinal| self.describe(ordinal))
            .collect()
    }

    fn describe(&self, ordinal: c_int) -> Option<GpuDevice> {
        let mut handle = 0;
        // SAFETY: the pointer is to a number of ours.
        let status = unsafe { (self.device)(&raw mut handle, ordinal) };
        let mut device = GpuDevice {
            ordinal: u32::try_from(ordinal).ok()?,
            ..GpuDevice::default()
        };
        if status != 0 {
            return Some(device);
        }
        let mut name = [0; 256];
        let mut bytes = 0;
        let mut multiprocessors = 0;
        let mut uuid = [0; 16];
        // SAFETY: all pointers are to variables of ours, whose sizes the functions are told or know.
        unsafe {
            if (self.device_name)(name.as_mut_ptr().cast(), 256, handle) == 0 {
                let name = CStr::from_bytes_until_nul(&name).ok();
                device.name = name.map(|name| name.to_string_lossy().into_owned());
            }
            if (self.device_memory)(&raw mut bytes, handle) == 0 {
                device.memory_bytes = Some(bytes as u64);
            }
            if (self.device_attribute)(&raw mut multiprocessors, MULTIPROCESSORS, handle) == 0 {
                device.multiprocessors = u32::try_from(multiprocessors).ok();
            }
            if let Some(device_uuid) = self.device_uuid
                && device_uuid(&raw mut uuid, handle) == 0
            {
                device.uuid = Some(format_uuid(uuid));
            }
        }
        Some(device)
    }
}

impl Contexts {
    /// # Safety
    ///
    /// The symbols must be those of the driver.
    unsafe fn from_symbols(symbols: &Symbols<'_>) -> Result<Contexts, String> {
        // SAFETY: as the caller says.
        unsafe {
            Ok(Contexts {
                primary_state: symbols.get(c"cuDevicePrimaryCtxGetState")?,
                retain_primary: symbols.get(c"cuDevicePrimaryCtxRetain")?,
                release_primary: symbols.get(c"cuDevicePrimaryCtxRelease_v2")?,
                set_current: symbols.get(c"cuCtxSetCurrent")?,
                synchronize: symbols.get(c"cuCtxSynchronize")?,
                exchange_capture_mode: symbols.get(c"cuThreadExchangeStreamCaptureMode").ok(),
            })
        }
    }

    fn synchronize(&self, device: c_int) {
        let (mut flags, mut active) = (0, 0);
        let mut context = std::ptr::null_mut();
        let mut mode = RELAXED;
        // SAFETY: all pointers are to variables of ours. The context is held while it is current here, and only one that
        // the program uses already is touched.
        unsafe {
            if (self.primary_state)(device, &raw mut flags, &raw mut active) != 0 || active == 0 {
                return;
            }
            if (self.retain_primary)(&raw mut context, device) != 0 {
                return;
            }
            if let Some(exchange) = self.exchange_capture_mode {
                // Else a wait from here would break a graph that the program is recording.
                let _ = exchange(&raw mut mode);
            }
            if (self.set_current)(context) == 0 {
                // An error is that of the program's work, which hears of it by itself.
                let _ = (self.synchronize)();
                let _ = (self.set_current)(std::ptr::null_mut());
            }
            let _ = (self.release_primary)(device);
        }
    }
}

/// Says why `cuInit` fails, and what helps.
fn does_not_start(status: Status) -> String {
    let why = match status {
        100 => {
            return "the CUDA driver sees no device; see what nvidia-smi -L lists and what CUDA_VISIBLE_DEVICES leaves of it"
                .to_owned();
        }
        34 => {
            "this is the toolkit's stub and not the driver; take the folder `stubs` out of the library path and install the \
             driver"
        }
        35 | 803 | 804 => {
            "the driver's library does not fit its kernel module; restart the machine after an update, and leave the \
             toolkit's folder `compat` out of the library path"
        }
        46 => "another process has the device for itself; see the compute mode in nvidia-smi -q",
        101 | 801 => {
            "the devices cannot be used this way; with MIG, name one part in CUDA_VISIBLE_DEVICES"
        }
        802 => "the system is not ready; start nvidia-fabricmanager, or wait for it",
        _ => "see what nvidia-smi says",
    };
    format!("the CUDA driver does not start (cuInit answered {status}): {why}")
}

/// Writes an identity as NVML and `nvidia-smi` do.
fn format_uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!(
        "GPU-{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_written_as_nvidia_smi_does() {
        let bytes = std::array::from_fn(|at| at as u8 * 17);
        assert_eq!(
            format_uuid(bytes),
            "GPU-00112233-4455-6677-8899-aabbccddeeff"
        );
    }
}
