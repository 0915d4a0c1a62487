//! CTX204: one site computes alone while threads that share the work elsewhere have nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use super::activity::{Activity, Computes, OfSite};
use super::tree_parts::{Change, gain_words, is_explained, parent, price};
use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome};
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::fields;
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, OperationTree, SiteId, SiteStats, TreeKind};

pub(super) const RULE: Rule = Rule {
    id: "CTX204",
    name: "idle-workers",
    healthy: "no idle threads beside one that computes alone",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
use rayon::prelude::*;
let out: Vec<_> = items.par_iter().map(|item| parse(item)).collect();
";

/// A site that ran beside itself for more than this part of its time is parallel already; a service under little load
/// looks so.
const BESIDE_ITSELF: f64 = 0.01;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.work;
    let mut outcome = Outcome::default();
    let cores = evidence.profile.process.cores.map(u64::from);
    let independent = independent(evidence);
    // Nobody could be idle.
    if independent.is_empty() && evidence.scope.threads() < 2 {
        outcome.looked = evidence.trees().next().is_some();
        return outcome;
    }
    let Some(activity) = Activity::of(evidence).filter(|_| cores != Some(1)) else {
        return outcome;
    };
    outcome.looked = true;
    let wall = evidence.profile.wall.0 as f64;
    let enough =
        |threads: u64| activity.at_least(threads) as f64 >= thresholds.parallel_share * wall;
    let most = activity.width.keys().last().copied().unwrap_or(0);
    let pool = (2..=most).rev().find(|&threads| enough(threads));
    for (&site, times) in &activity.of_site {
        let Some(row) = evidence.site(site) else {
            continue;
        };
        let of_time = |part: u64| part as f64 / times.time.max(1) as f64;
        let alone = of_time(times.alone) >= thresholds.alone_part
            && of_time(times.beside_itself) <= BESIDE_ITSELF
            && times.alone as f64 >= thresholds.alone_share * wall;
        let says_so = independent.contains(&site);
        let workers = match pool {
            Some(pool) => Some(cores.map_or(pool, |cores| cores.min(pool))),
            None if says_so => cores,
            None => None,
        };
        // What waits, or what is explained otherwise, is not made faster by more threads.
        let explained = is_explained(evidence, board, row);
        let Some(workers) = workers.filter(|_| alone && !explained) else {
            continue;
        };
        match (Computes::of(evidence, site), evidence.running(&row.stats)) {
            (Computes::Yes, _) if row.stats.is_async() && !says_so => {}
            (Computes::Yes, _) => {
                if let Some(found) = found(evidence, row, *times, workers, says_so) {
                    let time = row.stats.self_time.saturating_sub(board.claimed(site));
                    outcome.claims.push(Claim { site, time });
                    outcome.found.push(found);
                }
            }
            (Computes::Unknown, Sampled::TooFew(have)) => outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have,
                need: evidence.thresholds.min_cpu_samples,
                what: "on-CPU samples",
            }),
            _ => {}
        }
    }
    outcome
}

/// Returns the sites whose work the program says can be shared: by the site's own word or by that of spans inside.
fn independent(evidence: &Evidence<'_>) -> BTreeSet<SiteId> {
    let mut sites = BTreeSet::new();
    for weighted in evidence.trees() {
        for (index, span) in weighted.tree.spans.iter().enumerate() {
            if fields::flag(span, "cortex.independent") == Some(true) {
                sites.insert(span.site.id);
                if let Some(parent) = parent(weighted.tree, index) {
                    sites.insert(weighted.tree.spans[parent].site.id);
                }
            }
        }
    }
    sites
}

/// The operations of one site in each operation around: their time and the longest.
#[derive(Debug, Default)]
struct Parts(BTreeMap<usize, (u64, u64)>);

