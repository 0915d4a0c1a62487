//! Parts of trees: siblings, own times, and what follows if some operations took less time.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::diagnose::board::{Board, Claim, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::replay::Replayed;
use crate::diagnose::wording;
use crate::model::{Finding, Nanos, OperationTree, SiteId, SiteStats};

/// The least share that is told.
const LEAST_SAVING: f64 = 0.01;

/// Returns the index of the operation around; one that does not stand before would be a loop.
pub(super) fn parent(tree: &OperationTree, index: usize) -> Option<usize> {
    let parent = tree.spans[index].parent?;
    usize::try_from(parent).ok().filter(|&at| at < index)
}

/// The children of each operation that has any, by their start.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    children: Vec<usize>,
    families: Vec<(usize, Range<usize>)>,
}

impl Siblings {
    pub(super) fn of(tree: &OperationTree) -> Siblings {
        let mut pairs: Vec<(usize, Nanos, usize)> = (1..tree.spans.len())
            .filter_map(|index| Some((parent(tree, index)?, tree.spans[index].start, index)))
            .collect();
        pairs.sort_unstable();
        let mut siblings = Siblings::default();
        for family in pairs.chunk_by(|one, other| one.0 == other.0) {
            let first = siblings.children.len();
            siblings
                .children
                .extend(family.iter().map(|&(.., child)| child));
            let range = first..siblings.children.len();
            siblings.families.push((family[0].0, range));
        }
        siblings
    }

    /// Iterates over parents and their children.
    pub(super) fn families(&self) -> impl Iterator<Item = (usize, &[usize])> {
        let families = self.families.iter();
        families.map(|(parent, range)| (*parent, &self.children[range.clone()]))
    }
}

/// Returns the time of each operation without that of its children, in nanoseconds.
pub(super) fn own_times(tree: &OperationTree) -> Vec<u64> {
    let mut own: Vec<u64> = tree.spans.iter().map(|span| span.length().0).collect();
    for (parent, children) in Siblings::of(tree).families() {
        let around = &tree.spans[parent];
        let (mut covered, mut reached) = (0, around.start.0);
        for &child in children {
            let inside = &tree.spans[child];
            let end = inside.end.0.min(around.end.0);
            covered += end.saturating_sub(inside.start.0.max(reached));
            reached = reached.max(end);
        }
        own[parent] = own[parent].saturating_sub(covered);
    }
    for (own, span) in own.iter_mut().zip(&tree.spans) {
        *own = (*own).min(span.busy.0);
    }
    own
}

/// What would be different: which part of its time would stay of an operation and of all inside it.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// By the address of the tree, which a replay shows again.
    of_tree: BTreeMap<usize, Vec<(usize, f64)>>,
}

impl Change {
    /// Multiplies the time of an operation and of all inside it.
    pub(super) fn scale(&mut self, tree: &OperationTree, index: usize, scale: f64) {
        let scale = if scale.is_finite() { scale } else { 1.0 };
        let changes = self.of_tree.entry(address(tree)).or_default();
        changes.push((index, scale.clamp(0.0, 1.0)));
    }

    fn apply(&self, tree: &OperationTree, scales: &mut [f64]) {
        let Some(changes) = self.of_tree.get(&address(tree)) else {
            return;
        };
        for &(index, scale) in changes {
            scales[index] *= scale;
        }
        for index in 1..scales.len() {
            if let Some(parent) = parent(tree, index) {
                scales[index] *= scales[parent];
            }
        }
    }

    pub(super) fn replayed(&self, evidence: &Evidence<'_>, site: SiteId) -> Option<Replayed> {
        evidence.changed(u64::from(site.0), |tree, scales| self.apply(tree, scales))
    }

    /// Returns the factor that removing the operations, and `beside` of the time between them, cannot beat.
    pub(super) fn ceiling(
        &self,
        evidence: &Evidence<'_>,
        site: SiteId,
        beside: f64,
    ) -> Option<f64> {
        let removed = self.replayed(evidence, site)?;
        evidence.cannot_beat(&removed, beside)
    }

