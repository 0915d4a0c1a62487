//! Rules about how work is done, each on trees with a plant, on the healthy twin and at its guards.

mod calls;
mod growth;
mod sharing;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::critical_path::trees;
use crate::diagnose::planted::{Planted, plain, sampled};
use crate::model::{
    KeptTree, Nanos, OperationTree, RootTrees, Site, SiteId, TreeField, TreeSpan, TreeValue,
};

pub(super) const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000_000;

const NAMES: [&str; 6] = ["root", "a", "b", "c", "d", "e"];

/// A tree in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Grown {
    spans: Vec<TreeSpan>,
}

impl Grown {
    /// Adds a span by its number in [`NAMES`], from and to in nanoseconds; returns its index.
    pub(super) fn add(&mut self, site: u32, parent: Option<u32>, from: u64, to: u64) -> u32 {
        let name = NAMES[site as usize];
        let site = Arc::new(Site::new(SiteId(site + 1), name, "app", None, None));
        self.spans
            .push(TreeSpan::new(site, parent, Nanos(from), Nanos(to)));
        (self.spans.len() - 1) as u32
    }

    pub(super) fn last(&mut self) -> &mut TreeSpan {
        self.spans.last_mut().unwrap()
    }

    pub(super) fn field(&mut self, name: &'static str, value: impl Into<Said>) {
        let Said(value) = value.into();
        self.last().fields.push(TreeField { name, value });
    }

    /// Sets when the root ends.
    pub(super) fn root_to(mut self, end: u64) -> Grown {
        self.spans[0].end = Nanos(end);
        self.spans[0].busy = Nanos(end).saturating_sub(self.spans[0].start);
        self
    }
}

pub(super) struct Said(TreeValue);

impl From<u64> for Said {
    fn from(value: u64) -> Said {
        Said(TreeValue::Integer(value.cast_signed()))
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Said {
        Said(TreeValue::Text(text.into()))
    }
}

impl From<bool> for Said {
    fn from(value: bool) -> Said {
        Said(TreeValue::Bool(value))
    }
}

/// Returns the profile that these trees are all of; every site computes but those in `waits`.
pub(super) fn profile(trees: Vec<Grown>, waits: &[&str]) -> Planted {
    let ends = trees.iter().flat_map(|tree| &tree.spans);
    let wall = ends.map(|span| span.end.0).max().unwrap();
    let mut threads: BTreeMap<u32, u64> = BTreeMap::new();
    let mut order: Vec<SiteId> = Vec::new();
    let mut sites: BTreeMap<SiteId, (Arc<Site>, u64, u64, u64)> = BTreeMap::new();
    let mut above: BTreeMap<SiteId, Option<SiteId>> = BTreeMap::new();
    let mut groups: BTreeMap<SiteId, Vec<KeptTree>> = BTreeMap::new();
    for Grown { spans } in trees {
        for (index, span) in spans.iter().enumerate() {
            let on = |child: &&TreeSpan| {
                child.parent == Some(index as u32) && child.thread == span.thread
            };
            let inside: u64 = spans.iter().filter(on).map(|child| child.busy.0).sum();
            if !order.contains(&span.site.id) {
                order.push(span.site.id);
            }
            let row = sites
                .entry(span.site.id)
                .or_insert((Arc::clone(&span.site), 0, 0, 0));
            row.1 += 1;
            row.2 += span.busy.0;
            row.3 += span.busy.0.saturating_sub(inside);
            *threads.entry(span.thread).or_default() += span.busy.0.saturating_sub(inside);
            let parent = span.parent.map(|at| spans[at as usize].site.id);
            above.entry(span.site.id).or_insert(parent);
        }
        let kept = KeptTree::sampled(OperationTree::new(spans));
        let site = kept.tree.spans[0].site.id;
        groups.entry(site).or_default().push(kept);
    }
    let mut planted = Planted::on_threads(threads.len() as u64, wall / MS);
    planted.profile.wall = Nanos(wall);
    for (row, &busy) in planted.profile.threads.iter_mut().zip(threads.values()) {
        row.busy = Nanos(busy);
    }
    planted.profile.split.busy = Nanos(threads.values().sum());
    for (at, id) in order.iter().enumerate() {
        let (site, calls, busy, own) = &sites[id];
        let parent = above[id].and_then(|parent| order[..at].iter().position(|id| *id == parent));
        let mut stats = plain(&[(busy / calls, *calls)]);
        (stats.busy, stats.self_time) = (Nanos(*busy), Nanos(*own));
        let running = if waits.contains(&site.name) { 0 } else { 100 };
        planted = planted.site(site.name, parent, sampled(stats, 100, running));
        // Planted numbers the sites itself.
        planted.profile.sites[at].site = Arc::clone(site);
        planted.profile.paths[at].site = Arc::clone(site);
    }
    planted.profile.trees = groups
        .into_values()
        .map(|kept| RootTrees::new(Arc::clone(&kept[0].tree.spans[0].site), kept))
        .collect();
    planted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the trees and their fields, no promise is above its bound and nothing is not a number.
    #[test]
    fn no_tree_breaks_these_rules(
        trees in prop::collection::vec(trees(), 1..4),
        values in prop::collection::vec((0..8_usize, 0..5_u32, any::<f64>(), any::<bool>()), 1..40),
    ) {
        let mut values = values.into_iter().cycle();
        let mut grown = Vec::new();
        for mut tree in trees {
            for span in &mut tree.spans {
                let (name, number, wild, error) = values.next().unwrap();
                let names = ["n", "len", "cortex.key", "cortex.kind", "cortex.independent"];
                let value = match number {
                    0 => TreeValue::Number(wild),
                    1 => TreeValue::Bool(error),
                    _ => TreeValue::Integer(i64::from(number)),
                };
                if let Some(&name) = names.get(name) {
                    span.fields.push(TreeField { name, value });
                }
                span.error = error;
            }
            grown.push(Grown { spans: tree.spans });
        }
        for finding in profile(grown, &["b"]).diagnosis().findings {
            let gain = finding.gain;
            let factors = [gain.low, gain.likely, gain.bound];
            let factors: Vec<f64> = factors.into_iter().flatten().collect();
            prop_assert!(factors.iter().all(|factor| factor.is_finite() && *factor >= 1.0));
            prop_assert!(factors.is_sorted(), "{finding:#?}");
            prop_assert!(finding.evidence.values().all(|number| number.is_finite()), "{finding:#?}");
            prop_assert!(finding.share.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
    }
}
