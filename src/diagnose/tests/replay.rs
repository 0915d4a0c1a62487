//! A replay changes what it is told to, exactly where the order is known, and never promises more than the bound.

use proptest::prelude::*;

use super::critical_path::{MS, on, span, trees};
use crate::diagnose::timeline::Timeline;
use crate::model::{Nanos, OperationTree, SiteId, TreeSpan};

/// Returns how long the root takes if the own time of the site with this number is multiplied by `scale`.
fn replayed(tree: &OperationTree, site: u32, scale: f64) -> f64 {
    let timeline = Timeline::of(tree);
    let scale = |index: usize| match timeline.nodes[index].site == SiteId(site + 1) {
        true => scale,
        false => 1.0,
    };
    timeline.replay(scale, &mut Vec::new())
}

/// What a replay saves, in milliseconds.
fn saved(tree: &OperationTree, site: u32, scale: f64) -> f64 {
    (tree.wall().0 as f64 - replayed(tree, site, scale)) / MS as f64
}

/// The time in which the own code or wait of a site was active, counted tick by tick.
fn active(tree: &OperationTree, site: u32, tick: u64) -> u64 {
    let timeline = Timeline::of(tree);
    let mut intervals = Vec::new();
    for (index, node) in timeline.nodes.iter().enumerate() {
        if node.site == SiteId(site + 1) {
            timeline.own_intervals(index, |from, to| intervals.push((from, to)));
        }
    }
    let is_in = |at: u64| intervals.iter().any(|&(from, to)| from <= at && at < to);
    (0..tree.wall().0 / tick)
        .filter(|&at| is_in(at * tick))
        .count() as u64
        * tick
}

#[test]
fn in_a_chain_the_own_time_of_a_site_is_what_vanishes() {
    let tree = OperationTree::new(vec![
        span(0, None, 0, 100),
        span(1, Some(0), 10, 40),
        span(2, Some(1), 20, 30),
        span(1, Some(0), 50, 90),
    ]);
    assert_eq!(saved(&tree, 1, 0.0), 60.0);
    assert_eq!(saved(&tree, 1, 0.5), 30.0);
    assert_eq!(saved(&tree, 0, 0.0), 30.0);
    assert_eq!(saved(&tree, 2, 0.25), 7.5);
    assert_eq!(saved(&tree, 4, 0.0), 0.0);
}

#[test]
fn of_children_side_by_side_only_the_longest_matters_down_to_the_next() {
    let tree = OperationTree::new(vec![
        span(0, None, 0, 100),
        on(1, span(1, Some(0), 10, 100)),
        on(2, span(2, Some(0), 10, 100 - 30)),
    ]);
    let mut tree = tree;
    // The root waited for both, as a join does.
    tree.spans[2].thread = 0;
    assert_eq!(saved(&tree, 1, 0.0), 30.0);
    assert_eq!(saved(&tree, 1, 0.9), 9.0);
    assert_eq!(saved(&tree, 2, 0.0), 0.0);
}

#[test]
fn a_writer_in_the_background_saves_nothing() {
    let tree = OperationTree::new(vec![span(0, None, 0, 100), on(1, span(1, Some(0), 1, 98))]);
    assert_eq!(saved(&tree, 1, 0.0), 0.0);
    assert_eq!(saved(&tree, 0, 0.0), 100.0);
}

/// A program in phases: everything of a phase runs at the same time, and the next phase waits for all of it.
#[derive(Debug, Clone)]
struct Work {
    site: u32,
    after: u64,
    phases: Vec<(u64, Vec<Work>)>,
}

impl Work {
    /// Runs it from `start`; returns its end.
    fn run(
        &self,
        start: f64,
        scale: &dyn Fn(u32) -> f64,
        parent: Option<u32>,
        spans: &mut Vec<TreeSpan>,
    ) -> f64 {
        let own = spans.len();
        spans.push(span(self.site, parent, 0, 0));
        let mut at = start;
        for (before, side_by_side) in &self.phases {
            at += *before as f64 * scale(self.site);
            let ends = side_by_side
                .iter()
                .map(|work| work.run(at, scale, Some(own as u32), spans));
            at = ends.fold(at, f64::max);
        }
        at += self.after as f64 * scale(self.site);
        spans[own].start = Nanos(start as u64);
        spans[own].end = Nanos(at as u64);
        at
    }
}

