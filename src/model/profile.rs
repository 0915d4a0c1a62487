//! Everything that was measured, merged over all threads.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{
    Distribution, Example, Export, GpuProfile, GpuStats, Losses, Nanos, Overhead, Point, RootTrees,
    Series, Site, WallAnchor,
};

/// What the capture knows so far, or in the end. Serialises as the body of the JSON report.
///
/// ```
/// use tracing_cortex::CortexLayer;
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().build()?;
/// let subscriber = tracing_subscriber::registry().with(cortex);
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info_span!("handle").in_scope(|| tracing::info_span!("parse").in_scope(|| ()));
///
///     let profile = guard.profile();
///     for (index, path) in profile.paths.iter().enumerate() {
///         println!("{}: {} calls, {}", profile.names(index).join(" > "), path.stats.calls, path.stats.busy);
///     }
///     # assert_eq!(profile.names(1), ["handle", "parse"]);
/// });
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
///
/// Sites are ordered by self time, the largest first; paths come parent before child, the heaviest child first.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// How long the capture has run (since its start or its last reset).
    #[serde(rename = "wall_ns")]
    pub wall: Nanos,
    /// When it started.
    pub started: WallAnchor,
    /// From when on the figures count: the start, or the last reset. A change says that they began anew.
    #[serde(skip)]
    pub began: Nanos,
    /// The program that was measured.
    pub process: Process,
    /// Where the threads' time went.
    pub split: Split,
    /// One row per callsite.
    pub sites: Vec<SiteStats>,
    /// The call tree.
    #[serde(serialize_with = "paths_with_names")]
    pub paths: Vec<PathStats>,
    /// One row per thread.
    pub threads: Vec<ThreadStats>,
    /// The resource readings.
    pub resources: Vec<Series>,
    /// What devices did; `None` where the capture was not told to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuProfile>,
    /// Operations over time.
    pub throughput: Throughput,
    /// Whole trees of sampled roots, by the callsite of the root; the site whose roots took longest comes first. Empty at
    /// [`ProfilingLevel::Basic`](crate::ProfilingLevel::Basic).
    pub trees: Vec<RootTrees>,
    /// What was not measured, by reason.
    pub losses: Losses,
    /// What became of the spans that were to be sent elsewhere, by sink.
    pub exports: Vec<Export>,
    /// What the layer itself cost.
    pub overhead: Overhead,
}

impl Profile {
    /// Returns the names from the root to this path's site.
    pub fn names(&self, path: usize) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut next = Some(path);
        while let Some(stats) = next.and_then(|index| self.paths.get(index)) {
            names.push(stats.site.name);
            // A parent stands before its child; anything else would be a loop.
            next = stats.parent.filter(|&parent| Some(parent) < next);
        }
        names.reverse();
        names
    }
}

/// The program that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// The executable's file name.
    pub name: Option<String>,
    /// The process id.
    pub pid: u32,
    /// Cores that the process may use.
    pub cores: Option<u32>,
    /// Memory that the process may use, in bytes: the machine's, or less in a container; `None` where it is not known.
    #[serde(rename = "memory_limit_bytes", skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Files that the process may have open at a time; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files_limit: Option<u64>,
    /// CPU time of all its threads while the capture ran, if known.
    #[serde(rename = "cpu_ns")]
    pub cpu: Option<Nanos>,
}

/// Where the time of the threads went that entered spans.
///
/// `thread_time = sum of all sites' self time + overhead + uncovered`, up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Split {
    /// The sum over threads of the time from a thread's first span to its end (main: from the capture's start).
    #[serde(rename = "thread_time_ns")]
    pub thread_time: Nanos,
    /// Time inside at least one span, summed over threads.
    #[serde(rename = "busy_ns")]
    pub busy: Nanos,
    /// Time outside all spans: `thread_time - busy`.
    #[serde(rename = "uncovered_ns")]
    pub uncovered: Nanos,
    /// The part of `busy` in which the thread was not on a CPU, from samples; `None` below 20 samples.
    #[serde(rename = "waiting_ns")]
    pub waiting: Option<Nanos>,
}

