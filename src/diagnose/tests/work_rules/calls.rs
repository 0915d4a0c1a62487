//! Batches, repetition and retries.

use proptest::prelude::*;

use super::{Grown, MS, US, profile};
use crate::diagnose::planted::Planted;
use crate::diagnose::{Thresholds, diagnose};
use crate::model::{Confidence, Severity};

/// Five roots that call `a` forty times each, with 3 us between calls; how long and of which size says `call`.
fn rows(call: impl Fn(u64) -> (u64, Option<u64>)) -> Planted {
    let mut trees = Vec::new();
    let mut at = 0;
    for _ in 0..5 {
        let mut tree = Grown::default();
        tree.add(0, None, at, at);
        for number in 0..40 {
            let (time, size) = call(number);
            tree.add(1, Some(0), at, at + time);
            if let Some(size) = size {
                tree.field("n", size);
            }
            at += time + 3 * US;
        }
        at += MS;
        trees.push(tree.root_to(at));
    }
    profile(trees, &[])
}

/// Sizes without an order.
fn size(number: u64) -> u64 {
    1 + number * 17 % 40
}

#[test]
fn a_fixed_cost_that_sizes_tell_is_what_a_batch_saves() {
    let planted = rows(|number| {
        let size = size(number);
        (300 * US + size * 5 * US, Some(size))
    });
    let finding = planted.finding("CTX004");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("a", Severity::Critical)
    );
    assert_eq!(finding.evidence["fixed_ns"], 300_000.0);
    // Of each root 39 times 300 us vanish, of 40 times 402.5 us, 40 times 3 us and 1 ms.
    let expected = 39.0 * 300.0 / (40.0 * 405.5 + 1_000.0);
    assert!(
        (finding.saving.unwrap() - expected).abs() < 1e-3,
        "{finding:#?}"
    );
    assert!(finding.gain.bound > finding.gain.low);
    assert!(planted.findings("CTX001").is_empty(), "the time is claimed");
}

#[test]
fn a_plain_loop_is_a_hint_at_most_and_stands_behind_what_is_known() {
    let planted = rows(|_| (400 * US, None));
    let finding = planted.finding("CTX004");
    assert_eq!(
        (finding.severity, finding.confidence),
        (Severity::Low, Confidence::Low)
    );
    assert_eq!((finding.gain.low, finding.saving), (None, None));
    assert_eq!(planted.diagnosis().findings[0].rule, "CTX001");
    // A counter is no size, and neither is a field that the time does not depend on.
    let counted = rows(|number| (400 * US + number * US, Some(number)));
    assert_eq!(counted.finding("CTX004").severity, Severity::Low);
    let unrelated = rows(|number| (400 * US + number % 3 * US, Some(size(number))));
    assert_eq!(unrelated.finding("CTX004").severity, Severity::Low);
}

#[test]
fn calls_that_take_their_time_for_the_work_are_not_batched() {
    let planted = rows(|number| {
        let size = 20 + size(number);
        (size * 8 * US, Some(size))
    });
    assert!(planted.is_silent("CTX004"));
}

#[test]
fn short_rows_long_calls_and_known_kinds_are_left_alone() {
    assert!(rows(|_| (1_100 * US, None)).is_silent("CTX004"));
    let mut short = rows(|_| (400 * US, None));
    for kept in &mut short.profile.trees[0].kept {
        kept.tree.spans.truncate(20);
    }
    assert!(short.is_silent("CTX004"));
    let mut queries = Grown::default();
    queries.add(0, None, 0, 0);
    for at in 0..200 {
        queries.add(1, Some(0), at * 400 * US, (at * 400 + 399) * US);
        queries.field("db.query.text", "SELECT 1");
    }
    let queries = profile(vec![queries.root_to(80 * MS)], &["a"]);
    assert!(queries.findings("CTX004").is_empty());
}

