//! NVML: what a device says of itself.

use std::ffi::{CStr, c_char};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::driver::{device_name, devices, pci_bus, put_text, uuid};
use crate::errors;
use crate::knobs::{self, Knob, MAX_DEVICES};
use crate::state::lock;

const UNINITIALIZED: u32 = 1;
const INVALID_ARGUMENT: u32 = 2;
const NOT_FOUND: u32 = 6;
const INSUFFICIENT_SIZE: u32 = 7;
const GPU_IS_LOST: u32 = 15;
const HANDLES: usize = 0x4e_0000;

static USERS: AtomicI32 = AtomicI32::new(0);
/// Time of the last reading and the energy then, in 10⁻¹² J, for each device.
static ENERGY: Mutex<[(u64, u128); MAX_DEVICES]> = Mutex::new([(0, 0); MAX_DEVICES]);

type Outcome = Result<(), u32>;

#[repr(C)]
pub struct PciInfo {
    legacy_id: [c_char; 16],
    domain: u32,
    bus: u32,
    device: u32,
    device_id: u32,
    subsystem_id: u32,
    id: [c_char; 32],
}

#[repr(C)]
pub struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

#[repr(C)]
pub struct MemoryV2 {
    version: u32,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

#[repr(C)]
pub struct Process {
    pid: u32,
    memory: u64,
}

#[repr(C)]
pub struct ProcessV2 {
    pid: u32,
    memory: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

fn initialized() -> Outcome {
    if USERS.load(Relaxed) > 0 {
        Ok(())
    } else {
        Err(UNINITIALIZED)
    }
}

fn init() -> Outcome {
    match knobs::get(Knob::NVML_INIT) as u32 {
        0 => {
            USERS.fetch_add(1, Relaxed);
            Ok(())
        }
        code => Err(code),
    }
}

fn handle_of(device: usize) -> usize {
    HANDLES + device + 1
}

/// The device of a handle, if it can be read.
fn device(handle: usize) -> Result<usize, u32> {
    initialized()?;
    let device = handle.wrapping_sub(HANDLES + 1);
    if device >= devices() {
        return Err(INVALID_ARGUMENT);
    }
    if errors::device_present().is_err() {
        return Err(GPU_IS_LOST);
    }
    match knobs::get_of(Knob::NVML_READ, device) as u32 {
        0 => Ok(device),
        code => Err(code),
    }
}

/// NVML's number of a device and the driver's, in either direction.
fn renumbered(number: usize) -> usize {
    match knobs::get(Knob::NVML_REVERSED) {
        0 => number,
        _ => devices() - 1 - number,
    }
}

unsafe fn put<T>(out: *mut T, value: T) -> Outcome {
    errors::put(out, value).map_err(|_| INVALID_ARGUMENT)
}

unsafe fn text(out: *mut c_char, room: u32, text: &str) -> Outcome {
    put_text(out, room as usize, text).map_err(|_| INSUFFICIENT_SIZE)
}

fn uuid_text(device: usize) -> String {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let uuid = uuid(device);
    let parts = [
        &uuid[..4],
        &uuid[4..6],
        &uuid[6..8],
        &uuid[8..10],
        &uuid[10..],
    ];
    format!("GPU-{}", parts.map(hex).join("-"))
}

fn pci_text(device: usize) -> String {
    format!("00000000:{:02X}:00.0", pci_bus(device))
}

fn used(device: usize) -> u64 {
    match knobs::get_of(Knob::NVML_USED_BYTES, device) {
        bytes @ 0.. => bytes as u64,
        _ => lock().allocated(device),
    }
}

fn energy_mj(device: usize) -> u64 {
    if let fixed @ 0.. = knobs::get_of(Knob::NVML_ENERGY_MJ, device) {
        return fixed as u64;
    }
    let now = clock::now();
    let milliwatts = knobs::get_of(Knob::NVML_POWER_MW, device) as u128;
    let mut all = ENERGY.lock().unwrap();
    let (last, energy) = &mut all[device];
    if *last != 0 {
        *energy += u128::from(now.saturating_sub(*last)) * milliwatts;
    }
    *last = now;
    (*energy / 1_000_000_000) as u64
}

fn process_bytes(device: usize) -> u64 {
    match knobs::get_of(Knob::NVML_PROCESS_BYTES, device) {
        bytes @ 0.. => bytes as u64,
        _ => lock().allocated(device),
    }
}

/// The one process there is, if the caller has room for it.
unsafe fn processes<T>(
    handle: usize,
    count: *mut u32,
    out: *mut T,
    make: impl FnOnce(u32, u64) -> T,
) -> Outcome {
    let device = device(handle)?;
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    let room = count.replace(1);
    if room == 0 || out.is_null() {
        return Err(INSUFFICIENT_SIZE);
    }
    out.write(make(process::id(), process_bytes(device)));
    Ok(())
}

unsafe fn reading(handle: usize, knob: Knob, out: *mut u32) -> Outcome {
    put(out, knobs::get_of(knob, device(handle)?) as u32)
}

/// Functions that answer with NVML's error code.
macro_rules! nvml {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        exported! {$(
            fn $name($($arg: $type),*) -> u32 {
                errors::code((|| $body)())
            }
        )*}
    };
}

nvml! {
    fn nvmlInit() { init() }
    fn nvmlInit_v2() { init() }
    fn nvmlInitWithFlags(_flags: u32) { init() }

    fn nvmlShutdown() {
        initialized()?;
        USERS.fetch_sub(1, Relaxed);
        Ok(())
    }

    fn nvmlSystemGetDriverVersion(out: *mut c_char, room: u32) {
        initialized()?;
        text(out, room, "580.82.07")
    }
    fn nvmlSystemGetNVMLVersion(out: *mut c_char, room: u32) {
        initialized()?;
        text(out, room, "13.580.82.07")
    }
    fn nvmlSystemGetCudaDriverVersion_v2(out: *mut i32) {
        initialized()?;
        put(out, knobs::get(Knob::DRIVER_VERSION) as i32)
    }

    fn nvmlDeviceGetCount_v2(count: *mut u32) {
        initialized()?;
        put(count, devices() as u32)
    }
    fn nvmlDeviceGetHandleByIndex_v2(index: u32, handle: *mut usize) {
        initialized()?;
        if index as usize >= devices() {
            return Err(INVALID_ARGUMENT);
        }
        put(handle, handle_of(renumbered(index as usize)))
    }
    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, handle: *mut usize) {
        initialized()?;
        let wanted = CStr::from_ptr(uuid).to_str().map_err(|_| INVALID_ARGUMENT)?;
        let found = (0..devices()).find(|device| uuid_text(*device) == wanted);
        put(handle, handle_of(found.ok_or(NOT_FOUND)?))
    }
    fn nvmlDeviceGetHandleByPciBusId_v2(id: *const c_char, handle: *mut usize) {
        initialized()?;
        let wanted = CStr::from_ptr(id).to_str().map_err(|_| INVALID_ARGUMENT)?;
        // The domain has four digits in the driver's form and eight here.
        let found = (0..devices()).find(|device| {
            let id = pci_text(*device);
            wanted.eq_ignore_ascii_case(&id) || wanted.eq_ignore_ascii_case(&id[4..])
        });
        put(handle, handle_of(found.ok_or(NOT_FOUND)?))
    }
    fn nvmlDeviceGetIndex(handle: usize, index: *mut u32) {
        put(index, renumbered(device(handle)?) as u32)
    }
    fn nvmlDeviceGetName(handle: usize, out: *mut c_char, room: u32) {
        text(out, room, &device_name(device(handle)?))
    }
    fn nvmlDeviceGetUUID(handle: usize, out: *mut c_char, room: u32) {
        text(out, room, &uuid_text(device(handle)?))
    }
    fn nvmlDeviceGetPciInfo_v3(handle: usize, out: *mut PciInfo) {
        let device = device(handle)?;
        let mut info = PciInfo {
            legacy_id: [0; 16],
            domain: 0,
            bus: pci_bus(device),
            device: 0,
            device_id: 0x2335_10de,
            subsystem_id: 0x18be_10de,
            id: [0; 32],
        };
        let id = pci_text(device);
        text(info.legacy_id.as_mut_ptr(), 16, &id[4..])?;
        text(info.id.as_mut_ptr(), 32, &id)?;
        put(out, info)
    }

