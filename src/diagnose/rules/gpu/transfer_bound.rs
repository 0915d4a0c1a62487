//! CTX506: the device spends its time moving data.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::gpu::pageable_or_sync_copy;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX506",
    name: "transfer-bound",
    healthy: "copies are small beside the kernels",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: every step copies in, computes, copies out
// after: state stays on the device; the next input comes while this one is worked on
let copy = ctx.new_stream()?;
copy.memcpy_htod(&next, &mut dev_b)?; // while compute runs on dev_a
";

/// From this part on, as much comes back as went there.
const ROUND_TRIP: f64 = 0.8;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let devices = Device::all(evidence);
    let mut outcome = Outcome {
        looked: !devices.is_empty(),
        ..Outcome::default()
    };
    if device::found(board, evidence, "CTX508") {
        return outcome;
    }
    let blocking = device::found(board, evidence, "CTX503");
    let bound = devices
        .iter()
        .filter_map(|device| Some((device, Transfers::of(evidence, device)?)))
        // Copies that need not block come first: how much they matter then, the next run says.
        .filter(|(device, transfers)| {
            transfers.comes_back
                || !blocking
                || device.totals().blocking_time <= device.totals().free_time
        })
        .max_by_key(|(_, transfers)| transfers.exposed);
    if let Some((device, transfers)) = bound {
        outcome.found.push(found(evidence, device, transfers));
    }
    outcome
}

#[derive(Debug, Clone, Copy)]
struct Transfers {
    /// All copies between host and device; where they are needed, those that are slow for another reason as long as they
    /// need be.
    time: Nanos,
    /// The part of them beside which nothing else ran.
    exposed: Nanos,
    ratio: f64,
    comes_back: bool,
}

impl Transfers {
    fn of(evidence: &Evidence<'_>, device: &Device<'_>) -> Option<Transfers> {
        let thresholds = &evidence.thresholds.gpu;
        let totals = device.totals();
        let copies = device.host_copies();
        if totals.copies < thresholds.transfer_copies || copies == Nanos::ZERO {
            return None;
        }
        let (there, back) = (totals.to_device_bytes, totals.to_host_bytes);
        let comes_back = back.min(there) as f64 >= ROUND_TRIP * there.max(back) as f64;
        let quicker = match comes_back {
            true => 1.0,
            false => pageable_or_sync_copy::ratio(evidence, totals).0,
        };
        let blocking = totals.blocking_time.0 as f64 * quicker;
        let time = totals.free_time.0 as f64 + blocking;
        let alone = device.busy().saturating_sub(device.row.kernel_busy);
        let exposed = alone.min(copies).0 as f64 * (time / copies.0 as f64);
        let ratio = time / (time + totals.kernel_time.0 as f64).max(1.0);
        let transfers = Transfers {
            time: Nanos(time as u64),
            exposed: Nanos(exposed as u64),
            ratio,
            comes_back,
        };
        let much = ratio >= thresholds.transfer_ratio;
        (much && device.share(transfers.exposed) >= thresholds.transfer_share).then_some(transfers)
    }
}

fn found(evidence: &Evidence<'_>, device: &Device<'_>, transfers: Transfers) -> Found {
    let totals = device.totals();
    let copied = |own: &crate::model::GpuTotals| own.blocking_time.saturating_add(own.free_time).0;
    let site = device::most(evidence, copied);
    let mut finding = device::about(&RULE, site.map(|(row, _)| row), device);
    // What stays on the device is not copied; what must be copied can be hidden behind kernels.
    let saved = match transfers.comes_back {
        true => transfers.exposed,
        false => transfers.exposed.min(device.row.kernel_busy),
    };
    let active = device.host_copies().saturating_add(device.idle());
    device::price(&mut finding, evidence, device.share(saved), active);
    finding.confidence = Confidence::Medium;
    let share = device.share(transfers.exposed);
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("copies", totals.copies as f64),
        ("copy_ns", transfers.time.0 as f64),
        ("copy_alone_ns", transfers.exposed.0 as f64),
        ("kernel_ns", totals.kernel_time.0 as f64),
        ("copy_ratio", transfers.ratio),
        ("to_device_bytes", totals.to_device_bytes as f64),
        ("to_host_bytes", totals.to_host_bytes as f64),
    ]);
    let name = device.name();
    let place = site.map_or(String::new(), |(row, _)| {
        format!(", most of it in `{}`", row.site.name)
    });
    let percent = wording::percent(transfers.ratio);
    let sizes = format!(
        "{} there, {} back",
        device::bytes(totals.to_device_bytes as f64),
        device::bytes(totals.to_host_bytes as f64)
    );
    finding.message = format!(
        "{percent} of the work of {name} is copying ({sizes}){place}; in {} of the run it does nothing else.",
        wording::percent(share),
    );
    finding.recommendation = if transfers.comes_back {
        "As much comes back as went there. Keep it on the device from one step to the next, and fetch only what the host \
         reads. Afterwards there are fewer bytes in both directions."
    } else {
        "Copy the next input on a second stream while this one is worked on, and copy less: smaller types, or data that \
         stays on the device. Two inputs then take memory at once. Afterwards copies run beside kernels."
    }
    .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "{name} only copies in {} of the run ({sizes}).",
        wording::percent(share)
    );
    Found { finding, lead }
}