/// What all spans of one callsite did, or of one callsite under one call path.
///
/// Words as in the crate docs: an activation is one enter..exit on one thread, an operation what a reader would call
/// "one call".
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Operations: plain spans, async spans, and each call through a held span.
    pub calls: u64,
    /// Tracing spans that were entered, or closed without.
    pub spans: u64,
    /// Enters. An instrumented future has one more than it has polls: dropping it enters once.
    pub activations: u64,
    /// Operations in which an ERROR event or an `error` field was recorded, or `otel.status_code = "ERROR"`.
    pub errors: u64,
    /// Spans that are open now: not closed, whether entered or not.
    pub open: u64,
    /// The sum of all activations; where a site calls itself, only the outermost.
    #[serde(rename = "busy_ns")]
    pub busy: Nanos,
    /// Busy minus the time in spans entered inside, and minus [`Stats::overhead`].
    #[serde(rename = "self_ns")]
    pub self_time: Nanos,
    /// The layer's own cost for the spans entered directly inside, taken out of `self_time`.
    #[serde(rename = "overhead_ns")]
    pub overhead: Nanos,
    /// Async spans only: the time between open and close in which no activation ran.
    #[serde(rename = "idle_ns")]
    pub idle: Option<Nanos>,
    /// How long activations took; for plain spans this is how long calls took.
    pub activation: Distribution,
    /// Async spans only: from open to close.
    pub latency: Option<Distribution>,
    /// The first operation, which often pays for what later ones find ready.
    #[serde(rename = "first_ns")]
    pub first: Option<Nanos>,
    /// What the sampler saw of the threads that were inside; `None` where nothing was sampled.
    pub on_cpu: Option<OnCpu>,
    /// CPU time of the activations for which it was measured; `None` where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuTime>,
    /// What the spans had devices do; `None` where nothing was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Box<GpuStats>>,
}

impl Stats {
    /// Returns the distribution of operations: latency for async spans, activations for all others.
    pub fn operations(&self) -> &Distribution {
        self.latency.as_ref().unwrap_or(&self.activation)
    }

    /// Whether these are async spans: entered several times, with one open and close around.
    pub fn is_async(&self) -> bool {
        self.latency.is_some()
    }
}

/// Exact evidence on whether time was spent running, of some or all activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct CpuTime {
    /// Activations that were measured.
    pub activations: u64,
    /// Their busy time without that of spans entered inside.
    #[serde(rename = "self_ns")]
    pub self_time: Nanos,
    /// The CPU time that their threads used within `self_time`.
    #[serde(rename = "self_cpu_ns")]
    pub self_cpu: Nanos,
}

impl CpuTime {
    /// Builds the evidence from its numbers.
    pub fn new(activations: u64, self_time: Nanos, self_cpu: Nanos) -> CpuTime {
        CpuTime {
            activations,
            self_time,
            self_cpu,
        }
    }

    /// Returns the share of the time that was spent running, in `[0, 1]`.
    pub fn share(self) -> f64 {
        self.self_cpu.share_of(self.self_time).min(1.0)
    }
}

/// Statistical evidence on whether time was spent running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct OnCpu {
    /// How often the sampler found a thread with this site on top.
    pub samples: u64,
    /// How often that thread was running or ready to run.
    pub running: u64,
}

impl OnCpu {
    /// Builds the evidence from its two counts.
    pub fn new(samples: u64, running: u64) -> OnCpu {
        OnCpu { samples, running }
    }

    /// Returns the share of samples that were running, in `[0, 1]`.
    pub fn share(self) -> f64 {
        if self.samples == 0 {
            0.0
        } else {
            self.running as f64 / self.samples as f64
        }
    }
}

/// One callsite.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SiteStats {
    /// The callsite.
    #[serde(flatten)]
    pub site: Arc<Site>,
    /// What its spans did.
    #[serde(flatten)]
    pub stats: Stats,
    /// On how many threads it was entered.
    pub threads: u32,
    /// Threads on which spans of this site and of others were polled in turn: the workers of an async runtime.
    pub workers: u32,
    /// Self time on the thread that spent most; equals `stats.self_time` on a single thread.
    #[serde(rename = "self_max_thread_ns")]
    pub self_max_thread: Nanos,
    /// The most activations of a single span that is still open and has nothing around it: the sign of a held root.
    pub open_root_activations: u64,
    /// Operations per second over the run.
    pub per_second: f64,
    /// Operations in each window of [`Throughput::window`], the oldest first.
    pub per_window: Vec<u64>,
    /// How many of its spans were open, entered or not, at each reading of the resources; bounded as a
    /// [`Series`] is. Empty for the sites that do not fit in, and where nothing is read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open_readings: Vec<Point>,
    /// Operations that ended in each of these windows; the last window may be incomplete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended_per_window: Vec<u64>,
    /// How long the operations that ended in each window took together, as in [`Stats::operations`]: divided by
    /// `ended_per_window` it is their mean.
    #[serde(rename = "time_per_window_ns", skip_serializing_if = "Vec::is_empty")]
    pub time_per_window: Vec<Nanos>,
    /// When operations were far slower than most; `None` where there were none, or too few operations to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowOperations>,
    /// The slowest operations, the slowest first, where an output asked for ids; at most 3.
    pub examples: Vec<Example>,
}

