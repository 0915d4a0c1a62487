//! CTX208: the process switches threads so often that the kernel takes a good part of its CPU time.

use std::collections::BTreeMap;

use super::cores::{near, series};
use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX208",
    name: "context-switch-rate",
    healthy: "threads change places rarely",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// wake once for many items
let batch: Vec<_> = rx.try_iter().take(256).collect();
";

/// One reading.
#[derive(Debug, Clone, Copy)]
struct Reading {
    samples: u64,
    /// Per second.
    switches: f64,
    voluntary: f64,
    /// Per cent of one core.
    kernel: f64,
    program: f64,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let cores = evidence.profile.process.cores.filter(|&cores| cores > 0);
    let (Some(cores), Some(readings)) = (cores.map(f64::from), readings(evidence)) else {
        return outcome;
    };
    outcome.looked = true;
    let thresholds = &evidence.thresholds.threads;
    let holds = |reading: &Reading| {
        reading.switches > thresholds.switches_per_core * cores
            && reading.kernel
                >= thresholds.switches_kernel_share * (reading.kernel + reading.program)
    };
    let samples = |readings: &[Reading]| {
        let samples = readings.iter().map(|reading| reading.samples);
        samples.fold(0, u64::saturating_add)
    };
    let longest = readings
        .chunk_by(|one, next| holds(one) == holds(next))
        .filter(|stretch| holds(&stretch[0]))
        .max_by_key(|stretch| samples(stretch))
        .filter(|stretch| samples(stretch) >= thresholds.switches_readings.max(1));
    if let Some(stretch) = longest {
        outcome.found.push(found(cores, stretch, samples(stretch)));
    }
    outcome
}

fn readings(evidence: &Evidence<'_>) -> Option<Vec<Reading>> {
    let voluntary = series(evidence, "process.voluntary_switches")?;
    let involuntary = series(evidence, "process.involuntary_switches")?;
    let kernel = series(evidence, "process.cpu_system")?;
    let program = series(evidence, "process.cpu_user")?;
    let readings = voluntary.points.iter().filter_map(|point| {
        let of_own_will = near(voluntary, point.at)?;
        Some(Reading {
            samples: point.samples,
            switches: of_own_will + near(involuntary, point.at)?,
            voluntary: of_own_will,
            kernel: near(kernel, point.at)?,
            program: near(program, point.at)?,
        })
    });
    Some(readings.collect())
}

fn found(cores: f64, stretch: &[Reading], samples: u64) -> Found {
    let mean = |of: fn(&Reading) -> f64| {
        let sum: f64 = stretch
            .iter()
            .map(|reading| of(reading) * reading.samples as f64)
            .sum();
        sum / samples as f64
    };
    let switches = mean(|reading| reading.switches);
    let voluntary = mean(|reading| reading.voluntary) / switches;
    let kernel = mean(|reading| reading.kernel);
    let kernel = kernel / (kernel + mean(|reading| reading.program));
    let mut finding = RULE.about_process();
    // The kernel's time has other causes too.
    finding.severity = Severity::Low;
    finding.confidence = Confidence::Low;
    finding.evidence = BTreeMap::from([
        ("switches_per_second", switches),
        ("switches_per_second_and_core", switches / cores),
        ("voluntary_share", voluntary),
        ("kernel_share", kernel),
        ("readings", samples as f64),
    ]);
    let lead = format!(
        "The process switches threads {switches:.0} times a second, and {} of its CPU time is the kernel's.",
        wording::percent(kernel)
    );
    finding.message = format!(
        "{lead} {} of the switches were waits of its own, over {samples} readings.",
        wording::percent(voluntary)
    );
    finding.recommendation =
        "Hand over more at a time: take batches out of channels, wake a thread once for several items, or keep work that \
         belongs together on one thread. The kernel may be busy with something else; `perf trace -s` or `strace -c` says \
         with what."
            .to_owned();
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
