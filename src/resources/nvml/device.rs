//! What can be asked of one device.

use std::time::Duration;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, PcieUtilCounter, PerformancePolicy, TemperatureSensor,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

/// An answer of the driver.
pub(super) type Answer<T> = Result<T, NvmlError>;

/// Shares of NVML's own window, which is between a sixth of a second and a second long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Utilization {
    /// Time in which at least one kernel ran.
    pub(super) percent: u32,
    /// Time in which the device's memory was read or written.
    pub(super) memory_percent: u32,
}

/// The device's memory, of all processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) used_bytes: u64,
    pub(super) total_bytes: u64,
}

/// One device, as NVML shows it.
pub(super) trait Device {
    fn utilization(&self) -> Answer<Utilization>;
    fn memory(&self) -> Answer<Memory>;
    /// What this process holds; `None` where the driver does not list the process or does not say.
    fn own_memory_bytes(&self) -> Answer<Option<u64>>;
    fn power_milliwatts(&self) -> Answer<u32>;
    /// Since the driver was loaded.
    fn energy_millijoules(&self) -> Answer<u64>;
    fn temperature_celsius(&self) -> Answer<u32>;
    fn clock_megahertz(&self, clock: Clock) -> Answer<u32>;
    /// Of the 20 ms that the call takes. NVML says "KB".
    fn pcie_kilobytes_per_second(&self, counter: PcieUtilCounter) -> Answer<u32>;
    fn throttle_reasons(&self) -> Answer<ThrottleReasons>;
    /// How long a limit has held the clocks down since the driver was loaded.
    fn held_down(&self, policy: PerformancePolicy) -> Answer<Duration>;
}

impl Device for nvml_wrapper::Device<'_> {
    fn utilization(&self) -> Answer<Utilization> {
        let rates = self.utilization_rates()?;
        Ok(Utilization {
            percent: rates.gpu,
            memory_percent: rates.memory,
        })
    }

    fn memory(&self) -> Answer<Memory> {
        let info = self.memory_info()?;
        Ok(Memory {
            used_bytes: info.used,
            total_bytes: info.total,
        })
    }

    fn own_memory_bytes(&self) -> Answer<Option<u64>> {
        let own = std::process::id();
        let processes = self.running_compute_processes()?;
        let used = processes
            .into_iter()
            .filter(|process| process.pid == own)
            .filter_map(|process| match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            });
        // One row for each part of a divided device.
        Ok(used.reduce(u64::saturating_add))
    }

    fn power_milliwatts(&self) -> Answer<u32> {
        self.power_usage()
    }

    fn energy_millijoules(&self) -> Answer<u64> {
        self.total_energy_consumption()
    }

    fn temperature_celsius(&self) -> Answer<u32> {
        self.temperature(TemperatureSensor::Gpu)
    }

    fn clock_megahertz(&self, clock: Clock) -> Answer<u32> {
        self.clock_info(clock)
    }

    fn pcie_kilobytes_per_second(&self, counter: PcieUtilCounter) -> Answer<u32> {
        self.pcie_throughput(counter)
    }

    fn throttle_reasons(&self) -> Answer<ThrottleReasons> {
        self.current_throttle_reasons()
    }

    fn held_down(&self, policy: PerformancePolicy) -> Answer<Duration> {
        let status = self.violation_status(policy)?;
        Ok(Duration::from_nanos(status.violation_time))
    }
}