/// `a` takes 10 ms for each of these keys, then the root does 15 ms of its own.
fn keyed(keys: &[&str], more: &[(&'static str, bool)]) -> Planted {
    let mut tree = Grown::default();
    tree.add(0, None, 0, 0);
    let mut at = 0;
    for key in keys {
        tree.add(1, Some(0), at, at + 10 * MS);
        tree.field("cortex.key", *key);
        for (name, value) in more {
            tree.field(name, *value);
        }
        let call = tree.spans.len() as u32 - 1;
        tree.add(2, Some(call), at + MS, at + 9 * MS);
        at += 10 * MS;
    }
    profile(vec![tree.root_to(at + 15 * MS)], &[])
}

#[test]
fn what_has_the_same_key_is_computed_once_too_often() {
    let planted = keyed(&["x", "y", "x", "x", "y", "x", "x", "x"], &[]);
    let finding = planted.finding("CTX005");
    assert_eq!(
        (finding.site.as_str(), finding.severity),
        ("a", Severity::Critical)
    );
    assert_eq!(finding.evidence["distinct_keys"], 2.0);
    assert!((finding.saving.unwrap() - 60.0 / 95.0).abs() < 1e-9);
    assert!((finding.gain.low.unwrap() - 95.0 / 35.0).abs() < 1e-9);
    assert!(finding.gain.bound.unwrap() >= 95.0 / 35.0 - 1e-9);
    // What the repeats call goes with them.
    assert!(planted.findings("CTX001").is_empty());
    // What is in no tree may be repeats, too.
    let mut more = planted;
    let mut rows = more.profile.sites.iter_mut();
    let row = rows.find(|row| row.site.name == "a").unwrap();
    row.stats.busy = crate::model::Nanos(85 * MS);
    let bound = more.finding("CTX005").gain.bound.unwrap();
    assert!((bound - 95.0 / 30.0).abs() < 1e-6, "{bound}");
}

#[test]
fn few_repeats_side_effects_and_calls_without_a_key_are_no_waste() {
    assert!(keyed(&["x", "y", "z", "x", "v", "w", "u", "x"], &[]).is_silent("CTX005"));
    assert!(
        keyed(&["x", "x", "y", "y"], &[]).is_silent("CTX005"),
        "each only twice"
    );
    let writes = keyed(&["x"; 8], &[("cortex.side_effect", true)]);
    assert!(writes.findings("CTX005").is_empty());
    let long = "k".repeat(256);
    assert!(
        keyed(&[long.as_str(); 8], &[])
            .findings("CTX005")
            .is_empty(),
        "may be cut"
    );
}

/// Roots of which `a` fails three times in those that `storms` names, with these pauses after each try, then succeeds.
fn retries(roots: u64, storms: impl Fn(u64) -> bool, pauses: [u64; 3]) -> Planted {
    let mut trees = Vec::new();
    let mut at = 0;
    for number in 0..roots {
        let mut tree = Grown::default();
        tree.add(0, None, at, at);
        at += 4 * MS;
        if storms(number) {
            for pause in pauses {
                tree.add(1, Some(0), at, at + 3 * MS);
                tree.last().error = true;
                at += 3 * MS + pause;
            }
        }
        tree.add(1, Some(0), at, at + 3 * MS);
        at += 5 * MS;
        trees.push(tree.root_to(at));
    }
    profile(trees, &[])
}

#[test]
fn failing_three_times_before_success_is_told_with_what_it_costs() {
    let finding = retries(10, |number| number % 2 == 0, [100 * US; 3]).finding("CTX009");
    assert_eq!(finding.site, "a");
    assert_eq!(finding.evidence["failed_attempts"], 15.0);
    let wall = 10.0 * 9.0 + 5.0 * 9.3;
    assert!(
        (finding.saving.unwrap() - 45.0 / wall).abs() < 1e-6,
        "{finding:#?}"
    );
    // Pauses may go too, so that the bound has them.
    assert!(finding.gain.bound.unwrap() > 1.0 / (1.0 - 46.0 / wall));
    assert!(
        finding
            .message
            .contains("failed 3.0 times before it succeeded, in 50 %"),
        "{}",
        finding.message
    );
}

#[test]
fn backoff_polite_pauses_rare_failures_and_independent_ones_are_healthy() {
    assert!(retries(10, |_| true, [MS, 2 * MS, 4 * MS]).is_silent("CTX009"));
    assert!(retries(10, |_| true, [4 * MS; 3]).is_silent("CTX009"));
    let mut thresholds = Thresholds::default();
    thresholds.work.retry_share = 0.0;
    let storms = |roots| {
        let once = retries(roots, |number| number == 0, [0; 3]);
        let findings = diagnose(&once.profile, &thresholds).findings;
        findings
            .iter()
            .filter(|found| found.rule == "CTX009")
            .count()
    };
    assert_eq!((storms(20), storms(21)), (1, 0), "one in twenty operations");
    let mut items = Grown::default();
    items.add(0, None, 0, 0);
    for at in 0..40_u64 {
        items.add(1, Some(0), at * 3 * MS, (at * 3 + 3) * MS);
        items.last().error = at % 8 < 4 || at % 8 == 5;
    }
    assert!(profile(vec![items.root_to(130 * MS)], &[]).is_silent("CTX009"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The fixed cost that is planted lies between what the finding relies on and what it expects, within the noise.
    #[test]
    fn the_fixed_cost_is_found_under_noise(
        fixed in 200_u64..500,
        part in 1_u64..4,
        noise in prop::collection::vec(0_u64..20, 40),
    ) {
        let planted = rows(|number| {
            let size = size(number);
            ((fixed + size * part + noise[number as usize]) * US, Some(size))
        });
        let finding = planted.finding("CTX004");
        prop_assume!(finding.saving.is_some());
        let (low, likely) = (finding.evidence["fixed_low_ns"], finding.evidence["fixed_ns"]);
        prop_assert!(low <= likely + 1.0);
        prop_assert!((likely / 1e3 - fixed as f64 - 10.0).abs() < 20.0, "{likely} of {fixed}");
        let gain = finding.gain;
        prop_assert!(gain.low <= gain.likely && gain.likely <= gain.bound);
    }
}
