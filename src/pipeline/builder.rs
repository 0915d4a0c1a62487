//! All settings of a capture, and where they are checked.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tracing_core::Metadata;

use super::build_error::BuildError;
use super::level::ProfilingLevel;
use super::text_report::TextReport;
use crate::capture::{CortexLayer, HeldFn, Limits, Overflow};
use crate::clock::ManualClock;
use crate::diagnose::{RuleLevel, Thresholds};
#[cfg(feature = "cuda")]
use crate::gpu::Cuda;
use crate::model::{Target, Unit};
use crate::resources::{Callback, ResourceSource};
use crate::sink::Sink;
#[cfg(feature = "otlp")]
use crate::sink::otlp::Otlp;

/// Settings of a capture. Nothing is written that was not asked for; [`init`](crate::init) asks for the report.
///
/// ```no_run
/// use std::time::Duration;
/// use tracing_cortex::{CortexLayer, TextReport};
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder()
///     .chrome("trace.json")
///     .report_text(TextReport::Stderr)
///     .report_json("report.json")
///     .resources(Duration::from_millis(100))
///     .build()?;
/// tracing_subscriber::registry().with(cortex).init();
/// # drop(guard);
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct CortexBuilder {
    pub(super) chrome: Option<ChromeTo>,
    pub(super) kineto: Option<PathBuf>,
    pub(super) text: TextReport,
    pub(super) json: Option<PathBuf>,
    #[cfg(feature = "otlp")]
    pub(super) otlp: Option<Otlp>,
    #[cfg(feature = "cuda")]
    pub(super) cuda: Option<Cuda>,
    pub(super) resources: Option<Duration>,
    pub(super) sinks: Vec<Box<dyn Sink>>,
    pub(super) sources: Vec<Box<dyn ResourceSource>>,
    pub(super) level: ProfilingLevel,
    pub(super) overflow: Overflow,
    pub(super) signals: bool,
    pub(super) limits: Limits,
    pub(super) held: Option<Box<HeldFn>>,
    pub(super) clock: Option<ManualClock>,
    pub(super) thresholds: Thresholds,
    pub(super) levels: Vec<(String, RuleLevel)>,
    pub(super) targets: Vec<Target>,
    pub(super) deadline: Duration,
}

pub(super) enum ChromeTo {
    File(PathBuf),
    Writer(Box<dyn Write + Send>),
}

impl CortexLayer {
    /// Returns settings with which nothing is written.
    pub fn builder() -> CortexBuilder {
        CortexBuilder {
            chrome: None,
            kineto: None,
            text: TextReport::Off,
            json: None,
            #[cfg(feature = "otlp")]
            otlp: None,
            #[cfg(feature = "cuda")]
            cuda: None,
            resources: Some(DEFAULT_INTERVAL),
            sinks: Vec::new(),
            sources: Vec::new(),
            level: ProfilingLevel::default(),
            overflow: Overflow::DropNewest,
            signals: false,
            limits: Limits {
                max_record_bytes: 16 << 20,
                max_tree_nodes: 16_384,
                max_path_depth: 128,
                max_field_bytes: 1024,
                max_open_spans: 1 << 18,
            },
            held: None,
            clock: None,
            thresholds: Thresholds::default(),
            levels: Vec::new(),
            targets: Vec::new(),
            deadline: Duration::from_secs(5),
        }
    }
}

const DEFAULT_INTERVAL: Duration = Duration::from_millis(250);
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// The smallest buffer that holds a record of usual size for each of a few threads.
const MIN_RECORD_BYTES: usize = 64 << 10;

