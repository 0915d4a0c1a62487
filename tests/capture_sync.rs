//! Plain spans on one thread.

mod support;

use std::time::Duration;

use support::{Rig, assert_row, capture, capture_with, check, path, site};
use tracing::{Level, info_span, instrument, span};
use tracing_cortex::{Nanos, SpanKind};

fn millis(milliseconds: u64) -> Nanos {
    Nanos::from(Duration::from_millis(milliseconds))
}

#[test]
fn time_is_split_between_a_span_and_those_inside_it() {
    let captured = capture(|rig| {
        rig.run(|| {
            rig.ms(5);
            for _ in 0..3 {
                let _outer = info_span!("outer").entered();
                rig.ms(1);
                info_span!("first").in_scope(|| rig.ms(10));
                rig.ms(2);
                info_span!("second").in_scope(|| {
                    rig.ms(4);
                    info_span!("leaf").in_scope(|| rig.ms(100));
                });
            }
            rig.ms(7);
        });
    });
    assert_row(captured.site("outer"), 3, 3, 351, 9);
    assert_row(captured.path("outer > first"), 3, 3, 30, 30);
    assert_row(captured.path("outer > second"), 3, 3, 312, 12);
    assert_row(captured.path("outer > second > leaf"), 3, 3, 300, 300);
    assert_eq!(captured.profile.paths.len(), 4);
    let split = captured.profile.split;
    assert_eq!(split.busy, millis(351));
    // The thread is observed from its first span, 5 ms after the capture began.
    assert_eq!(
        (split.thread_time, split.uncovered),
        (millis(358), millis(7))
    );
    assert_eq!(captured.profile.wall, millis(363));
    let records = captured.records.of("leaf");
    assert!(
        records
            .iter()
            .all(|span| span.kind == SpanKind::Whole && span.length() == 100_000_000)
    );
}

#[test]
fn a_span_has_exact_count_sum_minimum_and_maximum() {
    let captured = capture(|rig| {
        rig.run(|| {
            for length in [8, 2, 20, 2] {
                info_span!("work").in_scope(|| rig.ms(length));
            }
        });
    });
    let stats = captured.site("work");
    let activation = &stats.activation;
    assert_eq!((activation.count, activation.sum), (4, millis(32)));
    assert_eq!((activation.min, activation.max), (millis(2), millis(20)));
    assert_eq!(activation.mean(), 8e6);
    assert!(
        (activation.stddev / 54e12_f64.sqrt() - 1.0).abs() < 0.01,
        "{}",
        activation.stddev
    );
    assert_eq!((stats.spans, stats.errors, stats.open), (4, 0, 0));
    assert!(!stats.is_async() && stats.idle.is_none());
}

#[test]
fn the_first_operation_is_kept_apart() {
    let captured = capture(|rig| {
        rig.run(|| {
            for length in [90, 1, 1] {
                info_span!("at_once").in_scope(|| rig.ms(length));
            }
            for length in [70, 1] {
                info_span!("later").in_scope(|| rig.ms(length));
            }
        });
    });
    // One that begins when the clock stands at zero is a first one too.
    assert_eq!(captured.site("at_once").first, Some(millis(90)));
    assert_eq!(captured.site("later").first, Some(millis(70)));
}

#[instrument(skip(rig))]
fn fibonacci(rig: &Rig, n: u32) -> u64 {
    rig.ms(1);
    if n < 2 {
        u64::from(n)
    } else {
        fibonacci(rig, n - 1) + fibonacci(rig, n - 2)
    }
}

#[test]
fn recursion_is_busy_only_in_the_outermost_call() {
    let captured = capture(|rig| {
        assert_eq!(rig.run(|| fibonacci(rig, 5)), 5);
    });
    // fib(5) makes 15 calls of 1 ms each.
    assert_row(captured.site("fibonacci"), 15, 15, 15, 15);
    assert_row(captured.path("fibonacci"), 1, 1, 15, 1);
    assert_row(captured.path("fibonacci > fibonacci"), 2, 2, 14, 2);
    assert_eq!(captured.profile.split.busy, millis(15));
}

