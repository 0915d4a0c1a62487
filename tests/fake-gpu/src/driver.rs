//! The driver's library, devices and contexts. Each device has one context, its primary one.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use crate::errors::{
    INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, NOT_INITIALIZED, Outcome, put,
};
use crate::knobs::{self, Knob, MAX_DEVICES};

const CONTEXTS: usize = 0xc0de_0000;
const CONTEXT_STEP: usize = 0x100;

static INITIALIZED: AtomicBool = AtomicBool::new(false);
static RETAINED: [AtomicI32; MAX_DEVICES] = [const { AtomicI32::new(0) }; MAX_DEVICES];

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// Below the current one.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// This thread's context; 0 when it has none.
pub fn current() -> usize {
    CURRENT.get()
}

pub fn context_uid(context: usize) -> u32 {
    device_of(context).map_or(0, |device| device as u32 + 1)
}

pub fn context_of(device: usize) -> usize {
    CONTEXTS + CONTEXT_STEP * (device + 1)
}

pub fn device_of(context: usize) -> Result<usize, u32> {
    let device = (context.wrapping_sub(CONTEXTS) / CONTEXT_STEP).wrapping_sub(1);
    if device < devices() && context == context_of(device) {
        return Ok(device);
    }
    Err(INVALID_CONTEXT)
}

pub fn current_device() -> Result<usize, u32> {
    device_of(current())
}

pub fn devices() -> usize {
    (knobs::get(Knob::GPU_COUNT).max(0) as usize).min(MAX_DEVICES)
}

pub fn initialized() -> Outcome {
    match INITIALIZED.load(Relaxed) {
        true => Ok(()),
        false => Err(NOT_INITIALIZED),
    }
}

fn device(ordinal: i32) -> Result<usize, u32> {
    initialized()?;
    let device = usize::try_from(ordinal).ok();
    device
        .filter(|device| *device < devices())
        .ok_or(INVALID_DEVICE)
}

pub fn uuid(device: usize) -> [u8; 16] {
    let mut uuid = *b"\xfa\x4e\x00\x01fake-gpu-\x00\x00\x00";
    uuid[15] = device as u8;
    uuid
}

/// Of the device's slot on the bus.
pub fn pci_bus(device: usize) -> u32 {
    0x1b + 0x10 * device as u32
}

pub fn device_name(device: usize) -> String {
    format!("Fake GPU {device}")
}

/// Writes as much of a text as fits, and a NUL.
pub unsafe fn put_text(out: *mut c_char, room: usize, text: &str) -> Result<(), u32> {
    if out.is_null() || room <= text.len() {
        return Err(INVALID_VALUE);
    }
    out.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
    out.add(text.len()).write(0);
    Ok(())
}

fn attribute(attribute: i32, device: usize) -> i32 {
    match attribute {
        1 => 1024,                         // threads per block
        10 => 32,                          // warp
        13 => 1_980_000,                   // clock, kHz
        16 => 132,                         // multiprocessors
        33 => pci_bus(device) as i32,      // PCI bus
        34 | 50 => 0,                      // PCI device, PCI domain
        36 => 3_201_000,                   // memory clock, kHz
        37 => 6144,                        // memory bus, bits
        39 => 2048,                        // threads per multiprocessor
        75 => 9,                           // compute capability
        31 | 40 | 41 | 78 | 83 | 115 => 1, // concurrent kernels, async engines, addressing, priorities, managed, pools
        _ => 0,
    }
}

driver! {
    fn cuInit(_flags: u32) {
        match knobs::get(Knob::CUINIT) as u32 {
            0 if devices() == 0 => Err(NO_DEVICE),
            0 => {
                INITIALIZED.store(true, Relaxed);
                Ok(())
            }
            code => Err(code),
        }
    }

    fn cuDriverGetVersion(version: *mut i32) {
        put(version, knobs::get(Knob::DRIVER_VERSION) as i32)
    }

    fn cuDeviceGetCount(count: *mut i32) {
        initialized()?;
        put(count, devices() as i32)
    }

    fn cuDeviceGet(out: *mut i32, ordinal: i32) {
        device(ordinal)?;
        put(out, ordinal)
    }

    fn cuDeviceGetName(name: *mut c_char, room: i32, ordinal: i32) {
        put_text(name, room.max(0) as usize, &device_name(device(ordinal)?))
    }

    fn cuDeviceGetUuid(out: *mut [u8; 16], ordinal: i32) {
        put(out, uuid(device(ordinal)?))
    }

    fn cuDeviceGetUuid_v2(out: *mut [u8; 16], ordinal: i32) {
        put(out, uuid(device(ordinal)?))
    }

    fn cuDeviceGetPCIBusId(id: *mut c_char, room: i32, ordinal: i32) {
        let bus = pci_bus(device(ordinal)?);
        put_text(id, room.max(0) as usize, &format!("0000:{bus:02X}:00.0"))
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, ordinal: i32) {
        put(bytes, knobs::get_of(Knob::MEMORY_BYTES, device(ordinal)?) as usize)
    }

    fn cuDeviceGetAttribute(value: *mut i32, name: i32, ordinal: i32) {
        put(value, attribute(name, device(ordinal)?))
    }

    fn cuDevicePrimaryCtxRetain(context: *mut usize, ordinal: i32) {
        let device = device(ordinal)?;
        RETAINED[device].fetch_add(1, Relaxed);
        put(context, context_of(device))
    }

    fn cuDevicePrimaryCtxRelease_v2(ordinal: i32) {
        let retained = RETAINED[device(ordinal)?].fetch_sub(1, Relaxed);
        assert!(retained > 0, "fake-gpu: a primary context is released more often than retained");
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(ordinal: i32, flags: *mut u32, active: *mut i32) {
        let retained = RETAINED[device(ordinal)?].load(Relaxed);
        put(flags, 0)?;
        put(active, i32::from(retained > 0))
    }

    fn cuCtxGetCurrent(context: *mut usize) {
        initialized()?;
        put(context, current())
    }

    fn cuCtxSetCurrent(context: usize) {
        initialized()?;
        if context != 0 {
            device_of(context)?;
        }
        CURRENT.set(context);
        Ok(())
    }

    fn cuCtxPushCurrent_v2(context: usize) {
        device_of(context)?;
        STACK.with_borrow_mut(|stack| stack.push(CURRENT.replace(context)));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: *mut usize) {
        if current() == 0 {
            return Err(INVALID_CONTEXT);
        }
        let below = STACK.with_borrow_mut(Vec::pop).unwrap_or(0);
        let popped = CURRENT.replace(below);
        if context.is_null() { Ok(()) } else { put(context, popped) }
    }

    fn cuCtxGetDevice(out: *mut i32) {
        put(out, current_device()? as i32)
    }

    fn cuCtxGetId(context: usize, id: *mut u64) {
        let context = if context == 0 { current() } else { context };
        device_of(context)?;
        put(id, u64::from(context_uid(context)))
    }

    fn cuCtxGetApiVersion(_context: usize, version: *mut u32) {
        put(version, 3020)
    }

    fn cuCtxGetStreamPriorityRange(least: *mut i32, greatest: *mut i32) {
        put(least, 0)?;
        put(greatest, -5)
    }

    fn cuModuleLoadData(module: *mut usize, _image: *const c_void) {
        current_device()?;
        put(module, 0x30d_0000)
    }

    fn cuModuleUnload(_module: usize) {
        Ok(())
    }
}
