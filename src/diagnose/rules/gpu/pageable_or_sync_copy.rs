//! CTX503: copies through pageable memory, or by calls that wait, hold the host up.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, GpuTotals, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX503",
    name: "pageable-or-sync-copy",
    healthy: "copies do not hold the host up",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: stream.memcpy_htod(&vec, &mut dev)?;
let mut pinned = unsafe { ctx.alloc_pinned::<f32>(n)? }; // once; write-combined: fill it, do not read it back
pinned.as_mut_slice()?.copy_from_slice(&vec);
stream.memcpy_htod(&pinned, &mut dev)?;
";

/// Bytes from which on the run's own free copies tell how fast such copies are.
const TELLING_BYTES: u64 = 1 << 20;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let devices = Device::all(evidence);
    let mut outcome = Outcome {
        looked: !devices.is_empty(),
        ..Outcome::default()
    };
    let worst = devices
        .into_iter()
        .max_by_key(|device| device.totals().blocking_time);
    if let Some(device) = worst.filter(|device| holds(evidence, device)) {
        outcome.found.push(found(evidence, &device));
    }
    outcome
}

fn holds(evidence: &Evidence<'_>, device: &Device<'_>) -> bool {
    let thresholds = &evidence.thresholds.gpu;
    let totals = device.totals();
    let share = device.of_window(totals.blocking_time);
    totals.blocking_copies >= thresholds.blocking_copies
        && share.max(device.share(totals.blocking_time)) >= thresholds.blocking_share
}

/// Returns how long free copies of the same bytes take, as a part of the blocking ones' time, and whether the run says so.
pub(super) fn ratio(evidence: &Evidence<'_>, totals: &GpuTotals) -> (f64, bool) {
    let assumed = evidence.thresholds.gpu.pinned_ratio.clamp(0.0, 1.0);
    if totals.free_bytes < TELLING_BYTES || totals.blocking_bytes < TELLING_BYTES {
        return (assumed, false);
    }
    let per_byte = |time: Nanos, bytes: u64| time.0 as f64 / bytes as f64;
    let free = per_byte(totals.free_time, totals.free_bytes);
    let blocking = per_byte(totals.blocking_time, totals.blocking_bytes);
    if free > 0.0 && blocking > 0.0 {
        ((free / blocking).clamp(0.05, 1.0), true)
    } else {
        (assumed, false)
    }
}

fn found(evidence: &Evidence<'_>, device: &Device<'_>) -> Found {
    let totals = device.totals();
    let site = device::most(evidence, |own| own.blocking_time.0);
    let mut finding = device::about(&RULE, site.map(|(row, _)| row), device);
    let (ratio, measured) = ratio(evidence, totals);
    let time = totals.blocking_time;
    let saved = time.0 as f64 * (1.0 - ratio);
    // The calls that copy are among those that start work; some of them wait for what runs before the copy.
    let active = time.saturating_add(totals.launch_time);
    device::price(
        &mut finding,
        evidence,
        device.share(Nanos(saved as u64)),
        active,
    );
    let share = device.share(time);
    finding.share = Some(share);
    finding.confidence = match measured {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    let bytes = device::bytes(totals.blocking_bytes as f64);
    finding.evidence = BTreeMap::from([
        ("copies", totals.blocking_copies as f64),
        ("bytes", totals.blocking_bytes as f64),
        ("pageable_copies", totals.pageable_copies as f64),
        ("copy_ns", time.0 as f64),
        ("copy_share_of_window", device.of_window(time)),
        ("pinned_ratio", ratio),
    ]);
    let what = if totals.pageable_copies > 0 {
        "through pageable memory"
    } else {
        "by calls that wait"
    };
    let from = site.map_or(String::new(), |(row, _)| {
        format!(", most of them in `{}`,", row.site.name)
    });
    let percent = wording::percent(share);
    let name = device.name();
    finding.message = format!(
        "{} ({bytes}) {what}{from} hold the host up and take {time} of {name}: {percent} of the run. The driver stages such \
         copies in a buffer of its own, and nothing runs beside them.",
        device::several(totals.blocking_copies, "copy", "copies"),
    );
    finding.recommendation = "Keep host buffers in page-locked memory that is allocated once and used again, and copy \
        with an asynchronous call on the stream. Page-locked memory is taken from all programs: lock what is copied often, \
        not everything. Afterwards the copies count as pinned."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "{bytes} of copies {what} take {percent} of the run; page-locked memory and asynchronous copies save most of it."
    );
    Found { finding, lead }
}
