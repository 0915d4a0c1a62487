//! CTX108: so many of a kind run at once that each takes longer the more there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::board::{Board, Found, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::{median, spearman};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, OperationTree, SiteId, SiteStats, TreeSpan};

use super::tree;

pub(super) const RULE: Rule = Rule {
    id: "CTX108",
    name: "unbounded-fan-out",
    healthy: "calls do not slow each other down by their number",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
use futures::{stream, StreamExt};
let out: Vec<_> = stream::iter(ids).map(fetch).buffer_unordered(16).collect().await;
";

/// A span whose children cover more than this says nothing itself: they are looked at instead.
const OWN: f64 = 0.9;

/// Up to this much slower than with hardly any others is still fast.
const STILL_FAST: f64 = 1.5;

/// One span: how many of its kind were open when it began, itself included, and for how long it was open from then on.
type Pair = (f64, f64);

/// How the spans of one site crowd each other.
#[derive(Debug, Clone, Copy)]
struct Crowding {
    spans: u64,
    peak: u64,
    correlation: f64,
    chance: f64,
    /// The median times in the least and in the most crowded quarter.
    few: f64,
    many: f64,
    /// The most at which they still are fast.
    limit: u64,
}

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: evidence.trees().next().is_some(),
        ..Outcome::default()
    };
    let mut pairs: BTreeMap<SiteId, Vec<Pair>> = BTreeMap::new();
    let mut limited = BTreeSet::new();
    for weighted in evidence.trees() {
        for (site, spans) in begun(weighted.tree, &mut limited) {
            pairs.entry(site).or_default().extend(in_flight(spans));
        }
    }
    for (site, pairs) in pairs {
        let Some(row) = evidence.site(site).filter(|_| !limited.contains(&site)) else {
            continue;
        };
        if board.has("CTX107", row.site.name) {
            continue;
        }
        if let Some(crowding) = Crowding::of(evidence, &pairs) {
            outcome.found.extend(found(evidence, row, crowding));
        }
    }
    outcome
}

/// Returns from when to when the spans of each site were under way, in the order in which they were made, from their first poll on: before it they wait for a
/// worker. `limited` are sites of which something says that they queue.
fn begun(
    tree: &OperationTree,
    limited: &mut BTreeSet<SiteId>,
) -> BTreeMap<SiteId, Vec<(Nanos, Nanos)>> {
    let children = tree::children(tree);
    let mut begun: BTreeMap<SiteId, Vec<(Nanos, Nanos)>> = BTreeMap::new();
    for (index, span) in tree.spans.iter().enumerate().skip(1) {
        if is_limited(span) {
            limited.insert(span.site.id);
        }
        let own = tree::own_time(tree, index, &children[index]);
        if own.share_of(span.length()) < OWN || span.unfinished {
            continue;
        }
        let from = span
            .activations
            .first()
            .map_or(span.start, |poll| poll.begin);
        begun
            .entry(span.site.id)
            .or_default()
            .push((from.min(span.end), span.end));
    }
    begun
}

fn is_limited(span: &TreeSpan) -> bool {
    let queues = ["queue.", "pool.", "lock."];
    queues.iter().any(|prefix| fields::has_prefix(span, prefix))
        || matches!(fields::kind(span), Some(Kind::Lock | Kind::Queue))
}

/// Counts for each span how many were open when it began.
fn in_flight(mut spans: Vec<(Nanos, Nanos)>) -> Vec<Pair> {
    // Those that began at the same time stay in the order of the tree; by their ends they would seem to crowd each other.
    spans.sort_by_key(|&(from, _)| from);
    let mut ends: Vec<Nanos> = spans.iter().map(|&(_, end)| end).collect();
    ends.sort_unstable();
    let begun = spans.iter().enumerate();
    begun
        .map(|(before, &(from, to))| {
            // Those that began earlier and ended by now; what takes no time at all ends where it begins.
            let ended = ends.partition_point(|&end| end <= from).min(before);
            let open = before - ended + 1;
            (open as f64, to.saturating_sub(from).0 as f64)
        })
        .collect()
}

