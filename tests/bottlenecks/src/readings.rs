//! What the operating system of the simulated machine says about the process in the course of time.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_cortex::{ResourceSource, Unit};

use crate::program::{Program, Reading};
use crate::virtual_time::{Counters, Meter};
use crate::world::lock;

/// What the program changes itself, and what the scheduler counts.
pub struct Readings {
    own: Vec<(Reading, f64)>,
    last: Meter,
    now: Meter,
}

impl Readings {
    pub fn new(program: &Program) -> Readings {
        let meter = Meter {
            at: Duration::ZERO,
            counters: Counters::default(),
            threads: 0,
        };
        Readings {
            own: program.gauges.clone(),
            last: meter,
            now: meter,
        }
    }

    pub fn add(&mut self, changed: Reading, amount: f64) {
        for (reading, value) in &mut self.own {
            if *reading == changed {
                *value += amount;
            }
        }
    }

    /// Notes what the next reading is to say.
    pub fn note(&mut self, meter: Meter) {
        self.last = std::mem::replace(&mut self.now, meter);
    }
}

/// Where the capture reads it.
pub struct OfMachine(pub Arc<Mutex<Readings>>);

impl ResourceSource for OfMachine {
    fn name(&self) -> &str {
        "simulated machine"
    }

    fn sample(
        &mut self,
        to: &mut tracing_cortex::Readings,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let readings = lock(&self.0);
        let (now, last) = (readings.now.counters, readings.last.counters);
        let elapsed = (readings.now.at - readings.last.at).as_secs_f64();
        if elapsed == 0.0 {
            return Ok(());
        }
        let time = |now: Duration, last: Duration| (now - last).as_secs_f64() / elapsed;
        let count = |now: u64, last: u64| (now - last) as f64 / elapsed;
        let cpu = time(now.cpu, last.cpu);
        let queued = time(now.queued, last.queued);
        to.record("process.cpu_one_core", Unit::Percent, 100.0 * cpu);
        to.record("process.cpu_user", Unit::Percent, 100.0 * cpu);
        to.record("process.cpu_system", Unit::Percent, 0.0);
        to.record("process.run_queue_wait", Unit::Count, queued);
        to.record("process.runnable_threads", Unit::Count, queued + cpu);
        let switches = count(now.voluntary, last.voluntary);
        to.record("process.voluntary_switches", Unit::PerSecond, switches);
        let switches = count(now.involuntary, last.involuntary);
        to.record("process.involuntary_switches", Unit::PerSecond, switches);
        for (reading, value) in &readings.own {
            let (name, unit) = name(*reading);
            to.record(name, unit, *value);
        }
        if !readings.own.iter().any(|(own, _)| *own == Reading::Threads) {
            to.record("process.threads", Unit::Count, readings.now.threads as f64);
        }
        Ok(())
    }
}

fn name(reading: Reading) -> (&'static str, Unit) {
    match reading {
        Reading::ResidentBytes => ("process.rss", Unit::Bytes),
        Reading::OpenFiles => ("process.open_files", Unit::Count),
        Reading::Threads => ("process.threads", Unit::Count),
        Reading::SystemMemoryPercent => ("system.memory_used_percent", Unit::Percent),
        Reading::QueueDepth => ("queue.depth", Unit::Count),
        Reading::MajorFaults => ("process.major_faults", Unit::PerSecond),
    }
}
