use crate::diagnose::planted::{MS, Planted, own, plain, sampled};
use crate::model::{CpuTime, Nanos, Stats};

/// Quantiles are within 0.1 % of the buckets.
fn assert_near(value: f64, expected: f64) {
    assert!((value / expected - 1.0).abs() < 1e-3, "{value} {expected}");
}

/// `count` calls of which 2 % take `slow_ms`, the others 1 ms.
fn tail(count: u64, slow_ms: u64) -> Stats {
    let slow = count / 50;
    plain(&[(MS, count - slow), (slow_ms * MS, slow)])
}

#[test]
fn a_long_tail_is_told_by_its_ratio_to_the_median() {
    let planted = Planted::run(5_000).site("fetch", None, tail(2_000, 50));
    let finding = planted.finding("CTX601");
    assert_eq!(finding.site, "fetch");
    assert_eq!(finding.evidence["p99_ns"], 5e7);
    assert_eq!(finding.evidence["calls"], 2_000.0);
    assert_near(finding.evidence["beyond_p95_ns"], 40.0 * 49e6);
    assert_near(finding.share.unwrap(), 0.392);
    assert!(
        finding
            .message
            .starts_with("1 in 100 `fetch` calls takes 50.0 ms or more, 50x the median.")
    );
    assert!(finding.gain.bound.is_some());
}

#[test]
fn a_tail_of_less_than_ten_times_or_ten_milliseconds_is_healthy() {
    let run = |slow_ms| Planted::run(5_000).site("fetch", None, tail(2_000, slow_ms));
    assert!(run(9).is_silent("CTX601"));
    assert_eq!(
        run(12).finding("CTX601").evidence["ratio_lower_bound"],
        12.0
    );
    let fast = plain(&[(10_000, 1_960), (9 * MS, 40)]);
    assert!(
        Planted::run(5_000)
            .site("fetch", None, fast)
            .is_silent("CTX601")
    );
}

#[test]
fn a_tail_needs_five_hundred_calls_after_the_first() {
    let run = |count| {
        let mut stats = tail(count, 50);
        stats.first = Some(Nanos(MS));
        Planted::run(5_000).site("fetch", None, stats)
    };
    assert!(run(500).findings("CTX601").is_empty());
    assert_eq!(
        run(500).finding("CTX903").message,
        "Held back for want of data: CTX601 for `fetch` (499 of 500 calls)."
    );
    // 2 % of slow calls are too few for the lower bound at 501 calls; 4 % are not.
    let mut stats = plain(&[(MS, 481), (50 * MS, 20)]);
    stats.first = Some(Nanos(MS));
    let planted = Planted::run(5_000).site("fetch", None, stats);
    assert_eq!(planted.finding("CTX601").evidence["calls"], 500.0);
}

#[test]
fn a_ratio_that_chance_explains_is_no_tail() {
    let planted = Planted::run(5_000).site("fetch", None, plain(&[(MS, 494), (50 * MS, 6)]));
    assert!(planted.is_silent("CTX601"));
}

#[test]
fn one_slow_first_call_is_no_tail() {
    let mut stats = plain(&[(MS, 99), (2_000 * MS, 1)]);
    stats.first = Some(Nanos(2_000 * MS));
    let planted = Planted::run(5_000).site("fetch", None, sampled(stats, 50, 50));
    assert!(planted.findings("CTX601").is_empty());
    assert!(planted.findings("CTX903").is_empty());
}

#[test]
fn of_nested_sites_with_the_same_tail_the_inner_one_is_named() {
    let planted = Planted::run(5_000)
        .site("handle", None, own(tail(2_000, 55), 0))
        .site("fetch", Some(0), tail(2_000, 50));
    assert_eq!(planted.finding("CTX601").site, "fetch");
}

fn cold(first_ms: u64, later: u64) -> Planted {
    let mut stats = plain(&[(MS, later), (first_ms * MS, 1)]);
    stats.first = Some(Nanos(first_ms * MS));
    Planted::run(1_000).site("compile", None, stats)
}

#[test]
fn a_cold_start_is_told_with_both_times() {
    let finding = cold(101, 20).finding("CTX603");
    assert_near(finding.share.unwrap(), 0.1);
    assert_eq!(finding.evidence["first_ns"], 1.01e8);
    assert_near(finding.evidence["median_later_ns"], 1e6);
    assert_eq!(
        finding.message,
        "The first `compile` took 101 ms; later ones 1.00 ms. That is once 100 ms, 10 % of the wall time."
    );
    assert_eq!((finding.gain.low, finding.gain.likely), (None, None));
}

#[test]
fn a_first_call_worth_little_is_healthy() {
    let first = |first_ns| {
        let mut stats = plain(&[(1_000, 20), (first_ns, 1)]);
        stats.first = Some(Nanos(first_ns));
        Planted::run(1_000).site("compile", None, stats)
    };
    assert_eq!(first(50_001_000).finding("CTX603").share, Some(0.05));
    assert!(first(50_000_999).is_silent("CTX603"));
    let mut even = plain(&[(60 * MS, 11)]);
    even.first = Some(Nanos(60 * MS));
    assert!(
        Planted::run(1_000)
            .site("compile", None, even)
            .is_silent("CTX603")
    );
}

#[test]
fn a_cold_start_needs_ten_later_calls() {
    assert_eq!(
        cold(101, 10).finding("CTX603").evidence["later_calls"],
        10.0
    );
    assert_eq!(
        cold(101, 9).finding("CTX903").message,
        "Held back for want of data: CTX603 for `compile` (9 of 10 later calls)."
    );
}

#[test]
fn of_nested_cold_starts_the_inner_one_is_named() {
    let mut outer = own(plain(&[(MS, 20), (110 * MS, 1)]), 29 * MS);
    outer.first = Some(Nanos(110 * MS));
    let mut inner = plain(&[(MS, 20), (101 * MS, 1)]);
    inner.first = Some(Nanos(101 * MS));
    let planted = Planted::run(1_000)
        .site("handle", None, outer)
        .site("compile", Some(0), inner);
    assert_eq!(planted.finding("CTX603").site, "compile");
}

#[test]
fn what_slow_calls_take_is_not_told_a_second_time_as_hot_code() {
    let stats = |mut stats: Stats| {
        stats.cpu = Some(CpuTime::new(stats.calls, stats.busy, stats.busy));
        stats
    };
    let tail = stats(tail(2_000, 50));
    let two_speeds = stats(plain(&[(MS, 600), (10 * MS, 200)]));
    let mut cold = stats(plain(&[(MS, 20), (600 * MS, 1)]));
    cold.first = Some(Nanos(600 * MS));
    for (rule, stats, wall_ms) in [
        ("CTX601", tail, 10_500),
        ("CTX602", two_speeds, 4_200),
        ("CTX603", cold, 1_000),
    ] {
        let planted = Planted::run(wall_ms).site("fetch", None, stats);
        assert_eq!(planted.finding(rule).site, "fetch");
        assert!(planted.findings("CTX001").is_empty(), "{rule}");
    }
}
