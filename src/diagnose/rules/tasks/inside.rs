//! What plain spans do inside the polls of an async site, and not on a thread of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnose::evidence::Evidence;
use crate::model::{Activation, Nanos, OperationTree, Site, SiteId, Stats, TreeKind, TreeSpan};

use super::ran::RanEvidence;
use super::tree;

/// What a site did as a plain span below one async site.
#[derive(Debug)]
pub(super) struct Inner<'a> {
    pub(super) site: &'a Arc<Site>,
    pub(super) parts: Vec<&'a Stats>,
    /// The part of its time that was inside a poll.
    pub(super) in_polls: f64,
}

/// What stands below an async site in the call tree, down to the next async site.
#[derive(Debug, Default)]
pub(super) struct Below<'a> {
    pub(super) plain: BTreeMap<SiteId, Inner<'a>>,
    /// Time in polls of async spans inside.
    pub(super) nested: Nanos,
    pub(super) own: RanEvidence,
}

impl<'a> Below<'a> {
    pub(super) fn of(evidence: &Evidence<'a>, owner: SiteId, seen: &Seen) -> Below<'a> {
        let mut below = Below::default();
        // Paths, each with the least part of it that must be inside a poll.
        let mut pending = Vec::new();
        // By site, the time that must be inside polls.
        let mut least: BTreeMap<SiteId, f64> = BTreeMap::new();
        for index in 0..evidence.profile.paths.len() {
            let path = evidence.path(index);
            if path.site.id == owner {
                below.own.add(RanEvidence::of(&path.stats));
                pending.extend(inside_of(evidence, index, 1.0));
            }
        }
        while let Some((index, part)) = pending.pop() {
            let path = evidence.path(index);
            if evidence.is_async(path.site.id) {
                below.nested = below.nested.saturating_add(path.stats.busy);
                continue;
            }
            let inner = below.plain.entry(path.site.id).or_insert(Inner {
                site: &path.site,
                parts: Vec::new(),
                in_polls: 0.0,
            });
            inner.parts.push(&path.stats);
            *least.entry(path.site.id).or_default() += part * path.stats.busy.0 as f64;
            pending.extend(inside_of(evidence, index, part));
        }
        for (id, inner) in &mut below.plain {
            let all: Nanos = inner.parts.iter().map(|stats| stats.busy).sum();
            let least = least
                .get(id)
                .map_or(0.0, |least| least / all.0.max(1) as f64);
            inner.in_polls = seen.in_polls(owner, *id).unwrap_or(least).clamp(0.0, 1.0);
        }
        below
    }
}

/// Returns the paths below one, each with the least part of its time that is inside what is above it: self time is
/// what no span on the same thread took, so that the rest is the time of all spans entered there.
fn inside_of(
    evidence: &Evidence<'_>,
    index: usize,
    part: f64,
) -> impl Iterator<Item = (usize, f64)> {
    let busy = |index: usize| evidence.path(index).stats.busy;
    let around = &evidence.path(index).stats;
    let entered = around.busy.saturating_sub(around.self_time);
    let all: Nanos = evidence.children(index).iter().map(|&at| busy(at)).sum();
    evidence.children(index).iter().map(move |&at| {
        let others = all.saturating_sub(busy(at));
        let least = entered.saturating_sub(others).share_of(busy(at)).min(1.0);
        (at, part * least)
    })
}

/// What the trees say of plain spans below async ones: by both sites, the time inside polls and all of it.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<(SiteId, SiteId), (f64, f64)>);

impl Seen {
    pub(super) fn of(evidence: &Evidence<'_>) -> Seen {
        let mut seen = Seen::default();
        for weighted in evidence.trees() {
            for (index, span) in weighted.tree.spans.iter().enumerate() {
                if let Some(owner) = owner(weighted.tree, index) {
                    let times = seen.0.entry((owner.site.id, span.site.id)).or_default();
                    let time = span.busy.0 as f64 * weighted.roots;
                    times.1 += time;
                    if is_inside(span, owner) {
                        times.0 += time;
                    }
                }
            }
        }
        seen
    }

    /// Returns the part of a plain site's time that was inside polls; `None` if no tree shows any.
    fn in_polls(&self, owner: SiteId, site: SiteId) -> Option<f64> {
        let &(inside, all) = self.0.get(&(owner, site))?;
        (all > 0.0).then(|| inside / all)
    }
}

/// Returns the innermost async operation around a plain one.
fn owner(tree: &OperationTree, index: usize) -> Option<&TreeSpan> {
    if tree.spans[index].kind == TreeKind::Async {
        return None;
    }
    let above = |&at: &usize| tree::parent(&tree.spans[at], at);
    std::iter::successors(above(&index), above)
        .map(|at| &tree.spans[at])
        .find(|around| around.kind == TreeKind::Async)
}

/// Whether a plain operation ran inside a poll of an async one, on the same thread.
fn is_inside(span: &TreeSpan, owner: &TreeSpan) -> bool {
    let during = |poll: &&Activation| (poll.begin..=poll.end).contains(&span.start);
    let mut polls = owner.activations.iter();
    if tree::has_all_polls(owner) {
        polls.any(|poll| during(&poll) && poll.thread == span.thread)
    } else {
        // Of several that became one only the first one's thread is known.
        polls.clone().any(|poll| during(&poll)) && polls.any(|poll| poll.thread == span.thread)
    }
}