#[test]
fn recursion_through_another_site_is_busy_once() {
    fn ping(rig: &Rig, left: u32) {
        let _span = info_span!("ping").entered();
        rig.ms(1);
        if left > 0 {
            info_span!("pong").in_scope(|| {
                rig.ms(2);
                ping(rig, left - 1);
            });
        }
    }
    let captured = capture(|rig| rig.run(|| ping(rig, 3)));
    assert_row(captured.site("ping"), 4, 4, 10, 4);
    assert_row(captured.site("pong"), 3, 3, 9, 6);
}

#[test]
fn a_declared_parent_counts_only_where_nothing_is_entered() {
    let captured = capture(|rig| {
        rig.run(|| {
            let parent = info_span!("parent");
            info_span!(parent: &parent, "alone").in_scope(|| rig.ms(1));
            info_span!("around").in_scope(|| {
                info_span!(parent: &parent, "inside").in_scope(|| rig.ms(2));
                info_span!(parent: None, "root").in_scope(|| rig.ms(4));
            });
            info_span!(parent: None, "root").in_scope(|| rig.ms(8));
            parent.in_scope(|| rig.ms(16));
        });
    });
    assert_row(captured.path("parent > alone"), 1, 1, 1, 1);
    assert_row(captured.path("around > inside"), 1, 1, 2, 2);
    assert_row(captured.path("around"), 1, 1, 6, 0);
    assert_row(captured.path("around > root"), 1, 1, 4, 4);
    assert_row(captured.path("root"), 1, 1, 8, 8);
    // What ran under the declared parent ran while that was not entered, and is none of its time.
    assert_row(captured.path("parent"), 1, 1, 16, 16);
    let records = &captured.records;
    assert_eq!(
        records.only("alone").parent,
        Some(records.only("parent").seq)
    );
    assert_eq!(
        records.only("inside").parent,
        Some(records.only("around").seq)
    );
}

#[test]
fn a_span_entered_again_inside_itself_counts_once() {
    let captured = capture(|rig| {
        rig.run(|| {
            let span = info_span!("span");
            let _outer = span.enter();
            rig.ms(1);
            {
                let _again = span.enter();
                rig.ms(2);
                info_span!("child").in_scope(|| {
                    rig.ms(4);
                    span.in_scope(|| rig.ms(8));
                });
            }
            rig.ms(16);
        });
    });
    assert_row(captured.site("span"), 1, 1, 31, 19);
    assert_row(captured.path("span > child"), 1, 1, 12, 12);
    assert_eq!(captured.profile.losses.nested_enters, 2);
    assert!(!captured.site("span").is_async());
}

#[test]
fn guards_dropped_out_of_order_still_split_the_time() {
    let captured = capture(|rig| {
        rig.run(|| {
            let around = info_span!("around").entered();
            rig.ms(1);
            let first = info_span!("first").entered();
            rig.ms(2);
            let second = info_span!("second").entered();
            rig.ms(4);
            drop(first);
            rig.ms(8);
            let third = info_span!("third").entered();
            rig.ms(16);
            drop(around);
            rig.ms(32);
            drop(second);
            rig.ms(64);
            drop(third);
        });
    });
    assert_row(captured.site("around"), 1, 1, 31, 1);
    assert_row(captured.site("first"), 1, 1, 6, 2);
    assert_row(captured.site("second"), 1, 1, 60, 12);
    assert_row(captured.site("third"), 1, 1, 112, 112);
    assert_eq!(captured.profile.split.busy, millis(127));
    assert_eq!(captured.profile.losses.out_of_order_exits, 3);
    let overlapping: Vec<_> = captured
        .records
        .spans
        .iter()
        .filter(|span| span.overlapping)
        .map(|span| span.site)
        .collect();
    assert_eq!(overlapping.len(), 2, "{overlapping:?}");
    assert!(overlapping.contains(&"second") && overlapping.contains(&"third"));
}

