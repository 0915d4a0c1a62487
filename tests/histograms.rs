//! Quantiles against the sorted values that went in.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::Rig;
use tracing::info_span;
use tracing_cortex::{Distribution, ManualClock};

/// The largest duration with a bucket of its own: a clock turned by hand ticks in nanoseconds.
const RANGE: u64 = (1 << 43) - 1;

/// Runs one span for each length.
fn run(clock: &ManualClock, lengths: &[u64]) {
    for &length in lengths {
        info_span!("span").in_scope(|| clock.advance(Duration::from_nanos(length)));
    }
}

fn recorded(lengths: &[u64]) -> Distribution {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| run(&rig.clock, lengths));
    rig.finish().site("span").activation.clone()
}

fn within_one_per_cent(value: u64, exact: u64) -> bool {
    value.abs_diff(exact) as f64 <= (exact as f64 / 100.0).max(1.0)
}

/// Asserts that a quantile is that of the sorted values by the nearest rank.
///
/// HDR histograms compute the rank in floating point, so that where `q * n` is a whole number the neighbouring value may
/// be the one that they mean.
fn assert_quantile(sorted: &[u64], q: f64, value: u64) {
    let rank = q * sorted.len() as f64;
    let at = |rank: f64| sorted[(rank as usize).clamp(1, sorted.len()) - 1];
    let whole = (rank - rank.round()).abs() < 1e-6 * rank.max(1.0);
    let candidates = if whole {
        vec![at(rank.round()), at(rank.round() + 1.0)]
    } else {
        vec![at(rank.ceil())]
    };
    assert!(
        candidates
            .iter()
            .any(|&exact| within_one_per_cent(value, exact)),
        "the {q} quantile of {} values is {value}, not {candidates:?}",
        sorted.len()
    );
}

fn assert_distribution(distribution: &Distribution, lengths: &[u64]) {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    assert_eq!(distribution.count, sorted.len() as u64);
    assert_eq!(distribution.sum.0, sorted.iter().sum::<u64>());
    assert_eq!(distribution.min.0, sorted[0]);
    assert_eq!(distribution.max.0, sorted[sorted.len() - 1]);
    let quantiles = &distribution.quantiles;
    for (q, value) in [
        (0.5, quantiles.p50),
        (0.9, quantiles.p90),
        (0.95, quantiles.p95),
        (0.99, quantiles.p99),
        (0.999, quantiles.p999),
    ] {
        assert_quantile(&sorted, q, value.0);
        assert_eq!(distribution.quantile(q), value);
    }
    for q in [0.0, 0.001, 0.1, 0.25, 1.0 / 3.0, 0.75, 0.9999, 1.0] {
        assert_quantile(&sorted, q, distribution.quantile(q).0);
    }
    let mean = sorted.iter().map(|&value| value as f64).sum::<f64>() / sorted.len() as f64;
    let squares = sorted.iter().map(|&value| (value as f64 - mean).powi(2));
    let stddev = (squares.sum::<f64>() / sorted.len() as f64).sqrt();
    assert!((distribution.mean() - mean).abs() <= mean * 1e-9);
    // Each value is off by less than 1 %, so their spread is by that much of the largest.
    let off = (distribution.stddev - stddev).abs();
    assert!(
        off <= 0.01 * (stddev + sorted[sorted.len() - 1] as f64) + 1.0,
        "{off} from {stddev}"
    );
}

/// Durations of every order of magnitude alike, from 0 to hours.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0_u64),
        1 => Just(1_u64),
        1 => Just(RANGE),
        1 => 0..200_u64,
        8 => (0..43_u32, 0..u64::MAX).prop_map(|(bits, noise)| (1 << bits) | (noise & ((1 << bits) - 1))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_quantile_is_within_one_per_cent(lengths in prop::collection::vec(length(), 1..2000)) {
        assert_distribution(&recorded(&lengths), &lengths);
    }

    #[test]
    fn threads_merged_are_as_one(parts in prop::collection::vec(prop::collection::vec(length(), 0..200), 1..6)) {
        let rig = Rig::new(false, |builder| builder);
        for (number, part) in parts.iter().enumerate() {
            let (clock, part) = (rig.clock.clone(), part.clone());
            rig.on_thread(&format!("part-{number}"), move || run(&clock, &part));
        }
        let all = parts.concat();
        prop_assume!(!all.is_empty());
        let merged = rig.finish().site("span").activation.clone();
        prop_assert_eq!(&merged, &recorded(&all));
        assert_distribution(&merged, &all);
    }
}

#[test]
fn equal_values_have_one_quantile() {
    let lengths = vec![1_234_567; 100_000];
    let distribution = recorded(&lengths);
    assert_distribution(&distribution, &lengths);
    assert_eq!(distribution.quantile(0.0), distribution.quantile(1.0));
}

#[test]
fn what_is_beyond_the_range_is_an_outlier_and_keeps_the_true_maximum() {
    let rig = Rig::new(false, |builder| builder);
    let beyond = [RANGE + 1, 3 * RANGE];
    rig.run(|| run(&rig.clock, &[10, RANGE, beyond[0], beyond[1]]));
    let captured = rig.finish();
    let distribution = &captured.site("span").activation;
    assert_eq!((distribution.count, distribution.outliers), (4, 2));
    assert_eq!(distribution.max.0, beyond[1]);
    assert_eq!(distribution.sum.0, 10 + RANGE + beyond[0] + beyond[1]);
    assert_eq!(captured.profile.losses.outliers, 2);
    assert!(within_one_per_cent(distribution.quantile(0.5).0, RANGE));
}

#[test]
fn hdr_histogram_counts_and_merges_as_the_distribution() {
    let (one, two) = (recorded(&[1, 100, 10_000]), recorded(&[5, 500]));
    let mut merged = one.histogram();
    merged.add(two.histogram()).unwrap();
    assert_eq!(merged.len(), one.count + two.count);
}
