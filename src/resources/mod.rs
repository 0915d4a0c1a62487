//! Resource readings on one thread of their own: the process, the system, and what the program adds.
//!
//! | series | Linux | elsewhere |
//! |---|---|---|
//! | `process.cpu`, `process.cpu_one_core`, `process.cpu_user`, `process.cpu_system`, `process.voluntary_switches`, `process.involuntary_switches`, `process.major_faults` | `getrusage` | Unix: `getrusage`; else CPU from sysinfo |
//! | `process.rss`, `process.virtual`, `process.disk_*`, `process.open_files` | `/proc` | sysinfo |
//! | `process.threads`, thread states, thread CPU time | `/proc` | absent |
//! | `process.run_queue_wait`, `process.runnable_threads` | `/proc` | absent |
//! | `process.throttled_periods` | cgroups, where they limit CPU time | absent |
//! | `system.net_*` | `/proc` | sysinfo |
//! | `system.cpu`, `system.memory_*`, `system.swap_used`, `system.load1` | sysinfo | sysinfo |
//! | `gpu.*` | NVML, see `nvml` | NVML |
//!
//! Where sysinfo has a number that `/proc` gives as well, the reason for `/proc` stands at the reader.

mod callback;
mod cgroup;
mod linux;
mod network;
#[cfg(feature = "cuda")]
mod nvml;
mod open_spans;
mod process;
mod rounds;
mod run_queue;
mod sampler;
mod series;
#[cfg(feature = "sysinfo")]
mod system;
#[cfg(test)]
mod tests;
mod threads;
mod usage;

use std::error::Error;
use std::time::Duration;

use crate::model::Unit;

pub(crate) use callback::Callback;
pub(crate) use linux::{memory_limit, open_files_limit};
#[cfg(feature = "cuda")]
pub(crate) use nvml::GpuReadings;
pub(crate) use sampler::{Observed, Sampler, SamplerSettings};

/// The shortest time over which a rate is formed. Counters move in steps of up to a few milliseconds; over less time than
/// this one step would look like a peak.
const RATE_WINDOW: Duration = Duration::from_millis(20);

/// Something that can be read at intervals: a queue's depth, a pool's size, a device's memory.
///
/// ```
/// use std::error::Error;
/// use std::sync::{Arc, Mutex};
/// use tracing_cortex::{CortexLayer, Readings, ResourceSource, Unit};
///
/// struct Jobs(Arc<Mutex<Vec<u64>>>);
///
/// impl ResourceSource for Jobs {
///     fn name(&self) -> &str {
///         "jobs"
///     }
///
///     fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
///         let jobs = self.0.lock().map_err(|_| "the queue is poisoned")?;
///         readings.record("jobs.waiting", Unit::Count, jobs.len() as f64);
///         // No job waits, so there is no longest wait either: no reading.
///         if let Some(longest) = jobs.iter().max() {
///             readings.record("jobs.longest_wait", Unit::Seconds, *longest as f64);
///         }
///         Ok(())
///     }
/// }
///
/// let jobs = Arc::new(Mutex::new(Vec::new()));
/// let (cortex, guard) = CortexLayer::builder().source(Jobs(jobs)).build()?;
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
///
/// Called on the thread `cortex-sample`. A source that fails is reported once, in
/// [`Losses::failures`](crate::Losses::failures), and asked again at the next interval; one that panics is not asked
/// again. The other sources go on in either case. They wait for one that is slow.
pub trait ResourceSource: Send + 'static {
    /// Returns a short, stable name for error messages.
    fn name(&self) -> &str;

    /// Takes the readings that can be had now. What cannot be had is left out, never given as zero.
    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Collects the readings of one interval.
#[derive(Debug, Default)]
pub struct Readings {
    values: Vec<(String, Unit, f64)>,
}

impl Readings {
    /// Adds a reading of the series `name`, such as `"queue.depth"`. A value that is not finite is left out.
    ///
    /// A series belongs to the source and the unit of its first reading; readings under its name that come from
    /// another source or in another unit are refused and reported once.
    pub fn record(&mut self, name: &str, unit: Unit, value: f64) {
        if value.is_finite() {
            self.values.push((name.to_owned(), unit, value));
        }
    }

    /// Adds the reading if there is one.
    fn record_some(&mut self, name: &str, unit: Unit, value: Option<f64>) {
        if let Some(value) = value {
            self.record(name, unit, value);
        }
    }

    /// Adds what a counter grew by in a second, if both of its readings are there and it did not step back.
    fn record_rate(
        &mut self,
        name: &str,
        unit: Unit,
        before: Option<u64>,
        now: Option<u64>,
        elapsed: Duration,
    ) {
        let grown = now
            .zip(before)
            .and_then(|(now, before)| now.checked_sub(before));
        self.record_some(
            name,
            unit,
            grown.map(|grown| grown as f64 / elapsed.as_secs_f64()),
        );
    }
}

/// Returns the sources that read this process and this machine.
pub(crate) fn standard_sources() -> Vec<Box<dyn ResourceSource>> {
    vec![
        Box::new(process::ProcessSource::default()),
        Box::new(run_queue::RunQueueSource::default()),
        Box::new(cgroup::ThrottlingSource::default()),
        #[cfg(feature = "sysinfo")]
        Box::new(system::SystemSource::default()),
        Box::new(network::NetworkSource::default()),
    ]
}
