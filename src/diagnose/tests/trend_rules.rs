use crate::diagnose::planted::{MS, Planted, own, plain};
use crate::diagnose::{Thresholds, diagnose};
use crate::model::{
    Diagnosis, Finding, KeptTree, Nanos, OperationTree, Point, RootTrees, Series, Severity, Target,
    TreeField, TreeSpan, TreeValue, Unit, Verdict,
};

fn with_target(planted: &Planted, percentile: f64, limit_ms: u64) -> Diagnosis {
    let mut thresholds = Thresholds::default();
    let target = Target::new("handle", percentile, Nanos(limit_ms * MS));
    thresholds.targets.push(target);
    diagnose(&planted.profile, &thresholds)
}

/// `slow` of `calls` operations take 200 ms, the others 10 ms, nearly all of it in `query`.
fn service(calls: u64, slow: u64) -> Planted {
    let handle = plain(&[(10 * MS, calls - slow), (200 * MS, slow)]);
    let query = plain(&[(9 * MS, calls - slow), (199 * MS, slow)]);
    let rest = handle.busy.saturating_sub(query.busy);
    Planted::run(20_000)
        .site("handle", None, own(handle, rest.0))
        .site("query", Some(0), query)
}

fn breach(diagnosis: &Diagnosis) -> &Finding {
    let mut found = diagnosis.findings.iter();
    found.find(|finding| finding.rule == "CTX701").unwrap()
}

#[test]
fn a_missed_target_is_told_with_its_bounds_and_where_the_time_is() {
    let diagnosis = with_target(&service(1_000, 100), 95.0, 150);
    let finding = breach(&diagnosis);
    assert_eq!(finding.site, "handle");
    assert_eq!(finding.severity, Severity::High);
    assert_eq!(finding.evidence["at_least_ns"], 200e6);
    assert!(
        finding
            .message
            .starts_with("`handle` misses its target: p95 is 200 ms and is to be 150 ms"),
        "{}",
        finding.message
    );
    assert!(
        finding.message.contains("`query` itself, 97 %"),
        "{}",
        finding.message
    );
    let result = &diagnosis.targets[0];
    assert_eq!((result.verdict, result.calls), (Verdict::Missed, 1_000));
    let critical = with_target(&service(1_000, 100), 95.0, 99);
    assert_eq!(breach(&critical).severity, Severity::Critical);
}

#[test]
fn a_target_that_is_met_is_no_finding() {
    let diagnosis = with_target(&service(1_000, 40), 95.0, 10);
    assert!(
        diagnosis
            .findings
            .iter()
            .all(|found| found.rule != "CTX701")
    );
    assert!(diagnosis.is_healthy("CTX701"));
    assert_eq!(diagnosis.targets[0].verdict, Verdict::Met);
}

/// 56 of 1000 are above: more than one in twenty, but at one in twenty 62 happen as well.
#[test]
fn a_target_that_chance_may_have_missed_is_at_risk() {
    let diagnosis = with_target(&service(1_000, 56), 95.0, 100);
    assert_eq!(diagnosis.targets[0].verdict, Verdict::AtRisk);
    assert_eq!(breach(&diagnosis).severity, Severity::Low);
}

#[test]
fn a_percentile_needs_five_calls_beyond_it() {
    let verdict = |calls, percentile| {
        let diagnosis = with_target(&service(calls, calls / 2), percentile, 100);
        let found = diagnosis.findings.iter();
        let missed = found.filter(|found| found.rule == "CTX701").count();
        let verdict = diagnosis.targets[0].verdict;
        assert_eq!(missed, usize::from(verdict == Verdict::Missed));
        verdict
    };
    assert_eq!(verdict(99, 95.0), Verdict::TooFew);
    assert_eq!(verdict(100, 95.0), Verdict::Missed);
    assert_eq!(verdict(499, 99.0), Verdict::TooFew);
    assert_eq!(verdict(500, 99.0), Verdict::Missed);
    assert_eq!(verdict(4_999, 99.9), Verdict::TooFew);
    assert_eq!(verdict(5_000, 99.9), Verdict::Missed);
}

#[test]
fn a_target_for_a_site_that_does_not_exist_says_so() {
    let planted = Planted::run(1_000).site("other", None, plain(&[(MS, 100)]));
    let diagnosis = with_target(&planted, 95.0, 1);
    assert_eq!(diagnosis.targets[0].verdict, Verdict::Unseen);
    assert!(
        diagnosis
            .findings
            .iter()
            .all(|found| found.rule != "CTX701")
    );
}

