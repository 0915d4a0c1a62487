//! CTX206 and CTX207: waiting without a name, and waiting in queues.

use super::{on, op, program, with};
use crate::diagnose::planted::{MS, Planted};
use crate::model::{
    Activation, Confidence, CpuTime, Nanos, OperationTree, Severity, TreeKind, TreeSpan,
};

/// A hundred jobs of 10 ms, one after the other; `update` takes so many microseconds of each.
fn in_turn(update: u64, change: impl Fn(TreeSpan) -> TreeSpan) -> Vec<OperationTree> {
    let jobs = 0..100;
    let trees = jobs.map(|job| {
        let mut spans = vec![
            op(0, None, 0, 10_000),
            change(op(1, Some(0), 1_000, 1_000 + update)),
        ];
        for span in &mut spans {
            span.start = span.start.saturating_add(Nanos(job * 10 * MS));
            span.end = span.end.saturating_add(Nanos(job * 10 * MS));
        }
        on(0, spans)
    });
    trees.collect()
}

/// `update` is seen running in 10 of 100 samples, all else always.
fn sleeps(update: u64) -> Planted {
    let mut planted = program(1, 1_000, in_turn(update, |span| span), 1.0);
    planted.profile.sites[1].stats.on_cpu = Some(crate::model::OnCpu::new(100, 10));
    planted.profile.split.waiting = Some(Nanos(update * 90_000));
    planted
}

#[test]
fn a_wait_without_a_name_is_told_with_its_doubt() {
    let planted = sleeps(8_000);
    let finding = planted.finding("CTX206");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("update", Severity::Critical)
    );
    assert!((finding.saving.unwrap() - 0.72).abs() < 1e-6);
    assert!((finding.gain.low.unwrap() - 1.0 / (1.0 - 0.36)).abs() < 1e-6);
    assert!((finding.gain.bound.unwrap() - 5.0).abs() < 1e-9);
    assert!(
        finding.message.starts_with(
            "`update` was off the CPU for 90 % of the 800 ms in its own code, and nothing recorded why. A sleep, a lock, a \
             file, a socket? It is 72 % of the wall time, by 100 looks at 100 calls."
        ),
        "{}",
        finding.message
    );
}

#[test]
fn a_wait_of_less_than_half_the_time_is_nothing_unusual() {
    assert_eq!(sleeps(5_560).findings("CTX206").len(), 1, "50.04 %");
    assert!(sleeps(5_550).is_silent("CTX206"), "49.95 %");
}

#[test]
fn a_wait_with_a_name_is_left_to_the_rule_about_it() {
    for (name, value) in [
        ("cortex.kind", "io"),
        ("db.query.text", "SELECT 1"),
        ("lock.name", "m"),
    ] {
        let mut named = sleeps(8_000);
        let trees = in_turn(8_000, |span| with(span, name, value));
        for (kept, tree) in named.profile.trees[0].kept.iter_mut().zip(trees) {
            kept.tree = tree;
        }
        assert!(named.findings("CTX206").is_empty(), "{name}");
    }
    let mut polled = sleeps(8_000);
    polled.profile.sites[1].stats.latency = Some(Default::default());
    assert!(polled.findings("CTX206").is_empty(), "an async span");
    let mut blind = sleeps(8_000);
    blind.profile.trees.clear();
    assert!(blind.findings("CTX206").is_empty(), "no fields are known");
}

#[test]
fn who_may_wait_for_what_others_compute_is_not_told() {
    let mut computes_outside = sleeps(8_000);
    computes_outside.profile.process.cpu = Some(Nanos(700 * MS));
    assert!(
        computes_outside.is_silent("CTX206"),
        "threads without spans"
    );
    let mut alone = sleeps(8_000);
    alone.profile.process.cpu = Some(Nanos(290 * MS));
    assert_eq!(alone.findings("CTX206").len(), 1, "its own CPU time");
}

#[test]
fn who_may_wait_for_spans_on_another_thread_is_not_told() {
    let beside = |ms: u64, thread: u32| {
        let mut trees = in_turn(8_000, |span| span);
        trees.push(on(
            thread,
            vec![op(0, None, 0, 1_000), op(3, Some(0), 0, ms * 1_000)],
        ));
        let mut planted = program(2, 1_000, trees, 1.0);
        planted.profile.split.waiting = None;
        for row in &mut planted.profile.sites {
            let own = row.stats.self_time;
            let waits = row.site.name == "update";
            row.threads = if row.site.name == "job" { 2 } else { 1 };
            row.stats.on_cpu = None;
            row.stats.cpu = Some(CpuTime::new(
                100,
                own,
                if waits { Nanos::ZERO } else { own },
            ));
        }
        planted
    };
    // The jobs themselves compute for 200 ms on the thread that waits for 800 ms.
    assert_eq!(beside(390, 1).findings("CTX206").len(), 1);
    assert!(beside(410, 1).is_silent("CTX206"));
    assert_eq!(
        beside(410, 0).findings("CTX206").len(),
        1,
        "the same thread"
    );
    let mut outside = beside(390, 1);
    // 590 ms of it inside spans, as measured.
    outside.profile.process.cpu = Some(Nanos(595 * MS));
    assert_eq!(outside.findings("CTX206").len(), 1);
    outside.profile.process.cpu = Some(Nanos(1_000 * MS));
    assert!(outside.is_silent("CTX206"));
}

