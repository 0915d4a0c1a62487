//! Whatever fields and readings say, the findings stay within their ranges.

use proptest::prelude::*;

use super::super::critical_path::trees;
use super::program;
use crate::model::{Nanos, OperationTree, Point, Series, TreeField, TreeValue, Unit};

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-1.0),
        Just(0.0),
        Just(f64::MAX),
        0.0..1e9_f64,
        0.0..10.0_f64,
    ]
}

/// Trees of which some operations have fields about locks and queues.
fn with_fields() -> impl Strategy<Value = Vec<OperationTree>> {
    const FIELDS: [&str; 6] = [
        "lock.wait_ns",
        "lock.hold_ns",
        "lock.name",
        "queue.wait_ns",
        "queue.depth",
        "cortex.kind",
    ];
    let field = (
        any::<prop::sample::Index>(),
        0..FIELDS.len(),
        number(),
        0..3_usize,
    );
    let tree = (trees(), prop::collection::vec(field, 0..30)).prop_map(|(mut tree, fields)| {
        for (span, name, number, word) in fields {
            let span = span.index(tree.spans.len());
            let name = FIELDS[name];
            let value = match name {
                "lock.name" | "cortex.kind" => {
                    TreeValue::Text(["lock", "queue", "db"][word].into())
                }
                _ => TreeValue::Number(number),
            };
            tree.spans[span].fields.push(TreeField { name, value });
        }
        tree
    });
    prop::collection::vec(tree, 1..8)
}

fn series() -> impl Strategy<Value = Vec<Series>> {
    let names = [
        "process.cpu_one_core",
        "process.run_queue_wait",
        "process.throttled_periods",
        "process.voluntary_switches",
        "process.involuntary_switches",
        "process.cpu_user",
        "process.cpu_system",
        "process.threads",
    ];
    let one = prop::collection::vec(
        (any::<u64>(), prop_oneof![Just(1), any::<u64>()], number()),
        0..20,
    );
    prop::collection::vec(one, names.len()).prop_map(move |all| {
        let all = names.iter().zip(all);
        all.map(|(name, mut points)| {
            points.sort_by_key(|(at, ..)| *at);
            let mut series = Series::new(*name, Unit::Count);
            series.points = points
                .into_iter()
                .map(|(at, samples, value)| Point {
                    at: Nanos(at),
                    samples,
                    mean: value,
                    min: value,
                    max: value,
                })
                .collect();
            series
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_fields_or_readings_break_a_rule(
        trees in with_fields(),
        resources in series(),
        (threads, wall, running) in (1..4_u64, 1..5_000_u64, 0.0..1.0_f64),
        (cores, queued) in (prop::option::of(0..4_u32), prop::option::of(any::<u64>())),
    ) {
        let mut planted = program(threads, wall, trees, running);
        planted.profile.resources = resources;
        planted.profile.process.cores = cores;
        planted.profile.threads[0].run_queue = queued.map(Nanos);
        let diagnosis = planted.diagnosis();
        for finding in &diagnosis.findings {
            prop_assert!(finding.share.is_none_or(|share| (0.0..=1.0).contains(&share)), "{finding:#?}");
            prop_assert!(finding.saving.is_none_or(|share| (0.0..=1.0).contains(&share)), "{finding:#?}");
            prop_assert!(finding.evidence.values().all(|number| number.is_finite()), "{finding:#?}");
            let gains = [finding.gain.low, finding.gain.likely, finding.gain.bound];
            let gains: Vec<f64> = gains.into_iter().flatten().collect();
            prop_assert!(gains.iter().all(|gain| gain.is_finite() && *gain >= 1.0), "{finding:#?}");
            prop_assert!(gains.is_sorted(), "{finding:#?}");
        }
        prop_assert_eq!(diagnosis, planted.diagnosis());
    }
}