impl CortexBuilder {
    /// Takes settings from the environment, over those made before; a value that is not understood is reported on
    /// standard error and the setting stays.
    ///
    /// | variable | values |
    /// |---|---|
    /// | `TRACING_CORTEX_CHROME` | a path, or `off` |
    /// | `TRACING_CORTEX_KINETO` | a folder, or `off` |
    /// | `TRACING_CORTEX_REPORT` | `stderr`, `off`, or a path |
    /// | `TRACING_CORTEX_JSON` | a path, or `off` |
    /// | `TRACING_CORTEX_RESOURCES` | `off`, or an interval such as `250ms` or `1s` |
    /// | `TRACING_CORTEX_LEVEL` | `basic`, `standard` or `detailed` |
    /// | `TRACING_CORTEX_OVERFLOW` | `drop` or `block` |
    /// | `TRACING_CORTEX_SIGNALS` | `on` or `off` |
    /// | `TRACING_CORTEX_TARGETS` | targets such as `handle:p95=100ms,query:p99.9=2s`; see [`target`](CortexBuilder::target) |
    /// | `TRACING_CORTEX_RULES` | levels such as `CTX603=allow,tail-latency=deny`; see [`rule`](CortexBuilder::rule) |
    /// | `TRACING_CORTEX_CUDA` | `auto`, `events` (without CUPTI) or `off`; feature `cuda` |
    pub fn from_env(self) -> CortexBuilder {
        super::environment::apply(self)
    }

    /// Writes a Chrome trace to a file while the program runs, for Perfetto, Catapult or speedscope.
    ///
    /// speedscope makes the fields a part of the name, so that it does not add up calls whose fields differ.
    pub fn chrome(mut self, path: impl Into<PathBuf>) -> CortexBuilder {
        self.chrome = Some(ChromeTo::File(path.into()));
        self
    }