impl Parts {
    fn of(tree: &OperationTree, site: SiteId) -> Parts {
        let mut parts = Parts::default();
        for (index, span) in tree.spans.iter().enumerate() {
            if let Some(around) = parent(tree, index).filter(|_| span.site.id == site) {
                let length = span.length().0;
                let (sum, longest) = parts.0.entry(around).or_default();
                *sum = sum.saturating_add(length);
                *longest = length.max(*longest);
            }
        }
        parts
    }

    /// Returns which part of their time stays where threads take the next operation whenever they are done with one:
    /// Graham's bound, for none is cut in two. One alone is all that there is to cut.
    fn shared(&self, around: Option<usize>, threads: f64) -> f64 {
        let parts = around.and_then(|around| self.0.get(&around));
        match parts {
            Some(&(sum, longest)) if longest < sum => {
                let (sum, longest) = (sum as f64, longest as f64);
                ((sum - longest) / threads + longest) / sum
            }
            _ => 1.0 / threads,
        }
    }
}

fn found(
    evidence: &Evidence<'_>,
    row: &SiteStats,
    times: OfSite,
    workers: u64,
    says_so: bool,
) -> Option<Found> {
    let site = row.site.id;
    let mut removed = Change::default();
    let split = |threads: f64, uncut: bool| {
        evidence.changed(u64::from(site.0), |tree, scales| {
            let parts = Parts::of(tree, site);
            for (index, of_span) in scales.iter_mut().enumerate() {
                let span = &tree.spans[index];
                if span.site.id == site && span.kind != TreeKind::Async {
                    *of_span = match uncut {
                        true => parts.shared(parent(tree, index), threads),
                        false => 1.0 / threads,
                    };
                }
            }
        })
    };
    for weighted in evidence.trees() {
        for (index, span) in weighted.tree.spans.iter().enumerate() {
            if span.site.id == site {
                removed.scale(weighted.tree, index, 0.0);
            }
        }
    }
    let wall = evidence.profile.wall;
    let alone = Nanos(times.alone);
    let share = alone.share_of(wall).min(1.0);
    // While it was alone nothing else went on, so that the saving is one of the wall time, whatever the roots add up to.
    let of_wall = |mut replayed: Replayed, part: f64| {
        let whole = evidence.replay.as_ref()?.whole().share_of(wall);
        let most = share * part;
        replayed.share = (replayed.share * whole).min(most);
        replayed.low = (replayed.low * whole).min(most);
        replayed.high = (replayed.high * whole).min(most);
        Some(replayed)
    };
    let threads = workers.max(2) as f64;
    let sure = of_wall(split(2.0, true)?, 0.5)?;
    let expected = of_wall(split(threads, false)?, 1.0 - 1.0 / threads)?;
    if expected.share <= 0.0 {
        return None;
    }
    let mut finding = RULE.about(&row.site);
    let ceiling = removed.ceiling(evidence, site, 0.0);
    price(&mut finding, evidence, sure, Some(expected), ceiling);
    finding.share = Some(share);
    finding.confidence = match says_so {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    finding.evidence.extend([
        ("alone_ns", alone.0 as f64),
        ("alone_share", share),
        ("workers", workers as f64),
    ]);
    let name = row.site.name;
    let percent = wording::percent(share);
    let gain = gain_words(&finding, evidence, "Sharing it between two threads");
    let idle = workers.saturating_sub(1).max(1);
    let lead = format!("`{name}` computes alone for {percent} of the run");
    let others = match says_so {
        true => "the program says that the work can be shared".to_owned(),
        false => format!(
            "{} that share work elsewhere in the run {} nothing to do",
            wording::count(idle, "thread"),
            if idle == 1 { "has" } else { "have" }
        ),
    };
    finding.message = format!("{lead} ({alone}), while {others}.{gain}");
    finding.recommendation = format!(
        "Share the work of `{name}` between threads if its parts do not need each other's results, or let it run while the \
         others are busy: start the next stage on what is ready. Parts should take 50 us or more. Afterwards `{name}` must \
         run on several threads and the run be shorter."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("{lead} ({alone}), while {others}.");
    Some(Found { finding, lead })
}
