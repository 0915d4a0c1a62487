//! CTX502: the device has nothing to do while the host loads what it is to work on.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::gpu::quiet::{self, Quiet};
use crate::diagnose::rules::gpu::waits;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, OperationTree, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX502",
    name: "gpu-data-starved",
    healthy: "devices do not wait for data",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: for batch in loader { step(&batch)?; }
let (tx, rx) = std::sync::mpsc::sync_channel(2); // two batches ahead
std::thread::spawn(move || for b in loader { if tx.send(b).is_err() { break; } });
for batch in rx { step(&batch)?; }
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.gpu;
    let mut outcome = Outcome::default();
    let Some(device) = Device::busiest(evidence) else {
        return outcome;
    };
    let loads = loads(evidence, &device);
    outcome.looked = !loads.is_empty();
    for (site, load) in loads {
        let Some(row) = evidence.site(site) else {
            continue;
        };
        let later = row.stats.calls.saturating_sub(1);
        if later < thresholds.load_calls || load.count < thresholds.load_calls {
            continue;
        }
        let waiting = load.waiting(row, &device);
        let starved = load.idle_share() >= thresholds.load_idle_share;
        if starved && device.share(waiting) >= thresholds.load_share {
            outcome.claims.extend(waits::at_and_below(evidence, site));
            let found = found(evidence, &device, row, load, waiting);
            outcome.found.push(found);
        }
    }
    outcome
}

/// What the trees say about the loads of one site.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    count: u64,
    time: Nanos,
    /// The part of it in which the device did nothing.
    idle: Nanos,
}

impl Load {
    fn idle_share(self) -> f64 {
        self.idle.share_of(self.time).min(1.0)
    }

    /// Returns how long the device waited for all loads.
    fn waiting(self, row: &SiteStats, device: &Device<'_>) -> Nanos {
        let whole = total(&row.stats).0 as f64 * self.idle_share();
        Nanos(whole as u64).min(device.idle())
    }
}

/// Returns how long the device waited for all loads of all sites.
pub(super) fn waiting(evidence: &Evidence<'_>, device: &Device<'_>) -> Nanos {
    let loads = loads(evidence, device).into_iter();
    let rows = loads.filter_map(|(site, load)| Some(load.waiting(evidence.site(site)?, device)));
    rows.sum::<Nanos>().min(device.idle())
}

/// Returns the loads in the trees, without the first of each site, which opens files and fills caches.
fn loads(evidence: &Evidence<'_>, device: &Device<'_>) -> BTreeMap<SiteId, Load> {
    let quiet = Quiet::of(device.row);
    let mut first: BTreeMap<SiteId, Nanos> = BTreeMap::new();
    for tree in quiet::kept(evidence) {
        for (_, span) in outermost(tree) {
            let first = first.entry(span.site.id).or_insert(span.start);
            *first = span.start.min(*first);
        }
    }
    let mut loads: BTreeMap<SiteId, Load> = BTreeMap::new();
    for tree in quiet::kept(evidence) {
        for (_, span) in outermost(tree) {
            let load = loads.entry(span.site.id).or_default();
            let is_first = first.get(&span.site.id) == Some(&span.start);
            if quiet.knows(span) && !is_first {
                load.count += 1;
                load.time = load.time.saturating_add(span.length());
                let idle = quiet.within(span.start, span.end);
                load.idle = load.idle.saturating_add(idle);
            }
        }
    }
    loads
}

/// Returns the loads of a tree that are in no other one.
fn outermost(
    tree: &OperationTree,
) -> impl Iterator<Item = (usize, &crate::model::TreeSpan)> + use<'_> {
    let inside = within_loads(tree);
    let spans = tree.spans.iter().enumerate();
    spans.filter(move |&(index, span)| {
        let above = quiet::parent(span, index).is_some_and(|parent| inside[parent]);
        inside[index] && !above
    })
}

/// Returns of each operation whether it is a load or in one.
fn within_loads(tree: &OperationTree) -> Vec<bool> {
    let mut inside: Vec<bool> = Vec::with_capacity(tree.spans.len());
    for (index, span) in tree.spans.iter().enumerate() {
        let above = quiet::parent(span, index).is_some_and(|parent| inside[parent]);
        inside.push(above || fields::kind(span) == Some(Kind::Load));
    }
    inside
}

/// Replays the loads of a site, and all that is in them, with their time scaled.
fn replayed(evidence: &Evidence<'_>, site: SiteId, scale: f64) -> Option<Replayed> {
    evidence.changed(u64::from(site.0), |tree, scales| {
        let mut inside = vec![false; tree.spans.len()];
        for (index, span) in tree.spans.iter().enumerate() {
            let above = quiet::parent(span, index).is_some_and(|parent| inside[parent]);
            inside[index] = above || span.site.id == site;
            if inside[index] {
                scales[index] = scale;
            }
        }
    })
}

fn found(
    evidence: &Evidence<'_>,
    device: &Device<'_>,
    row: &SiteStats,
    load: Load,
    waiting: Nanos,
) -> Found {
    let mut finding = RULE.about(&row.site);
    let time = total(&row.stats);
    // What is loaded ahead takes no time as long as the device works on what came before.
    let hidden = waiting.min(device.busy());
    device::price(&mut finding, evidence, device.share(hidden), time);
    let scale = 1.0 - hidden.share_of(time).min(1.0);
    if let Some(replayed) = replayed(evidence, row.site.id, scale) {
        finding.saving = finding.saving.map(|model| model.min(replayed.share));
        finding.gain.low = (replayed.low >= 0.01).then(|| 1.0 / (1.0 - replayed.low));
        finding.evidence.insert("replayed_saving", replayed.share);
    }
    finding.severity =
        crate::diagnose::board::ladder(finding.saving.unwrap_or_default(), evidence.thresholds);
    let share = device.share(waiting);
    finding.share = Some(share);
    finding.confidence = Confidence::High;
    finding.evidence.extend([
        ("loads", row.stats.calls as f64),
        ("load_ns", time.0 as f64),
        ("device_idle_share", load.idle_share()),
        ("waiting_ns", waiting.0 as f64),
        ("device_busy_ns", device.busy().0 as f64),
        ("observed_loads", load.count as f64),
    ]);
    let (site, name) = (row.site.name, device.name());
    let percent = wording::percent(share);
    finding.message = format!(
        "{name} has nothing to do in {} of the time that `{site}` loads, seen in {}: it waits {percent} of the run for {} \
         of {} each.",
        wording::percent(load.idle_share()),
        wording::count(load.count, "load"),
        wording::count(row.stats.calls, "load"),
        Nanos(time.0 / row.stats.calls.max(1)),
    );
    finding.recommendation = format!(
        "Load the next batch in `{site}` while the device computes on this one: on a thread of its own, a few batches \
         ahead. It costs memory for those batches, and helps up to the device's own {}; where loading takes longer than \
         computing, load on several threads. Afterwards the pauses during `{site}` are gone.",
        device.busy()
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "{name} waits {percent} of the run for `{site}` to load its data; load the next batch while this one computes."
    );
    Found { finding, lead }
}
