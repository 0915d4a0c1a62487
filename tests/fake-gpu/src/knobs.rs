//! What a test can set: by `FAKE_<NAME>` in the environment, read at first use, or by `fakeSet`.
//!
//! Each has a value per device: `FAKE_GPU_OFFSET_NS` is that of device 0, `FAKE_GPU_OFFSET_NS_1` that of device 1.

use std::env;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

pub const MAX_DEVICES: usize = 4;
const UNSET: i64 = i64::MIN;

macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $step:expr;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names of the variables")]
        #[derive(Clone, Copy)]
        pub enum Knob { $($(#[$doc])* $name,)* }

        /// Name, default of device 0, what each further device has more.
        const KNOBS: &[(&str, i64, i64)] = &[$((stringify!($name), $default, $step),)*];
    };
}

knobs! {
    GPU_COUNT = 1, 0;
    GPU_OFFSET_NS = 0, 0;
    GPU_DRIFT_PPM = 0, 0;
    /// From a launch to the earliest start of its work.
    GPU_LATENCY_NS = 2_000, 0;
    /// Of functions that a module has and `fakeKernel` did not name.
    KERNEL_NS = 1_000, 0;
    /// Between the nodes of a graph.
    NODE_GAP_NS = 0, 0;
    /// Every copy's duration; negative: from its bytes.
    COPY_NS = -1, 0;
    /// Every memset's duration; negative: from its bytes.
    MEMSET_NS = -1, 0;
    MEMORY_BYTES = 150_754_820_096, 0;
    EVENT_RESOLUTION_NS = 500, 0;
    /// Events that can exist at once.
    EVENT_LIMIT = i64::MAX, 0;
    /// Every stream is being captured, by no thread in particular.
    CAPTURING = 0, 0;
    CUINIT = 0, 0;
    DRIVER_VERSION = 13_000, 0;
    /// The device is lost after so many launches; negative: never.
    DEVICE_LOST_AFTER = -1, 0;
    DEVICE_LOST_CODE = 719, 0;
    CUPTI_SUBSCRIBE = 0, 0;
    CUPTI_ENABLE = 0, 0;
    CUPTI_CALLBACK = 0, 0;
    CUPTI_VERSION = 130_001, 0;
    CUPTI_VERSION_ERROR = 0, 0;
    CUPTI_FLUSH = 0, 0;
    /// A nested driver call's work has the correlation id of the runtime call (1) or its own (0).
    RUNTIME_CORRELATION = 1, 0;
    /// Seed by which records that are handed over together are permuted; 0: they stay in order.
    SHUFFLE = 0, 0;
    /// A record is handed over at the n-th flush after its work finished.
    LATE = 1, 0;
    /// Records that are kept between two flushes; more are dropped and counted.
    BUFFER_LIMIT = i64::MAX, 0;
    NVML_INIT = 0, 0;
    /// NVML counts the devices from the other end.
    NVML_REVERSED = 0, 0;
    NVML_GPU_PERCENT = 63, 5;
    NVML_MEMORY_PERCENT = 21, 5;
    /// Memory in use; negative: what is allocated.
    NVML_USED_BYTES = -1, 0;
    /// This process's memory; negative: what is allocated.
    NVML_PROCESS_BYTES = -1, 0;
    NVML_POWER_MW = 310_000, 10_000;
    NVML_POWER_LIMIT_MW = 700_000, 0;
    /// Energy so far; negative: what the power adds up to.
    NVML_ENERGY_MJ = -1, 0;
    NVML_TEMPERATURE_C = 47, 3;
    NVML_CLOCK_SM_MHZ = 1_980, 0;
    NVML_CLOCK_MEMORY_MHZ = 3_201, 0;
    NVML_PCIE_TX_KBPS = 120_000, 1_000;
    NVML_PCIE_RX_KBPS = 340_000, 1_000;
    /// How long one reading of the PCIe throughput takes.
    NVML_PCIE_NS = 0, 0;
    NVML_LINK_GENERATION = 5, 0;
    NVML_LINK_WIDTH = 16, 0;
    NVML_THROTTLE = 0, 0;
    NVML_VIOLATION_POWER_NS = 0, 0;
    NVML_VIOLATION_THERMAL_NS = 0, 0;
    NVML_PSTATE = 0, 0;
    /// Error of every reading of a device.
    NVML_READ = 0, 0;
    /// NVTX has a tool that listens.
    NVTX_TOOL = 1, 0;
}

static VALUES: OnceLock<Vec<[AtomicI64; MAX_DEVICES]>> = OnceLock::new();

/// The value of device 0, or of what is no device's.
pub fn get(knob: Knob) -> i64 {
    get_of(knob, 0)
}

pub fn get_of(knob: Knob, device: usize) -> i64 {
    let value = values()[knob as usize][device].load(Relaxed);
    if value != UNSET {
        return value;
    }
    let (_, default, step) = KNOBS[knob as usize];
    default + step * device as i64
}

/// False when there is no such knob. The name is in either case, with or without `FAKE_`.
pub fn set(name: &str, value: i64) -> bool {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("FAKE_").unwrap_or(&name);
    let Some((knob, device)) = find(name) else {
        return false;
    };
    values()[knob][device].store(value, Relaxed);
    true
}

fn find(name: &str) -> Option<(usize, usize)> {
    let by_name = |name: &str| KNOBS.iter().position(|knob| knob.0 == name);
    if let Some(knob) = by_name(name) {
        return Some((knob, 0));
    }
    let (name, device) = name.rsplit_once('_')?;
    let device = device.parse().ok().filter(|device| *device < MAX_DEVICES)?;
    Some((by_name(name)?, device))
}

fn values() -> &'static [[AtomicI64; MAX_DEVICES]] {
    VALUES.get_or_init(|| {
        let read = |name: String| {
            let text = env::var(&name).ok()?;
            let number = text.parse();
            Some(number.unwrap_or_else(|_| panic!("fake-gpu: {name}={text} is no number")))
        };
        let of_device = |name: &str, device| match device {
            0 => read(format!("FAKE_{name}")),
            _ => read(format!("FAKE_{name}_{device}")),
        };
        let of_knob = |name: &str| {
            std::array::from_fn(|device| AtomicI64::new(of_device(name, device).unwrap_or(UNSET)))
        };
        KNOBS.iter().map(|knob| of_knob(knob.0)).collect()
    })
}
