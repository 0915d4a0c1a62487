//! CTX107: work is handed to other threads in pieces so small that handing over costs more than the work.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteStats, ThreadStats, TreeKind};

use super::tree;

pub(super) const RULE: Rule = Rule {
    id: "CTX107",
    name: "tiny-parallel-tasks",
    healthy: "tasks are large beside what handing them over costs",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
use rayon::prelude::*;
let s: u64 = v.par_iter().with_min_len(4096).map(|x| f(x)).sum();
";

/// From this part of all activations on its threads on, a site is what these threads are there for.
const MOST: f64 = 0.9;

/// Threads that got parts of equal size, up to this share, had their work dealt out and did not fetch it piece by piece.
const EQUAL: f64 = 0.01;

/// How the tasks were seen to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handover {
    /// In trees, on another thread than what is around them.
    Seen,
    /// Nothing is around them, and the threads did unequal numbers of them.
    Likely,
}

/// What a task costs.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Inside it, on average.
    busy: Nanos,
    /// CPU time outside all spans for each, without the layer's own.
    over: Nanos,
    /// The CPU time of all hand-overs as a share of the process's.
    share: f64,
    /// CPU time of the threads as a share of the time for which they were there.
    used: f64,
    threads: usize,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.tasks;
    let mut outcome = Outcome {
        looked: evidence.scope.threads() > 1 && evidence.sites().next().is_some(),
        ..Outcome::default()
    };
    for row in evidence.sites() {
        if row.stats.calls < thresholds.tiny_tasks.max(1)
            || row.threads < 2
            || !is_tiny(evidence, row)
        {
            continue;
        }
        let threads = threads_of(evidence, row);
        let Some(handover) = handover(evidence, row, &threads) else {
            continue;
        };
        let Some(cost) = Cost::of(evidence, row, &threads) else {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have: 0,
                need: threads.len() as u64,
                what: "CPU times of threads",
            });
            continue;
        };
        let dear = cost.over.share_of(cost.busy) >= thresholds.tiny_overhead;
        // More than that no pool needs: it is code without spans.
        let plausible = cost.over <= Nanos::from(thresholds.tiny_handover);
        if dear && plausible && cost.share >= thresholds.tiny_share {
            outcome.claims.push(Claim {
                site: row.site.id,
                time: row.stats.self_time,
            });
            outcome.found.push(found(evidence, row, cost, handover));
        }
    }
    outcome
}

/// Whether half of the tasks take next to no time and none waits for anything.
fn is_tiny(evidence: &Evidence<'_>, row: &SiteStats) -> bool {
    let stats = &row.stats;
    let most = Nanos::from(evidence.thresholds.tasks.tiny_task);
    if stats.is_async() {
        // One poll, and one more enter to drop the future; what is polled again awaits something.
        let once = stats.activations <= stats.spans.saturating_mul(2);
        return once && Nanos(stats.busy.0 / stats.calls.max(1)) < most;
    }
    stats.activation.quantiles.p50 < most
}

/// Returns how long a task takes without the few that lost their core meanwhile, which would hide what lies between them.
fn usual(row: &SiteStats) -> Nanos {
    let stats = &row.stats;
    let mean = Nanos(stats.busy.0 / stats.calls.max(1));
    match stats.is_async() {
        true => mean,
        false => stats.activation.quantiles.p50.min(mean),
    }
}

/// Returns the threads that run many of the tasks.
fn threads_of<'a>(evidence: &Evidence<'a>, row: &SiteStats) -> Vec<&'a ThreadStats> {
    let least = evidence.thresholds.tasks.tiny_tasks / (4 * u64::from(row.threads.max(1)));
    let threads = evidence.profile.threads.iter();
    threads
        .filter(|thread| thread.activations >= least.max(1))
        .collect()
}

fn handover(
    evidence: &Evidence<'_>,
    row: &SiteStats,
    threads: &[&ThreadStats],
) -> Option<Handover> {
    let all: u64 = threads
        .iter()
        .fold(0, |sum, thread| sum.saturating_add(thread.activations));
    if threads.len() < 2 || (row.stats.activations as f64) < MOST * all as f64 {
        return None;
    }
    if is_seen_elsewhere(evidence, row) {
        return Some(Handover::Seen);
    }
    let mut paths = 0..evidence.profile.paths.len();
    let has_parent = paths.any(|index| {
        evidence.path(index).site.id == row.site.id && evidence.parent(index).is_some()
    });
    let counts = threads.iter().map(|thread| thread.activations);
    let (least, most) = (counts.clone().min()?, counts.max()?);
    let unequal = (most - least) as f64 > EQUAL * most as f64;
    (!has_parent && unequal).then_some(Handover::Likely)
}

