//! Explicit ranges: the other way to device time, without CUPTI.

use tracing_cortex::gpu::{Cuda, Range, range};

use crate::Result;
use crate::args::Settings;
use crate::cases;
use crate::gpu::Gpu;
use crate::observed::{Collect, SPAN};
use crate::run_case::{SPANS, finish, record};
use crate::verdict::Done;

pub const NAME: &str = "ranges";
const WHAT: &str = "a range around kernels of 2 ms, without CUPTI";

/// Begins a range on the stream of the cases.
pub fn begin(gpu: &Gpu) -> Range {
    range(&gpu.stream)
}

/// Compares ranges with events by hand around the same kernels.
pub fn run(settings: &Settings) -> Result<Done> {
    let mut done = Done::new(NAME, WHAT);
    let collect = Collect::default();
    let guard = record(Some(Cuda::auto().without_cupti()), collect.clone())?;
    let gpu = Gpu::open(settings)?;
    done.compiled_by.clone_from(&gpu.kernels.compiled_by);
    let mut prepared = cases::compute_bound(&gpu, settings.small)?;
    (prepared.span)()?;
    let by_hand = (0..SPANS).map(|_| {
        tracing::info_span!("case").in_scope(|| {
            let _range = begin(&gpu);
            (prepared.span)()
        })
    });
    let by_hand_ns = by_hand.collect::<Result<Vec<f64>>>()?;
    let profile = finish(guard)?;
    let seen = collect.take();
    done.ours_ns = seen
        .spans
        .values()
        .map(|span| span.extent() as f64)
        .collect();
    done.judge_times(&by_hand_ns);
    done.by_hand_ns = by_hand_ns;
    let row = profile.sites.iter().find(|row| row.site.name == SPAN);
    let ranges = row
        .and_then(|row| row.stats.gpu.as_ref())
        .map_or(0, |gpu| gpu.own.ranges);
    if ranges != SPANS as u64 {
        done.problems
            .push(format!("{ranges} ranges were measured of {SPANS}"));
    }
    Ok(done)
}
