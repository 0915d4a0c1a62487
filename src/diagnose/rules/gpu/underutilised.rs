//! CTX501: a device does nothing for most of the time between its first and its last work.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::gpu::excessive_sync::Stalls;
use crate::diagnose::rules::gpu::quiet::Quiet;
use crate::diagnose::rules::gpu::{data_starved, waits};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Finding, GpuSource, Nanos};

pub(super) const RULE: Rule = Rule {
    id: "CTX501",
    name: "gpu-underutilised",
    healthy: "devices are busy",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// launch ahead: prepare the next input while the device works on this one
let streams: Vec<_> = (0..2).map(|_| ctx.new_stream()).collect::<Result<_, _>>()?;
for (at, input) in inputs.enumerate() { submit(&streams[at % 2], prepare(input))?; }
";

/// From this part of the idle time on, one site is worth a word.
const MUCH: f64 = 0.3;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.gpu;
    let mut outcome = Outcome {
        claims: waits::of_host(evidence),
        ..Outcome::default()
    };
    let Some(device) = Device::busiest(evidence) else {
        outcome.held_back.extend(too_little(evidence));
        return outcome;
    };
    outcome.looked = true;
    let elsewhere = device::found(board, evidence, "CTX510")
        || device::found(board, evidence, "CTX508")
        || device::found(board, evidence, "CTX506");
    let idle = idle(evidence, &device);
    let used = device
        .busy()
        .share_of(device.busy().saturating_add(idle))
        .min(1.0);
    let underused = underused_parts(evidence, &device);
    let rarely = used < thresholds.used_share && underused >= thresholds.underused_parts;
    let explained = explained(evidence, board, &device).share_of(idle);
    if rarely && !elsewhere && explained < thresholds.explained_share {
        outcome
            .found
            .push(found(evidence, &device, idle, underused));
    }
    outcome
}

/// Returns how long the device did nothing while the program had something to do: while a root was open, or a CPU was
/// used outside of all spans. A service that waits for requests gives its device nothing because it has nothing.
fn idle(evidence: &Evidence<'_>, device: &Device<'_>) -> Nanos {
    let all = device.idle();
    let Some(share) = Quiet::of(device.row).in_roots(evidence) else {
        return all;
    };
    let paths = &evidence.profile.paths;
    let roots = (0..paths.len()).filter(|&index| evidence.parent(index).is_none());
    let roots: Nanos = roots.map(|root| total(&paths[root].stats)).sum();
    let in_roots = Nanos((roots.0 as f64 * share) as u64).min(all);
    let outside = all.saturating_sub(in_roots);
    let computed = evidence.cpu_outside().unwrap_or_default();
    in_roots.saturating_add(outside.min(computed))
}

/// Returns the share of equal parts of the window in which the device is used too little.
fn underused_parts(evidence: &Evidence<'_>, device: &Device<'_>) -> f64 {
    let thresholds = &evidence.thresholds.gpu;
    let pauses = &device.row.pauses;
    let parts = thresholds.window_parts.clamp(1, 1_000);
    let window = pauses.window.0 as f64;
    let length = device.row.window.0 as f64 / parts as f64;
    if window <= 0.0 || length <= 0.0 || pauses.busy.is_empty() {
        return 0.0;
    }
    // Up to a time, as if the work of a window were spread evenly over it.
    let mut sums = vec![0.0];
    for busy in &pauses.busy {
        sums.push(sums[sums.len() - 1] + busy.0 as f64);
    }
    let up_to = |at: f64| {
        let place = (at / window).clamp(0.0, (sums.len() - 1) as f64);
        let whole = place.floor() as usize;
        let next = sums.get(whole + 1).copied().unwrap_or(sums[whole]);
        sums[whole] + (next - sums[whole]) * place.fract()
    };
    let used = |part: usize| {
        let (from, to) = (part as f64 * length, (part + 1) as f64 * length);
        (up_to(to) - up_to(from)) / length
    };
    let low = (0..parts).filter(|&part| used(part) < thresholds.used_share);
    low.count() as f64 / parts as f64
}

