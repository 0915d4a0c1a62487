use std::sync::Arc;

use super::{grown, plain_span, polled_at, root, text, with};
use crate::diagnose::planted::{MS, Planted, own, plain, polled};
use crate::model::{Confidence, KeptTree, Nanos, OperationTree, RootTrees, Severity, TreeSpan};

/// `count` tasks of `a` that start at once; `length` says how long each is open.
pub(super) fn fan_out(count: u64, length: impl Fn(u64) -> u64) -> Planted {
    let wall = 1_000_000;
    let mut tree = vec![root(wall)];
    for task in 0..count {
        let start = task + 1;
        tree.push(polled_at(
            plain_span(2, Some(0), start, start + length(task)),
            &[start, start + length(task) - 1],
            1,
        ));
    }
    let planted = Planted::on_threads(2, 1_000)
        .workers()
        .busy(50)
        .site(
            "root",
            None,
            own(polled(&[(1_000, 1)], 1, 1_000 * MS), 1_000),
        )
        .site("a", Some(0), polled(&[(1_000, 2 * count)], count, 500 * MS));
    grown(planted, vec![tree])
}

/// A server with four places, 5 ms each.
pub(super) fn four_at_a_time(task: u64) -> u64 {
    (task / 4 + 1) * 5_000
}

#[test]
fn tasks_that_get_slower_as_there_are_more_are_too_many() {
    let finding = fan_out(500, |task| four_at_a_time(task).min(990_000)).finding("CTX108");
    assert_eq!(
        (finding.site.as_str(), finding.confidence),
        ("a", Confidence::Medium)
    );
    assert_eq!(finding.evidence["peak_in_flight"], 500.0);
    assert!(finding.evidence["correlation"] > 0.99);
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(
        (finding.saving, finding.gain.low),
        (None, None),
        "no promise"
    );
    assert!(
        finding
            .recommendation
            .starts_with("Bound how many `a` run at once; 4 were still fast here."),
        "{}",
        finding.recommendation
    );
}

#[test]
fn a_crowd_that_slows_nobody_is_healthy() {
    assert!(fan_out(500, |task| 5_000 + task * 7 % 50).is_silent("CTX108"));
    assert!(fan_out(63, four_at_a_time).is_silent("CTX108"));
    assert_eq!(fan_out(64, four_at_a_time).findings("CTX108").len(), 1);
    let mut large = fan_out(64, four_at_a_time);
    large.profile.process.cores = Some(16);
    assert!(large.is_silent("CTX108"), "64 are few for 16 cores");
}

#[test]
fn tasks_that_begin_at_the_same_time_do_not_crowd_each_other_by_their_lengths() {
    let together = |length: fn(u64) -> u64| {
        let mut planted = fan_out(500, length);
        for span in &mut planted.profile.trees[0].kept[0].tree.spans[1..] {
            span.start = Nanos(0);
            span.activations[0].begin = Nanos(0);
        }
        planted
    };
    // In no order, from 1 to 500 ms.
    assert!(together(|task| (task * 173 % 500 + 1) * 1_000).is_silent("CTX108"));
    assert_eq!(together(four_at_a_time).findings("CTX108").len(), 1);
}

#[test]
fn who_waits_in_a_queue_of_its_own_is_bounded() {
    let mut planted = fan_out(500, four_at_a_time);
    for span in &mut planted.profile.trees[0].kept[0].tree.spans[1..] {
        *span = with(span.clone(), "queue.name", text("permits"));
    }
    assert!(planted.is_silent("CTX108"));

    // The permit is waited for outside the span inside, of which there are four at a time.
    let mut planted =
        fan_out(500, four_at_a_time).site("b", Some(1), polled(&[(1_000, 500)], 500, 5 * MS));
    let tree = &mut planted.profile.trees[0].kept[0].tree.spans;
    let inner: Vec<TreeSpan> = tree[1..]
        .iter()
        .zip(1..)
        .map(|(span, parent)| {
            let end = span.end.0 / 1_000;
            plain_span(3, Some(parent), end - 4_990, end)
        })
        .collect();
    for span in &mut tree[1..] {
        span.start = Nanos(span.end.0.saturating_sub(5 * MS));
        span.activations.clear();
    }
    tree.extend(inner);
    assert!(planted.is_silent("CTX108"));
}

