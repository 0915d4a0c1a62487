//! What a change to some operations is worth.

use std::collections::BTreeMap;

use super::shape::is_event;
use super::{Measure, parent};
use crate::diagnose::board::{Claim, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::replay::{Replayed, Weighted};
use crate::diagnose::wording::{ceiling, factor};
use crate::model::{Finding, Nanos, OperationTree, SiteId, TreeKind, TreeSpan};

/// The least share of the whole that is told.
const LEAST: f64 = 0.01;

/// By how much some operations of some trees are shortened.
#[derive(Debug, Default)]
pub(crate) struct Scales<'a> {
    trees: BTreeMap<usize, Changed<'a>>,
}

#[derive(Debug)]
struct Changed<'a> {
    tree: &'a OperationTree,
    roots: f64,
    scales: BTreeMap<usize, f64>,
}

impl<'a> Scales<'a> {
    /// Multiplies the time of an operation and of everything inside it.
    pub(crate) fn set(&mut self, tree: Weighted<'a>, index: usize, scale: f64) {
        let changed = self.trees.entry(address(tree.tree)).or_insert(Changed {
            tree: tree.tree,
            roots: tree.roots,
            scales: BTreeMap::new(),
        });
        let scale = match scale.is_finite() {
            true => scale.clamp(0.0, 1.0),
            false => 1.0,
        };
        changed.scales.insert(index, scale);
    }

    /// Takes so much off an operation's own time, and nothing off what is inside it.
    pub(crate) fn take_off(&mut self, tree: Weighted<'a>, index: usize, time: Nanos) {
        let spans = &tree.tree.spans;
        let Some(span) = spans.get(index) else {
            return;
        };
        // They stand by their start.
        let inside = (index + 1..spans.len())
            .take_while(|&at| spans[at].start <= span.end)
            .filter(|&at| parent(tree.tree, at) == Some(index));
        let inside: Vec<usize> = inside.collect();
        let of_children: Nanos = inside.iter().map(|&at| spans[at].length()).sum();
        let own = span.length().saturating_sub(of_children);
        if own == Nanos::ZERO {
            return;
        }
        self.set(tree, index, 1.0 - time.share_of(own).min(1.0));
        for at in inside {
            self.set(tree, at, 1.0);
        }
    }

    /// Returns the same operations, each multiplied by `scale`.
    pub(crate) fn all(&self, scale: f64) -> Scales<'a> {
        self.each(|old| if old < 1.0 { scale } else { 1.0 })
    }

    fn each(&self, scale: impl Fn(f64) -> f64) -> Scales<'a> {
        let trees = self.trees.iter().map(|(&key, changed)| {
            let scales = changed.scales.iter();
            let scales = scales.map(|(&index, &old)| (index, scale(old))).collect();
            let (tree, roots) = (changed.tree, changed.roots);
            let changed = Changed {
                tree,
                roots,
                scales,
            };
            (key, changed)
        });
        Scales {
            trees: trees.collect(),
        }
    }

    fn replay(&self, evidence: &Evidence<'_>, seed: u64) -> Option<Replayed> {
        evidence.changed(seed, |tree, scales| {
            let Some(changed) = self.trees.get(&address(tree)) else {
                return;
            };
            let first = changed.scales.keys().next().copied().unwrap_or(0);
            // A parent stands before its children.
            for index in first..scales.len() {
                let own = changed.scales.get(&index).copied();
                let around = || parent(tree, index).map_or(1.0, |around| scales[around]);
                scales[index] = own.unwrap_or_else(around);
            }
        })
    }

    /// Returns the time of the operations and of everything inside, by callsite, as far as it is shortened: what later
    /// rules need not explain.
    ///
    /// Of spans that are entered that is their self time. Operations that were made out of events have none; their
    /// time is a part of what is around them.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims: BTreeMap<SiteId, f64> = BTreeMap::new();
        for changed in self.trees.values() {
            let spans = &changed.tree.spans;
            let mut busy_inside = vec![Nanos::ZERO; spans.len()];
            for (index, span) in spans.iter().enumerate().skip(1) {
                if let Some(around) = parent(changed.tree, index)
                    && spans[around].thread == span.thread
                {
                    busy_inside[around] = busy_inside[around].saturating_add(span.busy);
                }
            }
            let mut scales: Vec<f64> = Vec::with_capacity(spans.len());
            for (index, span) in spans.iter().enumerate() {
                let around = parent(changed.tree, index);
                let scale = changed.scales.get(&index).copied();
                let scale = scale.unwrap_or_else(|| around.map_or(1.0, |around| scales[around]));
                scales.push(scale);
                if scale < 1.0 {
                    // The length of an async span is what it waits for; nobody else counts that.
                    let event = is_event(span);
                    let own = match span.kind == TreeKind::Async || event {
                        true => span.length().max(span.busy),
                        false => span.busy,
                    };
                    let own = own.saturating_sub(busy_inside[index]);
                    let time = own.0 as f64 * (1.0 - scale) * changed.roots;
                    *claims.entry(span.site.id).or_default() += time;
                    let around = around.map(|around| &spans[around]).filter(|_| event);
                    if let Some(around) = around {
                        let part = part_of_busy(around, span);
                        *claims.entry(around.site.id).or_default() += time * part;
                    }
                }
            }
        }
        let claims = claims.into_iter();
        claims
            .map(|(site, time)| Claim {
                site,
                time: Nanos(time as u64),
            })
            .collect()
    }
}

