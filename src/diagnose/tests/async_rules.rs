use crate::diagnose::planted::{MS, Planted, own, plain, polled, sampled};
use crate::model::{Nanos, Severity};

/// Two workers for a second; `read` has polls that take `ms`, and as many short ones.
fn polls(ms: u64, count: u64, samples: u64, running: u64) -> Planted {
    let stats = polled(&[(10_000, count), (ms * MS, count)], count, ms * 3 * MS);
    Planted::on_threads(2, 1_000)
        .workers()
        .site("read", None, sampled(stats, samples, running))
}

#[test]
fn a_blocking_call_in_a_poll_is_named_with_how_long_it_blocks() {
    let planted = polls(50, 10, 100, 3);
    let finding = planted.finding("CTX101");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("read", Severity::High)
    );
    assert_eq!(finding.evidence["slow_polls"], 10.0);
    assert_eq!(finding.evidence["worker_share"], 0.25);
    assert_eq!(finding.evidence["cpu_share"], 0.03);
    // The workers are always busy: without a quarter of that they can do a third more.
    assert_eq!(
        (finding.gain.low, finding.gain.likely),
        (None, Some(4.0 / 3.0))
    );
    assert!(finding.gain.bound > Some(1.99));
    assert_eq!(
        finding.message,
        "`read` blocked an async worker for 50.0 ms in one poll (3 % on CPU): a blocking call inside `async`. \
         Every other task on that worker waited. 10 of 20 polls took 1.00 ms or more, 25 % of the workers' time."
    );
    assert!(planted.findings("CTX001").is_empty());
    assert!(planted.findings("CTX102").is_empty());
    assert!(
        planted
            .diagnosis()
            .headline
            .starts_with("`read` blocked an async worker")
    );
}

#[test]
fn a_poll_that_computes_is_cpu_heavy_and_not_hot_self_time_again() {
    let planted = polls(50, 10, 100, 97);
    let finding = planted.finding("CTX102");
    assert_eq!(finding.severity, Severity::High);
    assert_eq!(finding.share, Some(0.25));
    assert!(finding.message.starts_with(
        "`read` keeps a worker for 50.0 ms in one poll, without an `.await`; no other task on this worker can run meanwhile."
    ));
    assert!(planted.findings("CTX001").is_empty());
    assert!(planted.findings("CTX101").is_empty());
}

#[test]
fn the_length_of_the_poll_grades_a_blocking_call() {
    let severity = |ms, count| polls(ms, count, 50, 0).finding("CTX101").severity;
    assert_eq!(severity(2, 50), Severity::Low);
    assert_eq!(severity(10, 10), Severity::Medium);
    assert_eq!(severity(100, 1), Severity::High);
}

#[test]
fn slow_polls_count_from_a_share_of_the_workers_time_on() {
    assert_eq!(
        polls(10, 10, 50, 0).finding("CTX101").evidence["worker_share"],
        0.05
    );
    assert!(polls(10, 9, 50, 0).is_silent("CTX101"));
    assert_eq!(
        polls(10, 20, 50, 50).finding("CTX102").evidence["worker_share"],
        0.1
    );
    assert!(polls(10, 19, 50, 50).is_silent("CTX102"));
}

#[test]
fn polls_below_a_millisecond_are_healthy() {
    let stats = sampled(polled(&[(900_000, 1_000)], 10, 200 * MS), 100, 0);
    let planted = Planted::on_threads(1, 1_000)
        .workers()
        .site("read", None, stats);
    assert!(planted.is_silent("CTX101"));
    assert!(planted.is_silent("CTX102"));
}

#[test]
fn slow_polls_without_samples_are_held_back() {
    let planted = polls(50, 10, 7, 0);
    assert!(planted.findings("CTX101").is_empty());
    assert_eq!(
        planted.finding("CTX903").message,
        "Held back for want of data: CTX001 for `read` (7 of 20 on-CPU samples); \
         CTX101 for `read` (7 of 20 on-CPU samples); CTX102 for `read` (7 of 20 on-CPU samples)."
    );
}

#[test]
fn a_thread_that_polls_one_site_only_is_no_worker() {
    let mut planted = polls(50, 10, 100, 0);
    planted.profile.sites[0].workers = 0;
    assert!(planted.findings("CTX101").is_empty());
    assert!(!planted.diagnosis().is_healthy("CTX101"));
}

#[test]
fn the_plain_span_that_blocks_inside_the_poll_is_named() {
    let handle = own(polled(&[(50 * MS, 10)], 10, 100 * MS), 5 * MS);
    let planted = Planted::on_threads(2, 1_000)
        .workers()
        .site("handle", None, sampled(handle, 30, 30))
        .site(
            "read_config",
            Some(0),
            sampled(plain(&[(49 * MS, 10)]), 40, 1),
        );
    let finding = planted.finding("CTX101");
    assert_eq!(finding.site, "read_config");
    assert!(finding.message.starts_with(
        "`read_config` blocked an async worker for 49.0 ms inside a poll of the async span `handle` (2 % on CPU)"
    ));
    assert!(planted.findings("CTX102").is_empty());
}