/// A site whose calls in each second are `(calls, ms per call)`, and the window under way after them.
fn over_time(seconds: &[(u64, f64)]) -> Planted {
    let length = |ms: f64| (ms * MS as f64) as u64;
    let mut values: Vec<_> = seconds.iter().map(|&(n, ms)| (length(ms), n)).collect();
    values.sort_unstable();
    let mut planted =
        Planted::run(1_000 * seconds.len() as u64 + 500).site("scan", None, plain(&values));
    let ended: Vec<u64> = seconds.iter().map(|&(n, _)| n).chain([1]).collect();
    let time = seconds.iter().map(|&(n, ms)| Nanos(length(ms) * n));
    let time: Vec<Nanos> = time.chain([Nanos(900 * MS)]).collect();
    let row = &mut planted.profile.sites[0];
    row.ended_per_window.clone_from(&ended);
    row.time_per_window.clone_from(&time);
    let throughput = &mut planted.profile.throughput;
    throughput.window = Nanos(1_000 * MS);
    throughput.ended_per_window = ended;
    throughput.time_per_window = time;
    planted
}

/// A number in [-1, 1) that looks like chance.
fn noise(index: usize) -> f64 {
    let mixed = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)) as u32 as f64 / f64::from(u32::MAX) * 2.0 - 1.0
}

#[test]
fn a_site_that_gets_slower_is_told_with_both_ends_and_what_it_cost() {
    let seconds: Vec<_> = (0..30).map(|at| (20, 10.0 + f64::from(at))).collect();
    let finding = over_time(&seconds).finding("CTX605");
    assert_eq!(finding.site, "scan");
    assert_eq!(finding.severity, Severity::Critical);
    assert!((finding.evidence["mean_at_start_ns"] - 10e6).abs() < 1e4);
    assert!((finding.evidence["mean_at_end_ns"] - 39e6).abs() < 1e4);
    // Against the first quarter's median of 13 ms.
    let excess: f64 = (4..30).map(|at| 20.0 * f64::from(at - 3)).sum();
    assert!((finding.evidence["excess_ns"] - excess * 1e6).abs() < 1e5);
    assert!(
        finding
            .message
            .starts_with("`scan` slowed from 10.0 ms to 39.0 ms during the run"),
        "{}",
        finding.message
    );
}

#[test]
fn what_wanders_steps_or_settles_does_not_degrade() {
    let run = |mean: fn(usize) -> f64| {
        let seconds: Vec<_> = (0..40).map(|at| (20, mean(at))).collect();
        over_time(&seconds)
    };
    let silent = |mean| run(mean).findings("CTX605").is_empty();
    assert!(silent(|at| 20.0 + 3.0 * noise(at)));
    assert!(silent(|at| if at < 20 { 10.0 } else { 15.0 }));
    assert!(silent(|at| 20.0 - 10.0 * (-(at as f64) / 4.0).exp()));
    assert!(silent(|at| 30.0 - 0.5 * at as f64));
    assert!(silent(|at| 20.0 + 0.05 * at as f64));
    assert!(!silent(|at| 20.0 + 0.5 * at as f64 + noise(at)));
}

#[test]
fn degrading_needs_twenty_windows_of_which_the_last_is_not_one() {
    let run = |windows: u32| {
        let seconds: Vec<_> = (0..windows).map(|at| (20, 10.0 + f64::from(at))).collect();
        over_time(&seconds)
    };
    assert_eq!(run(20).finding("CTX605").evidence["windows"], 20.0);
    assert!(run(19).findings("CTX605").is_empty());
    let held_back = run(19).finding("CTX903").message;
    assert!(
        held_back.contains("CTX605 for `scan` (19 of 20 windows with calls)"),
        "{held_back}"
    );
}

#[test]
fn throughput_that_falls_while_as_much_is_under_way_is_told() {
    let seconds: Vec<_> = (0..30)
        .map(|at| (100 - 2 * at, 900.0 / (100 - 2 * at) as f64))
        .collect();
    let finding = over_time(&seconds).finding("CTX707");
    assert_eq!(finding.site, "scan");
    assert!((finding.evidence["at_start_per_second"] - 100.0).abs() < 1.0);
    assert!((finding.evidence["at_end_per_second"] - 42.0).abs() < 1.0);
    assert_eq!(finding.severity, Severity::Critical);
    let mut short = over_time(&seconds);
    short.profile.wall = Nanos(19_000 * MS);
    assert!(short.findings("CTX707").is_empty());
}