/// Returns how much of an operation that was made out of an event is busy time of the operation around: all of it where
/// that was entered all the time, and only its polls where a future waited.
fn part_of_busy(around: &TreeSpan, event: &TreeSpan) -> f64 {
    if around.kind != TreeKind::Async {
        return 1.0;
    }
    let polls = || around.activations.iter();
    let sum: Nanos = polls()
        .map(|poll| poll.end.saturating_sub(poll.begin))
        .sum();
    let inside = polls().map(|poll| {
        let (from, to) = (poll.begin.max(event.start), poll.end.min(event.end));
        to.saturating_sub(from)
    });
    // Where polls were merged they contain what was between them.
    let dense = around.busy.share_of(sum).min(1.0);
    inside.sum::<Nanos>().share_of(event.length()).min(1.0) * dense
}

fn address(tree: &OperationTree) -> usize {
    std::ptr::from_ref(tree).addr()
}

/// What a change is worth, as a replay says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Price {
    /// Without the operations at all.
    pub(crate) full: Replayed,
    /// With the recommended change.
    pub(crate) change: Replayed,
}

impl Price {
    /// Prices a change; `None` without enough trees.
    pub(crate) fn of(
        evidence: &Evidence<'_>,
        seed: u64,
        full: &Scales<'_>,
        change: &Scales<'_>,
    ) -> Option<Price> {
        Some(Price {
            full: full.replay(evidence, seed)?,
            change: change.replay(evidence, seed)?,
        })
    }

    /// Takes off what the change saves a share that stays anyhow.
    pub(crate) fn without(mut self, share: f64) -> Price {
        let change = &mut self.change;
        for saved in [&mut change.share, &mut change.low, &mut change.high] {
            *saved = (*saved - share).max(0.0);
        }
        self
    }

    /// Whether it is worth telling.
    pub(crate) fn is_worth_it(&self) -> bool {
        self.change.share >= LEAST
    }

    /// Fills in what a finding says about the gain. `likely` is the share that a model says the change saves.
    pub(crate) fn fill(&self, finding: &mut Finding, evidence: &Evidence<'_>, likely: Option<f64>) {
        let saving = self.change.share;
        finding.saving = Some(saving);
        finding.severity = ladder(saving, evidence.thresholds);
        let times = |share: f64| 1.0 / (1.0 - share);
        let told = |share: f64| (LEAST..1.0).contains(&share);
        finding.gain.low = Some(self.change.low).filter(|&low| told(low)).map(times);
        finding.gain.likely = likely.filter(|&share| told(share)).map(times);
        finding.gain.bound = evidence.cannot_beat(&self.full, 0.0);
        let trees = evidence.replay_trees().0;
        finding.evidence.extend([
            ("replayed_saving", saving),
            ("replayed_saving_low", self.change.low),
            ("replayed_saving_high", self.change.high),
            ("replayed_trees", trees as f64),
        ]);
    }
}

impl Price {
    /// Puts a finding where this saving belongs, which may be another one than that of the promised change.
    pub(crate) fn rank(&self, finding: &mut Finding, evidence: &Evidence<'_>, saving: f64) {
        finding.saving = Some(saving);
        finding.severity = ladder(saving, evidence.thresholds);
        finding.evidence.insert("replayed_saving", saving);
    }
}

/// Returns a time as a share of what the replay's shares are of.
pub(crate) fn share_of_whole(evidence: &Evidence<'_>, time: f64) -> f64 {
    let whole = evidence
        .replay
        .as_ref()
        .map_or(0.0, |replay| replay.whole().0 as f64);
    match whole > 0.0 {
        true => (time / whole).min(1.0),
        false => 0.0,
    }
}

/// Continues a message with what the change saves and what is the most that can be saved.
pub(crate) fn gain_words(finding: &Finding, evidence: &Evidence<'_>, change: &str) -> String {
    let replayed = evidence.replayed_words();
    let low = finding.gain.low.map(factor);
    let bound = ceiling(finding.gain.bound);
    match (low, bound) {
        (Some(low), Some(bound)) => {
            format!(" {change} gives {low}{replayed}; more than {bound} cannot be had.")
        }
        (Some(low), None) => format!(" {change} gives {low}{replayed}."),
        (None, Some(bound)) => format!(" More than {bound} cannot be had."),
        (None, None) => String::new(),
    }
}

/// Fills in the figures of the calls that a finding is about.
pub(crate) fn figures(finding: &mut Finding, measure: &Measure) {
    finding.evidence.extend([
        ("calls", measure.count),
        ("calls_seen", measure.seen as f64),
        ("total_ns", measure.total),
        ("mean_ns", measure.mean().0 as f64),
    ]);
}
