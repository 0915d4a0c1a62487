//! One case: spans with work of the device, under a layer that records it.

use std::error::Error;
use std::fmt;

use serde_json::{Value, json};
use tracing_cortex::gpu::Cuda;
use tracing_cortex::{CortexGuard, CortexLayer, Profile};
use tracing_subscriber::prelude::*;

use crate::args::Settings;
use crate::cases::Case;
use crate::gpu::Gpu;
use crate::observed::{Collect, SPAN};
use crate::verdict::{Done, Said};
use crate::{Result, machine};

/// Spans of a case.
pub const SPANS: usize = 5;
/// Both ends of a conversion between clocks are read within this time.
const ORDER_NS: i64 = 2_000;

/// Says that a case cannot be run here.
#[derive(Debug)]
struct Skipped(&'static str);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Skipped {}

pub fn skipped(why: &'static str) -> Box<dyn Error> {
    Box::new(Skipped(why))
}

pub fn run(case: &Case, settings: &Settings) -> Result<Done> {
    let mut done = Done::new(case.name, case.what);
    let collect = Collect::default();
    // Before the first work on a device.
    let guard = record(Some(Cuda::auto()), collect.clone())?;
    let gpu = Gpu::open(settings)?;
    done.compiled_by.clone_from(&gpu.kernels.compiled_by);
    std::fs::create_dir_all(&settings.out)?;
    std::fs::write(settings.out.join("kernels.ptx"), &gpu.kernels.ptx)?;
    let mut prepared = match (case.prepare)(&gpu, settings.small) {
        Ok(prepared) => prepared,
        Err(why) if why.is::<Skipped>() => {
            done.skipped = Some(why.to_string());
            return Ok(done);
        }
        Err(why) => return Err(why),
    };
    // The first launch of a kernel loads it.
    (prepared.span)()?;
    let by_hand = (0..SPANS).map(|_| tracing::info_span!("case").in_scope(|| (prepared.span)()));
    let by_hand_ns = by_hand.collect::<Result<Vec<f64>>>()?;
    done.cupti = machine::cupti();
    let profile = finish(guard)?;
    let row = profile.sites.iter().find(|row| row.site.name == SPAN);
    let said = Said {
        stats: row.and_then(|row| row.stats.gpu.as_deref()),
        gpu: profile.gpu.as_ref(),
        order_ns: ORDER_NS,
    };
    done.judge(&prepared.expected, by_hand_ns, &collect.take(), &said);
    done.work = prepared.work;
    Ok(done)
}

/// Runs a few kernels; returns what the profile says of what is not measured, and how many kernels it has.
///
/// For a run under another profiler, which must leave the program alone.
pub fn notices(settings: &Settings) -> Result<Value> {
    let guard = record(Some(Cuda::auto()), Collect::default())?;
    let gpu = Gpu::open(settings)?;
    tracing::info_span!("case").in_scope(|| gpu.timed(|| (0..3).try_for_each(|_| gpu.tiny())))?;
    let cupti = machine::cupti();
    let profile = finish(guard)?;
    let row = profile.sites.iter().find(|row| row.site.name == SPAN);
    Ok(json!({
        "cupti": cupti,
        "notices": profile.gpu.as_ref().map(|gpu| &gpu.notices),
        "kernels": row.and_then(|row| row.stats.gpu.as_ref()).map(|gpu| gpu.own.kernels),
    }))
}

/// Starts a capture for the whole process.
pub fn record(cuda: Option<Cuda>, collect: Collect) -> Result<CortexGuard> {
    let builder = CortexLayer::builder().no_resources().sink(collect);
    let builder = match cuda {
        Some(cuda) => builder.cuda(cuda),
        None => builder,
    };
    let (layer, guard) = builder.build()?;
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    Ok(guard)
}

pub fn finish(guard: CortexGuard) -> Result<Profile> {
    Ok(guard.finish()?.profile().clone())
}