impl SiteStats {
    /// Builds a row; the rest starts at zero.
    pub fn new(site: Arc<Site>, stats: Stats) -> SiteStats {
        SiteStats {
            site,
            stats,
            threads: 0,
            workers: 0,
            self_max_thread: Nanos::ZERO,
            open_root_activations: 0,
            per_second: 0.0,
            per_window: Vec::new(),
            open_readings: Vec::new(),
            ended_per_window: Vec::new(),
            time_per_window: Vec::new(),
            slow: None,
            examples: Vec::new(),
        }
    }
}

/// When operations were far slower than most.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SlowOperations {
    /// What takes longer counts: three interquartile ranges above the upper quartile, Tukey's outer fence, and at least
    /// 1 ms above it.
    #[serde(rename = "limit_ns")]
    pub limit: Nanos,
    /// The moments, by rising time; at most 256, the oldest give way.
    pub moments: Vec<SlowMoment>,
}

impl SlowOperations {
    /// Builds it from its parts.
    pub fn new(limit: Nanos, moments: Vec<SlowMoment>) -> SlowOperations {
        SlowOperations { limit, moments }
    }
}

/// Slow operations that ended between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SlowMoment {
    /// When the look before was, since the capture began or was reset.
    #[serde(rename = "from_ns")]
    pub from: Nanos,
    /// When they were seen to have ended.
    #[serde(rename = "to_ns")]
    pub to: Nanos,
    /// How many they were.
    pub count: u64,
}

/// One node of the call tree.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PathStats {
    /// The index of the parent in [`Profile::paths`]; `None` for a root. Always smaller than the own index.
    pub parent: Option<usize>,
    /// How many nodes are above.
    pub depth: u32,
    /// The callsite of the last step.
    pub site: Arc<Site>,
    /// What spans of this site did under this path.
    pub stats: Stats,
}

impl PathStats {
    /// Builds a node.
    pub fn new(parent: Option<usize>, depth: u32, site: Arc<Site>, stats: Stats) -> PathStats {
        PathStats {
            parent,
            depth,
            site,
            stats,
        }
    }
}

fn paths_with_names<S: Serializer>(paths: &[PathStats], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        path: &'a [&'static str],
        #[serde(flatten)]
        stats: &'a Stats,
    }
    // Paths come parent first, so one growing chain serves them all.
    let mut chain: Vec<&'static str> = Vec::new();
    let mut rows = Vec::with_capacity(paths.len());
    for path in paths {
        chain.truncate(usize::try_from(path.depth).unwrap_or(usize::MAX));
        chain.push(path.site.name);
        rows.push((chain.clone(), &path.stats));
    }
    serializer.collect_seq(rows.iter().map(|(path, stats)| Row { path, stats }))
}

/// One thread that entered spans.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ThreadStats {
    /// The thread's name; threads beyond the limit are added up as `(other)`.
    pub name: String,
    /// The operating system's id, where it can be had (Linux).
    pub tid: Option<u32>,
    /// How many threads this row stands for: 1, but for `(other)`.
    pub threads: u32,
    /// Whether it has ended.
    pub ended: bool,
    /// From its first span to its end, or to now.
    #[serde(rename = "observed_ns")]
    pub observed: Nanos,
    /// Time inside at least one span.
    #[serde(rename = "busy_ns")]
    pub busy: Nanos,
    /// `observed - busy`.
    #[serde(rename = "idle_ns")]
    pub idle: Nanos,
    /// Enters on this thread.
    pub activations: u64,
    /// CPU time of the thread while observed, read by the sampler; `None` where it cannot be had.
    #[serde(rename = "cpu_ns")]
    pub cpu: Option<Nanos>,
    /// How long the thread was ready to run without a core while observed; `None` where it cannot be had (Linux tells it).
    #[serde(rename = "run_queue_ns", skip_serializing_if = "Option::is_none")]
    pub run_queue: Option<Nanos>,
    /// Different async sites that were polled here; two or more make it a worker of a runtime.
    pub async_sites: u32,
}

/// Operations over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Throughput {
    /// Operations of root spans per second over the run.
    pub per_second: f64,
    /// The length of one window; doubles when a long run would need too many.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Operations of root spans in each window, the oldest first. The last window may be incomplete.
    pub per_window: Vec<u64>,
    /// Operations of root spans that ended in each of these windows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended_per_window: Vec<u64>,
    /// How long the operations that ended in each window took together.
    #[serde(rename = "time_per_window_ns", skip_serializing_if = "Vec::is_empty")]
    pub time_per_window: Vec<Nanos>,
}
