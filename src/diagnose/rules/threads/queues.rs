//! How long items waited in queues and how long they were worked on, out of the sampled trees.

use std::collections::{BTreeMap, BTreeSet};

use super::locks::nanos;
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields;
use crate::diagnose::replay::Replayed;
use crate::diagnose::timeline::Timeline;
use crate::model::{Nanos, OperationTree, SiteId, TreeKind};

/// One queue, in all sampled trees. Times and counts stand for all roots, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) items: f64,
    pub(super) seen: u64,
    pub(super) wait: f64,
    /// From where an item was taken out to the end of its span.
    pub(super) work: f64,
    /// The part of `wait` and `work` of items whose trees do not show the wait: it was over when the tree began.
    pub(super) before_wait: f64,
    pub(super) before_work: f64,
    pub(super) consumers: BTreeSet<u32>,
    pub(super) sites: BTreeMap<SiteId, f64>,
    /// Plain spans that waited for their items.
    pub(super) spent_in: BTreeMap<SiteId, f64>,
    /// When an item was taken out, and how many were in the queue.
    pub(super) depths: Vec<(Nanos, f64)>,
}

/// One item of a queue in one tree.
#[derive(Debug)]
struct Item<'t> {
    name: &'t str,
    span: usize,
    wait: f64,
    /// Which operation waited for it, and for which part of that operation's own time; `None` if it waited elsewhere.
    around: Option<(usize, f64)>,
}

/// Returns all queues, by name.
pub(super) fn queues(evidence: &Evidence<'_>) -> Vec<Queue> {
    let mut queues: BTreeMap<&str, Queue> = BTreeMap::new();
    for weighted in evidence.trees() {
        let tree = weighted.tree;
        for item in items(tree) {
            let span = &tree.spans[item.span];
            let queue = queues.entry(item.name).or_default();
            let (wait, work) = (item.wait * weighted.roots, span.length().0 as f64);
            let work = work * weighted.roots;
            queue.items += weighted.roots;
            queue.seen += 1;
            queue.wait += wait;
            queue.work += work;
            queue.consumers.insert(span.thread);
            *queue.sites.entry(span.site.id).or_default() += wait;
            match item.around {
                Some((around, _)) if tree.spans[around].kind != TreeKind::Async => {
                    let site = tree.spans[around].site.id;
                    *queue.spent_in.entry(site).or_default() += wait;
                }
                Some(_) => {}
                None => {
                    queue.before_wait += wait;
                    queue.before_work += work;
                }
            }
            if let Some(depth) = fields::amount(span, "queue.depth") {
                queue.depths.push((span.start, depth));
            }
        }
    }
    let named = queues.into_iter().map(|(name, queue)| Queue {
        name: name.to_owned(),
        ..queue
    });
    named.collect()
}

impl Queue {
    /// Returns what would vanish if this part of the waiting in the queue did; `None` where no tree shows it.
    pub(super) fn replayed(&self, evidence: &Evidence<'_>, part: f64) -> Option<Replayed> {
        evidence.changed(207, |tree, scales| {
            let items = items(tree);
            for item in items.iter().filter(|item| item.name == self.name) {
                if let Some((around, share)) = item.around {
                    // Several items may have waited at the same time: all of them together, not one after the other.
                    let scale = &mut scales[around];
                    *scale = scale.min((1.0 - part * share).max(0.0));
                }
            }
        })
    }

    /// Returns the share of the whole that is waiting which no tree shows: of an item's time the part in the queue, of the
    /// whole the part in which items were worked on. A queue that costs its consumer next to nothing holds nobody up.
    pub(super) fn before_share(&self, evidence: &Evidence<'_>) -> f64 {
        let time = self.before_wait + self.before_work;
        if time <= 0.0 {
            return 0.0;
        }
        self.before_wait / time * evidence.whole.share(Nanos(self.before_work as u64))
    }

    /// Returns the part of their time that the threads which take items out work on them.
    pub(super) fn utilisation(&self, wall: Nanos) -> Option<f64> {
        let time = wall.0 as f64 * self.consumers.len() as f64;
        (time > 0.0).then(|| (self.work / time).min(1.0))
    }
}

fn items(tree: &OperationTree) -> Vec<Item<'_>> {
    let spans = &tree.spans;
    let waited = |index: usize| nanos(&spans[index], "queue.wait_ns");
    let mut indexes = (0..spans.len())
        .filter(|&index| !spans[index].fields.is_empty() && waited(index).is_some())
        .peekable();
    if indexes.peek().is_none() {
        return Vec::new();
    }
    let timeline = Timeline::of(tree);
    // Of each operation around items, the stretches in which one of them was in the queue.
    let mut waits: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
    let mut items: Vec<Item<'_>> = indexes
        .map(|index| {
            let span = &spans[index];
            let wait = waited(index).unwrap_or(0.0);
            let parent = span.parent.map(|parent| parent as usize);
            let around = parent.filter(|&parent| {
                let since = span.start.saturating_sub(spans[parent.min(index)].start);
                // The clocks of the program and of the tree are read one after the other.
                parent < index && since.0 as f64 >= wait * 0.95 && wait > 0.0
            });
            if let Some(around) = around {
                let from = span.start.0.saturating_sub(wait as u64);
                waits.entry(around).or_default().push((from, span.start.0));
            }
            Item {
                name: fields::text(span, "queue.name").unwrap_or(span.site.name),
                span: index,
                wait,
                around: around.map(|around| (around, 0.0)),
            }
        })
        .collect();
    let shares: BTreeMap<usize, f64> = waits
        .into_iter()
        .map(|(around, waits)| (around, share_of_own(&timeline, around, waits)))
        .collect();
    for item in &mut items {
        if let Some((around, share)) = &mut item.around {
            *share = shares.get(around).copied().unwrap_or(0.0);
        }
    }
    items
}

/// Returns the part of an operation's own time that lies in any of the stretches.
fn share_of_own(timeline: &Timeline, index: usize, mut stretches: Vec<(u64, u64)>) -> f64 {
    stretches.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(stretches.len());
    for (from, to) in stretches {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    let (mut own, mut inside) = (0, 0);
    timeline.own_intervals(index, |from, to| {
        own += to.saturating_sub(from);
        let first = joined.partition_point(|stretch| stretch.1 <= from);
        let overlapping = joined[first..].iter().take_while(|stretch| stretch.0 < to);
        inside += overlapping
            .map(|stretch| stretch.1.min(to).saturating_sub(stretch.0.max(from)))
            .sum::<u64>();
    });
    if own == 0 {
        0.0
    } else {
        inside as f64 / own as f64
    }
}