    fn nvmlDeviceGetUtilizationRates(handle: usize, out: *mut [u32; 2]) {
        let device = device(handle)?;
        let percent = |knob| knobs::get_of(knob, device) as u32;
        put(out, [percent(Knob::NVML_GPU_PERCENT), percent(Knob::NVML_MEMORY_PERCENT)])
    }
    fn nvmlDeviceGetMemoryInfo(handle: usize, out: *mut Memory) {
        let device = device(handle)?;
        let (total, used) = (knobs::get_of(Knob::MEMORY_BYTES, device) as u64, used(device));
        put(out, Memory { total, free: total - used, used })
    }
    fn nvmlDeviceGetMemoryInfo_v2(handle: usize, out: *mut MemoryV2) {
        let device = device(handle)?;
        let version = out.as_ref().ok_or(INVALID_ARGUMENT)?.version;
        let (total, used) = (knobs::get_of(Knob::MEMORY_BYTES, device) as u64, used(device));
        put(out, MemoryV2 { version, total, reserved: 0, free: total - used, used })
    }
    fn nvmlDeviceGetPowerUsage(handle: usize, out: *mut u32) {
        reading(handle, Knob::NVML_POWER_MW, out)
    }
    fn nvmlDeviceGetEnforcedPowerLimit(handle: usize, out: *mut u32) {
        reading(handle, Knob::NVML_POWER_LIMIT_MW, out)
    }
    fn nvmlDeviceGetPowerManagementLimit(handle: usize, out: *mut u32) {
        reading(handle, Knob::NVML_POWER_LIMIT_MW, out)
    }
    fn nvmlDeviceGetTotalEnergyConsumption(handle: usize, out: *mut u64) {
        put(out, energy_mj(device(handle)?))
    }
    fn nvmlDeviceGetTemperature(handle: usize, _sensor: u32, out: *mut u32) {
        reading(handle, Knob::NVML_TEMPERATURE_C, out)
    }
    fn nvmlDeviceGetClockInfo(handle: usize, clock: u32, out: *mut u32) {
        match clock {
            0 | 1 => reading(handle, Knob::NVML_CLOCK_SM_MHZ, out),
            2 => reading(handle, Knob::NVML_CLOCK_MEMORY_MHZ, out),
            _ => Err(INVALID_ARGUMENT),
        }
    }
    fn nvmlDeviceGetPcieThroughput(handle: usize, direction: u32, out: *mut u32) {
        thread::sleep(Duration::from_nanos(knobs::get(Knob::NVML_PCIE_NS).max(0) as u64));
        match direction {
            0 => reading(handle, Knob::NVML_PCIE_TX_KBPS, out),
            1 => reading(handle, Knob::NVML_PCIE_RX_KBPS, out),
            _ => Err(INVALID_ARGUMENT),
        }
    }
    fn nvmlDeviceGetCurrPcieLinkGeneration(handle: usize, out: *mut u32) {
        reading(handle, Knob::NVML_LINK_GENERATION, out)
    }
    fn nvmlDeviceGetCurrPcieLinkWidth(handle: usize, out: *mut u32) {
        reading(handle, Knob::NVML_LINK_WIDTH, out)
    }
    fn nvmlDeviceGetMaxPcieLinkGeneration(handle: usize, out: *mut u32) {
        put(out, device(handle).map(|_| 5)?)
    }
    fn nvmlDeviceGetMaxPcieLinkWidth(handle: usize, out: *mut u32) {
        put(out, device(handle).map(|_| 16)?)
    }
    fn nvmlDeviceGetPcieSpeed(handle: usize, out: *mut u32) {
        put(out, device(handle).map(|_| 32_000)?)
    }
    fn nvmlDeviceGetComputeRunningProcesses(handle: usize, count: *mut u32, out: *mut Process) {
        processes(handle, count, out, |pid, memory| Process { pid, memory })
    }
    fn nvmlDeviceGetComputeRunningProcesses_v2(handle: usize, count: *mut u32, out: *mut ProcessV2) {
        processes(handle, count, out, |pid, memory| ProcessV2 { pid, memory, gpu_instance: u32::MAX, compute_instance: u32::MAX })
    }
    fn nvmlDeviceGetComputeRunningProcesses_v3(handle: usize, count: *mut u32, out: *mut ProcessV2) {
        processes(handle, count, out, |pid, memory| ProcessV2 { pid, memory, gpu_instance: u32::MAX, compute_instance: u32::MAX })
    }
    fn nvmlDeviceGetCurrentClocksThrottleReasons(handle: usize, out: *mut u64) {
        put(out, knobs::get_of(Knob::NVML_THROTTLE, device(handle)?) as u64)
    }
    fn nvmlDeviceGetCurrentClocksEventReasons(handle: usize, out: *mut u64) {
        put(out, knobs::get_of(Knob::NVML_THROTTLE, device(handle)?) as u64)
    }
    fn nvmlDeviceGetViolationStatus(handle: usize, policy: u32, out: *mut [u64; 2]) {
        let device = device(handle)?;
        let ns = match policy {
            0 => knobs::get_of(Knob::NVML_VIOLATION_POWER_NS, device) as u64,
            1 => knobs::get_of(Knob::NVML_VIOLATION_THERMAL_NS, device) as u64,
            _ => 0,
        };
        put(out, [clock::now() / 1_000, ns])
    }
    fn nvmlDeviceGetPerformanceState(handle: usize, out: *mut u32) {
        reading(handle, Knob::NVML_PSTATE, out)
    }
}

exported! {
    fn nvmlErrorString(code: u32) -> *const c_char {
        let text = match code {
            0 => c"Success",
            1 => c"Uninitialized",
            9 => c"Driver Not Loaded",
            15 => c"GPU is lost",
            _ => c"Unknown Error",
        };
        text.as_ptr()
    }
}
