//! Whatever the fields say, the rules about calls keep to numbers.

use proptest::prelude::*;

use super::critical_path::trees;
use crate::diagnose::planted::{MS, Planted, plain};
use crate::model::{KeptTree, Nanos, OperationTree, RootTrees, TreeField, TreeValue};

const NAMES: [&str; 16] = [
    "db.query.text",
    "db.operation.name",
    "db.rows_used",
    "db.system",
    "rows",
    "bytes",
    "io.bytes",
    "pool.wait_ns",
    "pool.name",
    "http.request.method",
    "http.route",
    "http.response.body.size",
    "net.connect_ns",
    "server.address",
    "otel.kind",
    "cortex.kind",
];
const TEXTS: [&str; 12] = [
    "SELECT * FROM t WHERE a = 1",
    "COMMIT",
    "INSERT INTO t VALUES (",
    "'",
    "WHERE",
    "/a/17?x",
    "client",
    "fsync",
    "io",
    "db",
    "pool",
    "-1",
];

fn value() -> impl Strategy<Value = TreeValue> {
    prop_oneof![
        prop::sample::select(&TEXTS[..]).prop_map(|text| TreeValue::Text(text.into())),
        any::<i64>().prop_map(TreeValue::Integer),
        (0..2_000_000_i64).prop_map(TreeValue::Integer),
        any::<f64>().prop_map(TreeValue::Number),
        Just(TreeValue::Number(f64::NAN)),
        Just(TreeValue::Number(f64::MAX)),
        any::<bool>().prop_map(TreeValue::Bool),
    ]
}

/// The same few fields for all operations of a site, so that rules have something to find.
fn with_fields() -> impl Strategy<Value = OperationTree> {
    let field = (prop::sample::select(&NAMES[..]), value());
    let of_site = prop::collection::vec(field, 0..4);
    (trees(), prop::collection::vec(of_site, 5)).prop_map(|(mut tree, fields)| {
        for span in &mut tree.spans {
            let of_site = &fields[(span.site.id.0 as usize - 1).min(4)];
            let of_site = of_site.iter().cloned();
            span.fields = of_site
                .map(|(name, value)| TreeField { name, value })
                .collect();
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn shares_and_gains_stay_in_their_range(trees in prop::collection::vec(with_fields(), 1..4), copies in 1..12_usize) {
        let kept: Vec<KeptTree> = (0..copies)
            .flat_map(|_| trees.iter().cloned().map(KeptTree::sampled))
            .collect();
        let wall: u64 = kept.iter().map(|kept| kept.tree.wall().0).sum();
        let mut planted = Planted::run(wall / MS).site("root", None, plain(&[(wall, 1)]));
        let site = kept[0].tree.spans[0].site.clone();
        planted.profile.trees = vec![RootTrees::new(site, kept)];
        let diagnosis = planted.diagnosis();
        for finding in &diagnosis.findings {
            prop_assert!(finding.share.is_none_or(|share| (0.0..=1.0).contains(&share)), "{finding:#?}");
            prop_assert!(finding.saving.is_none_or(|share| (0.0..=1.0).contains(&share)), "{finding:#?}");
            prop_assert!(finding.evidence.values().all(|number| number.is_finite()), "{finding:#?}");
            let gain = finding.gain;
            let ordered: Vec<f64> = [gain.low, gain.likely, gain.bound].into_iter().flatten().collect();
            prop_assert!(ordered.iter().all(|factor| factor.is_finite() && *factor >= 1.0), "{finding:#?}");
            prop_assert!(ordered.is_sorted(), "{finding:#?}");
        }
        for row in diagnosis.operations.iter().flat_map(|tables| tables.database.iter().chain(&tables.network)) {
            prop_assert!(row.mean <= row.total && row.share.is_finite(), "{row:#?}");
            prop_assert!(row.p95 <= Nanos(1_000 * MS), "{row:#?}");
        }
    }
}