#[test]
fn an_inner_guard_of_the_same_span_dropped_out_of_order_loses_no_time() {
    let captured = capture(|rig| {
        rig.run(|| {
            let span = info_span!("span");
            let outer = span.enter();
            rig.ms(1);
            let again = span.enter();
            rig.ms(2);
            let other = info_span!("other").entered();
            rig.ms(4);
            drop(again);
            rig.ms(8);
            drop(other);
            drop(outer);
        });
    });
    assert_row(captured.site("span"), 1, 1, 15, 3);
    assert_row(captured.site("other"), 1, 1, 12, 12);
}

#[test]
fn an_exit_without_an_enter_is_counted_and_changes_nothing() {
    let captured = capture(|rig| {
        rig.run(|| {
            let span = info_span!("span");
            let id = span.id().unwrap();
            rig.dispatch.exit(&id);
            rig.dispatch.enter(&id);
            rig.ms(3);
            rig.dispatch.exit(&id);
            rig.dispatch.exit(&id);
        });
    });
    assert_row(captured.site("span"), 1, 1, 3, 3);
    assert_eq!(captured.profile.losses.unbalanced_exits, 2);
}

#[test]
fn a_span_that_is_never_entered_is_a_span_without_time() {
    let captured = capture(|rig| {
        rig.run(|| {
            info_span!("outer").in_scope(|| {
                let unused = info_span!("unused");
                rig.ms(2);
                drop(unused);
            });
        });
    });
    let stats = captured.path("outer > unused");
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 0));
    assert_eq!(stats.busy, Nanos::ZERO);
    assert_row(captured.site("outer"), 1, 1, 2, 2);
}

#[test]
fn a_span_closed_while_entered_keeps_its_time() {
    // Statistics only: a span that is closed first has no record.
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let span = info_span!("span");
        let id = span.id().unwrap();
        rig.dispatch.enter(&id);
        rig.ms(3);
        // Neither `tracing` nor the registry prevents it.
        drop(span);
        info_span!("next").in_scope(|| rig.ms(4));
        rig.dispatch.exit(&id);
    });
    let captured = rig.finish();
    assert_eq!(captured.site("span").activations, 1);
    assert_eq!(captured.profile.split.busy, millis(7));
}

#[test]
fn the_live_profile_includes_what_is_entered() {
    let rig = Rig::new(true, |builder| builder);
    rig.run(|| {
        let _outer = info_span!("outer").entered();
        rig.ms(10);
        let inner = info_span!("inner").entered();
        rig.ms(5);
        let live = rig.guard.profile();
        check(&live, None);
        assert_row(site(&live, "outer"), 1, 1, 15, 10);
        assert_row(site(&live, "inner"), 1, 1, 5, 5);
        assert_eq!((site(&live, "inner").open, live.losses.open_spans), (1, 2));
        // What goes on has no duration yet.
        assert_eq!(site(&live, "inner").activation.count, 0);
        drop(inner);
        rig.ms(1);
        let live = rig.guard.profile();
        check(&live, None);
        assert_row(site(&live, "outer"), 1, 1, 16, 11);
        assert_row(path(&live, "outer > inner"), 1, 1, 5, 5);
    });
    assert_row(rig.finish().site("outer"), 1, 1, 16, 11);
}

#[test]
fn spans_that_are_entered_in_the_end_are_counted_and_streamed_as_unfinished() {
    let captured = capture(|rig| {
        rig.run(|| {
            let outer = info_span!("outer").entered();
            rig.ms(1);
            let inner = info_span!("inner").entered();
            rig.ms(2);
            std::mem::forget((outer, inner));
        });
    });
    assert_row(captured.site("outer"), 1, 1, 3, 1);
    assert_row(captured.site("inner"), 1, 1, 2, 2);
    assert_eq!(captured.profile.losses.open_spans, 2);
    let inner = captured.records.only("inner");
    assert!(inner.unfinished);
    assert_eq!((inner.start, inner.end), (1_000_000, 3_000_000));
    assert_eq!(inner.parent, Some(captured.records.only("outer").seq));
}