/// Returns the idle time of which other rules say the cause.
fn explained(evidence: &Evidence<'_>, board: &Board, device: &Device<'_>) -> Nanos {
    let mut explained = Nanos::ZERO;
    if device::found(board, evidence, "CTX502") {
        explained = explained.saturating_add(data_starved::waiting(evidence, device));
    }
    if device::found(board, evidence, "CTX504") {
        let stalls = Stalls::of(evidence, device);
        explained = explained.saturating_add(stalls.values().map(|stall| stall.time).sum());
    }
    if device::found(board, evidence, "CTX505") {
        explained = device.idle();
    }
    if device::found(board, evidence, "CTX503") {
        // While the driver stages a copy the device shows nothing.
        let sites = device::sites(evidence);
        let staging = sites.map(|(_, gpu)| match gpu.own.blocking_copies {
            0 => Nanos::ZERO,
            _ => gpu.own.launch_time.saturating_sub(gpu.own.busy),
        });
        explained = explained.saturating_add(staging.sum());
    }
    explained.min(device.idle())
}

/// Returns what is missing for a judgement of the device that worked most.
fn too_little(evidence: &Evidence<'_>) -> Option<HeldBack> {
    let devices = evidence.profile.gpu.as_ref()?.devices.iter();
    let recorded = devices.filter(|row| row.totals.sources.contains(&GpuSource::Cupti));
    let most = recorded.max_by_key(|row| row.totals.busy)?;
    let (have, need) = (
        device::pieces(&most.totals),
        evidence.thresholds.gpu.min_work,
    );
    (have > 0 && have < need).then(|| HeldBack {
        rule: RULE.id,
        site: format!("GPU {}", most.device.ordinal),
        have,
        need,
        what: "kernels and copies",
    })
}

fn found(evidence: &Evidence<'_>, device: &Device<'_>, idle: Nanos, underused: f64) -> Found {
    let name = device.name();
    let mut finding = Finding::new(RULE.id, RULE.name, name.clone());
    // What the host does in the pauses can at best be done while the device works.
    let saved = idle.min(device.busy());
    device::price(&mut finding, evidence, device.share(saved), device.idle());
    finding.share = Some(device.share(idle));
    finding.confidence = Confidence::Medium;
    let used = device.of_window(device.busy());
    let pauses = device.row.pauses.pauses.iter();
    let late = device.scaled(
        pauses
            .filter(|pause| pause.host)
            .map(|pause| pause.length())
            .sum(),
    );
    finding.evidence = BTreeMap::from([
        ("utilisation", used),
        ("window_ns", device.row.window.0 as f64),
        ("idle_ns", idle.0 as f64),
        ("idle_host_ns", late.0 as f64),
        ("underused_parts", underused),
        ("work", device::pieces(device.totals()) as f64),
    ]);
    let host = Quiet::of(device.row).hosts(evidence);
    let leading = host.first().filter(|(_, share)| *share >= MUCH);
    let leading = leading.and_then(|&(site, share)| Some((evidence.site(site)?, share)));
    let cause = match leading {
        Some((row, share)) => {
            finding.location = row.site.location();
            finding.evidence.insert("idle_in_site_share", share);
            format!(
                "the host was in `{}` in {} of the pauses",
                row.site.name,
                wording::percent(share)
            )
        }
        None if late.share_of(idle) >= 0.5 => "the host launched the next work too late".to_owned(),
        None => "work that was launched waited for other streams, events or copies".to_owned(),
    };
    let percent = wording::percent(used);
    finding.message = format!(
        "{name} was busy {percent} of the {} between its first and its last work. Main reason for the pauses: {cause}.",
        device.row.window
    );
    finding.recommendation = format!(
        "Give {name} its next work before it has done the last: prepare inputs on other threads, use two streams in turn, \
         wait for results one step late. If there is no more work to give, the device is larger than the program needs. \
         Afterwards its busy part of the window is above {}.",
        wording::percent(evidence.thresholds.gpu.used_share)
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("{name} was busy only {percent} of the time: {cause}.");
    Found { finding, lead }
}
