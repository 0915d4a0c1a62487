//! CTX505: kernels so short that launching them takes longer than running them.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX505",
    name: "launch-bound-kernels",
    healthy: "kernels are large beside their launch",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: three launches a layer: mul, add, relu
// after: one fused kernel, or a captured graph
let f = module.load_function(\"fused_mul_add_relu\")?;
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let devices = Device::all(evidence);
    let mut outcome = Outcome {
        looked: !devices.is_empty(),
        ..Outcome::default()
    };
    if device::found(board, evidence, "CTX508") {
        return outcome;
    }
    let bound = devices
        .iter()
        .filter_map(|device| Some((device, LaunchBound::of(evidence, device)?)))
        .max_by_key(|(_, bound)| bound.gaps);
    if let Some((device, bound)) = bound {
        let site = device::most(evidence, |own| own.kernels);
        // What that code does between launches is what launching costs there.
        outcome.claims.extend(site.map(|(row, _)| Claim {
            site: row.site.id,
            time: row.stats.self_time,
        }));
        outcome.found.push(found(evidence, device, bound));
    }
    outcome
}

#[derive(Debug, Clone, Copy)]
struct LaunchBound {
    median: Nanos,
    /// What a launch takes on the host, on average.
    launch: Nanos,
    /// In which the device waited for the next launch and nothing else.
    gaps: Nanos,
}

impl LaunchBound {
    fn of(evidence: &Evidence<'_>, device: &Device<'_>) -> Option<LaunchBound> {
        let thresholds = &evidence.thresholds.gpu;
        let totals = device.totals();
        let median = totals.kernel_lengths.as_ref()?.quantiles.p50;
        let launch = Nanos(totals.launch_time.0 / totals.launches.max(1));
        let tiny = median < Nanos::from(thresholds.tiny_kernel) || median < launch;
        if totals.kernels < thresholds.tiny_kernels || !tiny {
            return None;
        }
        let longest = Nanos::from(thresholds.launch_gap);
        let pauses = device.row.pauses.pauses.iter();
        let gaps = pauses
            .filter(|pause| pause.host && pause.after_wait.is_none() && pause.length() <= longest);
        let gaps = device.scaled(gaps.map(|pause| pause.length()).sum());
        let bound = LaunchBound {
            median,
            launch,
            gaps,
        };
        (device.of_window(gaps) >= thresholds.launch_gap_share).then_some(bound)
    }
}

fn found(evidence: &Evidence<'_>, device: &Device<'_>, bound: LaunchBound) -> Found {
    let totals = device.totals();
    let site = device::most(evidence, |own| own.kernels);
    let mut finding = device::about(&RULE, site.map(|(row, _)| row), device);
    // One launch in place of those of one call.
    let merged = site.map_or(2.0, |(row, gpu)| {
        gpu.own.kernels as f64 / row.stats.calls.max(1) as f64
    });
    let merged = merged.max(2.0);
    let saved = device.share(bound.gaps) * (1.0 - 1.0 / merged);
    let active = device.idle().saturating_add(totals.kernel_time);
    device::price(&mut finding, evidence, saved, active);
    finding.confidence = Confidence::High;
    let share = device.share(bound.gaps);
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("kernels", totals.kernels as f64),
        ("kernel_p50_ns", bound.median.0 as f64),
        ("launch_mean_ns", bound.launch.0 as f64),
        ("launch_gaps_ns", bound.gaps.0 as f64),
        ("launch_gap_share_of_window", device.of_window(bound.gaps)),
    ]);
    let name = device.name();
    let place = site.map_or(String::new(), |(row, _)| {
        format!(", most of them from `{}`", row.site.name)
    });
    let percent = wording::percent(share);
    finding.message = format!(
        "{} of about {} on {name}{place}: launching them costs more than running them. {name} waits {} for the next \
         launch, {percent} of the run.",
        wording::count(totals.kernels, "kernel"),
        bound.median,
        bound.gaps,
    );
    finding.recommendation = "Give each launch more to do: fuse kernels that follow one another, put several inputs into \
        one batch, or capture the sequence in a CUDA graph. A graph needs the same shapes every time. Afterwards kernels \
        are fewer and longer."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "{name} waits {percent} of the run for launches of kernels of about {}; fuse them or capture a graph.",
        bound.median
    );
    Found { finding, lead }
}