#[test]
fn reset_forgets_what_was_and_keeps_what_goes_on() {
    let rig = Rig::new(true, |builder| builder);
    rig.run(|| {
        info_span!("before").in_scope(|| rig.ms(100));
        let _outer = info_span!("outer").entered();
        info_span!("child").in_scope(|| rig.ms(50));
        rig.guard.reset();
        let empty = rig.guard.profile();
        check(&empty, None);
        assert_eq!((empty.wall, empty.began), (Nanos::ZERO, millis(150)));
        assert!(
            empty.sites.iter().all(|row| row.stats.busy == Nanos::ZERO),
            "{:?}",
            empty.sites
        );
        rig.ms(3);
        let live = rig.guard.profile();
        check(&live, None);
        assert_row(site(&live, "outer"), 1, 1, 3, 3);
        info_span!("child").in_scope(|| rig.ms(4));
    });
    let profile = rig.guard.finish().unwrap().profile().clone();
    check(&profile, None);
    assert_row(site(&profile, "outer"), 1, 1, 7, 3);
    assert_row(path(&profile, "outer > child"), 1, 1, 4, 4);
    assert!(profile.sites.iter().all(|row| row.site.name != "before"));
    assert_eq!(
        (profile.wall, profile.split.thread_time),
        (millis(7), millis(7))
    );
}

#[test]
fn flush_hands_every_ended_span_to_the_sinks() {
    let clock = tracing_cortex::ManualClock::new();
    let records = support::Records::default();
    let (layer, guard) = tracing_cortex::CortexLayer::builder()
        .no_resources()
        .manual_clock(&clock)
        .sink(support::Recording::into(&records))
        .build()
        .unwrap();
    use tracing_subscriber::prelude::*;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for expected in [100, 200] {
            for _ in 0..100 {
                info_span!("work").in_scope(|| ());
            }
            guard.flush(Duration::from_secs(30)).unwrap();
            records.read(|recorded| {
                assert_eq!(recorded.spans.len(), expected);
                assert!(recorded.flushes >= expected as u32 / 100);
            });
        }
    });
    guard.finish().unwrap();
    assert_eq!(records.read(|recorded| recorded.finished), 1);
}

#[test]
fn a_clock_that_steps_back_makes_zero_and_is_counted() {
    let captured = capture(|rig| {
        rig.run(|| {
            rig.ms(10);
            info_span!("back").in_scope(|| rig.clock.set(Duration::from_millis(4)));
            info_span!("forth").in_scope(|| rig.ms(3));
        });
    });
    assert_row(captured.site("back"), 1, 1, 0, 0);
    assert_row(captured.site("forth"), 1, 1, 3, 3);
    assert_eq!(captured.profile.losses.clock_steps, 1);
}

#[test]
fn deep_recursion_folds_and_keeps_its_counts() {
    fn descend(rig: &Rig, left: u32) {
        let _span = info_span!("descend").entered();
        rig.ms(1);
        if left > 1 {
            descend(rig, left - 1);
        }
    }
    let captured = capture_with(
        |builder| builder.max_path_depth(8),
        |rig| rig.run(|| descend(rig, 300)),
    );
    let stats = captured.site("descend");
    assert_row(stats, 300, 300, 300, 300);
    assert_eq!(captured.profile.paths.len(), 8);
    assert_eq!(captured.profile.losses.folded_activations, 292);
}

#[test]
fn sites_beyond_the_limit_of_the_tree_count_as_other() {
    let captured = capture_with(
        |builder| builder.max_tree_nodes(2),
        |rig| {
            rig.run(|| {
                info_span!("a").in_scope(|| {
                    info_span!("b").in_scope(|| rig.ms(1));
                    info_span!("c").in_scope(|| {
                        rig.ms(2);
                        info_span!("d").in_scope(|| rig.ms(4));
                    });
                    span!(Level::INFO, "e").in_scope(|| rig.ms(8));
                });
            });
        },
    );
    assert_row(captured.path("a"), 1, 1, 15, 0);
    assert_row(captured.path("a > b"), 1, 1, 1, 1);
    let other = captured.path("a > (other)");
    assert_eq!(
        (other.activations, other.busy, other.self_time),
        (3, millis(14), millis(14))
    );
}
