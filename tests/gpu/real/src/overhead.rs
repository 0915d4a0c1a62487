//! What a launch costs its thread, with and without recording.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tracing_cortex::gpu::Cuda;

use crate::Result;
use crate::args::Settings;
use crate::gpu::Gpu;
use crate::observed::Collect;
use crate::ranges;
use crate::run_case::{finish, record};

/// Half of what a stream's queue holds: a launch into a full one waits for the device.
const BATCH: usize = 512;

/// How GPUs are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    Off,
    Cupti,
    /// Each launch in a range of its own.
    Ranges,
}

impl Mode {
    pub const ALL: &[Mode] = &[Mode::Off, Mode::Ranges, Mode::Cupti];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Cupti => "cupti",
            Mode::Ranges => "ranges",
        }
    }

    pub fn what(self) -> &'static str {
        match self {
            Mode::Off => "spans alone",
            Mode::Cupti => "CUPTI (`Cuda::auto()`)",
            Mode::Ranges => "a range around each launch, without CUPTI",
        }
    }

    fn settings(self) -> Option<Cuda> {
        match self {
            Mode::Off => None,
            Mode::Cupti => Some(Cuda::auto()),
            Mode::Ranges => Some(Cuda::auto().without_cupti()),
        }
    }
}

/// What one process measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub launches: u64,
    /// Host time of one launch, by batches.
    pub ns: Vec<f64>,
    /// Kernels that were recorded.
    pub recorded: Option<u64>,
    /// Whether CUPTI was in use.
    pub notices: Vec<String>,
}

/// Launches empty kernels, in batches that the device is done with before the next begins.
pub fn run(mode: Mode, settings: &Settings) -> Result<Measured> {
    let guard = record(mode.settings(), Collect::default())?;
    let gpu = Gpu::open(settings)?;
    let batches = if settings.small { 20 } else { 200 };
    let batch = || -> Result<f64> {
        let began = Instant::now();
        tracing::info_span!("case").in_scope(|| {
            (0..BATCH).try_for_each(|_| {
                let _range = (mode == Mode::Ranges).then(|| ranges::begin(&gpu));
                gpu.tiny()
            })
        })?;
        let took = began.elapsed();
        gpu.stream.synchronize()?;
        Ok(took.as_nanos() as f64 / BATCH as f64)
    };
    for _ in 0..batches / 10 {
        batch()?;
    }
    let ns = (0..batches)
        .map(|_| batch())
        .collect::<Result<Vec<f64>>>()?;
    let profile = finish(guard)?;
    let gpu = profile.gpu.as_ref();
    let rows = profile
        .sites
        .iter()
        .filter_map(|row| row.stats.gpu.as_ref());
    Ok(Measured {
        launches: (ns.len() * BATCH) as u64,
        ns,
        recorded: gpu.map(|_| {
            rows.map(|gpu| {
                if mode == Mode::Ranges {
                    gpu.own.ranges
                } else {
                    gpu.own.kernels
                }
            })
            .sum()
        }),
        // Ranges are there for programs that leave CUPTI out, which is told.
        notices: gpu
            .filter(|_| mode != Mode::Ranges)
            .map_or(Vec::new(), |gpu| {
                gpu.notices
                    .iter()
                    .map(|notice| notice.why.clone())
                    .collect()
            }),
    })
}
