//! The machine: CPU, memory, swap, load.

use std::error::Error;
use std::time::Instant;

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

use super::{Readings, ResourceSource};
use crate::model::Unit;

/// Reads the machine through sysinfo.
#[derive(Debug, Default)]
pub(crate) struct SystemSource {
    system: Option<System>,
    /// When the CPU counters were last read; before the second time there is no usage.
    cpu_read: Option<Instant>,
}

impl ResourceSource for SystemSource {
    fn name(&self) -> &str {
        "system"
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.system.is_none() {
            self.system = Some(System::new()?);
        }
        let Some(system) = &mut self.system else {
            return Ok(());
        };

        match self.cpu_read {
            Some(at) if at.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL => {}
            earlier => {
                system.refresh_cpu_usage();
                self.cpu_read = Some(Instant::now());
                if earlier.is_some() {
                    let usage = f64::from(system.global_cpu_usage());
                    readings.record("system.cpu", Unit::Percent, usage);
                }
            }
        }

        system.refresh_memory();
        // A machine without memory cannot run this, one without swap has no swap use.
        if let Some(total) = Some(system.total_memory()).filter(|&total| total > 0) {
            let used = system.used_memory() as f64;
            readings.record("system.memory_used", Unit::Bytes, used);
            let percent = 100.0 * used / total as f64;
            readings.record("system.memory_used_percent", Unit::Percent, percent);
        }
        if system.total_swap() > 0 {
            readings.record("system.swap_used", Unit::Bytes, system.used_swap() as f64);
        }

        // Windows has no load average; sysinfo says zero there.
        if !cfg!(windows) {
            readings.record("system.load1", Unit::Count, System::load_average()?.one);
        }
        Ok(())
    }
}
