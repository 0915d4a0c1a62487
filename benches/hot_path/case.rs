//! One measurement: one scenario with one system in a process of its own.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use crate::cpu;
use crate::system::System;
use crate::workload::{Scenario, Timing, measured, warm_up};

/// What is measured together in one fresh process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) system: System,
}

/// What one process measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Wall time of the loop per span of one thread.
    pub(crate) wall_ns: f64,
    /// CPU time of the threads that open spans, per span.
    pub(crate) cpu_ns: Option<f64>,
    /// Wall time per span in the fastest twentieth of the loop.
    pub(crate) best_ns: f64,
    /// From before the system is built until it is flushed, warm-up included.
    pub(crate) total_wall_ms: f64,
    /// CPU time of all threads of the process in that time.
    pub(crate) total_cpu_ms: Option<f64>,
    /// Largest resident set of the process once it is flushed.
    pub(crate) peak_rss_mib: Option<f64>,
    /// Spans opened in all, warm-up included.
    pub(crate) opened: u64,
    /// Records that the system says it dropped. A polled span has one record per poll.
    pub(crate) dropped: Option<u64>,
    /// Complete events in the trace file, counted there; only of the bulk scenario.
    pub(crate) written: Option<u64>,
    /// Size of the trace file.
    pub(crate) trace_mib: Option<f64>,
    /// Whether each thread that opens spans had a processor of its own.
    pub(crate) pinned: bool,
}

impl Measurement {
    /// Returns what a span costs: CPU time of the thread that opens it, or wall time where that is not known.
    ///
    /// The baseline and this crate's layer wait for nothing in the loop, so on an idle machine the two agree, and under
    /// load wall time measures the other processes.
    pub(crate) fn span_ns(&self) -> f64 {
        self.cpu_ns.unwrap_or(self.wall_ns)
    }
}

impl Case {
    /// Measures in a child process.
    pub(crate) fn spawn(self) -> Measurement {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--case", self.scenario.id(), self.system.id()])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{} with {} ended with {}",
            self.scenario.id(),
            self.system.id(),
            output.status
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Measures in this process, which must not have a subscriber yet.
    pub(crate) fn run(self, spans: u64) -> Measurement {
        let folder = tempfile::tempdir().unwrap();
        let level = match self.scenario {
            Scenario::Disabled => LevelFilter::INFO,
            _ => LevelFilter::TRACE,
        };
        let cpu_start = cpu::process_time();
        let start = Instant::now();
        let installed = self.system.install(level, folder.path());
        let (timings, pinned) = match self.scenario {
            Scenario::OneThread | Scenario::TwoThreads => pinned_threads(self.scenario, spans),
            _ => {
                // The bulk scenario counts every span, and is long enough to need no warm-up.
                if self.scenario != Scenario::Bulk {
                    warm_up(self.scenario);
                }
                (vec![measured(self.scenario, spans)], false)
            }
        };
        let dropped = (installed.finish)();
        let total_wall = start.elapsed();
        let total_cpu = cpu_start.and_then(|before| Some(cpu::process_time()? - before));
        // Before the trace is read back, which takes memory too.
        let peak_rss_bytes = cpu::peak_rss_bytes();

        let threads = timings.len() as u64;
        let per_span = |time: Duration| time.as_secs_f64() * 1e9 / (spans * threads) as f64;
        let warm_up = if self.scenario == Scenario::Bulk {
            0
        } else {
            self.scenario.spans() / 10
        };
        let count = self.scenario == Scenario::Bulk;
        let trace = installed.trace.as_deref();
        Measurement {
            wall_ns: per_span(timings.iter().map(|timing| timing.wall).sum()),
            cpu_ns: timings
                .iter()
                .map(|timing| timing.cpu)
                .sum::<Option<Duration>>()
                .map(per_span),
            best_ns: timings
                .iter()
                .map(|timing| timing.best_ns)
                .fold(f64::INFINITY, f64::min),
            total_wall_ms: total_wall.as_secs_f64() * 1e3,
            total_cpu_ms: total_cpu.map(|time| time.as_secs_f64() * 1e3),
            peak_rss_mib: peak_rss_bytes.map(mib),
            opened: (spans + warm_up) * threads,
            dropped,
            written: trace
                .filter(|_| count)
                .map(|path| complete_events(&fs::read(path).unwrap())),
            trace_mib: trace.map(|path| mib(fs::metadata(path).unwrap().len())),
            pinned,
        }
    }
}

/// Lets every thread of the scenario measure at the same time, thread `n` on processor `n`.
fn pinned_threads(scenario: Scenario, spans: u64) -> (Vec<Timing>, bool) {
    let together = Barrier::new(scenario.threads());
    let one = |processor: usize| {
        let pinned = cpu::pin(processor);
        warm_up(scenario);
        together.wait();
        let timing = measured(scenario, spans);
        // A thread that has ended gives its processor to the other; neither leaves before both are done.
        together.wait();
        (timing, pinned)
    };
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..scenario.threads())
            .map(|processor| scope.spawn(move || one(processor)))
            .collect();
        let results: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let pinned = results.iter().all(|(_, pinned)| *pinned);
        (
            results.into_iter().map(|(timing, _)| timing).collect(),
            pinned,
        )
    })
}

/// Counts the events of phase `X`, or of phase `B` for a writer of begin and end pairs.
fn complete_events(trace: &[u8]) -> u64 {
    const PHASE: &[u8] = b"\"ph\":\"";
    let phases = trace
        .windows(PHASE.len() + 1)
        .filter(|window| window.starts_with(PHASE) && matches!(window[PHASE.len()], b'X' | b'B'))
        .count();
    u64::try_from(phases).unwrap()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