#[test]
fn few_samples_hold_it_back_and_measured_time_without_the_queue_counts() {
    let mut few = sleeps(8_000);
    few.profile.sites[1].stats.on_cpu = Some(crate::model::OnCpu::new(19, 1));
    assert!(few.findings("CTX206").is_empty());
    assert!(
        few.finding("CTX903")
            .message
            .contains("CTX206 for `update` (19 of 20 on-CPU samples)"),
    );
    few.profile.sites[1].stats.cpu = Some(CpuTime::new(100, Nanos(800 * MS), Nanos(80 * MS)));
    assert_eq!(few.finding("CTX206").evidence["off_cpu_share"], 0.9);
    few.profile.threads[0].run_queue = Some(Nanos(500 * MS));
    assert!(few.findings("CTX206").is_empty(), "it waited for a core");
}

/// Items that waited before their own trees began: 5 ms of work each on one thread for a second.
fn consumer(wait_us: i64, depth: impl Fn(i64) -> i64) -> Planted {
    let items = 0..200;
    let trees = items.map(|item| {
        let at = item as u64 * 5_000;
        let span = with(op(0, None, at, at + 5_000), "queue.name", "mail");
        let span = with(span, "queue.wait_ns", wait_us * 1_000);
        on(0, vec![with(span, "queue.depth", depth(item))])
    });
    program(1, 1_000, trees.collect(), 1.0)
}

#[test]
fn items_that_wait_longer_than_they_are_worked_on_are_found_at_their_consumer() {
    let planted = consumer(15_000, |_| 3);
    let finding = planted.finding("CTX207");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("job", Severity::Critical)
    );
    assert!((finding.share.unwrap() - 0.75).abs() < 1e-9);
    assert_eq!(
        (finding.saving, finding.confidence),
        (None, Confidence::Medium)
    );
    assert!(
        finding.message.starts_with(
            "Items waited 15.0 ms in the queue `mail` for 5.00 ms of work in `job`. Means over 200 items; 75 % of the wall \
             time. The 1 thread taking them out worked on them for 100 % of the time."
        ),
        "{}",
        finding.message
    );
    assert!(
        consumer(4_999, |_| 3).is_silent("CTX207"),
        "less than the work"
    );
    assert_eq!(consumer(5_000, |_| 3).findings("CTX207").len(), 1);
}

#[test]
fn a_queue_that_grows_is_worse() {
    let steady = consumer(5_000, |item| 20 + item % 3).finding("CTX207");
    let grows = consumer(5_000, |item| item / 2 + item % 3).finding("CTX207");
    assert_eq!(
        (steady.severity, grows.severity),
        (Severity::High, Severity::Critical)
    );
    assert!(
        grows.message.contains("And it grows: from 13 items"),
        "{}",
        grows.message
    );
}

#[test]
fn a_queue_that_costs_its_consumer_little_holds_nobody_up() {
    let mut planted = consumer(50_000, |_| 1);
    // The same in ten times the time: a consumer that is idle nine tenths of it and takes what is there now and then.
    planted.profile.wall = Nanos(10_000 * MS);
    assert!(planted.is_silent("CTX207"));
}

#[test]
fn few_items_hold_it_back() {
    let mut planted = consumer(50_000, |_| 1);
    let group = &mut planted.profile.trees[0];
    group.kept.truncate(49);
    group.roots = 49;
    group.seen = 49;
    group.wall = Nanos(245 * MS);
    planted.profile.paths[0].stats.busy = group.wall;
    assert!(planted.findings("CTX207").is_empty());
    assert!(
        planted
            .finding("CTX903")
            .message
            .contains("CTX207 for `mail` (49 of 50 items)")
    );
}

#[test]
fn what_a_caller_waits_for_its_item_is_replayed() {
    let jobs = 0..100;
    let trees = jobs.map(|_| {
        let mut root = op(0, None, 0, 10_000);
        root.kind = TreeKind::Async;
        root.activations = [(0, 100), (9_000, 10_000)]
            .map(|(from, to)| Activation::new(Nanos(from * 1_000), Nanos(to * 1_000), 0))
            .to_vec();
        let mut item = with(op(1, Some(0), 7_000, 9_000), "queue.wait_ns", 6_000_000);
        item.thread = 1;
        OperationTree::new(vec![root, item])
    });
    let mut planted = program(2, 1_000, trees.collect(), 1.0);
    planted.profile.sites[0].stats.latency =
        Some(crate::diagnose::planted::distribution(&[(10 * MS, 100)]));
    let finding = planted.finding("CTX207");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("update", Severity::Critical)
    );
    assert!((finding.saving.unwrap() - 0.6).abs() < 1e-9);
    assert!((finding.gain.low.unwrap() - 1.0 / 0.7).abs() < 1e-9);
    assert!((finding.gain.bound.unwrap() - 2.5).abs() < 1e-9);
}