    /// Writes the Chrome trace to a writer instead of a file: a compressor, a socket, memory.
    ///
    /// Written are whole lines, about every second; a write that blocks holds up the other outputs. As nothing that was
    /// written can be changed, the trace is an array, closed at the end, and loads in the viewers without the object
    /// around it that a file gets. There is one trace: of this and [`chrome`](CortexBuilder::chrome), the last call
    /// counts.
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use std::sync::{Arc, Mutex};
    /// use tracing_cortex::CortexLayer;
    /// use tracing_subscriber::prelude::*;
    ///
    /// #[derive(Clone, Default)]
    /// struct Memory(Arc<Mutex<Vec<u8>>>);
    ///
    /// impl Write for Memory {
    ///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
    ///         self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
    ///     }
    ///
    ///     fn flush(&mut self) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let memory = Memory::default();
    /// let (cortex, guard) = CortexLayer::builder()
    ///     .chrome_writer(memory.clone())
    ///     .build()?;
    /// tracing::subscriber::with_default(tracing_subscriber::registry().with(cortex), || {
    ///     tracing::info_span!("import").in_scope(|| {});
    /// });
    /// guard.finish()?;
    ///
    /// let trace = memory.0.lock().map_err(|error| error.to_string())?;
    /// assert!(String::from_utf8_lossy(&trace).contains("import"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn chrome_writer(mut self, writer: impl Write + Send + 'static) -> CortexBuilder {
        self.chrome = Some(ChromeTo::Writer(Box::new(writer)));
        self
    }

    pub(super) fn no_chrome(mut self) -> CortexBuilder {
        self.chrome = None;
        self
    }

    /// Writes what devices did to a folder while the program runs, for Holistic Trace Analysis: a file for each device that
    /// ran kernels or copies, as [`KinetoSink`](crate::KinetoSink) describes. Where none did there is no file; that is no error, and
    /// [`GpuProfile::notices`](crate::GpuProfile::notices) says so.
    ///
    /// ```no_run
    /// use tracing_cortex::CortexLayer;
    ///
    /// let (cortex, guard) = CortexLayer::builder().kineto("kineto").build()?;
    /// // In Python: hta.trace_analysis.TraceAnalysis(trace_dir="kineto").get_idle_time_breakdown()
    /// # Ok::<(), tracing_cortex::BuildError>(())
    /// ```
    pub fn kineto(mut self, folder: impl Into<PathBuf>) -> CortexBuilder {
        self.kineto = Some(folder.into());
        self
    }

    pub(super) fn no_kineto(mut self) -> CortexBuilder {
        self.kineto = None;
        self
    }

    /// Writes the text report at exit. Default: off.
    pub fn report_text(mut self, to: impl Into<TextReport>) -> CortexBuilder {
        self.text = to.into();
        self
    }

    /// Writes the report as JSON at exit.
    pub fn report_json(mut self, path: impl Into<PathBuf>) -> CortexBuilder {
        self.json = Some(path.into());
        self
    }

    pub(super) fn no_report_json(mut self) -> CortexBuilder {
        self.json = None;
        self
    }

    /// Exports operations as spans, and metrics, to a collector, Jaeger, Tempo or any other receiver of OTLP. Feature
    /// `otlp`.
    ///
    /// A thread of its own sends them, with or without an async runtime in the program. Whatever becomes of a span is
    /// counted: see [`Export`](crate::Export) in [`Profile::exports`](crate::Profile::exports) and in the reports; spans
    /// that did not arrive are an error of [`finish`](crate::CortexGuard::finish).
    ///
    /// ```no_run
    /// use tracing_cortex::CortexLayer;
    /// use tracing_cortex::otlp::Otlp;
    /// use tracing_subscriber::prelude::*;
    ///
    /// let (cortex, guard) = CortexLayer::builder()
    ///     .otlp(Otlp::from_env().service_name("shop").sample_ratio(0.1).keep_errors())
    ///     .build()?;
    /// tracing_subscriber::registry().with(cortex).init();
    /// tracing::info_span!("handle", otel.kind = "server").in_scope(|| {});
    /// guard.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Span attributes are the fields, and `code.file.path`, `code.line.number`, `code.module.name`, `thread.id`,
    /// `thread.name`, `busy_ns`, `idle_ns`, and where they say something `cortex.activations` and `cortex.unfinished`; a
    /// field of the same name wins. Fields with a meaning of their own:
    ///
    /// | field | becomes |
    /// |---|---|
    /// | `otel.name` | the span's name |
    /// | `otel.kind` | its kind: `server`, `client`, `producer`, `consumer` or `internal` |
    /// | `otel.status_code`, `otel.status_description` | its status: `ok` or `error`, and why |
    /// | `error` | status error unless it is `false` or `otel.status_code` says something else |
    ///
    /// An event of level ERROR makes the status an error too; with a field `error` it becomes an exception.
    #[cfg(feature = "otlp")]
    pub fn otlp(mut self, otlp: Otlp) -> CortexBuilder {
        self.otlp = Some(otlp);
        self
    }

    /// Records what CUDA devices do, and whose it is: a kernel, a copy or a wait belongs to the span that its thread is in
    /// when it calls the driver. Feature `cuda`.
    ///
    /// Without a driver, a device or CUPTI the program runs on, and the report says what is not measured and why.
    #[cfg(feature = "cuda")]
    pub fn cuda(mut self, cuda: Cuda) -> CortexBuilder {
        self.cuda = Some(cuda);
        self
    }

    #[cfg(feature = "cuda")]
    pub(super) fn no_cuda(mut self) -> CortexBuilder {
        self.cuda = None;
        self
    }

    /// Reads process, system and your own sources at this interval; at least 10 ms. Default: 250 ms, at which a
    /// program of a few seconds has enough readings and the reading costs well under a per cent.
    pub fn resources(mut self, interval: Duration) -> CortexBuilder {
        self.resources = Some(interval);
        self
    }

    /// Reads no resources, starts no sampler thread, and cannot tell running from waiting.
    pub fn no_resources(mut self) -> CortexBuilder {
        self.resources = None;
        self
    }

    /// Adds a destination.
    pub fn sink(mut self, sink: impl Sink) -> CortexBuilder {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Adds something to read at intervals.
    ///
    /// Rules look at the series below. The crate reads those that begin with `process`, `system` and `gpu` itself; on a
    /// [manual clock](CortexBuilder::manual_clock) a source of yours can give them, under the same names and units.
    ///
    /// | series | unit | rules |
    /// |---|---|---|
    /// | `process.rss` | bytes | CTX303, CTX305 |
    /// | `gpu.N.process_memory` | bytes | CTX303 |
    /// | `process.open_files` | count | CTX308 |
    /// | `process.threads` | count | CTX309 |
    /// | `system.memory_used_percent`, `process.major_faults` | per cent, per second | CTX306 |
    /// | `queue.depth`, and any that ends in `.queue_depth` | count | CTX707: demand that waits |
    pub fn source(mut self, source: impl ResourceSource) -> CortexBuilder {
        self.sources.push(Box::new(source));
        self
    }

    /// Adds a number to read at intervals; `None` where it cannot be had.
    pub fn gauge(
        mut self,
        name: impl Into<String>,
        unit: Unit,
        read: impl FnMut() -> Option<f64> + Send + 'static,
    ) -> CortexBuilder {
        self.sources.push(Box::new(Callback::new(name, unit, read)));
        self
    }

    /// Sets how much is collected. Default: [`ProfilingLevel::Standard`], because without trees the diagnosis cannot say
    /// what waited for what, and sampling whole roots costs other spans next to nothing.
    pub fn level(mut self, level: ProfilingLevel) -> CortexBuilder {
        self.level = level;
        self
    }

    /// Sets what happens to records that find the buffer full. Default: they are dropped and counted.
    pub fn overflow(mut self, overflow: Overflow) -> CortexBuilder {
        self.overflow = overflow;
        self
    }

    /// Finishes the capture on SIGINT and SIGTERM, before the signal ends the process. Unix, feature `signals`.
    ///
    /// Replaces the default action of these signals. A program that handles them itself calls
    /// [`finish`](crate::CortexGuard::finish) in its own handler instead.
    #[cfg(all(unix, feature = "signals"))]
    pub fn flush_on_signals(mut self) -> CortexBuilder {
        self.signals = true;
        self
    }

    pub(super) fn set_signals(mut self, on: bool) -> CortexBuilder {
        self.signals = on;
        self
    }

    /// Says which callsites create spans that are stored and entered on every call.
    ///
    /// Most are recognised: a span whose activations have different spans around them. One with nothing around it
    /// looks like an async task, unless this says otherwise. Asked once per callsite.
    pub fn held(
        mut self,
        held: impl Fn(&Metadata<'static>) -> bool + Send + Sync + 'static,
    ) -> CortexBuilder {
        self.held = Some(Box::new(held));
        self
    }

    /// Takes the time from a clock that a test moves.
    ///
    /// The process and the machine are not read then, and no thread is looked at, as neither follows that clock. Your own
    /// sources are read by [`sample_resources`](crate::CortexGuard::sample_resources) only.
    pub fn manual_clock(mut self, clock: &ManualClock) -> CortexBuilder {
        self.clock = Some(clock.clone());
        self
    }

    /// Sets at which numbers the diagnosis speaks.
    pub fn thresholds(mut self, thresholds: Thresholds) -> CortexBuilder {
        self.thresholds = thresholds;
        self
    }

    /// Says how fast the operations of a site are to be: `percentile` per cent of them take no longer than `limit`. The
    /// report says whether that was so, and a target that was missed is a finding, CTX701. Default: no targets.
    ///
    /// The percentile is from 50 to below 100, and it takes 5 operations beyond it to judge: 100 for 95, 500 for 99. A site
    /// can have several; one set again for the same percentile replaces the earlier one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_cortex::CortexLayer;
    ///
    /// let (cortex, guard) = CortexLayer::builder()
    ///     .target("handle", 95, Duration::from_millis(100))
    ///     .target("handle", 99.9, Duration::from_secs(1))
    ///     .build()?;
    /// # Ok::<(), tracing_cortex::BuildError>(())
    /// ```
    pub fn target(
        mut self,
        site: impl Into<String>,
        percentile: impl Into<f64>,
        limit: Duration,
    ) -> CortexBuilder {
        self.targets
            .push(Target::new(site, percentile.into(), limit));
        self
    }

    /// Silences a rule, or makes it one that fails the program, by its id or its name. Default: rules warn, but for
    /// `CTX509`, which speaks only when it is given a level here.
    ///
    /// ```
    /// use tracing_cortex::{CortexLayer, RuleLevel};
    ///
    /// let (cortex, guard) = CortexLayer::builder()
    ///     .rule("CTX603", RuleLevel::Allow)
    ///     .rule("tail-latency", RuleLevel::Deny)
    ///     .build()?;
    /// let summary = guard.finish()?;
    /// if let Some(finding) = summary.denied().next() {
    ///     eprintln!("{}", finding.message);
    ///     std::process::exit(1);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rule(mut self, rule: impl Into<String>, level: RuleLevel) -> CortexBuilder {
        self.levels.push((rule.into(), level));
        self
    }

    /// Sets how long the end of the capture may take at most. Default: 5 s, which a slow disk needs for the last of a
    /// large trace and a user at a terminal still bears.
    pub fn exit_deadline(mut self, deadline: Duration) -> CortexBuilder {
        self.deadline = deadline;
        self
    }

    /// Limits the memory for records on their way to the sinks, all threads together. Default: 16 MiB, at least
    /// 64 KiB. As much again may wait outside of the threads' buffers while the sinks are slower than the program. What
    /// does not fit is treated as [`CortexBuilder::overflow`] says.
    pub fn max_record_bytes(mut self, bytes: usize) -> CortexBuilder {
        self.limits.max_record_bytes = bytes;
        self
    }

    /// Limits the call tree. Default: 16,384 nodes, at least 1; beyond it, calls count as `(other)` under the same
    /// parent. A node takes about 1.5 KiB for each thread that enters it.
    pub fn max_tree_nodes(mut self, nodes: usize) -> CortexBuilder {
        self.limits.max_tree_nodes = nodes;
        self
    }

    /// Limits the steps of a call path. Default: 128, at least 1; deeper calls count for the nearest outer call of the
    /// same site, so recursion folds.
    pub fn max_path_depth(mut self, steps: u32) -> CortexBuilder {
        self.limits.max_path_depth = steps;
        self
    }

    /// Limits the length of one string value. Default: 1024 bytes, at most 65,535; the rest is cut off.
    pub fn max_field_bytes(mut self, bytes: usize) -> CortexBuilder {
        self.limits.max_field_bytes = bytes;
        self
    }

    /// Limits the open spans that are tracked besides 128 per thread. Default: 262,144, about 50 MiB when full and as
    /// much again where fields or trace ids are kept; beyond it, activations still count but latency and fields do not.
    pub fn max_open_spans(mut self, spans: usize) -> CortexBuilder {
        self.limits.max_open_spans = spans;
        self
    }

    /// Returns the thresholds with the levels and targets that were set beside them.
    pub(super) fn thresholds_in_effect(&self) -> Result<Thresholds, BuildError> {
        let mut thresholds = self.thresholds.clone();
        for (rule, level) in &self.levels {
            thresholds
                .levels
                .set(rule, *level)
                .map_err(BuildError::Rule)?;
        }
        for target in &self.targets {
            let same = |known: &Target| {
                known.site == target.site
                    && known.percentile.to_bits() == target.percentile.to_bits()
            };
            thresholds.targets.retain(|known| !same(known));
            thresholds.targets.push(target.clone());
        }
        match thresholds.targets.iter().all(Target::is_valid) {
            true => Ok(thresholds),
            false => Err(BuildError::OutOfRange {
                setting: "target",
                accepted: "a percentile from 50 to below 100, such as 95 or 99.9, and a time of more than zero",
            }),
        }
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let limit = |setting, wrong: bool, accepted| match wrong {
            true => Err(BuildError::OutOfRange { setting, accepted }),
            false => Ok(()),
        };
        let interval = self.resources.unwrap_or(DEFAULT_INTERVAL);
        limit(
            "resources",
            interval < MIN_INTERVAL,
            "an interval of at least 10 ms",
        )?;
        limit(
            "max_record_bytes",
            self.limits.max_record_bytes < MIN_RECORD_BYTES,
            "at least 65,536",
        )?;
        limit(
            "max_tree_nodes",
            !(1..=1 << 24).contains(&self.limits.max_tree_nodes),
            "1 to 16,777,216",
        )?;
        limit(
            "max_path_depth",
            !(1..=1 << 16).contains(&self.limits.max_path_depth),
            "1 to 65,536",
        )?;
        limit(
            "max_field_bytes",
            self.limits.max_field_bytes > usize::from(u16::MAX),
            "at most 65,535",
        )?;
        limit(
            "exit_deadline",
            self.deadline.is_zero() || self.deadline > Duration::from_secs(3600),
            "more than zero, at most an hour",
        )
    }
}

impl fmt::Debug for ChromeTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChromeTo::File(path) => path.fmt(f),
            ChromeTo::Writer(_) => f.write_str("a writer"),
        }
    }
}

impl fmt::Debug for CortexBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CortexBuilder")
            .field("chrome", &self.chrome)
            .field("kineto", &self.kineto)
            .field("text", &self.text)
            .field("json", &self.json)
            .field("resources", &self.resources)
            .field("level", &self.level)
            .field("overflow", &self.overflow)
            .field("limits", &self.limits)
            .field("levels", &self.levels)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}
