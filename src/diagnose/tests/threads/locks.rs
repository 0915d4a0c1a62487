//! CTX201 and CTX202: who waits for a lock, and what is done while it is held.

use super::{NAMES, on, op, program, with};
use crate::diagnose::planted::Planted;
use crate::model::{
    Activation, Confidence, Finding, Nanos, OperationTree, Severity, TreeKind, TreeSpan,
};

/// `update` waits for a lock, then holds it, all times in microseconds.
fn update(wait: u64, hold: u64) -> TreeSpan {
    let span = with(
        op(1, Some(0), 1_000, 1_000 + wait + hold),
        "lock.name",
        "cache",
    );
    let span = with(span, "lock.wait_ns", wait as i64 * 1_000);
    with(span, "lock.hold_ns", hold as i64 * 1_000)
}

/// Jobs of 10 ms on 8 threads for 200 ms.
fn jobs(count: u64, tree: impl Fn(u64) -> Vec<TreeSpan>) -> Vec<OperationTree> {
    let trees = 0..count;
    trees
        .map(|number| {
            let mut spans = vec![op(0, None, 0, 10_000)];
            spans.extend(tree(number));
            on(number as u32 % 8, spans)
        })
        .collect()
}

fn contended(wait: u64, hold: u64) -> Planted {
    program(8, 200, jobs(160, |_| vec![update(wait, hold)]), 0.2)
}

#[test]
fn a_hot_lock_is_named_with_who_waits_and_who_holds() {
    let planted = contended(6_000, 2_000);
    let finding = planted.finding("CTX201");
    assert_eq!(
        (finding.site.as_str(), finding.severity, finding.confidence),
        ("update", Severity::Critical, Confidence::High)
    );
    assert!((finding.saving.unwrap() - 0.6).abs() < 1e-9);
    assert_eq!(finding.evidence["wait_ns"], 9.6e8);
    assert_eq!(finding.evidence["hold_median_ns"], 2e6);
    // Half of the waits are 30 % of the time.
    assert!((finding.gain.low.unwrap() - 1.0 / 0.7).abs() < 1e-9);
    assert_eq!(
        finding.gain.bound, None,
        "the threads waited longer than the wall time"
    );
    assert!(
        finding.message.starts_with(
            "Threads waited 960 ms for the lock `cache` in `update`, which is 60 % of the summed latency of the root \
             spans, which overlap. 100 % of 160 acquisitions waited. The holder was `update` 100 % of the time; it held it \
             for 2.00 ms in the median."
        ),
        "{}",
        finding.message
    );
    for rule in ["CTX001", "CTX202", "CTX206"] {
        assert!(planted.findings(rule).is_empty(), "{rule}");
    }
    let fixed = contended(20, 2_000);
    assert!(fixed.is_silent("CTX201") && fixed.is_silent("CTX202"));
}

#[test]
fn a_lock_that_blocks_a_poll_comes_before_the_blocked_poll() {
    let mut planted = contended(6_000, 2_000).workers();
    let row = &mut planted.profile.sites[0];
    (row.workers, row.stats.latency) = (8, Some(row.stats.activation.clone()));
    planted.profile.paths[0].stats = row.stats.clone();
    for kept in &mut planted.profile.trees[0].kept {
        let job = &mut kept.tree.spans[0];
        job.kind = TreeKind::Async;
        job.activations = vec![Activation::new(job.start, job.end, job.thread)];
    }
    let findings = planted.diagnosis().findings;
    let at = |rule: &str| {
        let is = |finding: &&Finding| finding.rule == rule && finding.site == "update";
        let place = findings.iter().position(|finding| is(&finding));
        place.unwrap_or_else(|| panic!("{rule}: {findings:#?}"))
    };
    assert!(at("CTX201") < at("CTX101"));
    let (lock, poll) = (&findings[at("CTX201")], &findings[at("CTX101")]);
    assert!(
        poll.saving < lock.saving,
        "{:?} {:?}",
        poll.saving,
        lock.saving
    );
}

#[test]
fn a_wait_that_was_over_when_the_span_began_is_the_callers_time() {
    let before = |_| {
        let span = with(op(1, Some(0), 7_000, 9_000), "lock.wait_ns", 6_000_000);
        vec![with(span, "lock.hold_ns", 2_000_000)]
    };
    let planted = program(8, 200, jobs(160, before), 0.2);
    let finding = planted.finding("CTX201");
    assert_eq!(finding.site, "update");
    assert!((finding.saving.unwrap() - 0.6).abs() < 1e-9, "{finding:#?}");
    assert!(
        planted.findings("CTX206").is_empty(),
        "the job's own time is explained"
    );
}

#[test]
fn a_span_around_the_wait_alone_is_enough() {
    let wait = |_| vec![with(op(1, Some(0), 1_000, 7_000), "cortex.kind", "lock")];
    let planted = program(8, 200, jobs(160, wait), 0.2);
    let finding = planted.finding("CTX201");
    assert_eq!(
        (finding.site.as_str(), finding.confidence),
        ("update", Confidence::Medium)
    );
    assert!(!finding.message.contains("holder"), "{}", finding.message);
}

