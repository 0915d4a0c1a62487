//! CTX602: a site has two speeds.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::excess::excess_at_most;
use crate::diagnose::rules::{Rule, Standing, own_part, without_first};
use crate::diagnose::valley::Valley;
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity, SiteId, SiteStats, TreeField, TreeValue};

pub(in crate::diagnose::rules) const RULE: Rule = Rule {
    id: "CTX602",
    name: "bimodal-latency",
    healthy: "no site has two speeds",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let value = cache.try_get_with(key, async { load(key).await }).await?; // moka: one load for all that wait
// warm it before traffic, and size it by the keys that are in use
";

/// An outer site is not told apart when an inner one has this share of its slow time.
const SAME_VALLEY: f64 = 0.8;

/// Calls in trees before a field is believed to separate them.
const FEWEST_SEEN: f64 = 20.0;

/// More values than this do not explain two speeds.
const MOST_VALUES: usize = 10;

/// The association from which a field separates the speeds: Cramer's V, 1 if it does so without an exception.
const SEPARATES: f64 = 0.5;

/// Where threads waited for a core for so much of what slow calls take longer, that may be why.
const QUEUED: f64 = 0.5;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.trends;
    let mut outcome = Outcome::default();
    let mut two_speeds: Vec<TwoSpeeds<'_>> = Vec::new();
    let threads = evidence.profile.threads.iter();
    let queued: Nanos = threads.filter_map(|thread| thread.run_queue).sum();
    for row in evidence.sites() {
        let operations = row.stats.operations();
        let first = u64::from(row.stats.first.is_some());
        let calls = operations.count.saturating_sub(first);
        outcome.looked |= calls >= thresholds.valley_calls;
        let gap = Nanos::from(thresholds.valley_gap);
        // Too few to name them when they are held back, or too even to be looked at.
        let worth = evidence.whole.share(operations.sum) >= thresholds.valley_share;
        if calls < thresholds.valley_calls / 2
            || !worth
            || operations.max.saturating_sub(operations.min) < gap
        {
            continue;
        }
        let calls = without_first(operations, row.stats.first);
        let Some(valley) = Valley::of(&calls, thresholds) else {
            continue;
        };
        let apart = valley.slow.median.saturating_sub(valley.fast.median);
        let share = evidence.whole.share(valley.excess());
        // Whoever loses its core for a while has two speeds as well.
        let is_queued = queued.share_of(valley.excess()) >= QUEUED
            // So has a task that waits its turn behind polls that are too long.
            || ["CTX101", "CTX102", "CTX106"]
                .iter()
                .any(|rule| board.has(rule, row.site.name));
        if apart < gap || share < thresholds.valley_share || is_queued {
            continue;
        }
        if calls.count < thresholds.valley_calls {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have: calls.count,
                need: thresholds.valley_calls,
                what: "calls",
            });
        } else {
            two_speeds.push(TwoSpeeds { row, valley, share });
        }
    }
    let innermost = two_speeds.iter().filter(|outer| {
        !two_speeds.iter().any(|inner| {
            let part = inner.valley.excess().share_of(outer.valley.excess());
            inner.row.site.id != outer.row.site.id
                && part >= SAME_VALLEY
                && evidence.is_below(inner.row.site.id, outer.row.site.id)
                && !evidence.is_below(outer.row.site.id, inner.row.site.id)
        })
    });
    for site in innermost {
        outcome.claims.push(Claim {
            site: site.row.site.id,
            time: own_part(&site.row.stats, site.valley.excess()),
        });
        outcome.found.push(site.found(evidence));
    }
    outcome
}

#[derive(Debug)]
struct TwoSpeeds<'a> {
    row: &'a SiteStats,
    valley: Valley,
    share: f64,
}