fn programs() -> impl Strategy<Value = Work> {
    let leaf = (0..5_u32, 1..50_u64).prop_map(|(site, after)| Work {
        site,
        after: after * MS,
        phases: Vec::new(),
    });
    leaf.prop_recursive(4, 40, 4, |inner| {
        let phase = (1..20_u64, prop::collection::vec(inner, 0..4));
        let phase = phase.prop_map(|(before, works)| (before * MS, works));
        (0..5_u32, 0..50_u64, prop::collection::vec(phase, 0..4)).prop_map(
            |(site, after, phases)| Work {
                site,
                after: after * MS,
                phases,
            },
        )
    })
}

/// The definition, word by word, in quadratic time and tick by tick.
fn by_definition(tree: &OperationTree, index: usize, scale: &dyn Fn(u32) -> f64, tick: u64) -> f64 {
    let timeline = Timeline::of(tree);
    let node = timeline.nodes[index];
    let own_scale = scale(node.site.0 - 1);
    let mut children: Vec<usize> = (1..tree.spans.len())
        .filter(|&child| {
            tree.spans[child].parent == Some(index as u32) && timeline.nodes[child].awaited
        })
        .collect();
    let times = |at: usize| (timeline.nodes[at].start, timeline.nodes[at].end);
    children.sort_by_key(|&child| (times(child), child));
    let is_own = |at: u64| {
        !children
            .iter()
            .any(|&child| times(child).0 <= at && at < times(child).1)
    };
    let stretch = |from: u64, to: u64| {
        let ticks = (from / tick)..(to / tick);
        let parts = ticks.map(|at| match is_own(at * tick) {
            true => tick as f64 * own_scale,
            false => tick as f64,
        });
        parts.sum::<f64>()
    };
    let mut ends: Vec<(u64, f64)> = Vec::new();
    for &child in &children {
        let (start, end) = times(child);
        let before = ends.iter().filter(|(old, _)| *old <= start);
        let (old, new) = before.fold((node.start, 0.0_f64), |(old, new), &(end, moved)| {
            (old.max(end), new.max(moved))
        });
        let moved = new + stretch(old, start) + by_definition(tree, child, scale, tick);
        ends.push((end, moved));
    }
    let (old, new) = ends
        .iter()
        .fold((node.start, 0.0_f64), |(old, new), &(end, moved)| {
            (old.max(end), new.max(moved))
        });
    new + stretch(old, node.end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_program_in_phases_is_replayed_exactly(program in programs(), site in 0..5_u32, part in 0..5_u32) {
        let scale = f64::from(part) / 4.0;
        let mut spans = Vec::new();
        program.run(0.0, &|_| 1.0, None, &mut spans);
        let tree = OperationTree::new(spans);
        let changed = program.run(0.0, &|at| if at == site { scale } else { 1.0 }, None, &mut Vec::new());
        let replayed = replayed(&tree, site, scale);
        prop_assert!((replayed - changed).abs() < 1.0, "{} instead of {}", replayed, changed);
    }

    #[test]
    fn removing_nothing_changes_nothing(tree in trees()) {
        prop_assert_eq!(replayed(&tree, 9, 0.0), tree.wall().0 as f64);
        for site in 0..5 {
            prop_assert_eq!(replayed(&tree, site, 1.0), tree.wall().0 as f64);
        }
    }

    #[test]
    fn no_site_saves_more_than_it_was_active(tree in trees()) {
        for site in 0..5 {
            let saved = tree.wall().0 as f64 - replayed(&tree, site, 0.0);
            let most = active(&tree, site, 10 * MS);
            prop_assert!(saved >= 0.0 && saved <= most as f64 + 0.1, "{} of {}", saved, most);
        }
    }

    #[test]
    fn less_time_never_makes_it_slower(tree in trees(), site in 0..5_u32) {
        let lengths: Vec<f64> = (0..=8).map(|part| replayed(&tree, site, f64::from(part) / 8.0)).collect();
        prop_assert!(lengths.windows(2).all(|pair| pair[0] <= pair[1] + 1e-3), "{:?}", lengths);
    }

    #[test]
    fn a_replay_is_what_the_definition_says(tree in trees(), site in 0..5_u32) {
        let scale = |at: u32| if at == site { 0.25 } else { 1.0 };
        let defined = by_definition(&tree, 0, &scale, 10 * MS);
        let replayed = replayed(&tree, site, 0.25);
        prop_assert!((replayed - defined).abs() < 1.0, "{} instead of {}", replayed, defined);
    }
}
