//! What the rules about devices compare with.

use std::time::Duration;

/// CTX501 to 510: devices.
///
/// A device is judged from `min_work` pieces of work and a `min_window` on; shares of "the run" are of its wall time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GpuThresholds {
    /// All rules about a device's time: the least kernels, copies and fills on it: 20. Own choice.
    pub min_work: u64,
    /// All rules about a device's time: from its first work to the end of the last: 100 ms. Own choice.
    pub min_window: Duration,

    /// CTX501: the share of the window below which a device is underused: 0.5, as in PyTorch's profiler and in Nsight
    /// Systems.
    pub used_share: f64,
    /// CTX501: into how many equal parts the window is cut, each of which is used or not: 30, as in Nsight Systems.
    pub window_parts: usize,
    /// CTX501: the part of them that must be underused: 0.5. Own choice: a late begin alone is no finding.
    pub underused_parts: f64,
    /// CTX501: the share of the idle time that other rules explain, from which this one is silent: 0.5. Own choice.
    pub explained_share: f64,

    /// CTX502: the share of the time that loading takes: 0.05, from PyTorch's profiler.
    pub load_share: f64,
    /// CTX502: the part of the loading in which the device does nothing: 0.5. Own choice.
    pub load_idle_share: f64,
    /// CTX502: loads after the first: 5. Own choice.
    pub load_calls: u64,

    /// CTX503: the share of the device's window, or of the run, that blocking copies take: 0.05. Own choice.
    pub blocking_share: f64,
    /// CTX503: such copies: 3. Own choice.
    pub blocking_copies: u64,
    /// CTX503: how long a copy takes without staging, as a part of how long it takes now, where the run itself has no
    /// copies that tell: 0.5, the usual gain of page-locked memory.
    pub pinned_ratio: f64,

    /// CTX504: waits per launch: 0.5, which is one for every two launches. Own choice.
    pub syncs_per_launch: f64,
    /// CTX504: the share of the run in which the device has nothing to do after such waits: 0.05. Own choice.
    pub stall_share: f64,
    /// CTX504: launches: 20. Own choice.
    pub sync_launches: u64,
    /// CTX504: pauses up to this are the wait's own cost, whatever the spans say: 200 us. Own choice, a few times what
    /// a thread takes from a wait to the next launch.
    pub turnaround: Duration,

    /// CTX505: half of the kernels are shorter than this, or than a launch: 10 us. The launch of a kernel takes 3 to 5 us.
    pub tiny_kernel: Duration,
    /// CTX505: kernels: 100. Own choice.
    pub tiny_kernels: u64,
    /// CTX505: the share of the window that is pauses for launches: 0.3. Own choice.
    pub launch_gap_share: f64,
    /// CTX505: the longest pause that a launch alone makes: 100 us, beyond which Holistic Trace Analysis calls a launch
    /// an outlier.
    pub launch_gap: Duration,

    /// CTX506: copies as a part of copies and kernels: 0.3. Own choice.
    pub transfer_ratio: f64,
    /// CTX506: the share of the run in which the device only copies: 0.1. Own choice.
    pub transfer_share: f64,
    /// CTX506: copies: 10. Own choice.
    pub transfer_copies: u64,

    /// CTX507: the part of a device's memory in use, exclusive: 0.9, from PyTorch's profiler.
    pub memory_share: f64,
    /// CTX507: readings above it: 3. Own choice.
    pub memory_samples: u64,

    /// CTX508: kernels as a part of the time of an operation on the device, exclusive: 0.2. Own choice.
    pub offload_share: f64,
    /// CTX508: the longest operation that is small: 1 ms. Own choice.
    pub offload_time: Duration,
    /// CTX508: calls: 20. Own choice.
    pub offload_calls: u64,
    /// CTX508: the share of the run that such operations take without their kernels: 0.05. Own choice.
    pub offload_total: f64,

    /// CTX509: the share of the run: 0.3. Own choice.
    pub candidate_share: f64,
    /// CTX509: the mean call: 10 ms, which a copy there and back must not outweigh. Own choice.
    pub candidate_time: Duration,
    /// CTX509: items of a call, as its fields say: 1,000,000. Own choice.
    pub candidate_items: f64,
    /// CTX509: the device's busy part of the run, exclusive: 0.05. Own choice.
    pub candidate_busy: f64,

    /// CTX510: how far the device that works most is above the mean: 0.25. Own choice.
    pub device_imbalance: f64,
    /// CTX510: the part of its window in which it works; below, others do not wait for it: 0.5. Own choice.
    pub imbalance_busy: f64,
    /// CTX510: kernels of each device: 5, for as many rounds. Own choice.
    pub imbalance_kernels: u64,
}

impl Default for GpuThresholds {
    fn default() -> GpuThresholds {
        GpuThresholds {
            min_work: 20,
            min_window: Duration::from_millis(100),
            used_share: 0.5,
            window_parts: 30,
            underused_parts: 0.5,
            explained_share: 0.5,
            load_share: 0.05,
            load_idle_share: 0.5,
            load_calls: 5,
            blocking_share: 0.05,
            blocking_copies: 3,
            pinned_ratio: 0.5,
            syncs_per_launch: 0.5,
            stall_share: 0.05,
            sync_launches: 20,
            turnaround: Duration::from_micros(200),
            tiny_kernel: Duration::from_micros(10),
            tiny_kernels: 100,
            launch_gap_share: 0.3,
            launch_gap: Duration::from_micros(100),
            transfer_ratio: 0.3,
            transfer_share: 0.1,
            transfer_copies: 10,
            memory_share: 0.9,
            memory_samples: 3,
            offload_share: 0.2,
            offload_time: Duration::from_millis(1),
            offload_calls: 20,
            offload_total: 0.05,
            candidate_share: 0.3,
            candidate_time: Duration::from_millis(10),
            candidate_items: 1e6,
            candidate_busy: 0.05,
            device_imbalance: 0.25,
            imbalance_busy: 0.5,
            imbalance_kernels: 5,
        }
    }
}