#[test]
fn many_short_spans_inside_one_long_poll_are_the_polls_fault() {
    let handle = own(polled(&[(50 * MS, 10)], 10, 100 * MS), 100 * MS);
    let planted = Planted::on_threads(2, 1_000)
        .workers()
        .site("handle", None, sampled(handle, 10, 10))
        .site("step", Some(0), sampled(plain(&[(100_000, 4_000)]), 40, 40));
    let finding = planted.finding("CTX102");
    assert_eq!(finding.site, "handle");
    assert_eq!(finding.evidence["cpu_samples"], 50.0);
    assert_eq!(finding.evidence["slow_ns"], 5e8);
}

#[test]
fn the_inner_async_span_owns_its_polls() {
    let outer = own(polled(&[(50 * MS, 10)], 10, 100 * MS), 0);
    let inner = polled(&[(50 * MS, 10)], 10, 90 * MS);
    let planted = Planted::on_threads(2, 1_000)
        .workers()
        .site("handle", None, sampled(outer, 30, 0))
        .site("query", Some(0), sampled(inner, 30, 0));
    assert_eq!(planted.finding("CTX101").site, "query");
}

#[test]
fn rare_long_polls_are_told_by_their_mean() {
    let stats = sampled(
        polled(&[(10_000, 10_000), (80 * MS, 5)], 100, 200 * MS),
        50,
        0,
    );
    let mut planted = Planted::on_threads(1, 1_000)
        .workers()
        .site("read", None, stats);
    planted.profile.split.busy = Nanos(500 * MS);
    let finding = planted.finding("CTX101");
    assert_eq!(finding.evidence["slow_poll_ns"], 8e7);
    assert!(finding.message.contains("5 of 10005 polls"));
}

#[test]
fn a_program_that_mostly_awaits_is_told_so() {
    let stats = sampled(polled(&[(20_000, 1_000)], 10, 100 * MS), 50, 10);
    let planted = Planted::on_threads(1, 1_000)
        .workers()
        .site("fetch", None, stats);
    assert_eq!(
        planted.clone().busy(20).diagnosis().headline,
        "98 % of the async spans' latency is waiting between polls, most of it in `fetch`; \
         `fetch` has the most self time, 2 % of the wall time (20.0 ms); beyond \
         that nothing to fix above 10 %."
    );
    assert!(planted.diagnosis().headline.starts_with(
        "The async runtime's workers were busy for 100 % of the time, so tasks waited for them;"
    ));
}

#[test]
fn a_root_that_waits_for_its_busy_tasks_is_not_said_to_wait() {
    let root = |child_ms: u64| {
        let serve = own(polled(&[(MS, 10)], 1, 1_000 * MS), 10 * MS);
        Planted::on_threads(2, 1_000)
            .workers()
            .site("serve", None, serve)
            .site(
                "task",
                Some(0),
                sampled(polled(&[(500_000, child_ms * 2)], 1, 1_000 * MS), 50, 50),
            )
            .busy(10 + child_ms / 2)
            .diagnosis()
            .headline
    };
    assert!(!root(900).contains("latency"), "{}", root(900));
    let idle = root(200);
    assert!(
        idle.starts_with("For at least 79 % of the async spans' latency nothing inside them ran;"),
        "{idle}"
    );
}

#[test]
fn waiting_between_polls_is_no_code_without_spans() {
    let fetch = |latency| {
        let stats = sampled(polled(&[(MS, 20)], 1, latency * MS), 50, 50);
        let mut planted = Planted::run(1_000).busy(20).site("fetch", None, stats);
        planted.profile.split.uncovered = Nanos(980 * MS);
        planted
    };
    assert!(fetch(1_000).is_silent("CTX003"));
    assert_eq!(fetch(420).finding("CTX003").share, Some(0.58));
}

#[test]
fn the_wait_is_placed_where_it_happens() {
    let page = own(polled(&[(20_000, 10)], 1, 1_000 * MS), 100_000);
    let planted = |fetch_ms| {
        Planted::on_threads(2, 1_000)
            .workers()
            .busy(1)
            .site("page", None, page.clone())
            .site("fetch", Some(0), polled(&[(10_000, 10)], 1, fetch_ms * MS))
            .diagnosis()
            .headline
    };
    assert!(
        planted(900).contains("most of it in `fetch`"),
        "{}",
        planted(900)
    );
    assert!(planted(300).contains("most of it in `page`"));
}
