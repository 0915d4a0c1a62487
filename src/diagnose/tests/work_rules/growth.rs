//! Time that grows faster than the input.

use proptest::prelude::*;

use super::{Grown, US, profile};
use crate::diagnose::planted::Planted;
use crate::model::Severity;

/// A root that calls `a` with these sizes; each takes `time` and spends most of it in `b`, without a size of its own.
fn sized(sizes: impl IntoIterator<Item = u64>, time: impl Fn(u64) -> u64) -> Planted {
    let mut tree = Grown::default();
    tree.add(0, None, 0, 0);
    let mut at = 0;
    for size in sizes {
        let length = time(size);
        let call = tree.add(1, Some(0), at, at + length);
        tree.field("len", size);
        tree.add(2, Some(call), at + length / 10, at + length);
        at += length;
    }
    profile(vec![tree.root_to(at + at / 10)], &[])
}

fn sizes() -> impl Iterator<Item = u64> {
    (0..48_u64).map(|number| 100 << (number % 6))
}

#[test]
fn a_scan_inside_a_loop_shows_in_the_exponent() {
    let planted = sized(sizes(), |size| size * size / 100 * US);
    let finding = planted.finding("CTX006");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("a", Severity::Critical)
    );
    assert!((finding.evidence["exponent"] - 2.0).abs() < 1e-6);
    assert!(
        finding.gain.low > Some(2.0) && finding.gain.bound >= finding.gain.likely,
        "{finding:#?}"
    );
    assert!(finding.message.contains("len^2.0"), "{}", finding.message);
    assert!(
        planted.findings("CTX001").is_empty(),
        "what it calls is explained too"
    );
}

#[test]
fn sorting_caches_and_proportion_are_healthy() {
    assert!(sized(sizes(), |size| size * 20 * US).is_silent("CTX006"));
    let sorting = |size: u64| (size as f64 * (size as f64).log2()) as u64 * 2 * US;
    assert!(sized(sizes(), sorting).is_silent("CTX006"));
    let out_of_cache = |size: u64| size * if size > 800 { 40 * US } else { 20 * US };
    assert!(sized(sizes(), out_of_cache).is_silent("CTX006"));
}

#[test]
fn a_narrow_range_says_nothing_and_few_calls_are_said_to_be_few() {
    let square = |size: u64| size * size / 100 * US;
    let narrow = sized((0..48).map(|number| 400 << (number % 3)), square);
    assert!(narrow.findings("CTX006").is_empty());
    let few = sized(sizes().take(18), square);
    assert!(few.findings("CTX006").is_empty());
    let told = few.finding("CTX903");
    assert!(
        told.message.contains("calls with a size"),
        "{}",
        told.message
    );
}

#[test]
fn sizes_of_the_outer_site_do_not_hide_the_inner_one() {
    let mut tree = Grown::default();
    tree.add(0, None, 0, 0);
    let mut at = 0;
    for size in sizes() {
        let length = size * size / 100 * US;
        let call = tree.add(1, Some(0), at, at + length);
        tree.field("n", size);
        tree.add(2, Some(call), at + length / 20, at + length);
        tree.field("n", size);
        at += length;
    }
    let planted = profile(vec![tree.root_to(at)], &[]);
    assert_eq!(planted.finding("CTX006").site, "b");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Up to `n log n` with a quarter of noise nothing is said; a square is always found.
    #[test]
    fn only_steep_growth_is_told(exponent in 0.5_f64..1.2, noise in prop::collection::vec(0.75_f64..1.25, 48)) {
        let at = std::cell::Cell::new(0);
        let noisy = |exponent: f64| {
            at.set(0);
            sized(sizes(), |size| {
                at.set(at.get() + 1);
                ((size as f64).powf(exponent) * noise[at.get() - 1] * 2e5) as u64
            })
        };
        prop_assert!(noisy(exponent).is_silent("CTX006"));
        let found = noisy(2.0).finding("CTX006");
        prop_assert!(found.evidence["exponent_low"] <= 2.05 && found.evidence["exponent_high"] >= 1.95);
    }
}