    /// Returns the self time that would vanish, by site, in proportion to what the trees show of each.
    pub(super) fn claims(&self, evidence: &Evidence<'_>) -> Vec<Claim> {
        let mut times: BTreeMap<SiteId, (f64, f64)> = BTreeMap::new();
        let mut scales = Vec::new();
        for weighted in evidence.trees() {
            let tree = weighted.tree;
            scales.clear();
            scales.resize(tree.spans.len(), 1.0);
            self.apply(tree, &mut scales);
            for ((span, own), scale) in tree.spans.iter().zip(own_times(tree)).zip(&scales) {
                let time = times.entry(span.site.id).or_default();
                let own = own as f64 * weighted.roots;
                time.0 += own * (1.0 - scale);
                time.1 += own;
            }
        }
        let vanishing = times
            .into_iter()
            .filter(|(_, (gone, all))| *gone > 0.0 && *all > 0.0);
        vanishing
            .filter_map(|(site, (gone, all))| {
                let row = evidence.site(site)?;
                let time = Nanos((row.stats.self_time.0 as f64 * (gone / all).min(1.0)) as u64);
                Some(Claim { site, time })
            })
            .collect()
    }
}

/// Whether rules that ran before explain nearly all of a site's own time.
pub(super) fn is_explained(evidence: &Evidence<'_>, board: &Board, row: &SiteStats) -> bool {
    let claimed = board.claimed(row.site.id);
    claimed > Nanos::ZERO
        && claimed.share_of(row.stats.self_time) >= evidence.thresholds.claimed_share
}

fn address(tree: &OperationTree) -> usize {
    std::ptr::from_ref(tree).addr()
}

/// Puts a replayed saving into a finding: its severity, its share, its gain and the numbers behind it.
///
/// `sure` is the replay of what can be relied on; `expected` that of what probably happens, if the rule has a model.
pub(super) fn price(
    finding: &mut Finding,
    evidence: &Evidence<'_>,
    sure: Replayed,
    expected: Option<Replayed>,
    ceiling: Option<f64>,
) {
    let worth = expected.unwrap_or(sure);
    finding.saving = Some(worth.share);
    finding.share = Some(worth.share.min(1.0));
    finding.severity = ladder(worth.share, evidence.thresholds);
    let factor = |share: f64| 1.0 / (1.0 - share);
    finding.gain.bound = ceiling;
    finding.gain.low = (sure.low >= LEAST_SAVING && sure.low < 1.0).then(|| factor(sure.low));
    // Where nothing can be relied on, nothing is likely either.
    let likely = expected.filter(|replayed| replayed.share < 1.0 && finding.gain.low.is_some());
    finding.gain.likely = likely.map(|replayed| factor(replayed.share));
    finding.evidence.extend([
        ("replayed_saving", worth.share),
        ("replayed_saving_low", sure.low),
        ("replayed_saving_high", worth.high),
        ("replayed_trees", evidence.replay_trees().0 as f64),
    ]);
}

/// Continues a message: what the change gains, or nothing where nothing is promised.
pub(super) fn gain_words(finding: &Finding, evidence: &Evidence<'_>, doing: &str) -> String {
    let bound = wording::ceiling(finding.gain.bound);
    match (finding.gain.low, bound) {
        (Some(low), bound) => {
            let low = wording::factor(finding.gain.bound.map_or(low, |most| low.min(most)));
            let most = bound.map_or(String::new(), |bound| format!(", at most {bound}"));
            let replayed = evidence.replayed_words();
            format!(" {doing} gives {low}{replayed}{most}.")
        }
        (None, Some(bound)) => format!(" {doing} cannot beat {bound}."),
        (None, None) => String::new(),
    }
}

/// Prints how often something happened, from what sampled trees stand for.
pub(super) fn times(count: f64) -> u64 {
    count.round().max(0.0) as u64
}
