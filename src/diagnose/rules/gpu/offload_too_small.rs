//! CTX508: operations on a device that are mostly moving data and waiting, because there is little to compute.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome, ladder};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::fields;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::gpu::{quiet, waits};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, GpuTotals, Nanos, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX508",
    name: "gpu-offload-too-small",
    healthy: "what is sent to a device is worth the way",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: a trip to the device whatever the size
let y = gpu(&x)?;
// after
let y = if x.len() < SMALL { cpu(&x) } else { gpu(&x)? }; // measure where SMALL is
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: !Device::all(evidence).is_empty(),
        ..Outcome::default()
    };
    if !outcome.looked {
        return outcome;
    }
    let small: Vec<_> = device::sites(evidence)
        .filter_map(|(row, gpu)| Some((row, small(evidence, row, &gpu.total)?)))
        .collect();
    for &(row, trip) in &small {
        // The innermost span that is a whole trip says where it is.
        let mut others = small.iter().map(|(other, _)| other.site.id);
        if others.any(|other| other != row.site.id && evidence.is_below(other, row.site.id)) {
            continue;
        }
        outcome
            .claims
            .extend(waits::at_and_below(evidence, row.site.id));
        outcome.found.push(found(evidence, row, trip));
    }
    outcome
}

/// All trips to the device of one site.
#[derive(Debug, Clone, Copy)]
struct Trips {
    /// What the host spent in them.
    time: Nanos,
    kernels: Nanos,
}

fn small(evidence: &Evidence<'_>, row: &SiteStats, gpu: &GpuTotals) -> Option<Trips> {
    let thresholds = &evidence.thresholds.gpu;
    let calls = row.stats.calls;
    let there_and_back = gpu.to_device_bytes > 0 && gpu.to_host_bytes > 0;
    // Every call brings its own data: where several share a copy, there is no trip to be saved.
    let each = gpu.kernels >= calls && gpu.copies >= calls.saturating_mul(2);
    if calls < thresholds.offload_calls.max(1) || !there_and_back || !each {
        return None;
    }
    if Nanos(total(&row.stats).0 / calls) >= Nanos::from(thresholds.offload_time) {
        return None;
    }
    let host = gpu.launch_time.saturating_add(gpu.sync_time);
    let time = host.max(gpu.busy).min(total(&row.stats));
    let trips = Trips {
        time,
        kernels: gpu.kernel_time,
    };
    let lost = evidence.share(time.saturating_sub(trips.kernels));
    let is_small = trips.kernels.share_of(time) < thresholds.offload_share;
    (time > Nanos::ZERO && is_small && lost >= thresholds.offload_total).then_some(trips)
}

fn found(evidence: &Evidence<'_>, row: &SiteStats, trips: Trips) -> Found {
    let mut finding = RULE.about(&row.site);
    let lost = trips.time.saturating_sub(trips.kernels);
    let share = evidence.share(lost);
    let moving = 1.0 - trips.kernels.share_of(trips.time);
    finding.share = Some(share);
    finding.severity = ladder(share, evidence.thresholds);
    // What a CPU would need nobody has measured.
    finding.confidence = Confidence::Low;
    finding.gain.bound = evidence.ceiling(trips.time);
    let calls = row.stats.calls;
    finding.evidence = BTreeMap::from([
        ("calls", calls as f64),
        ("trip_ns", trips.time.0 as f64),
        ("kernel_ns", trips.kernels.0 as f64),
        ("kernel_share", 1.0 - moving),
    ]);
    let site = row.site.name;
    let each = Nanos(trips.time.0 / calls.max(1));
    let kernel = Nanos(trips.kernels.0 / calls.max(1));
    let mut items = String::new();
    if let Some(n) = median_items(evidence, row.site.id) {
        finding.evidence.insert("items", n);
        items = format!(" For {n:.0} items the CPU may be faster.");
    }
    let percent = wording::percent(moving);
    finding.message = format!(
        "`{site}` spends {percent} of its {} on the GPU moving data, launching and waiting: {each} a call, of which the \
         kernels take {kernel}.{items}",
        wording::count(calls, "trip"),
    );
    finding.recommendation = format!(
        "Do small inputs of `{site}` on the CPU, or put several into one trip. How fast a CPU is with them this run does \
         not say: time both, and take the GPU from the size on where it wins."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "`{site}` takes {each} a call for {kernel} of work on the GPU: {} of {}.",
        wording::percent(share),
        evidence.scope.words()
    );
    Found { finding, lead }
}

/// Returns how many items a call has, as the fields of the site or of what is in it say.
fn median_items(evidence: &Evidence<'_>, site: SiteId) -> Option<f64> {
    let mut sizes: Vec<f64> = quiet::kept(evidence)
        .flat_map(|tree| &tree.spans)
        .filter(|span| span.site.id == site)
        .filter_map(|span| fields::size(span))
        .map(|(_, size)| size)
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied()
}