/// Whether most of these spans in the trees ran on another thread than what is around them.
fn is_seen_elsewhere(evidence: &Evidence<'_>, row: &SiteStats) -> bool {
    let (mut inside, mut elsewhere) = (0_u64, 0_u64);
    // A tree of so many tasks may well be cut off.
    let groups = evidence.profile.trees.iter();
    for kept in groups.flat_map(|group| &group.kept) {
        for (index, span) in kept.tree.spans.iter().enumerate() {
            if span.site.id != row.site.id {
                continue;
            }
            let Some(parent) = tree::parent(span, index) else {
                continue;
            };
            inside += 1;
            elsewhere += u64::from(match span.kind {
                TreeKind::Async => tree::is_spawned(&kept.tree, index),
                _ => span.thread != kept.tree.spans[parent].thread,
            });
        }
    }
    inside > 0 && elsewhere * 2 > inside
}

impl Cost {
    /// `None` where the CPU time of a thread is not known.
    fn of(evidence: &Evidence<'_>, row: &SiteStats, threads: &[&ThreadStats]) -> Option<Cost> {
        let busy = usual(row);
        let mut cpu = Nanos::ZERO;
        let mut outside = Nanos::ZERO;
        let mut observed = Nanos::ZERO;
        for thread in threads {
            let used = thread.cpu?;
            cpu = cpu.saturating_add(used);
            let inside = Nanos(thread.activations.saturating_mul(busy.0)).min(thread.busy);
            outside = outside.saturating_add(used.saturating_sub(inside));
            observed = observed.saturating_add(thread.observed);
        }
        let tasks = row.stats.calls.max(1);
        let layer = evidence.profile.overhead.span_ns.max(0.0) as u64;
        let over = Nanos(outside.0 / tasks).saturating_sub(Nanos(layer));
        let of = evidence.profile.process.cpu.unwrap_or(cpu).max(cpu);
        Some(Cost {
            busy,
            over,
            share: Nanos(over.0.saturating_mul(tasks)).share_of(of).min(1.0),
            used: cpu.share_of(observed).min(1.0),
            threads: threads.len(),
        })
    }
}

fn found(evidence: &Evidence<'_>, row: &SiteStats, cost: Cost, handover: Handover) -> Found {
    let thresholds = &evidence.thresholds.tasks;
    let mut finding = RULE.about(&row.site);
    let tasks = row.stats.calls;
    // So many in one leave the work as it is and hand it over less often.
    let work = Nanos::from(thresholds.task_work);
    let together = work.0.div_ceil(cost.busy.0.max(1)).max(2);
    let saved = cost.share * (1.0 - 1.0 / together as f64);
    finding.share = Some(cost.share);
    finding.severity = ladder(saved, evidence.thresholds);
    finding.confidence = match handover {
        Handover::Seen => Confidence::Medium,
        Handover::Likely => Confidence::Low,
    };
    // Threads that wait for tasks are not what the program waits for.
    let saturated = cost.used >= thresholds.saturated_workers;
    finding.gain.likely = super::factor(saved).filter(|_| saturated);
    finding.evidence = BTreeMap::from([
        ("tasks", tasks as f64),
        ("busy_per_task_ns", cost.busy.0 as f64),
        ("overhead_per_task_ns", cost.over.0 as f64),
        ("overhead_share", cost.share),
        ("threads", cost.threads as f64),
        ("tasks_together", together as f64),
    ]);
    let site = row.site.name;
    let lead = format!(
        "`{site}` was split into {tasks} tasks of about {} each; handing one over costs {}.",
        cost.busy, cost.over
    );
    finding.message = format!(
        "{lead} That is CPU time outside all spans on the {} threads that ran them, {} of the process's CPU time.",
        cost.threads,
        wording::percent(cost.share)
    );
    let gain = match finding.gain.likely {
        Some(likely) => format!(
            "The threads have no time to spare, so that makes it about {} as fast.",
            wording::factor(likely)
        ),
        None => "What that gains in time depends on what the threads wait for.".to_owned(),
    };
    finding.recommendation = format!(
        "Give each task of `{site}` at least {work} of work, which is about {together} of them in one. {gain} Compare the \
         process's CPU time before and after."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
