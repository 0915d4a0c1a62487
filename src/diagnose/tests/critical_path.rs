//! The critical path covers the root exactly, and goes through what the root waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::diagnose::critical_path::visit;
use crate::diagnose::timeline::Timeline;
use crate::model::{Activation, Nanos, OperationTree, Site, SiteId, TreeKind, TreeSpan};

pub(super) const MS: u64 = 1_000_000;

/// A plain operation on thread 0, in milliseconds; its site has the number `site`.
pub(super) fn span(site: u32, parent: Option<u32>, from: u64, to: u64) -> TreeSpan {
    let names = ["root", "a", "b", "c", "d", "e"];
    let site = Site::new(SiteId(site + 1), names[site as usize], "app", None, None);
    TreeSpan::new(Arc::new(site), parent, Nanos(from * MS), Nanos(to * MS))
}

/// The same on another thread.
pub(super) fn on(thread: u32, mut span: TreeSpan) -> TreeSpan {
    span.thread = thread;
    span
}

/// The same as an async span with these polls on its thread.
pub(super) fn polled(mut span: TreeSpan, polls: &[(u64, u64)]) -> TreeSpan {
    span.kind = TreeKind::Async;
    let polls = polls.iter();
    span.activations = polls
        .map(|&(from, to)| Activation::new(Nanos(from * MS), Nanos(to * MS), span.thread))
        .collect();
    span
}

/// Trees in which everything can happen: siblings that overlap, children that outlive parents, other threads, polls.
pub(super) fn trees() -> impl Strategy<Value = OperationTree> {
    let node = (
        any::<prop::sample::Index>(),
        0..5_u32,
        0.0..1.0_f64,
        0.0..1.2_f64,
        0..3_u32,
        prop::option::of(prop::collection::vec((0.0..1.0_f64, 0.0..0.5_f64), 0..4)),
    );
    prop::collection::vec(node, 0..40).prop_map(|nodes| {
        let mut spans = vec![span(0, None, 0, 1_000)];
        for (parent, site, at, length, thread, polls) in nodes {
            let index = parent.index(spans.len());
            let parent = &spans[index];
            let room = parent.length().0 as f64;
            let start = parent.start.0 + (room * at) as u64;
            // Rounded, so that some begin exactly where others end.
            let start = start / (50 * MS) * (50 * MS);
            let start = start.max(parent.start.0);
            let end = start + (room * length * 0.6) as u64 / (10 * MS) * (10 * MS);
            let mut one = span(site, Some(index as u32), 0, 0);
            (one.start, one.end, one.thread) = (Nanos(start), Nanos(end), thread);
            if let Some(polls) = polls {
                one.kind = TreeKind::Async;
                let length = (end - start) as f64;
                one.activations = polls
                    .iter()
                    .map(|&(from, part)| {
                        let from = start + (length * from) as u64;
                        Activation::new(
                            Nanos(from),
                            Nanos((from + (length * part) as u64).min(end)),
                            thread,
                        )
                    })
                    .collect();
                one.activations.sort_by_key(|poll| poll.begin);
            }
            spans.push(one);
        }
        ordered(spans)
    })
}

/// Puts the operations in the order of their start, as trees have them.
fn ordered(spans: Vec<TreeSpan>) -> OperationTree {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&index| (spans[index].start, index));
    let place: BTreeMap<usize, u32> = order
        .iter()
        .enumerate()
        .map(|(at, &index)| (index, at as u32))
        .collect();
    let sorted = order.iter().map(|&index| {
        let mut span = spans[index].clone();
        span.parent = span.parent.map(|parent| place[&(parent as usize)]);
        span
    });
    OperationTree::new(sorted.collect())
}

fn path(tree: &OperationTree) -> Vec<(usize, u64, u64)> {
    let mut parts = Vec::new();
    visit(&Timeline::of(tree), |index, from, to| {
        parts.push((index, from, to))
    });
    parts.reverse();
    parts
}

/// Milliseconds on the path by name.
fn by_name(tree: &OperationTree) -> BTreeMap<&'static str, u64> {
    let mut times = BTreeMap::new();
    for (index, from, to) in path(tree) {
        *times.entry(tree.spans[index].site.name).or_default() += (to - from) / MS;
    }
    times
}

#[test]
fn of_children_side_by_side_the_last_to_end_is_on_the_path() {
    let tree = OperationTree::new(vec![
        span(0, None, 0, 100),
        on(1, span(1, Some(0), 10, 60)),
        on(2, span(2, Some(0), 10, 99)),
        span(3, Some(2), 20, 50),
    ]);
    let mut tree = tree;
    tree.spans[3].thread = 2;
    // The root goes on 1 ms after `b`, later than a task that waits: it is not known to have waited.
    assert_eq!(by_name(&tree), BTreeMap::from([("root", 100)]));
    tree.spans[2].end = Nanos(100 * MS);
    assert_eq!(
        by_name(&tree),
        BTreeMap::from([("root", 10), ("b", 60), ("c", 30)])
    );
}

#[test]
fn on_one_thread_everything_is_on_the_path() {
    let tree = OperationTree::new(vec![
        span(0, None, 0, 100),
        span(1, Some(0), 10, 40),
        span(2, Some(1), 20, 30),
        span(3, Some(0), 50, 90),
    ]);
    assert_eq!(
        by_name(&tree),
        BTreeMap::from([("root", 30), ("a", 20), ("b", 10), ("c", 40)])
    );
}

#[test]
fn an_awaited_task_is_on_the_path_and_a_background_writer_is_not() {
    let task = |wakes_at| {
        OperationTree::new(vec![
            polled(span(0, None, 0, 100), &[(0, 1), (wakes_at, 100)]),
            on(1, polled(span(1, Some(0), 0, 60), &[(0, 60)])),
            on(2, span(2, Some(0), 5, 80)),
        ])
    };
    assert_eq!(
        by_name(&task(60)),
        BTreeMap::from([("root", 40), ("a", 60)])
    );
    let nobody = by_name(&task(70));
    assert_eq!(
        nobody,
        BTreeMap::from([("root", 100)]),
        "it woke up for something else"
    );
}

#[test]
fn futures_joined_in_one_task_overlap_and_the_longer_one_counts() {
    let tree = OperationTree::new(vec![
        polled(span(0, None, 0, 100), &[(0, 5), (40, 45), (90, 100)]),
        polled(span(1, Some(0), 1, 43), &[(1, 2), (41, 43)]),
        polled(span(2, Some(0), 2, 95), &[(2, 4), (91, 95)]),
    ]);
    assert_eq!(
        by_name(&tree),
        BTreeMap::from([("root", 7), ("b", 93)]),
        "`a` was over while `b` went on"
    );
}

#[test]
fn what_outlives_its_parent_is_not_waited_for() {
    let tree = OperationTree::new(vec![
        span(0, None, 0, 100),
        on(1, span(1, Some(0), 10, 150)),
        span(2, Some(0), 20, 80),
    ]);
    assert_eq!(by_name(&tree), BTreeMap::from([("root", 40), ("b", 60)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_parts_of_the_path_cover_the_root_without_overlap(tree in trees()) {
        let parts = path(&tree);
        let mut at = 0;
        for &(index, from, to) in &parts {
            prop_assert_eq!(from, at, "part of {}", index);
            prop_assert!(to > from);
            let span = &tree.spans[index];
            prop_assert!(span.start.0 <= from || index == 0);
            prop_assert!(to <= span.end.0);
            at = to;
        }
        prop_assert_eq!(at, tree.wall().0);
    }
}