impl TwoSpeeds<'_> {
    fn found(&self, evidence: &Evidence<'_>) -> Found {
        let Valley {
            fast, slow, depth, ..
        } = self.valley;
        let separating = separating_field(evidence, self.row.site.id, self.valley.split);
        let mut finding = RULE.about(&self.row.site);
        finding.severity = ladder(self.share, evidence.thresholds);
        finding.confidence = Confidence::High;
        if separating.is_none() {
            // Two kinds of calls under one name are no fault; nothing says which they are.
            finding.severity = finding.severity.min(Severity::Medium);
            finding.confidence = Confidence::Medium;
        }
        finding.share = Some(self.share);
        // At the very most a slow call becomes the fastest of all.
        let operations = self.row.stats.operations();
        let most = excess_at_most(operations, self.valley.split, operations.min);
        finding.gain.bound = evidence.ceiling(most);
        let calls = fast.count.saturating_add(slow.count);
        let part = |side: u64| side as f64 / calls.max(1) as f64;
        finding.evidence = BTreeMap::from([
            ("calls", calls as f64),
            ("fast_ns", fast.median.0 as f64),
            ("slow_ns", slow.median.0 as f64),
            ("slow_share", part(slow.count)),
            ("valley_depth", depth),
            ("excess_ns", self.valley.excess().0 as f64),
        ]);
        let site = self.row.site.name;
        let lead = format!(
            "`{site}` has two speeds, {} ({} of {calls} calls) and {} ({})",
            fast.median,
            wording::percent(part(fast.count)),
            slow.median,
            wording::percent(part(slow.count)),
        );
        let why = match &separating {
            Some((field, association)) => {
                finding
                    .evidence
                    .insert("association_of_field", *association);
                format!(" The field `{field}` separates them.")
            }
            None => " That is the shape of a cache that hits and misses, or of two kinds of calls under one name."
                .to_owned(),
        };
        finding.message = format!(
            "{lead}, with few in between.{why} What the slow ones take beyond the fast ones adds up to {}, {} of {}.",
            self.valley.excess(),
            wording::percent(self.share),
            evidence.whole.words(),
        );
        finding.recommendation = match separating {
            Some((field, _)) => format!(
                "Make the slow calls of `{site}` rarer: see which values of `{field}` they have, and warm, widen or share \
                 the cache behind it. If they are two kinds of work, give them two span names. Afterwards the slow part \
                 shrinks."
            ),
            None => format!(
                "Record what distinguishes the calls of `{site}`, such as `cortex.hit = true`, to see which are slow. If it \
                 is a cache, warm or widen it and let calls that wait for the same key share one load."
            ),
        };
        finding.example = EXAMPLE.to_owned();
        Found { finding, lead }
    }
}

/// Returns the field whose values go with the speeds best, and how well, if any does.
fn separating_field(
    evidence: &Evidence<'_>,
    site: SiteId,
    split: Nanos,
) -> Option<(&'static str, f64)> {
    // By field and value, the fast and the slow calls.
    let mut tables: BTreeMap<&'static str, BTreeMap<String, [f64; 2]>> = BTreeMap::new();
    for tree in evidence.trees() {
        let calls = tree.tree.spans.iter();
        for call in calls.filter(|call| call.site.id == site && !call.unfinished) {
            let slow = usize::from(call.length() > split);
            for field in &call.fields {
                let table = tables.entry(field.name).or_default();
                if let Some(value) = value(field)
                    && (table.len() <= MOST_VALUES || table.contains_key(&value))
                {
                    table.entry(value).or_default()[slow] += 1.0;
                }
            }
        }
    }
    let strengths = tables.iter().filter_map(|(&name, table)| {
        let fits = (2..=MOST_VALUES).contains(&table.len());
        let strength = cramers_v(table.values()).filter(|_| fits)?;
        (strength >= SEPARATES).then_some((name, strength))
    });
    strengths.max_by(|one, other| one.1.total_cmp(&other.1))
}

fn value(field: &TreeField) -> Option<String> {
    match &field.value {
        TreeValue::Bool(value) => Some(value.to_string()),
        TreeValue::Integer(value) => Some(value.to_string()),
        TreeValue::Text(value) => Some(value.to_string()),
        TreeValue::Number(_) => None,
    }
}

/// Returns how well the row says the column; `None` with too few calls, or where a column is empty.
fn cramers_v<'t>(rows: impl Iterator<Item = &'t [f64; 2]> + Clone) -> Option<f64> {
    let columns = rows
        .clone()
        .fold([0.0, 0.0], |sum, row| [sum[0] + row[0], sum[1] + row[1]]);
    let total = columns[0] + columns[1];
    if total < FEWEST_SEEN || columns.contains(&0.0) {
        return None;
    }
    let squares: f64 = rows
        .flat_map(|row| {
            let sum = row[0] + row[1];
            [0, 1].map(|column| {
                let expected = sum * columns[column] / total;
                (row[column] - expected).powi(2) / expected
            })
        })
        .sum();
    Some((squares / total).sqrt().min(1.0))
}
