//! What the rules about memory and handles compare with.

use std::time::Duration;

/// CTX303, 305, 306, 308, 309: memory and handles.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MemoryThresholds {
    /// CTX303, CTX308, CTX309: the chance of growth this clear where there is none: below 0.01. Simulated together with
    /// the other tests: 0 to 3 % false alarms.
    pub growth_chance: f64,
    /// CTX303: memory that must have been added after warm-up: 10 MB, from the requirements.
    pub growth_bytes: u64,
    /// CTX303: the same as a share of the memory in use: 0.02, where that is more. Scalene takes 0.01.
    pub growth_share: f64,
    /// CTX303: readings after warm-up: 40; with 42 it finds 69 to 80 % of noisy leaks, with 84 over 97 %. Simulated.
    pub growth_samples: u64,
    /// CTX303: time after warm-up: 20 s. Own choice.
    pub growth_time: Duration,
    /// CTX303, CTX308, CTX309: a limit that is reached sooner makes the finding high: 1 hour. Own choice.
    pub soon: Duration,

    /// CTX308, CTX309: readings after warm-up: 20. Own choice.
    pub handle_samples: u64,
    /// CTX308, CTX309: time after warm-up: 2 s. Own choice.
    pub handle_time: Duration,
    /// CTX308: files that were opened and stayed open: 20. Own choice.
    pub leaked_files: f64,
    /// CTX309: threads that were started and stayed: 8. Own choice.
    pub leaked_threads: f64,
    /// CTX309: threads per core, exclusive: 2. Own choice.
    pub threads_per_core: f64,

    /// CTX305: the peak against the median: 2 times, from the requirements.
    pub spike_ratio: f64,
    /// CTX305: the peak is at least so far above the median: 64 MB, which no small machine minds. Own choice.
    pub spike_bytes: u64,
    /// CTX305: readings: 20. Own choice.
    pub spike_samples: u64,
    /// CTX305: the part of the readings that are nearer to the peak than to the median, at most: 0.2. Steady growth has
    /// 0.25. Own choice.
    pub spike_part: f64,

    /// CTX306: the machine's memory that is in use: 85 %, from the requirements.
    pub pressure_percent: f64,
    /// CTX306: from here on it is high: 95 %. Own choice.
    pub pressure_high_percent: f64,
    /// CTX306: pages that the process waited for, in a second: 10. Starting up has some, waiting for memory hundreds. Own
    /// choice.
    pub major_faults_per_second: f64,
    /// CTX306: readings that show both: 5. Own choice.
    pub pressure_samples: usize,
}

impl Default for MemoryThresholds {
    fn default() -> MemoryThresholds {
        MemoryThresholds {
            growth_chance: 0.01,
            growth_bytes: 10_000_000,
            growth_share: 0.02,
            growth_samples: 40,
            growth_time: Duration::from_secs(20),
            soon: Duration::from_secs(3_600),
            handle_samples: 20,
            handle_time: Duration::from_secs(2),
            leaked_files: 20.0,
            leaked_threads: 8.0,
            threads_per_core: 2.0,
            spike_ratio: 2.0,
            spike_bytes: 64_000_000,
            spike_samples: 20,
            spike_part: 0.2,
            pressure_percent: 85.0,
            pressure_high_percent: 95.0,
            major_faults_per_second: 10.0,
            pressure_samples: 5,
        }
    }
}
