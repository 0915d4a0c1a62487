//! CTX306: the machine's memory is full and the process waits for pages.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::leak::series;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::median;
use crate::model::{Confidence, Point, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX306",
    name: "memory-pressure",
    healthy: "the machine has memory left",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let parts = std::io::BufReader::with_capacity(1 << 20, file); // a window on the data instead of all of it
cache.shrink_to_fit(); // and give back what is not needed
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.memory;
    let mut outcome = Outcome::default();
    let used = series(evidence, "system.memory_used_percent");
    let faults = series(evidence, "process.major_faults");
    let Some((used, faults)) = used.zip(faults) else {
        return outcome;
    };
    outcome.looked = used.points.len() >= thresholds.pressure_samples;
    let both: Vec<(f64, f64)> = used
        .points
        .iter()
        .filter_map(|point| Some((point.mean, nearest(&faults.points, point)?.mean)))
        .filter(|&(percent, faults)| {
            percent >= thresholds.pressure_percent && faults >= thresholds.major_faults_per_second
        })
        .collect();
    let percents: Vec<f64> = both.iter().map(|&(percent, _)| percent).collect();
    let rates: Vec<f64> = both.iter().map(|&(_, rate)| rate).collect();
    if let (Some(percent), Some(rate)) = (median(&percents), median(&rates))
        && both.len() >= thresholds.pressure_samples.max(1)
    {
        outcome
            .found
            .push(found(evidence, both.len(), percent, rate));
    }
    outcome
}

/// Returns the point of another series that was read at about the same time.
fn nearest<'p>(points: &'p [Point], to: &Point) -> Option<&'p Point> {
    let after = points.partition_point(|point| point.at < to.at);
    let around = points.get(after.saturating_sub(1)..(after + 1).min(points.len()))?;
    around
        .iter()
        .min_by_key(|point| point.at.0.abs_diff(to.at.0))
}

fn found(evidence: &Evidence<'_>, readings: usize, percent: f64, rate: f64) -> Found {
    let mut finding = RULE.about_process();
    finding.severity = match percent >= evidence.thresholds.memory.pressure_high_percent {
        true => Severity::High,
        false => Severity::Medium,
    };
    finding.confidence = Confidence::High;
    finding.evidence = BTreeMap::from([
        ("readings", readings as f64),
        ("memory_used_percent", percent),
        ("major_faults_per_second", rate),
    ]);
    let lead = format!(
        "The machine's memory is {percent:.0} % used and the process waits for {rate:.0} pages a second"
    );
    finding.message = format!(
        "{lead} that must be read from disk again (medians of {readings} readings that show both). Each takes as long as \
         a disk access, anywhere in the code."
    );
    finding.recommendation =
        "Hold less at a time: stream instead of collecting, limit caches, use smaller numbers. If it is another program \
         that fills the memory, move one of them or give the machine more. Afterwards major faults are near zero."
            .to_owned();
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
