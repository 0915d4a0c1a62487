//! The tables of what databases and other programs were asked for.

use std::collections::BTreeMap;

use crate::diagnose::calls::{Measure, Shape};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::model::{OperationRow, OperationTables};

/// Rows of a table, so that the report has a bound.
const MOST_ROWS: usize = 20;

/// Returns the tables; `None` where the trees show neither queries nor requests.
pub(crate) fn of(evidence: &Evidence<'_>) -> Option<OperationTables> {
    let whole = evidence.replay.as_ref()?.whole();
    let (trees, roots) = evidence.replay_trees();
    let of_kinds = |kinds: &[Kind]| rows(evidence, kinds, whole.0 as f64);
    let tables = OperationTables {
        trees,
        roots,
        exact: trees == roots,
        whole,
        database: of_kinds(&[Kind::Database]),
        network: of_kinds(&[Kind::Http, Kind::Rpc]),
    };
    let any = !tables.database.is_empty() || !tables.network.is_empty();
    any.then_some(tables)
}

/// One table; the same shape from several callsites is one row.
fn rows(evidence: &Evidence<'_>, kinds: &[Kind], whole: f64) -> Vec<OperationRow> {
    let calls = &evidence.calls;
    let mut by_text: BTreeMap<&str, Vec<(&Shape, Measure)>> = BTreeMap::new();
    for (shape, measure) in calls.measures(kinds) {
        let shape = &calls.shapes[shape];
        let of_text = by_text.entry(&shape.text).or_default();
        of_text.push((shape, measure));
    }
    let rows = by_text.into_iter().filter_map(|(text, mut shapes)| {
        shapes.sort_by(|one, other| other.1.total.total_cmp(&one.1.total));
        let site = &shapes.first()?.0.site;
        let mut measure = Measure::default();
        shapes
            .iter()
            .for_each(|(_, of_shape)| measure.merge(of_shape));
        Some(OperationRow {
            shape: text.to_owned(),
            site: site.name.to_owned(),
            location: site.location(),
            count: measure.count.round() as u64,
            errors: measure.errors.round() as u64,
            total: measure.total(),
            mean: measure.mean(),
            p95: measure.quantile(0.95),
            share: measure.total / whole,
            rows: measure.rows(),
            bytes: measure.bytes(),
        })
    });
    let mut rows: Vec<OperationRow> = rows.collect();
    rows.sort_by(|one, other| {
        other
            .total
            .cmp(&one.total)
            .then(one.shape.cmp(&other.shape))
    });
    rows.truncate(MOST_ROWS);
    rows
}
