//! CTX507: nearly all of a device's memory is in use.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Finding, Series, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX507",
    name: "gpu-memory-near-limit",
    healthy: "devices have memory left",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: step(&batch)?;
for micro in batch.chunks(batch.len() / 4) { accumulate(micro)?; }
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.gpu;
    let mut outcome = Outcome::default();
    for used in &evidence.profile.resources {
        let Some(device) = used.name.strip_suffix(".memory_used") else {
            continue;
        };
        let Some(limit) = device.starts_with("gpu.").then(|| total(evidence, device)) else {
            continue;
        };
        let Some(limit) = limit.filter(|limit| *limit > 0.0) else {
            continue;
        };
        outcome.looked = true;
        let above = used
            .points
            .iter()
            .filter(|point| point.mean / limit > thresholds.memory_share)
            .fold(0_u64, |sum, point| sum.saturating_add(point.samples));
        if above >= thresholds.memory_samples && used.max.is_finite() {
            outcome
                .found
                .push(found(evidence, device, used, limit, above));
        }
    }
    outcome
}

/// Returns all memory of a device, as its readings or else the driver say.
fn total(evidence: &Evidence<'_>, device: &str) -> Option<f64> {
    let name = format!("{device}.memory_total");
    let mut readings = evidence.profile.resources.iter();
    let read = readings.find(|series| series.name == name && series.samples > 0);
    let known = || {
        let ordinal: u32 = device.strip_prefix("gpu.")?.parse().ok()?;
        let devices = &evidence.profile.gpu.as_ref()?.devices;
        let row = devices.iter().find(|row| row.device.ordinal == ordinal)?;
        Some(row.device.memory_bytes? as f64)
    };
    read.map(|series| series.max)
        .filter(|max| max.is_finite())
        .or_else(known)
}

fn found(evidence: &Evidence<'_>, device: &str, used: &Series, limit: f64, samples: u64) -> Found {
    let number = device.strip_prefix("gpu.").unwrap_or(device);
    let name = format!("GPU {number}");
    let mut finding = Finding::new(RULE.id, RULE.name, name.clone());
    let share = (used.max / limit).min(1.0);
    finding.severity = Severity::Medium;
    finding.confidence = Confidence::Medium;
    finding.evidence = BTreeMap::from([
        ("used_bytes", used.max),
        ("total_bytes", limit),
        ("used_share", share),
        ("samples_above", samples as f64),
        ("samples", used.samples as f64),
    ]);
    let process = format!("{device}.process_memory");
    let mut resources = evidence.profile.resources.iter();
    let own = resources
        .find(|series| series.name == process)
        .map(|series| series.max)
        .filter(|own| own.is_finite());
    let mut whose = String::new();
    if let Some(own) = own {
        finding.evidence.insert("process_bytes", own);
        whose = format!(", {} of it this process's", device::bytes(own));
    }
    let percent = wording::percent(share);
    let all = device::bytes(limit);
    finding.message = format!(
        "The memory of {name} is {percent} full ({all} in all{whose}), above {} in {}. A slightly larger input can fail.",
        wording::percent(evidence.thresholds.gpu.memory_share),
        wording::count(samples, "reading"),
    );
    finding.recommendation = "Work in smaller batches, or free buffers that are not needed at the same time. Where a pool \
        takes the memory at the start on purpose, raise the threshold. Afterwards `memory_used` of the device stays below it."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!("The memory of {name} is {percent} full; a slightly larger input can fail.");
    Found { finding, lead }
}
