//! Every number that the rules compare with.

mod database;
mod gpu;
mod memory;
mod network;
mod storage;
mod tasks;
mod threads;
mod trends;
mod work;

use std::time::Duration;

pub use database::DatabaseThresholds;
pub use gpu::GpuThresholds;
pub use memory::MemoryThresholds;
pub use network::NetworkThresholds;
pub use storage::StorageThresholds;
pub use tasks::TaskThresholds;
pub use threads::ThreadThresholds;
pub use trends::TrendThresholds;
pub use work::WorkThresholds;

use crate::diagnose::levels::RuleLevels;
use crate::model::Target;

/// When the rules fire. Change a field of the default and hand it to the builder.
///
/// ```
/// use std::time::Duration;
/// use tracing_cortex::{CortexLayer, Thresholds};
///
/// let mut thresholds = Thresholds::default();
/// thresholds.slow_poll = Duration::from_millis(5);
/// thresholds.hot_share = 0.1;
/// let (cortex, guard) = CortexLayer::builder().thresholds(thresholds).build()?;
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
///
/// Shares are in `[0, 1]`. "Own choice" marks numbers that no published tool or measurement supports yet.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Thresholds {
    /// Which rules are silent and which make the program fail. Default: all warn, but those that must be asked for.
    pub levels: RuleLevels,
    /// CTX701: how fast sites are to be. Default: no targets, as only the program's author knows them.
    pub targets: Vec<Target>,

    /// The shortest run that is judged: 50 ms, below which start-up and the scheduler's time slices dominate. Own choice.
    pub min_run: Duration,
    /// Calls before a site's sum means something: 5, unless one call alone takes [`Thresholds::long_call`]. Own choice.
    pub min_calls: u64,
    /// One call of this length is evidence by itself: 100 ms, what people notice as a delay. Own choice.
    pub long_call: Duration,
    /// Samples of a site before its share on the CPU is believed: 20, which keeps the standard error under 12 points.
    pub min_cpu_samples: u64,
    /// At or above this share of running samples a site computes, below it waits: 0.5, the larger part.
    pub on_cpu_share: f64,
    /// How often roots overlap on average before the sum of their latencies replaces the wall time: more than 1.5.
    /// Own choice, between one request after the other (1) and two at a time (2).
    pub root_overlap: f64,

    /// Above this share of the time a finding is medium: 0.1. This and the next two come from the requirements' ladder.
    pub medium_share: f64,
    /// Above this share of the time a finding is high: 0.2.
    pub high_share: f64,
    /// Above this share of the time a finding is critical: 0.5.
    pub critical_share: f64,

    /// CTX001: the share of self time from which a site is a finding: 0.2. Every program has a hottest site; below a
    /// fifth it only describes the profile. Own choice.
    pub hot_share: f64,
    /// CTX001: dropped when specific rules explain this share of the site's self time: 0.7. Own choice.
    pub claimed_share: f64,

    /// CTX002: the share of the time that a wrapper's subtree takes: 0.5, or it would not look slow. Own choice.
    pub subtree_share: f64,
    /// CTX002: the wrapper's own part of it, exclusive: 0.1. Own choice.
    pub subtree_self_share: f64,
    /// CTX002: the part of the one child that the finding points at: 0.8. Own choice.
    pub subtree_child_share: f64,

    /// CTX003: the share of the time that no child span, or no span at all, accounts for: 0.5. Own choice.
    pub uninstrumented_share: f64,

    /// CTX101, CTX102: the shortest poll that counts as slow: 1 ms. Ryhl's rule is 10 to 100 us between awaits and
    /// tokio-metrics counts from 50 us; ten times the former leaves room for a descheduled thread.
    pub slow_poll: Duration,
    /// CTX101: polls from this length on are at least medium: 10 ms.
    pub slow_poll_medium: Duration,
    /// CTX101: polls from this length on are at least high: 100 ms; Lighthouse calls 50 ms a long task.
    pub slow_poll_high: Duration,
    /// CTX101: the part of the workers' time that slow polls take: 0.05. Own choice.
    pub blocking_share: f64,
    /// CTX102: the same for polls that compute: 0.1, as computing is what a worker is for. Own choice.
    pub cpu_poll_share: f64,

    /// CTX601: how far p99 is above the median, by the lower 95 % bound: 10. An exponential distribution has 6.6, a
    /// log-normal one with sigma 1 has 10.2 and stays silent at ordinary counts. Simulated.
    pub tail_ratio: f64,
    /// CTX601: the least distance of p99 from the median: 10 ms, below which nobody waits. Own choice.
    pub tail_gap: Duration,
    /// CTX601: the part of the site's time that calls spend beyond its p95: 0.05. Own choice.
    pub tail_share: f64,
    /// CTX601: calls after the first: 500, which puts 5 beyond the 99th percentile.
    pub tail_calls: u64,

    /// CTX603: the first call against the median of the later ones: 10 times. Own choice.
    pub cold_ratio: f64,
    /// CTX603: the shortest first call: 10 ms. Own choice.
    pub cold_first: Duration,
    /// CTX603: the share of the time that the first call takes more than a later one: 0.05. Own choice.
    pub cold_share: f64,
    /// CTX603: later calls: 10, to know what is normal. Own choice.
    pub cold_calls: u64,

    /// CTX901: the layer's cost as a share of the process's CPU time, exclusive: 0.02, from the requirements.
    pub overhead_share: f64,

    /// CTX902: the share of spans still open at the end, exclusive: 0.01. Own choice.
    pub open_span_share: f64,
    /// CTX902: open spans that are never reported: 10. A guard that ends inside `main` always leaves a few open.
    pub open_spans: u64,

    /// CTX903: activations of one open root span from which it may be held in a struct: 20. Own choice.
    pub held_activations: u64,

    /// How work is done: batches, repetition, growth, retries, balance.
    pub work: WorkThresholds,
    /// Tasks and futures.
    pub tasks: TaskThresholds,
    /// Locks, queues and threads.
    pub threads: ThreadThresholds,
    /// Memory and handles.
    pub memory: MemoryThresholds,
    /// Files.
    pub storage: StorageThresholds,
    /// Databases.
    pub database: DatabaseThresholds,
    /// Networks.
    pub network: NetworkThresholds,
    /// Devices.
    pub gpu: GpuThresholds,
    /// Distributions, targets and change over time.
    pub trends: TrendThresholds,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            levels: RuleLevels::default(),
            targets: Vec::new(),
            min_run: Duration::from_millis(50),
            min_calls: 5,
            long_call: Duration::from_millis(100),
            min_cpu_samples: 20,
            on_cpu_share: 0.5,
            root_overlap: 1.5,
            medium_share: 0.1,
            high_share: 0.2,
            critical_share: 0.5,
            hot_share: 0.2,
            claimed_share: 0.7,
            subtree_share: 0.5,
            subtree_self_share: 0.1,
            subtree_child_share: 0.8,
            uninstrumented_share: 0.5,
            slow_poll: Duration::from_millis(1),
            slow_poll_medium: Duration::from_millis(10),
            slow_poll_high: Duration::from_millis(100),
            blocking_share: 0.05,
            cpu_poll_share: 0.1,
            tail_ratio: 10.0,
            tail_gap: Duration::from_millis(10),
            tail_share: 0.05,
            tail_calls: 500,
            cold_ratio: 10.0,
            cold_first: Duration::from_millis(10),
            cold_share: 0.05,
            cold_calls: 10,
            overhead_share: 0.02,
            open_span_share: 0.01,
            open_spans: 10,
            held_activations: 20,
            work: WorkThresholds::default(),
            tasks: TaskThresholds::default(),
            threads: ThreadThresholds::default(),
            memory: MemoryThresholds::default(),
            storage: StorageThresholds::default(),
            database: DatabaseThresholds::default(),
            network: NetworkThresholds::default(),
            gpu: GpuThresholds::default(),
            trends: TrendThresholds::default(),
        }
    }
}
