//! What the device and its libraries answer: for the table, and questions that only hardware answers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use cudarc::driver::result;
use nvml_wrapper::enum_wrappers::device::{
    Clock, PcieUtilCounter, PerformancePolicy, TemperatureSensor,
};
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::args::Settings;
use crate::gpu::Gpu;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub device: String,
    pub compute_capability: String,
    /// Of CUDA, that the driver has.
    pub cuda: String,
    /// Of the driver itself, as NVML tells it.
    pub driver: Option<String>,
    /// Host time of one `cuEventRecord`.
    pub event_record_ns: f64,
    /// What `cuEventQuery` answers in a thread without a context.
    pub event_query_without_context: String,
    /// What NVML answers, and how long that takes.
    pub nvml: BTreeMap<String, String>,
}

pub fn find(settings: &Settings) -> Result<Facts> {
    let gpu = Gpu::open(settings)?;
    let (major, minor) = gpu.context.compute_capability()?;
    let uuid = gpu.context.uuid()?.bytes.map(|byte| byte as u8);
    let mut facts = Facts {
        device: gpu.context.name()?,
        compute_capability: format!("{major}.{minor}"),
        cuda: cuda_version()?,
        event_record_ns: event_record_ns(&gpu)?,
        event_query_without_context: query_without_context(&gpu)?,
        ..Facts::default()
    };
    match Nvml::init() {
        Err(why) => drop(
            facts
                .nvml
                .insert("init".to_owned(), format!("fails: {why}")),
        ),
        Ok(nvml) => {
            facts.driver = nvml.sys_driver_version().ok();
            match nvml.device_by_uuid(uuid_text(uuid)) {
                Ok(device) => facts.nvml = readings(&device),
                Err(why) => drop(
                    facts
                        .nvml
                        .insert("device by uuid".to_owned(), format!("fails: {why}")),
                ),
            }
        }
    }
    Ok(facts)
}

fn cuda_version() -> Result<String> {
    let mut version = 0;
    // SAFETY: the pointer is to a number of ours.
    match unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) } as u32 {
        0 => Ok(format!("{}.{}", version / 1_000, version % 1_000 / 10)),
        code => Err(format!("cuDriverGetVersion fails with {code}").into()),
    }
}

fn event_record_ns(gpu: &Gpu) -> Result<f64> {
    const EVENTS: usize = 256;
    let events = (0..EVENTS)
        .map(|_| gpu.event())
        .collect::<Result<Vec<_>>>()?;
    let mut best = f64::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        for event in &events {
            event.record(&gpu.stream)?;
        }
        best = best.min(began.elapsed().as_nanos() as f64 / EVENTS as f64);
        gpu.stream.synchronize()?;
    }
    Ok(best)
}

fn query_without_context(gpu: &Gpu) -> Result<String> {
    let event = gpu.event()?;
    event.record(&gpu.stream)?;
    gpu.stream.synchronize()?;
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            // SAFETY: the event lives.
            match unsafe { result::event::query(event.cu_event()) } {
                Ok(()) => "done".to_owned(),
                Err(why) => why.to_string(),
            }
        });
        asked.join()
    });
    answer.map_err(|_| "cuEventQuery panics without a context".into())
}

/// Returns the identity as NVML writes it.
fn uuid_text(uuid: [u8; 16]) -> String {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let parts = [
        &uuid[..4],
        &uuid[4..6],
        &uuid[6..8],
        &uuid[8..10],
        &uuid[10..],
    ]
    .map(hex);
    format!("GPU-{}", parts.join("-"))
}

fn readings(device: &Device<'_>) -> BTreeMap<String, String> {
    let mut readings = BTreeMap::new();
    let mut ask = |what: &str, read: &dyn Fn() -> String| {
        let began = Instant::now();
        let answer = read();
        let took = began.elapsed().as_micros();
        readings.insert(what.to_owned(), format!("{answer} ({took} us)"));
    };
    ask("utilisation", &|| said(device.utilization_rates()));
    ask("memory", &|| said(device.memory_info()));
    ask("power, mW", &|| said(device.power_usage()));
    ask("energy, mJ", &|| said(device.total_energy_consumption()));
    ask("temperature", &|| {
        said(device.temperature(TemperatureSensor::Gpu))
    });
    ask("clock of the multiprocessors", &|| {
        said(device.clock_info(Clock::SM))
    });
    ask("clock of the memory", &|| {
        said(device.clock_info(Clock::Memory))
    });
    ask("PCIe, sent", &|| {
        said(device.pcie_throughput(PcieUtilCounter::Send))
    });
    ask("PCIe, received", &|| {
        said(device.pcie_throughput(PcieUtilCounter::Receive))
    });
    ask("throttle reasons", &|| {
        said(device.current_throttle_reasons())
    });
    ask("violation by power", &|| {
        said(device.violation_status(PerformancePolicy::Power))
    });
    ask("violation by heat", &|| {
        said(device.violation_status(PerformancePolicy::Thermal))
    });
    ask("processes", &|| said(device.running_compute_processes()));
    ask("GPM", &|| said(device.gpm_support()));
    readings
}

fn said<T: Debug>(answer: std::result::Result<T, nvml_wrapper::error::NvmlError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(why) => format!("fails: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_as_nvml_writes_it() {
        let uuid = std::array::from_fn(|at| at as u8 * 17);
        assert_eq!(uuid_text(uuid), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
