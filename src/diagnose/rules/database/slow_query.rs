//! CTX411: single queries that take long.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Scales};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::database::{
    filter_columns, n_plus_one_queries, over_fetching, pool_wait,
};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Site};

pub(super) const RULE: Rule = Rule {
    id: "CTX411",
    name: "slow-query",
    healthy: "no query is slow",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// first: EXPLAIN (ANALYZE, BUFFERS) <query>;  a scan of the whole table is what an index avoids
sqlx::query(\"CREATE INDEX CONCURRENTLY idx_orders_user ON orders(user_id)\").execute(&pool).await?;
";

/// The queries of one shape that no other rule explains.
#[derive(Debug, Default)]
struct Slow<'a> {
    measure: Measure,
    scales: Scales<'a>,
    around: Option<&'a Site>,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.database;
    let mut outcome = Outcome::default();
    let many = n_plus_one_queries::repeated(&evidence.calls, thresholds);
    let runs = many.iter().flat_map(|repeated| &repeated.runs);
    let many: BTreeSet<(*const _, usize)> = runs
        .flat_map(|run| {
            let tree = std::ptr::from_ref(run.tree);
            run.calls.iter().map(move |call| (tree, call.index))
        })
        .collect();
    let too_much = over_fetching::shapes(evidence);
    let mut slow: BTreeMap<usize, Slow<'_>> = BTreeMap::new();
    for (tree, call) in evidence.calls.of_kinds(&[Kind::Database]) {
        outcome.looked = true;
        if many.contains(&(std::ptr::from_ref(tree), call.index)) || too_much.contains(&call.shape)
        {
            continue;
        }
        // Half of it or more was no query at all.
        let span = tree.span(call);
        if pool_wait::wait(span).is_some_and(|wait| wait.0 >= span.length().0 / 2) {
            continue;
        }
        let of_shape = slow.entry(call.shape).or_default();
        of_shape.measure.add(span, tree.weighted());
        of_shape.scales.set(tree.weighted(), call.index, 0.0);
        let around = tree.around(call);
        of_shape.around = around.map(|around| &*tree.tree.spans[around].site);
    }
    for (shape, slow) in slow {
        let halved = slow.scales.all(0.5);
        let Some(price) = Price::of(evidence, shape as u64, &slow.scales, &halved) else {
            continue;
        };
        let measure = &slow.measure;
        let once = measure.longest >= Nanos::from(thresholds.slow_query_once);
        let enough = measure.seen >= thresholds.slow_query_calls;
        let long = measure.quantile(0.95) >= Nanos::from(thresholds.slow_query);
        let much = price.full.share >= thresholds.slow_query_share
            && measure.mean() >= Nanos::from(thresholds.slow_query_mean);
        if (once || (enough && (long || much))) && price.is_worth_it() {
            outcome.found.push(found(evidence, shape, &slow, &price));
            outcome.claims.extend(slow.scales.claims());
        }
    }
    outcome
}

fn found(evidence: &Evidence<'_>, shape: usize, slow: &Slow<'_>, price: &Price) -> Found {
    let shape = &evidence.calls.shapes[shape];
    let measure = &slow.measure;
    let mut finding = RULE.about(&shape.site);
    let location = finding.location.take();
    finding.location = location.or_else(|| slow.around?.location());
    // Nobody knows what an index makes of it; half is what CTX001 promises of a function as well.
    price.fill(&mut finding, evidence, Some(price.change.share));
    price.rank(&mut finding, evidence, price.full.share);
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    finding.confidence = match measure.seen >= evidence.thresholds.min_calls {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    calls::figures(&mut finding, measure);
    let p95 = measure.quantile(0.95);
    finding.evidence.insert("p95_ns", p95.0 as f64);
    if let Some(rows) = measure.rows() {
        finding.evidence.insert("rows", rows);
    }
    let query = shape.words();
    let share = wording::percent(price.full.share);
    let queries = wording::count(measure.seen, "call");
    let gain = calls::gain_words(&finding, evidence, "Twice as fast a query");
    let time = match measure.seen {
        0..=19 => format!("{} on average, {} at most", measure.mean(), measure.longest),
        _ => format!("{p95} (p95), {} on average", measure.mean()),
    };
    let rows = measure
        .rows()
        .map_or(String::new(), |rows| format!(", {rows:.0} rows on average"));
    finding.message = format!(
        "`{query}` takes {time} ({queries} seen{rows}); without it {share} of {} would vanish.{gain}",
        evidence.whole.words()
    );
    let columns = filter_columns::of(&shape.text);
    let index = match columns.is_empty() {
        true => String::new(),
        false => format!(" An index on {} may help.", columns.join(", ")),
    };
    finding.recommendation = format!(
        "Look at its plan with EXPLAIN on data of real size.{index} An index makes every write to the table slower, so \
         check those as well; the table of queries shows both."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "`{query}` takes {} per call; without it {share} of {} would vanish.",
        measure.mean(),
        evidence.whole.words()
    );
    Found { finding, lead }
}
