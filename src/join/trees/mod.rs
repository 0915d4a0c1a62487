//! Whole trees of operations, put together out of the records of sampled roots.
//!
//! | file | holds |
//! |---|---|
//! | `raw` | one operation as it waits for its tree |
//! | `queries` | operations out of events that say how long a query took |
//! | `pending` | operations whose root has not ended |
//! | `kept` | which trees are kept, and how much memory they may take |
//! | `build` | from records to an [`OperationTree`](crate::OperationTree) |

mod build;
mod kept;
mod pending;
mod queries;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use self::kept::Kept;
use self::pending::Pending;
use self::queries::Queries;
use self::raw::{Raw, RawTree};
use crate::model::{
    EventRecord, KeptTree, Nanos, Profile, RootTrees, Site, SiteId, SpanKind, SpanRecord, TreeKind,
};

/// The most operations of one tree; a request has tens to hundreds of them. Beyond it the tree is truncated.
const MAX_SPANS: usize = 10_000;

/// Puts trees together and keeps a sample of them; fed by one thread at a time.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    pending: Pending,
    /// Roots that ended in this round, and in the one before: what happened inside them is complete one round later.
    arriving: Vec<Raw>,
    /// Async spans that ended in this round: threads are read one after the other, and polls on others may come later.
    ended: Vec<Raw>,
    waiting: Vec<Raw>,
    kept: Kept,
    sites: Sites,
    /// Roots of which the capture stopped taking notes.
    cut: HashSet<u64>,
    /// When records were lost, as intervals; the oldest are merged.
    gaps: VecDeque<(Nanos, Nanos)>,
    last_round: Nanos,
    taken: u64,
}

/// The callsites of operations, and the stand-ins for those of operations that were made out of events.
#[derive(Debug, Default)]
struct Sites {
    known: Vec<Option<Arc<Site>>>,
    queries: Queries,
}

impl Sites {
    fn get(&self, id: SiteId) -> Option<&Arc<Site>> {
        let known = self.known.get(id.0 as usize).and_then(Option::as_ref);
        known.or_else(|| self.queries.site(id))
    }
}

/// How many intervals of loss are told apart.
const MAX_GAPS: usize = 256;
/// How many roots may be known as cut whose end has not come.
const MAX_CUT: usize = 4096;

impl Trees {
    /// Takes the records of one thread.
    pub(crate) fn take(&mut self, spans: &[SpanRecord<'_>], events: &[EventRecord<'_>]) {
        for record in events.iter().filter(|record| record.traced) {
            self.taken += 1;
            let query = self.sites.queries.operation(record);
            if let Some(lost) = query.and_then(|query| self.pending.add(query)) {
                self.note_gap(lost.0, lost.1);
            }
        }
        for record in spans.iter().filter(|record| record.traced) {
            self.taken += 1;
            self.note_site(record.site);
            if record.kind == SpanKind::Poll {
                self.pending.poll(record);
                continue;
            }
            let raw = Raw::of(record);
            match raw.kind {
                TreeKind::Async => self.ended.push(raw),
                _ => self.put(raw),
            }
        }
    }

    fn put(&mut self, raw: Raw) {
        if raw.parent == 0 {
            self.arriving.push(raw);
        } else if let Some(lost) = self.pending.add(raw) {
            self.note_gap(lost.0, lost.1);
        }
    }

    /// Ends a round at the time `now`: puts the trees together whose root ended in the round before. `cut` are roots
    /// whose tree the capture stopped, `lost` says whether records were lost since the last round.
    pub(crate) fn end_round(&mut self, now: Nanos, cut: Vec<u64>, lost: bool) {
        if self.cut.len() < MAX_CUT {
            self.cut.extend(cut);
        }
        if lost {
            self.note_gap(self.last_round, now);
        }
        self.last_round = now;
        for raw in std::mem::take(&mut self.ended) {
            let raw = self.pending.complete(raw);
            self.put(raw);
        }
        let due = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.arriving));
        for root in due {
            self.finish(root);
        }
    }

    fn finish(&mut self, root: Raw) {
        let (start, end, site) = (root.start, root.end, root.site);
        let was_cut = self.cut.remove(&root.seq);
        let (spans, whole) = self.pending.gather(root, MAX_SPANS);
        let gap = self
            .gaps
            .iter()
            .any(|&(from, to)| from <= end && start <= to);
        let tree = RawTree::new(spans, was_cut || gap || !whole);
        self.kept.offer(site, tree);
    }

    fn note_gap(&mut self, from: Nanos, to: Nanos) {
        self.gaps.push_back((from, to));
        if self.gaps.len() > MAX_GAPS
            && let (Some(oldest), Some(next)) = (self.gaps.pop_front(), self.gaps.front_mut())
        {
            next.0 = next.0.min(oldest.0);
            next.1 = next.1.max(oldest.1);
        }
    }

    fn note_site(&mut self, site: &Site) {
        let index = site.id.0 as usize;
        let known = &mut self.sites.known;
        if known.len() <= index {
            known.resize(index + 1, None);
        }
        if let Some(place) = known.get_mut(index)
            && place.is_none()
        {
            *place = Some(Arc::new(site.clone()));
        }
    }

    /// Returns how many records were taken since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Forgets the trees, as after a reset.
    pub(crate) fn reset(&mut self) {
        self.kept = Kept::default();
        self.pending.reset_counts();
    }

    /// Puts the trees into a profile.
    pub(crate) fn fill(&self, profile: &mut Profile) {
        profile.losses.stray_records = self.pending.strays();
        let mut roots: BTreeMap<SiteId, (u64, Nanos)> = BTreeMap::new();
        for path in profile.paths.iter().filter(|path| path.parent.is_none()) {
            let stats = &path.stats;
            let wall = stats
                .latency
                .as_ref()
                .map_or(stats.busy, |latency| latency.sum.max(stats.busy));
            let known = roots.entry(path.site.id).or_default();
            known.0 += stats.calls;
            known.1 = known.1.saturating_add(wall);
        }
        let groups = self.kept.groups().filter_map(|(id, group)| {
            let site = Arc::clone(self.sites.get(id)?);
            let mut kept: Vec<KeptTree> = group
                .trees()
                .map(|(tree, sampled, slowest)| KeptTree {
                    tree: build::tree(tree, &self.sites),
                    open: tree.wall,
                    sampled,
                    slowest,
                })
                .collect();
            kept.sort_by_key(|kept| kept.tree.spans.first().map(|root| root.start));
            let (in_all, wall) = roots.get(&id).copied().unwrap_or_default();
            let of_kept: Nanos = kept.iter().map(|kept| kept.open).sum();
            Some(RootTrees {
                site,
                roots: in_all.max(group.seen()),
                wall: wall.max(of_kept),
                seen: group.seen(),
                kept,
            })
        });
        profile.trees = groups.collect();
        profile.trees.sort_by(|one, other| {
            other
                .wall
                .cmp(&one.wall)
                .then(one.site.id.cmp(&other.site.id))
        });
    }
}
