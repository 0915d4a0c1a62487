//! CTX410: one query per row where one query would do.

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Calls, Limits, Price, Repeated, Shape};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::thresholds::DatabaseThresholds;
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, TreeSpan};

pub(super) const RULE: Rule = Rule {
    id: "CTX410",
    name: "n-plus-one-queries",
    healthy: "no query is repeated under one parent",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: one query per order
for id in &ids { items.push(sqlx::query_as(\"SELECT * FROM items WHERE order_id = $1\").bind(id).fetch_all(&pool).await?); }

// after: one query for all of them
let items = sqlx::query_as::<_, Item>(\"SELECT * FROM items WHERE order_id = ANY($1)\")
    .bind(&ids).fetch_all(&pool).await?;
";

/// Statements that read or change rows one by one. A loop of inserts is a batch that somebody chose to write so, and the
/// rest prepares or ends something.
const PER_ROW: [&str; 5] = ["SELECT", "WITH", "UPDATE", "DELETE", "FIND"];
const OTHERS: [&str; 17] = [
    "INSERT",
    "REPLACE",
    "UPSERT",
    "MERGE",
    "COPY",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "PRAGMA",
    "CREATE",
    "ALTER",
    "DROP",
    "FETCH",
];

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: evidence.calls.of_kinds(&[Kind::Database]).next().is_some(),
        ..Outcome::default()
    };
    for repeated in repeated(&evidence.calls, &evidence.thresholds.database) {
        let all = repeated.scales(0.0, 0.0);
        let but_first = repeated.scales(1.0, 0.0);
        let seed = u64::from(repeated.around.id.0) << 32 | repeated.shape as u64;
        let Some(price) = Price::of(evidence, seed, &all, &but_first) else {
            continue;
        };
        if price.is_worth_it() {
            outcome.found.push(found(evidence, &repeated, &price));
            outcome.claims.extend(all.claims());
        }
    }
    outcome
}

/// Returns the queries that this rule is about; those that it finds are not slow, but many.
pub(super) fn repeated<'c, 'a>(
    calls: &'c Calls<'a>,
    thresholds: &DatabaseThresholds,
) -> Vec<Repeated<'c, 'a>> {
    let limits = Limits {
        calls: thresholds.repeated_queries,
        time: Nanos::from(thresholds.repeated_time),
        share: thresholds.repeated_share,
        many: thresholds.repeated_once,
    };
    let mut repeated = calls::repeated(calls, &[Kind::Database], limits, is_per_row);
    repeated.retain(|repeated| {
        let rows = repeated.measure().rows();
        let in_portions = rows.is_some_and(|rows| rows >= thresholds.portion_rows);
        let first = repeated.runs.first().and_then(|run| {
            let call = run.calls.first()?;
            Some(run.tree.span(call))
        });
        !in_portions && !first.is_some_and(answers_from_memory)
    });
    repeated
}

/// Whether statements of this shape are about single rows.
fn is_per_row(shape: &Shape) -> bool {
    let text = shape.text.to_ascii_uppercase();
    // Whoever reads page by page knows why.
    if text.contains(" OFFSET ") {
        return false;
    }
    let verb = shape.verb();
    PER_ROW.contains(&verb.as_str()) || !OTHERS.contains(&verb.as_str())
}

/// Databases whose answers take hardly longer than the way there; many small requests are how they are used.
fn answers_from_memory(span: &TreeSpan) -> bool {
    let system = fields::first_text(span, &["db.system.name", "db.system"]);
    system.is_some_and(|system| {
        let names = ["redis", "memcached", "valkey"];
        names.iter().any(|name| system.eq_ignore_ascii_case(name))
    })
}

fn found(evidence: &Evidence<'_>, repeated: &Repeated<'_, '_>, price: &Price) -> Found {
    let shape = &evidence.calls.shapes[repeated.shape];
    let measure = repeated.measure();
    let (operations, length, in_calls) = repeated.around();
    let mut finding = RULE.about(&shape.site);
    finding.location = repeated.location(evidence);
    price.fill(&mut finding, evidence, Some(price.change.share));
    finding.share = Some(calls::share_of_whole(evidence, measure.total));
    let varies = repeated.fewest < repeated.most;
    let often = repeated.most as u64 >= evidence.thresholds.database.repeated_once;
    finding.confidence = match varies || often {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    calls::figures(&mut finding, &measure);
    finding.evidence.extend([
        ("operations", operations),
        ("fewest_per_operation", repeated.fewest as f64),
        ("most_per_operation", repeated.most as f64),
    ]);
    let (query, times) = (shape.words(), repeated.times());
    let around = repeated.around.name;
    let changes = matches!(shape.verb().as_str(), "UPDATE" | "DELETE");
    let seen = wording::count(repeated.runs.len() as u64, "operation");
    let gain = calls::gain_words(&finding, evidence, "One query for all rows");
    finding.message = format!(
        "`{around}` ran `{query}` {times} one after the other ({in_calls} of {length}; seen in {seen}): one query per \
         row, and each pays the way to the database and back.{gain}"
    );
    finding.recommendation = match changes {
        false => format!(
            "Collect the ids and fetch all rows with one query, `WHERE id = ANY(...)` or a join. The rows come in any \
             order, so put them into a map; split lists of many thousands. Afterwards the table of queries must count \
             this one once per `{around}`."
        ),
        true => format!(
            "Change all rows with one statement, `WHERE id = ANY(...)` or a join with the new values. What one row \
             violates then undoes all of them. Afterwards the table of queries must count this one once per `{around}`."
        ),
    };
    finding.example = EXAMPLE.to_owned();
    let gains = match finding.gain.low {
        Some(low) => format!(
            "; one query for all would make the program {} as fast.",
            wording::factor(low)
        ),
        None => ".".to_owned(),
    };
    let lead = format!("`{around}` runs `{query}` {times} instead of once{gains}");
    Found { finding, lead }
}
