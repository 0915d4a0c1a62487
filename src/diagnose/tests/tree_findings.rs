//! What sampled trees change in a diagnosis.

use std::sync::Arc;

use super::critical_path::{on, polled as async_span, span};
use crate::diagnose::planted::{MS, Planted, own, plain, polled, sampled};
use crate::model::{KeptTree, Nanos, OperationTree, RootTrees, Severity};

/// A second in which one root waited for `short` and `long`, two tasks on two threads that both compute all the time.
fn side_by_side(long_ms: u64, short_ms: u64) -> Planted {
    let ms = |ms: u64| (ms * MS, 1);
    let root = own(polled(&[ms(1)], 1, 1_000 * MS), MS);
    let mut planted = Planted::on_threads(2, 1_000)
        .site("root", None, root)
        .site("a", Some(0), sampled(plain(&[ms(long_ms)]), 50, 50))
        .site("b", Some(0), sampled(plain(&[ms(short_ms)]), 50, 50));
    // Nobody else needs the thread of the root.
    planted.profile.sites[0].workers = 0;
    planted.profile.split.busy = Nanos((long_ms + short_ms + 1) * MS);
    let tree = OperationTree::new(vec![
        async_span(span(0, None, 0, 1_000), &[(0, 1), (long_ms, 1_000)]),
        on(1, span(1, Some(0), 0, long_ms)),
        on(2, span(2, Some(0), 0, short_ms)),
    ]);
    let mut tree = tree;
    // The root went on with both: `b` was polled by it too.
    tree.spans[0]
        .activations
        .push(crate::model::Activation::new(
            Nanos(short_ms * MS),
            Nanos(short_ms * MS + 1),
            0,
        ));
    let site = Arc::clone(&tree.spans[0].site);
    planted.profile.trees = vec![RootTrees::new(site, vec![KeptTree::sampled(tree)])];
    planted
}

#[test]
fn side_by_side_only_what_the_root_waited_for_is_worth_much() {
    let planted = side_by_side(990, 600);
    let diagnosis = planted.diagnosis();
    let findings: Vec<_> = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.rule == "CTX001")
        .map(|finding| (finding.site.as_str(), finding.severity, finding.saving))
        .collect();
    assert_eq!(
        findings,
        [
            ("a", Severity::High, Some(0.39)),
            ("b", Severity::Low, Some(0.0))
        ]
    );
    let hot = &diagnosis.findings[0];
    // Half of `a` is 495 ms; after 600 ms the root waits for `b`.
    assert_eq!(hot.gain.low.map(|low| (low * 100.0).round()), Some(164.0));
    assert_eq!(hot.gain.low, hot.gain.likely);
    assert!(hot.gain.bound.unwrap() >= hot.gain.low.unwrap());
    assert!(
        hot.message
            .contains("halving it gives 1.63x or more, replayed on 1 root."),
        "{}",
        hot.message
    );
    let beside = diagnosis
        .findings
        .iter()
        .find(|finding| finding.site == "b")
        .unwrap();
    assert_eq!(beside.gain.low, None, "nothing is promised for it");
    assert_eq!(beside.evidence["replayed_saving"], 0.0);
}

#[test]
fn the_critical_path_is_told_with_what_it_rests_on() {
    let path = side_by_side(990, 600).diagnosis().critical_path.unwrap();
    assert_eq!(
        (path.trees, path.roots, path.whole),
        (1, 1, Nanos(1_000 * MS))
    );
    let sites: Vec<_> = path
        .sites
        .iter()
        .map(|site| {
            (
                site.site.as_str(),
                site.time.0 / MS,
                (site.saving * 1_000.0).round(),
            )
        })
        .collect();
    assert_eq!(sites, [("a", 990, 390.0), ("root", 10, 10.0)]);
    assert!((path.sites[0].saving_most - 0.99).abs() < 1e-9);
    assert!((path.sites[0].saving_halved - 0.39).abs() < 1e-9);
}

#[test]
fn without_trees_and_with_truncated_ones_nothing_is_replayed() {
    let mut planted = side_by_side(990, 600);
    planted.profile.trees[0].kept[0].tree.truncated = true;
    let truncated = planted.diagnosis();
    planted.profile.trees.clear();
    let without = planted.diagnosis();
    assert_eq!(truncated, without);
    assert_eq!(without.critical_path, None);
    assert!(
        without
            .findings
            .iter()
            .all(|finding| finding.saving.is_none())
    );
}

#[test]
fn roots_that_differ_give_an_interval_and_the_promise_is_its_lower_end() {
    let mut planted = side_by_side(990, 600);
    let alike = planted.profile.trees[0].kept[0].clone();
    let other = side_by_side(990, 900).profile.trees[0].kept[0].clone();
    let kept: Vec<KeptTree> = (0..20)
        .map(|at| {
            if at % 2 == 0 {
                alike.clone()
            } else {
                other.clone()
            }
        })
        .collect();
    let group = &mut planted.profile.trees[0];
    (group.roots, group.seen, group.kept) = (500, 100, kept);
    group.wall = Nanos(1_000 * MS);
    let diagnosis = planted.diagnosis();
    let path = diagnosis.critical_path.as_ref().unwrap();
    let hot = &path.sites[0];
    assert!((hot.saving - 0.24).abs() < 1e-9, "{hot:?}");
    assert!(hot.saving_low > 0.09 && hot.saving_low < 0.22, "{hot:?}");
    assert!(hot.saving_high > 0.26 && hot.saving_high < 0.39, "{hot:?}");
    let finding = &diagnosis.findings[0];
    assert!(finding.gain.low < finding.gain.likely);
    assert!(
        finding.message.contains("replayed on 20 of 500 roots"),
        "{}",
        finding.message
    );
    assert_eq!(
        planted.diagnosis(),
        diagnosis,
        "the same trees give the same interval"
    );
}

#[test]
fn trees_that_stand_for_little_of_the_time_say_nothing_of_the_whole() {
    let mut planted = side_by_side(990, 600);
    planted.profile.trees[0].wall = Nanos(700 * MS);
    assert_eq!(planted.diagnosis().critical_path, None);
}