#[test]
fn throughput_that_falls_because_less_is_asked_for_is_healthy() {
    let seconds: Vec<_> = (0..30).map(|at| (100 - 2 * at, 9.0)).collect();
    let mut planted = over_time(&seconds);
    assert!(planted.findings("CTX707").is_empty());
    let mut queue = Series::new("queue.depth", Unit::Count);
    for second in 0..30_u64 {
        let value = 10.0 * second as f64;
        queue.points.push(Point {
            at: Nanos(second * 1_000 * MS),
            samples: 1,
            mean: value,
            min: value,
            max: value,
        });
    }
    planted.profile.resources.push(queue);
    let finding = planted.finding("CTX707");
    assert!(
        finding.message.contains("the queue grew"),
        "{}",
        finding.message
    );
}

#[test]
fn two_speeds_are_told_and_take_the_place_of_a_tail() {
    let stats = plain(&[(MS, 300), (2 * MS, 100), (48 * MS, 20), (50 * MS, 80)]);
    let finding = Planted::run(6_000)
        .site("get", None, stats.clone())
        .finding("CTX602");
    assert_eq!(finding.evidence["fast_ns"], 1e6);
    assert_eq!(finding.evidence["slow_ns"], 50e6);
    assert_eq!(finding.evidence["slow_share"], 0.2);
    assert_eq!(finding.severity, Severity::Medium);
    let planted = Planted::run(6_000).site("get", None, stats);
    assert!(planted.findings("CTX601").is_empty());
}

#[test]
fn losing_the_core_is_no_speed_of_the_program() {
    let slow_by = |queued_ms: u64| {
        let stats = plain(&[(MS, 400), (20 * MS, 100)]);
        let mut planted = Planted::run(3_000).site("get", None, stats);
        planted.profile.threads[0].run_queue = Some(Nanos(queued_ms * MS));
        planted
    };
    assert!(slow_by(1_000).findings("CTX602").is_empty());
    assert_eq!(slow_by(900).findings("CTX602").len(), 1);
}

#[test]
fn two_speeds_need_two_hundred_calls_and_must_matter() {
    let run = |calls: u64, wall_ms| {
        let stats = plain(&[(MS, calls * 3 / 4), (20 * MS, calls / 4)]);
        Planted::run(wall_ms).site("get", None, stats)
    };
    assert_eq!(run(200, 3_000).findings("CTX602").len(), 1);
    assert!(run(196, 3_000).findings("CTX602").is_empty());
    assert!(run(200, 60_000).findings("CTX602").is_empty());
    let slow = plain(&[(MS / 10, 150), (MS, 50)]);
    assert!(
        Planted::run(70)
            .site("get", None, slow)
            .findings("CTX602")
            .is_empty()
    );
}

#[test]
fn a_field_that_separates_the_speeds_is_named() {
    let mut planted = Planted::run(6_000).site("get", None, plain(&[(MS, 200), (50 * MS, 100)]));
    let site = planted.profile.sites[0].site.clone();
    let mut trees = Vec::new();
    for index in 0..30_u64 {
        let hit = index % 3 != 0;
        let start = Nanos(index * 100 * MS);
        let end = Nanos(start.0 + if hit { MS } else { 50 * MS });
        let mut span = TreeSpan::new(site.clone(), None, start, end);
        let fields = [
            ("cortex.hit", TreeValue::Bool(hit)),
            ("n", TreeValue::Integer(7)),
        ];
        span.fields = fields.map(|(name, value)| TreeField { name, value }).into();
        trees.push(KeptTree::sampled(OperationTree::new(vec![span])));
    }
    let mut group = RootTrees::new(site, trees);
    group.roots = 300;
    group.wall = Nanos(5_200 * MS);
    planted.profile.trees = vec![group];
    let finding = planted.finding("CTX602");
    assert!(
        finding
            .message
            .contains("The field `cortex.hit` separates them."),
        "{}",
        finding.message
    );
    assert_eq!(finding.severity, Severity::Critical);
}
