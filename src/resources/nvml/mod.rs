//! Devices, as NVIDIA's management library shows them.
//!
//! Series of the device `<n>`: CUDA's ordinal where CUDA said which devices the process sees, matched by their identity.
//! NVML counts differently: it knows all devices of the machine, by their place on the bus, whatever
//! `CUDA_VISIBLE_DEVICES` says. Where only NVML was asked, `<n>` is therefore `nvml` and NVML's number.
//!
//! | series | what |
//! |---|---|
//! | `gpu.<n>.utilization` | share of time in which a kernel ran, of any process |
//! | `gpu.<n>.memory_utilization` | share of time in which its memory was read or written |
//! | `gpu.<n>.memory_used`, `memory_total` | of all processes |
//! | `gpu.<n>.process_memory` | of this process, where the driver lists it |
//! | `gpu.<n>.power`, `energy`, `temperature` | energy since the first reading |
//! | `gpu.<n>.clock_sm`, `clock_memory` | |
//! | `gpu.<n>.pcie_rx`, `pcie_tx` | of 20 ms in every two seconds; only at intervals from 250 ms on |
//! | `gpu.<n>.throttle_*` | share of time in which `power`, `thermal`, `hardware`, `board`, `reliability` held clocks down |
//!
//! What a device does not answer is left out, and asked again ever more rarely.

mod device;
mod error;
mod gate;
mod reader;
mod select;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;

use self::error::unusable;
use self::reader::DeviceReader;
use self::select::{Listed, select};
use super::{Readings, ResourceSource};
use crate::model::{GpuDevice, GpuNotice};

/// The shortest interval at which 20 ms now and then are not felt.
const PCIE_MIN_INTERVAL: Duration = Duration::from_millis(250);

/// What these readings are called where they are missing.
const WHAT: &str = "utilisation, memory, power";

/// Devices and what reads them.
#[derive(Default)]
pub(crate) struct GpuReadings {
    /// One for each device, so that each reports for itself when it is lost.
    pub(crate) sources: Vec<Box<dyn ResourceSource>>,
    /// What is read; `ordinal` is NVML's number where CUDA was not asked.
    pub(crate) devices: Vec<GpuDevice>,
    /// What is not.
    pub(crate) notices: Vec<GpuNotice>,
}

impl GpuReadings {
    /// Opens NVML and finds the devices. Where there is none, nothing is read and a notice says why.
    ///
    /// Loads the driver where no other process keeps it loaded, which may take a second. `visible` are ordinal and
    /// identity of the devices that CUDA shows to the process, `library` another file than the system's.
    pub(crate) fn open(
        library: Option<&OsStr>,
        visible: Option<&[(u32, String)]>,
        interval: Duration,
    ) -> GpuReadings {
        let mut builder = Nvml::builder();
        if let Some(library) = library {
            builder.lib_path(library);
        }
        let listed = builder.init().and_then(|nvml| Ok((list(&nvml)?, nvml)));
        let (listed, nvml) = match listed {
            Ok((listed, nvml)) => (listed, Arc::new(nvml)),
            Err(error) => {
                return GpuReadings {
                    notices: vec![GpuNotice::new(WHAT, unusable(&error))],
                    ..GpuReadings::default()
                };
            }
        };

        let selection = select(listed, visible);
        let mut notices: Vec<_> = selection
            .missing
            .into_iter()
            .map(|why| GpuNotice::new(WHAT, why))
            .collect();
        let reads_pcie = interval >= PCIE_MIN_INTERVAL;
        if !reads_pcie && !selection.chosen.is_empty() {
            let why = format!(
                "reading it blocks for 20 ms; choose a sampling interval of at least {PCIE_MIN_INTERVAL:?}"
            );
            notices.push(GpuNotice::new("PCIe traffic", why));
        }
        let mut readings = GpuReadings {
            notices,
            ..GpuReadings::default()
        };
        for (turn, chosen) in (0..).zip(selection.chosen) {
            readings.sources.push(Box::new(DeviceSource {
                name: format!("{} (NVML)", chosen.prefix),
                nvml: Arc::clone(&nvml),
                index: chosen.index,
                reader: DeviceReader::new(chosen.prefix, reads_pcie.then_some(turn)),
            }));
            readings.devices.push(chosen.device);
        }
        readings
    }
}

/// Describes all devices of the machine.
fn list(nvml: &Nvml) -> Result<Vec<Listed>, nvml_wrapper::error::NvmlError> {
    let describe = |index| {
        // One that cannot be described may still be read, or say why it cannot.
        let device = nvml.device_by_index(index).ok();
        Listed {
            index,
            name: device.as_ref().and_then(|device| device.name().ok()),
            uuid: device.as_ref().and_then(|device| device.uuid().ok()),
            memory_bytes: device
                .as_ref()
                .and_then(|device| Some(device.memory_info().ok()?.total)),
        }
    };
    Ok((0..nvml.device_count()?).map(describe).collect())
}

/// Reads one device.
struct DeviceSource {
    name: String,
    nvml: Arc<Nvml>,
    index: u32,
    reader: DeviceReader,
}

impl ResourceSource for DeviceSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.reader.is_lost() {
            return Ok(());
        }
        // A device borrows the library, so it is looked up each time: an index into a table.
        match self.nvml.device_by_index(self.index) {
            Ok(device) => self.reader.sample(&device, Instant::now(), readings)?,
            Err(error) => self.reader.refused(error)?,
        }
        Ok(())
    }
}
