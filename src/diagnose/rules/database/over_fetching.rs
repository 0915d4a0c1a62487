//! CTX413: answers of which little is used.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Scales};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::Kind;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX413",
    name: "over-fetching",
    healthy: "the rows that are fetched are used",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: every row and every column
let all = sqlx::query(\"SELECT * FROM t ORDER BY id\").fetch_all(&pool).await?;

// after: what is used
let page = sqlx::query(\"SELECT id, name FROM t ORDER BY id LIMIT $1\").bind(50).fetch_all(&pool).await?;
";

/// No saving beyond this is promised: a query takes time that does not depend on how much it returns.
const PROMISED: f64 = 0.5;

/// The answers to one query.
#[derive(Debug, Default)]
struct Answers<'a> {
    measure: Measure,
    scales: Scales<'a>,
    /// Rows that came and rows that were used, where both are known.
    rows: f64,
    used: f64,
    known: f64,
    around: Option<String>,
}

impl Answers<'_> {
    /// Returns the part that is used.
    fn used(&self) -> Option<f64> {
        (self.known > 0.0 && self.rows > 0.0).then(|| (self.used / self.rows).clamp(0.0, 1.0))
    }
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.database;
    let mut outcome = Outcome::default();
    let unused = shapes(evidence);
    for (shape, answers) in answers(evidence) {
        outcome.looked |= answers.measure.rows().is_some();
        let seed = shape as u64;
        let half = answers.scales.all(PROMISED);
        if let Some(used) = answers.used().filter(|_| unused.contains(&shape)) {
            let change = answers.scales.all(used);
            let prices = (
                Price::of(evidence, seed, &answers.scales, &half),
                Price::of(evidence, seed, &answers.scales, &change),
            );
            if let (Some(promised), Some(likely)) = prices
                && likely.is_worth_it()
            {
                let found = found(evidence, shape, &answers, &promised, Some((used, likely)));
                outcome.found.push(found);
                outcome.claims.extend(change.claims());
            }
            continue;
        }
        let measure = &answers.measure;
        let large = measure
            .bytes()
            .is_some_and(|bytes| bytes >= thresholds.large_result_bytes);
        if !large || answers.known > 0.0 || measure.rows().is_none() {
            continue;
        }
        let price = Price::of(evidence, seed, &answers.scales, &half);
        if let Some(price) = price.filter(|price| price.full.share >= thresholds.large_result_share)
        {
            outcome
                .found
                .push(found(evidence, shape, &answers, &price, None));
        }
    }
    outcome
}

/// Returns the queries of whose rows little is used; not their slowness is to be mended.
pub(super) fn shapes(evidence: &Evidence<'_>) -> BTreeSet<usize> {
    let thresholds = &evidence.thresholds.database;
    let answers = answers(evidence).into_iter();
    let unused = answers.filter(|(_, answers)| {
        let many = answers.rows >= thresholds.many_rows * answers.known;
        many && answers
            .used()
            .is_some_and(|used| used <= thresholds.used_rows)
    });
    unused.map(|(shape, _)| shape).collect()
}

fn answers<'a>(evidence: &Evidence<'a>) -> BTreeMap<usize, Answers<'a>> {
    let mut found: BTreeMap<usize, Answers<'a>> = BTreeMap::new();
    for (tree, call) in evidence.calls.of_kinds(&[Kind::Database]) {
        let span = tree.span(call);
        let answers = found.entry(call.shape).or_default();
        answers.measure.add(span, tree.weighted());
        answers.scales.set(tree.weighted(), call.index, 0.0);
        let used = calls::amount(span, "db.rows_used");
        if let (Some(rows), Some(used)) = (calls::rows(span), used) {
            answers.rows += rows * tree.roots;
            answers.used += used * tree.roots;
            answers.known += tree.roots;
        }
        let around = tree.around(call).map(|around| &tree.tree.spans[around]);
        answers.around = around.and_then(|around| around.site.location());
    }
    found
}

/// `used` is the part that is used, and what asking for it alone saves.
fn found(
    evidence: &Evidence<'_>,
    shape: usize,
    answers: &Answers<'_>,
    price: &Price,
    used: Option<(f64, Price)>,
) -> Found {
    let shape = &evidence.calls.shapes[shape];
    let measure = &answers.measure;
    let mut finding = RULE.about(&shape.site);
    finding.location = finding.location.or_else(|| answers.around.clone());
    let likely = used.map(|(_, price)| price.change.share);
    price.fill(&mut finding, evidence, likely);
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    calls::figures(&mut finding, measure);
    let query = shape.words();
    let rows = measure.rows().unwrap_or_default();
    finding.evidence.insert("rows", rows);
    let fact = match used {
        Some((part, model)) => {
            model.rank(&mut finding, evidence, model.change.share);
            finding.confidence = Confidence::High;
            finding.evidence.insert("used_share", part);
            let used = answers.used / answers.known.max(1e-9);
            let rows = answers.rows / answers.known.max(1e-9);
            format!("returned {rows:.0} rows on average; {used:.0} of them were used")
        }
        None => {
            // Whether all of it is needed nobody knows.
            finding.severity = finding.severity.min(Severity::Low);
            finding.confidence = Confidence::Low;
            let bytes = measure.bytes().unwrap_or_default();
            finding.evidence.insert("bytes", bytes);
            let mb = bytes / 1e6;
            format!("returned {mb:.1} MB in {rows:.0} rows on average")
        }
    };
    let seen = wording::count(measure.seen, "call");
    let mean = measure.mean();
    let gain = calls::gain_words(&finding, evidence, "Half of its time");
    finding.message = format!(
        "`{query}` {fact} ({seen} seen, {mean} each): rows that nobody needs are read, sent and decoded all the same.{gain}"
    );
    finding.recommendation = "Name the columns instead of `*`, filter in the query, and add a LIMIT with a page for what \
                              is shown in portions. Check that nothing further on reads the rest; afterwards the table of \
                              queries shows fewer rows for this one."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!("`{query}` {fact}, at {mean} per call.");
    Found { finding, lead }
}