#[test]
fn contention_counts_from_its_thresholds_on() {
    let fires = |planted: &Planted| !planted.findings("CTX201").is_empty();
    assert!(fires(&contended(500, 900)), "5 % of the time");
    assert!(contended(499, 900).is_silent("CTX201"), "less than that");
    assert!(
        contended(500, 1_001).is_silent("CTX201"),
        "half as long as it is held"
    );

    let rare = |every: u64| {
        let trees = jobs(160, |number| match number % every {
            0 => vec![update(8_000, 10)],
            _ => vec![update(0, 10)],
        });
        program(8, 200, trees, 0.2)
    };
    assert!(fires(&rare(10)), "a tenth of the acquisitions waits");
    assert!(rare(11).is_silent("CTX201"));

    let mut alone = jobs(100, |_| vec![update(6_000, 2_000)]);
    for span in alone.iter_mut().flat_map(|tree| &mut tree.spans) {
        span.thread = 0;
    }
    assert!(
        program(1, 1_000, alone, 0.2).is_silent("CTX201"),
        "one thread"
    );

    let few = program(8, 200, jobs(49, |_| vec![update(6_000, 2_000)]), 0.2);
    assert!(few.findings("CTX201").is_empty());
    let held_back = few.finding("CTX903").message;
    assert!(
        held_back.contains("CTX201 for `cache` (49 of 50 acquisitions)"),
        "{held_back}"
    );
}

#[test]
fn waiting_for_a_core_is_no_contention() {
    let mut planted = contended(600, 900);
    assert_eq!(planted.findings("CTX201").len(), 1);
    for thread in &mut planted.profile.threads {
        thread.run_queue = Some(Nanos(thread.busy.0 / 4));
    }
    assert!(planted.is_silent("CTX201"));
}

#[test]
fn readers_that_never_wait_do_not_hide_a_writer_that_does() {
    let trees = jobs(160, |number| match number % 8 {
        0 => vec![update(8_500, 100)],
        _ => {
            let read = with(op(3, Some(0), 0, 9_900), "lock.name", "cache");
            vec![with(
                with(read, "lock.hold_ns", 9_900_000),
                "lock.wait_ns",
                0,
            )]
        }
    });
    let finding = program(8, 200, trees, 0.9).finding("CTX201");
    assert_eq!(finding.site, "update");
    assert!(
        finding.message.contains("The holder was `load`"),
        "{}",
        finding.message
    );
}

/// `update` with a query of some length under the guard, in its 2 ms.
fn across(query: u64) -> Planted {
    let trees = jobs(160, |_| {
        let query = with(
            op(2, Some(1), 7_100, 7_100 + query),
            "db.query.text",
            "SELECT 1",
        );
        vec![update(6_000, 2_000), query]
    });
    program(8, 200, trees, 0.2)
}

#[test]
fn a_lock_held_across_a_query_is_that_querys_fault() {
    let planted = across(1_500);
    let finding = planted.finding("CTX202");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("update", Severity::Critical)
    );
    assert_eq!(finding.evidence["held_work_share"], 0.75);
    // Three quarters of the waits.
    assert!((finding.gain.low.unwrap() - 1.0 / (1.0 - 0.45)).abs() < 1e-9);
    assert!(
        finding
            .message
            .starts_with("`update` keeps the lock `cache` for 2.00 ms (95th percentile) while doing `query`. 75 % of the time"),
        "{}",
        finding.message
    );
    assert!(planted.findings("CTX201").is_empty());

    let mostly_its_own = across(999);
    assert!(mostly_its_own.findings("CTX202").is_empty());
    assert_eq!(mostly_its_own.findings("CTX201").len(), 1);
}

#[test]
fn nobody_waits_or_hardly_anybody_holds_long_then_the_guard_may_stay() {
    let trees = |wait, hold, query| {
        jobs(160, move |_| {
            let end = 1_000 + wait + hold;
            let query = with(
                op(2, Some(1), end - query, end),
                "db.query.text",
                "SELECT 1",
            );
            vec![update(wait, hold), query]
        })
    };
    let silent =
        |wait, hold, query| program(8, 200, trees(wait, hold, query), 0.2).is_silent("CTX202");
    assert!(silent(0, 2_000, 1_900), "nobody waits");
    assert!(
        silent(99, 2_000, 1_900),
        "less than a hundredth of the time"
    );
    assert!(!silent(100, 2_000, 1_900));
    assert!(silent(500, 999, 900), "not held for a millisecond");
}

#[test]
fn a_guard_that_lives_across_an_await_is_found_without_a_span_inside() {
    let trees = jobs(160, |_| {
        let mut span = update(6_000, 2_000);
        span.kind = TreeKind::Async;
        span.activations = [(1_000, 1_010), (7_000, 7_100), (8_900, 9_000)]
            .map(|(from, to)| Activation::new(Nanos(from * 1_000), Nanos(to * 1_000), 0))
            .to_vec();
        vec![span]
    });
    let finding = program(8, 200, trees, 0.2).finding("CTX202");
    assert_eq!(finding.evidence["held_work_share"], 0.9);
    assert!(
        finding.message.contains("while waiting in an `.await`"),
        "{}",
        finding.message
    );
    assert_eq!(NAMES[1], finding.site);
}
