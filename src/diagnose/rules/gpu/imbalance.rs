//! CTX510: one device works while others have nothing to do.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Finding, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX510",
    name: "gpu-imbalance",
    healthy: "devices share the work evenly",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let per = items.len().div_ceil(devices.len());
for (d, part) in devices.iter().zip(items.chunks(per)) { d.submit(part)?; }
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.gpu;
    let all = Device::all(evidence).into_iter();
    // A device without work of its own is not part of the program.
    let devices: Vec<_> = all
        .filter(|device| device.totals().kernels >= thresholds.imbalance_kernels)
        .collect();
    let mut outcome = Outcome {
        looked: devices.len() >= 2,
        ..Outcome::default()
    };
    let Some(most) = devices.iter().max_by_key(|device| device.busy()) else {
        return outcome;
    };
    if devices.len() < 2 || !at_once(&devices) {
        return outcome;
    }
    let sum: Nanos = devices.iter().map(|device| device.busy()).sum();
    let mean = sum.0 as f64 / devices.len() as f64;
    let above = most.busy().0 as f64 / mean.max(1.0) - 1.0;
    let works = most.of_window(most.busy()) >= thresholds.imbalance_busy;
    if works && above >= thresholds.device_imbalance {
        outcome.found.push(found(evidence, &devices, most, mean));
    }
    outcome
}

/// Whether the devices are in use over the same time: those that take turns wait for one another.
fn at_once(devices: &[Device<'_>]) -> bool {
    let begins = devices.iter().map(|device| device.row.pauses.began);
    let ends = devices
        .iter()
        .map(|device| device.row.pauses.began.saturating_add(device.row.window));
    let (last_begin, first_end) = (begins.max(), ends.min());
    let longest = devices.iter().map(|device| device.row.window).max();
    match (last_begin, first_end, longest) {
        (Some(begin), Some(end), Some(longest)) => {
            end.saturating_sub(begin).share_of(longest) >= 0.5
        }
        _ => false,
    }
}

fn found(evidence: &Evidence<'_>, devices: &[Device<'_>], most: &Device<'_>, mean: f64) -> Found {
    let name = most.name();
    let mut finding = Finding::new(RULE.id, RULE.name, name.clone());
    let over = Nanos((most.busy().0 as f64 - mean).max(0.0) as u64);
    let share = most.share(over);
    device::price(&mut finding, evidence, share, most.busy());
    finding.confidence = Confidence::Medium;
    finding.share = Some(share);
    let ratio = most.busy().0 as f64 / mean.max(1.0);
    finding.evidence = BTreeMap::from([
        ("devices", devices.len() as f64),
        ("device", f64::from(most.ordinal())),
        ("busy_ns", most.busy().0 as f64),
        ("mean_busy_ns", mean),
        ("ratio", ratio),
    ]);
    let each: Vec<String> = devices
        .iter()
        .take(8)
        .map(|device| {
            let used = wording::percent(device.share(device.busy()));
            format!("{} {used}", device.name())
        })
        .collect();
    finding.message = format!(
        "{name} works {} the mean of {} devices, busy in these parts of the run: {}. Where all wait for the last one, the \
         others stand still.",
        wording::ratio(ratio),
        devices.len(),
        each.join(", "),
    );
    finding.recommendation = "Split the work by how long it takes and not by how many items there are, or let each device \
        take the next part when it is done with one. Where the devices do different things on purpose, leave it. \
        Afterwards their busy parts are alike."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "{name} works {} the mean of {} devices; {} of the run would go with an even split.",
        wording::ratio(ratio),
        devices.len(),
        wording::percent(share)
    );
    Found { finding, lead }
}
