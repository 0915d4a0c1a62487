//! One measurement: one system in a process of its own.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_cortex::gpu::Cuda;
use tracing_cortex::{CortexGuard, CortexLayer, Diagnosis, Profile, Sink, SinkError, Wants};
use tracing_subscriber::prelude::*;

use crate::gpu::{Driver, Library, Machine};
use crate::quiet::Quiet;
use crate::workload::{self, Work};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// Launches in spans of the layer, without GPUs.
    Off,
    /// The same, and a subscriber to CUPTI that does nothing: what the simulated CUPTI costs by itself.
    Quiet,
    /// With `Cuda::auto()`.
    On,
    /// The same, and a sink that wants trace and span ids.
    OnIds,
    /// Spans without launches, of the layer without GPUs.
    SpanOff,
    /// The same with `Cuda::auto()`, on a machine without a driver.
    SpanNoDriver,
}

/// What one process measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// CPU time of the thread inside its bursts, per launch or span.
    pub(crate) cpu_ns: f64,
    /// Launches or spans.
    pub(crate) done: u64,
    /// Launches that the layer attributed to their span.
    pub(crate) attributed: Option<u64>,
    /// Calls that the layer did not record.
    pub(crate) dropped: Option<u64>,
}

/// Longer than a flush takes on a busy machine.
const FLUSH_WAIT: Duration = Duration::from_secs(60);

impl System {
    pub(crate) const ALL: [System; 6] = [
        System::Off,
        System::Quiet,
        System::On,
        System::OnIds,
        System::SpanOff,
        System::SpanNoDriver,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            System::Off => "off",
            System::Quiet => "quiet",
            System::On => "on",
            System::OnIds => "on-ids",
            System::SpanOff => "span-off",
            System::SpanNoDriver => "span-no-driver",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            System::Off => "a launch in a span, the layer without GPUs",
            System::Quiet => "the same with a subscriber to CUPTI that does nothing",
            System::On => "a launch in a span, attributed",
            System::OnIds => "the same with trace and span ids",
            System::SpanOff => "a span, the layer without GPUs",
            System::SpanNoDriver => "a span, Cuda::auto() without a driver",
        }
    }

    pub(crate) fn parse(id: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.id() == id)
    }

    /// What it is compared with.
    pub(crate) fn baseline(self) -> System {
        match self {
            System::SpanOff | System::SpanNoDriver => System::SpanOff,
            _ => System::Off,
        }
    }

    pub(crate) fn is_attributed(self) -> bool {
        matches!(self, System::On | System::OnIds)
    }

    /// The machine that it runs on.
    pub(crate) fn machine(self) -> Machine {
        match self {
            System::SpanNoDriver => Machine::new().without(Library::Driver),
            _ => Machine::new(),
        }
    }

    /// Measures in a child process.
    pub(crate) fn spawn(self) -> Measurement {
        let machine = self.machine();
        let mut command = machine.command(std::env::current_exe().unwrap());
        command.args(["--case", self.id(), &workload::BURSTS.to_string()]);
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(
            output.status.success(),
            "{} ended with {}",
            self.id(),
            output.status
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Measures in this process, which must not have a subscriber yet.
    pub(crate) fn run(self, bursts: u64) -> Measurement {
        let guard = self.install();
        let quiet = (self == System::Quiet).then(Quiet::subscribe);
        let work = match self {
            System::SpanOff | System::SpanNoDriver => Work::Spans,
            _ => {
                let driver = Driver::ready();
                Work::Launches(driver, driver.kernel("step", 0))
            }
        };
        let hand_over = || {
            guard.flush(FLUSH_WAIT).unwrap();
            if let Some(quiet) = &quiet {
                quiet.flush();
            }
        };
        work.burst(workload::BURST);
        hand_over();
        let timing = workload::measured(&work, bursts, hand_over);
        let done = bursts * workload::BURST;
        let profile = guard.finish().unwrap().profile().clone();
        let gpu = profile.gpu.as_ref().filter(|_| self.is_attributed());
        let row = profile.sites.iter().find(|row| row.site.name == "launch");
        let of_spans = row.and_then(|row| row.stats.gpu.as_ref());
        Measurement {
            cpu_ns: timing.as_secs_f64() * 1e9 / done as f64,
            done: done + workload::BURST,
            attributed: gpu.map(|_| of_spans.map_or(0, |gpu| gpu.own.kernels)),
            dropped: gpu.map(|gpu| gpu.dropped_calls + gpu.dropped_records),
        }
    }

    fn install(self) -> CortexGuard {
        let builder = CortexLayer::builder().no_resources();
        let builder = match self {
            System::On | System::SpanNoDriver => builder.cuda(Cuda::auto()),
            System::OnIds => builder.cuda(Cuda::auto()).sink(WantsIds),
            System::Off | System::Quiet | System::SpanOff => builder,
        };
        let (layer, guard) = builder.build().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        guard
    }
}

/// A sink like an exporter, which has ids made and does nothing with them.
struct WantsIds;

impl Sink for WantsIds {
    fn name(&self) -> &str {
        "wants ids"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.gpu = true;
        wants.ids = true;
        wants
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}
