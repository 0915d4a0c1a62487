//! CTX007, CTX205 and CTX208: what the resource readings say about the cores.

use crate::diagnose::planted::{MS, Planted, plain, sampled};
use crate::model::{Nanos, Point, Series, Severity, Unit};

fn series(name: &str, values: &[f64]) -> Series {
    let mut series = Series::new(name, Unit::Count);
    series.samples = values.len() as u64;
    series.points = (0..)
        .zip(values)
        .map(|(at, &value)| Point {
            // The sources are asked one after the other.
            at: Nanos(at * 250 * MS + name.len() as u64),
            samples: 1,
            mean: value,
            min: value,
            max: value,
        })
        .collect();
    series
}

/// Two cores; `busy` of them were the process's and `waiting` threads had none, at each reading.
fn readings(readings: &[(f64, f64)]) -> Planted {
    let busy: Vec<f64> = readings.iter().map(|(busy, _)| busy * 100.0).collect();
    let waiting: Vec<f64> = readings.iter().map(|(_, waiting)| *waiting).collect();
    let mut planted = Planted::on_threads(4, 5_000).site(
        "hash",
        None,
        sampled(plain(&[(20_000 * MS, 1)]), 100, 100),
    );
    planted.profile.process.cores = Some(2);
    planted.profile.process.cpu = Some(Nanos(10_000 * MS));
    planted.profile.resources = vec![
        series("process.cpu_one_core", &busy),
        series("process.run_queue_wait", &waiting),
    ];
    planted
}

fn steady(busy: f64, waiting: f64) -> Planted {
    readings(&[(busy, waiting); 20])
}

#[test]
fn busy_cores_with_threads_in_the_queue_are_the_limit() {
    let planted = steady(1.98, 2.0);
    let finding = planted.finding("CTX007");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("process", Severity::Critical)
    );
    assert!((finding.share.unwrap() - 2.0 / 3.98).abs() < 1e-9);
    assert_eq!(
        finding.gain,
        crate::model::Gain::default(),
        "nothing is promised"
    );
    assert!(
        finding.message.starts_with(
            "The 2 cores that the process may use were busy for 99 % of the time, and 2.0 threads waited for one on \
             average. That was 50 % of the time in which threads could run, in 20 of 20 readings."
        ),
        "{}",
        finding.message
    );
    assert!(
        finding
            .recommendation
            .contains("first in `hash`, which has 100 % of it")
    );
    // Half of the time of `hash` is that waiting, and explained.
    let hot = planted.finding("CTX001");
    assert!(
        (hot.share.unwrap() - 1.98 / 3.98).abs() < 1e-3,
        "{:?}",
        hot.share
    );
}

#[test]
fn busy_cores_alone_and_a_queue_behind_others_are_healthy() {
    for (busy, waiting, why) in [
        (1.99, 0.1, "a busy machine without a queue"),
        (1.79, 2.0, "cores that are not busy enough"),
        (1.82, 0.3, "two threads and a noisy neighbour"),
    ] {
        let planted = steady(busy, waiting);
        assert!(planted.is_silent("CTX007"), "{why}");
        assert!(planted.is_silent("CTX205"), "{why}");
    }
    assert_eq!(
        steady(1.8, 0.4).findings("CTX007").len(),
        1,
        "both at the edge"
    );
}

#[test]
fn saturation_must_last() {
    let full = (1.98, 2.0);
    let free = (0.5, 0.0);
    let four = [full, full, full, full, free];
    assert!(readings(&four.repeat(4)).is_silent("CTX007"));
    let five = [full, full, full, full, full, free];
    let finding = readings(&five.repeat(2)).finding("CTX007");
    assert_eq!(finding.evidence["readings"], 10.0);
    assert_eq!(finding.evidence["all_readings"], 12.0);

    let short = readings(&[full; 4]);
    assert!(short.findings("CTX007").is_empty());
    let held_back = short.finding("CTX903").message;
    assert!(
        held_back.contains("CTX007 for `process` (4 of 5 readings of the CPU)"),
        "{held_back}"
    );
}

#[test]
fn a_limit_that_takes_the_cores_away_is_saturation_too() {
    let mut planted = steady(1.95, 0.05);
    assert!(planted.is_silent("CTX007"));
    let throttled = series("process.throttled_periods", &[4.0; 20]);
    planted.profile.resources.push(throttled);
    let finding = planted.finding("CTX007");
    assert_eq!(finding.severity, Severity::Low, "hardly anything waited");
    assert!(
        finding
            .message
            .contains("A limit of its control group took the cores away up to 4 times a second."),
        "{}",
        finding.message
    );
}

#[test]
fn far_more_ready_threads_than_cores_are_too_many_threads() {
    let planted = steady(2.0, 30.0);
    let finding = planted.finding("CTX205");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("process", Severity::Critical)
    );
    assert!((finding.share.unwrap() - 30.0 / 32.0).abs() < 1e-9);
    assert!(
        finding.message.starts_with(
            "32.0 threads were ready on average where 2 cores can run; they spent 94 % of their ready time in the queue."
        ),
        "{}",
        finding.message
    );
    assert!(planted.findings("CTX007").is_empty(), "explained already");
    assert!(
        planted.findings("CTX001").is_empty(),
        "what looks like computing was waiting"
    );
    assert_eq!(planted.diagnosis().findings[0].rule, "CTX205");

    assert_eq!(steady(2.0, 2.1).findings("CTX205").len(), 1);
    assert!(
        steady(2.0, 2.0).is_silent("CTX205"),
        "twice the cores is not more than that"
    );
    assert!(
        steady(0.9, 5.0).is_silent("CTX205"),
        "others have the cores"
    );
}

#[test]
fn without_readings_of_run_queues_nothing_is_said() {
    let mut planted = steady(2.0, 30.0);
    planted.profile.resources.truncate(1);
    for rule in ["CTX007", "CTX205"] {
        assert!(planted.findings(rule).is_empty());
        assert!(!planted.diagnosis().is_healthy(rule));
    }
}

#[test]
fn very_many_switches_with_a_busy_kernel_are_a_low_finding() {
    let switching = |switches: f64, kernel: f64, count: usize| {
        let mut planted = steady(1.0, 0.0);
        let resources = &mut planted.profile.resources;
        for (name, value) in [
            ("process.voluntary_switches", switches * 0.75),
            ("process.involuntary_switches", switches * 0.25),
            ("process.cpu_system", kernel),
            ("process.cpu_user", 100.0 - kernel),
        ] {
            resources.push(series(name, &vec![value; count]));
        }
        planted
    };
    let finding = switching(40_000.0, 50.0, 20).finding("CTX208");
    assert_eq!((finding.severity, finding.share), (Severity::Low, None));
    assert!(
        finding.message.starts_with(
            "The process switches threads 40000 times a second, and 50 % of its CPU time is the kernel's. 75 % of the \
             switches were waits of its own"
        ),
        "{}",
        finding.message
    );
    assert!(
        switching(20_000.0, 50.0, 20).is_silent("CTX208"),
        "not above the edge"
    );
    assert!(
        switching(40_000.0, 29.0, 20).is_silent("CTX208"),
        "the program computes"
    );
    assert!(
        switching(40_000.0, 50.0, 9).is_silent("CTX208"),
        "too short"
    );
    assert_eq!(switching(20_004.0, 30.0, 10).findings("CTX208").len(), 1);
}
