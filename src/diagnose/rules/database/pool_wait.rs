//! CTX412: waiting for a connection out of a pool.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::calls::{self, Measure, Price, Scales};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Site, TreeSpan};

pub(super) const RULE: Rule = Rule {
    id: "CTX412",
    name: "pool-wait",
    healthy: "connections are free when wanted",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: one connection for everything
let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(url).await?;

// after: as many as the database serves well, and none held while something else is awaited
let pool = sqlx::postgres::PgPoolOptions::new().max_connections(16).connect(url).await?;
";

/// A shorter wait is only the way through the pool's own lock.
const SHORTEST: Nanos = Nanos(100_000);

/// What was asked of one pool.
#[derive(Debug, Default)]
struct Pool<'a> {
    waits: Measure,
    /// How many really waited.
    waited: f64,
    scales: Scales<'a>,
    by_site: BTreeMap<u32, (f64, Option<&'a Site>)>,
    /// The most connections that it may have.
    most: Option<f64>,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.database;
    let pools = pools(evidence);
    let mut outcome = Outcome {
        looked: !pools.is_empty(),
        ..Outcome::default()
    };
    let mut queries = Measure::default();
    for measure in evidence.calls.measures(&[Kind::Database]).values() {
        queries.merge(measure);
    }
    for (seed, (name, pool)) in pools.iter().enumerate() {
        let waited = pool.waited / pool.waits.count.max(1e-9);
        if !pool.waits.is_enough(thresholds.pool_acquires) || waited < thresholds.pool_waiting {
            continue;
        }
        let Some(price) = Price::of(evidence, seed as u64, &pool.scales, &pool.scales) else {
            continue;
        };
        let p95 = pool.waits.quantile(0.95);
        let longer_than_queries = queries.seen > 0
            && p95 >= queries.quantile(0.5)
            && p95 >= Nanos::from(thresholds.pool_wait);
        let much = price.change.share >= thresholds.pool_share;
        if price.is_worth_it() && (much || longer_than_queries) {
            outcome
                .found
                .push(found(evidence, name, pool, &price, waited));
            outcome.claims.extend(pool.scales.claims());
        }
    }
    outcome
}

/// Returns what was asked of each pool, by its name; empty where it has none.
fn pools<'a>(evidence: &Evidence<'a>) -> BTreeMap<&'a str, Pool<'a>> {
    let mut pools: BTreeMap<&str, Pool<'_>> = BTreeMap::new();
    for tree in evidence.trees() {
        let mut counted = BTreeSet::new();
        for (index, span) in tree.tree.spans.iter().enumerate() {
            let Some(wait) = wait(span) else {
                continue;
            };
            let around = calls::parent(tree.tree, index);
            if around.is_some_and(|around| counted.contains(&around)) {
                continue;
            }
            counted.insert(index);
            let names = ["pool.name", "db.client.connection.pool.name"];
            let name = fields::first_text(span, &names).unwrap_or_default();
            let pool = pools.entry(name).or_default();
            pool.waits.add_length(wait, tree);
            if wait >= SHORTEST {
                pool.waited += tree.number;
            }
            pool.scales.take_off(tree, index, wait);
            let of_site = pool.by_site.entry(span.site.id.0).or_default();
            of_site.0 += wait.0 as f64 * tree.roots;
            of_site.1 = Some(&span.site);
            let names = ["pool.max", "pool.size"];
            let most = names.iter().find_map(|name| calls::amount(span, name));
            pool.most = pool.most.or(most);
        }
    }
    pools
}

/// Returns how long an operation waited for a connection.
pub(super) fn wait(span: &TreeSpan) -> Option<Nanos> {
    if span.fields.is_empty() {
        return None;
    }
    if let Some(wait) = calls::amount(span, "pool.wait_ns") {
        return Some(Nanos(wait as u64).min(span.length()));
    }
    let said = fields::text(span, "cortex.kind");
    let is_wait = match said {
        Some(kind) => kind.eq_ignore_ascii_case("pool"),
        None => fields::kind(span) == Some(Kind::Other) && fields::has_prefix(span, "pool."),
    };
    is_wait.then(|| span.length())
}

fn found(
    evidence: &Evidence<'_>,
    name: &str,
    pool: &Pool<'_>,
    price: &Price,
    waited: f64,
) -> Found {
    let waits = &pool.waits;
    let sites = pool.by_site.values();
    let largest = sites.max_by(|one, other| one.0.total_cmp(&other.0));
    let site = largest.and_then(|(_, site)| *site);
    let mut finding = match site {
        Some(site) => RULE.about(site),
        None => RULE.about_process(),
    };
    price.fill(&mut finding, evidence, Some(price.change.share));
    finding.share = Some(calls::share_of_whole(evidence, waits.total));
    finding.confidence = match waited >= 0.5 {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    calls::figures(&mut finding, waits);
    let p95 = waits.quantile(0.95);
    finding.evidence.insert("p95_ns", p95.0 as f64);
    finding.evidence.insert("waiting_share", waited);
    let pool_name = match name {
        "" => "the pool".to_owned(),
        name => format!("the pool `{name}`"),
    };
    let of = pool.most.map_or(String::new(), |most| {
        finding.evidence.insert("pool_size", most);
        format!(" of {most:.0}")
    });
    let waiting = wording::percent(waited);
    let gain = calls::gain_words(&finding, evidence, "Never waiting");
    let seen = waits.seen;
    finding.message = format!(
        "{waiting} of {seen} operations had to wait for a connection{of} from {pool_name}: {p95} (p95), {} on \
         average.{gain}",
        waits.mean()
    );
    finding.recommendation = format!(
        "Look first for connections that are held while something else is awaited, and give them back sooner; then let \
         {pool_name} have more of them. A database serves only so many at a time: when it gets slower with more, waiting \
         here was the better place. Afterwards the wait (p95) must be far below the time of a query."
    );
    finding.example = EXAMPLE.to_owned();
    let share = wording::percent(price.change.share);
    let lead = format!(
        "{waiting} of all operations wait for a connection from {pool_name}, {p95} (p95); without that {share} of {} \
         would vanish.",
        evidence.whole.words()
    );
    Found { finding, lead }
}
