use std::sync::Arc;

use super::{plain_span, polled_at};
use crate::diagnose::planted::{MS, Planted, distribution, polled};
use crate::model::{
    Confidence, KeptTree, Nanos, OperationTree, Point, RootTrees, Severity, Site, TreeValue,
};

/// A run with these numbers of open `job` spans, read four times a second.
pub(super) fn open(readings: &[f64]) -> Planted {
    let mut stats = polled(&[(10_000, 400)], 400, 100 * MS);
    stats.open = readings.last().copied().unwrap_or(0.0) as u64;
    stats.spans += stats.open;
    let mut planted = Planted::on_threads(2, 20_000)
        .workers()
        .busy(10)
        .site("job", None, stats);
    let points = readings.iter().zip(0..).map(|(&mean, at)| Point {
        at: Nanos(at * 250 * MS),
        samples: 1,
        mean,
        min: mean,
        max: mean,
    });
    planted.profile.sites[0].open_readings = points.collect();
    planted
}

pub(super) fn rising(count: usize) -> Vec<f64> {
    (0..count)
        .map(|at| at as f64 * 2.0 + (at * 7 % 3) as f64)
        .collect()
}

#[test]
fn open_spans_that_rise_all_run_long_are_leaked() {
    let finding = open(&rising(40)).finding("CTX109");
    assert_eq!(
        (finding.site.as_str(), finding.severity, finding.confidence),
        ("job", Severity::Medium, Confidence::High)
    );
    assert_eq!(finding.evidence["readings"], 40.0);
    assert!((finding.evidence["growth_per_second"] - 8.0).abs() < 0.5);
    assert!(
        finding
            .message
            .starts_with("78 `job` spans never closed; the number of open ones rose all run long."),
        "{}",
        finding.message
    );
    assert_eq!(finding.gain.low, None);
}

#[test]
fn a_shut_down_that_ends_them_all_hides_no_leak() {
    let mut readings = rising(39);
    readings.push(0.0);
    let mut planted = open(&readings);
    // The 78 took up to the whole run, 400 others 100 ms.
    let stats = &mut planted.profile.sites[0].stats;
    stats.latency = Some(distribution(&[(100 * MS, 400), (8_000 * MS, 78)]));
    stats.spans = 478;
    let finding = planted.finding("CTX109");
    assert_eq!(finding.evidence["closed"], 400.0);
    assert!(
        finding
            .message
            .starts_with("78 `job` spans were closed only by the end of the program;"),
        "{}",
        finding.message
    );
}

#[test]
fn what_comes_to_rest_or_down_or_is_meant_to_stay_is_no_leak() {
    let plateau: Vec<f64> = (0..40).map(|at| (f64::from(at) * 5.0).min(60.0)).collect();
    assert!(open(&plateau).is_silent("CTX109"));
    let wave: Vec<f64> = (0..40)
        .map(|at| f64::from(at % 10) * 4.0 + f64::from(at) * 0.3)
        .collect();
    assert!(open(&wave).is_silent("CTX109"));
    let few: Vec<f64> = rising(40).iter().map(|open| open / 6.0).collect();
    assert!(open(&few).is_silent("CTX109"), "under ten more");

    let mut long = open(&rising(40));
    long.profile.sites[0].stats.latency = Some(distribution(&[(4_000 * MS, 400)]));
    assert!(long.is_silent("CTX109"), "they take 4 s, and it rose for 7");

    let mut daemon = open(&rising(40));
    let site = Site::clone(&daemon.profile.sites[0].site).with_fields(["cortex.daemon"]);
    daemon.profile.sites[0].site = Arc::new(site);
    assert!(daemon.is_silent("CTX109"));
}

#[test]
fn twenty_readings_are_the_least() {
    let short = open(&rising(19));
    assert!(short.findings("CTX109").is_empty());
    assert!(
        short
            .finding("CTX903")
            .message
            .contains("CTX109 for `job` (19 of 20 readings of open spans)")
    );
    assert_eq!(open(&rising(20)).findings("CTX109").len(), 1);
}

#[test]
fn many_that_nobody_polls_any_more_are_stuck() {
    let planted = |count: usize, idle: u64| {
        let mut planted = open(&vec![30.0; 40]);
        let tree = || {
            let mut span = polled_at(plain_span(1, None, 0, idle), &[0], 0);
            span.unfinished = true;
            KeptTree::sampled(OperationTree::new(vec![span]))
        };
        let site = Arc::clone(&planted.profile.sites[0].site);
        let kept = (0..count).map(|_| tree()).collect();
        planted.profile.trees = vec![RootTrees::new(site, kept)];
        planted
    };
    let finding = planted(10, 61_000_000).finding("CTX109");
    assert_eq!(
        (finding.severity, finding.confidence),
        (Severity::Low, Confidence::Low)
    );
    assert!(planted(9, 61_000_000).is_silent("CTX109"));
    assert!(planted(10, 59_000_000).is_silent("CTX109"));
    let mut daemons = planted(10, 61_000_000);
    let site = Site::clone(&daemons.profile.sites[0].site).with_fields(["cortex.daemon"]);
    daemons.profile.sites[0].site = Arc::new(site);
    for kept in &mut daemons.profile.trees[0].kept {
        let span = &mut kept.tree.spans[0];
        *span = super::with(span.clone(), "cortex.daemon", TreeValue::Bool(true));
    }
    assert!(daemons.is_silent("CTX109"));
}