/// Work of 2 us handed to two threads in 100000 pieces; each piece costs `over` ns of CPU time beside it.
pub(super) fn tiny(over: u64) -> Planted {
    let tasks = 100_000;
    let stats = plain(&[(2_000, tasks)]);
    let mut planted = Planted::on_threads(2, 1_000).site("item", None, stats);
    planted.profile.sites[0].threads = 2;
    let cpu = tasks * (2_000 + over);
    for (thread, part) in planted.profile.threads.iter_mut().zip([48_u64, 52]) {
        thread.activations = tasks * part / 100;
        thread.busy = Nanos(thread.activations * 2_000);
        thread.cpu = Some(Nanos(cpu * part / 100));
        thread.observed = Nanos(cpu * part / 100 + 1);
    }
    planted.profile.split.busy = Nanos(tasks * 2_000);
    planted.profile.process.cpu = Some(Nanos(cpu + 10 * MS));
    planted
}

#[test]
fn handing_over_tiny_tasks_costs_more_than_they_do() {
    let finding = tiny(4_000).finding("CTX107");
    assert_eq!(
        (finding.site.as_str(), finding.confidence),
        ("item", Confidence::Low)
    );
    assert_eq!(finding.evidence["overhead_per_task_ns"], 4_000.0);
    assert_eq!(finding.evidence["tasks_together"], 25.0);
    assert_eq!(finding.severity, Severity::Critical);
    let likely = finding.gain.likely.unwrap();
    assert!(likely > 2.5 && likely < 2.8, "{likely}");
    assert!(
        finding.message.starts_with(
            "`item` was split into 100000 tasks of about 2.00 us each; handing one over costs 4.00 us."
        ),
        "{}",
        finding.message
    );
}

#[test]
fn tiny_steps_of_a_loop_are_no_tasks() {
    assert!(tiny(1_900).is_silent("CTX107"), "cheap to hand over");
    assert_eq!(tiny(2_000).findings("CTX107").len(), 1);
    assert!(
        tiny(21_000).is_silent("CTX107"),
        "that is code without spans"
    );
    let mut dealt = tiny(4_000);
    for thread in &mut dealt.profile.threads {
        thread.activations = 50_000;
    }
    assert!(dealt.is_silent("CTX107"), "each thread has its half");
    let mut large = tiny(4_000);
    large.profile.sites[0].stats = plain(&[(10_000, 100_000)]);
    assert!(large.is_silent("CTX107"));
    let mut unknown = tiny(4_000);
    unknown.profile.threads[0].cpu = None;
    assert!(unknown.finding("CTX903").message.contains("CTX107"));
}

#[test]
fn tasks_seen_on_other_threads_than_their_parent_are_sure_to_be_handed_over() {
    let mut planted = tiny(2_000);
    // Most of the CPU time is in spans, so that what is outside is no riddle.
    planted.profile.process.cpu = Some(Nanos(910 * MS));
    planted.profile.split.busy = Nanos(700 * MS);
    planted.profile.split.waiting = Some(Nanos::ZERO);
    let site = Arc::clone(&planted.profile.sites[0].site);
    let mut whole = plain_span(7, None, 0, 1_000);
    whole.thread = 0;
    let mut item = plain_span(1, Some(0), 1, 3);
    (item.site, item.thread) = (Arc::clone(&site), 1);
    let mut tree = OperationTree::new(vec![whole, item]);
    tree.truncated = true;
    planted.profile.trees = vec![RootTrees::new(site, vec![KeptTree::sampled(tree)])];
    assert_eq!(planted.finding("CTX107").confidence, Confidence::Medium);
}