impl Crowding {
    fn of(evidence: &Evidence<'_>, pairs: &[Pair]) -> Option<Crowding> {
        let thresholds = &evidence.thresholds.tasks;
        let cores = u64::from(evidence.profile.process.cores.unwrap_or(1).max(1));
        let peak = pairs.iter().map(|&(open, _)| open as u64).max()?;
        let least = cores.saturating_mul(thresholds.fan_out_per_core);
        let enough = pairs.len() as u64 >= thresholds.fan_out_spans;
        if !enough || peak < thresholds.fan_out.max(least) {
            return None;
        }
        let correlation = spearman(pairs)?;
        if correlation.rho < thresholds.fan_out_correlation
            || correlation.p >= thresholds.fan_out_chance
        {
            return None;
        }
        let mut sorted = pairs.to_vec();
        sorted.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let quarter = (sorted.len() / 4).max(1);
        let lengths =
            |part: &[Pair]| median(&part.iter().map(|&(_, length)| length).collect::<Vec<_>>());
        let few = lengths(&sorted[..quarter])?;
        let many = lengths(&sorted[sorted.len() - quarter..])?;
        if few <= 0.0 || many < thresholds.fan_out_slowdown * few {
            return None;
        }
        // Doubling steps, as long as they stay fast; what is fast is the first of them.
        let mut limit = 1;
        let mut fastest = None;
        while limit * 2 <= peak {
            let from = sorted.partition_point(|&(open, _)| open < limit as f64);
            let to = sorted.partition_point(|&(open, _)| open < (limit * 2) as f64);
            if let Some(length) = lengths(&sorted[from..to]) {
                let fastest = *fastest.get_or_insert(length);
                if length > STILL_FAST * fastest {
                    break;
                }
            }
            limit *= 2;
        }
        Some(Crowding {
            spans: pairs.len() as u64,
            peak,
            correlation: correlation.rho,
            chance: correlation.p,
            few,
            many,
            limit,
        })
    }
}

fn found(evidence: &Evidence<'_>, row: &SiteStats, crowding: Crowding) -> Option<Found> {
    let id = row.site.id;
    let kept = crowding.few / crowding.many;
    let replayed = evidence.changed(u64::from(id.0), |tree, scales| {
        for (span, scale) in tree.spans.iter().zip(scales).skip(1) {
            if span.site.id == id {
                *scale = kept;
            }
        }
    })?;
    if replayed.share < super::LEAST_SAVING {
        return None;
    }
    let mut finding = RULE.about(&row.site);
    // Those that wait for their turn instead are no faster in all: this is how much slowness it is about, no promise.
    finding.share = Some(replayed.share);
    finding.severity = ladder(replayed.share, evidence.thresholds);
    finding.confidence = Confidence::Medium;
    finding.gain.bound = evidence.cannot_beat(&replayed, 0.0);
    let slower = crowding.many / crowding.few;
    finding.evidence = BTreeMap::from([
        ("spans", crowding.spans as f64),
        ("peak_in_flight", crowding.peak as f64),
        ("correlation", crowding.correlation),
        ("chance", crowding.chance),
        ("few_ns", crowding.few),
        ("many_ns", crowding.many),
        ("limit", crowding.limit as f64),
        ("replayed_share", replayed.share),
    ]);
    let site = row.site.name;
    let lead = format!(
        "Up to {} `{site}` ran at once and each got {} slower as there were more.",
        crowding.peak,
        wording::ratio(slower)
    );
    finding.message = format!(
        "{lead} The quarter that began with the fewest others took {} (median), the one with the most {}; compared in {} \
         spans. The slow-down is {} of {}{}.",
        Nanos(crowding.few as u64),
        Nanos(crowding.many as u64),
        crowding.spans,
        wording::percent(replayed.share),
        evidence.whole.words(),
        evidence.replayed_words()
    );
    finding.recommendation = format!(
        "Bound how many `{site}` run at once; {} were still fast here. That keeps each one short and what it uses small; \
         all of them together take less time only if what they share suffers from the crowd: compare both before and after.",
        crowding.limit
    );
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}
