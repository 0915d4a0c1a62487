//! CTX004: many short calls in a row, each of which pays a cost that one call for all would pay once.
//!
//! A loop with a short body looks the same. Only where calls of different sizes show that part of their time does not
//! depend on the size is it more than a hint.

use std::collections::BTreeMap;

use super::superlinear_scaling::thinned;
use super::tree_parts::{Change, Siblings, gain_words, is_explained, parent, price};
use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::{mad, median, quantile_of, theil_sen};
use crate::model::{Confidence, Nanos, OperationTree, Severity, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX004",
    name: "batchable-calls",
    healthy: "no rows of small calls with a fixed cost each",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: for row in &rows { store.put(row)?; }
store.put_many(&rows)?; // or by rows.chunks(256)
";

/// Sizes must differ by this between the tenth with the smallest and that with the largest to tell a fixed cost.
const SIZES: f64 = 2.0;

/// From this share of the calls on, what they have in common counts for all.
const NEARLY_ALL: f64 = 0.9;

/// From this share of an outer row's time on, it is the inner row's.
const MOSTLY: f64 = 0.8;

/// Calls of one site in a row inside one parent.
#[derive(Debug)]
struct Row<'a> {
    tree: &'a OperationTree,
    roots: f64,
    calls: Vec<usize>,
}

/// The rows of one site inside parents of one site.
#[derive(Debug, Default)]
struct Rows<'a> {
    rows: Vec<Row<'a>>,
    parent: &'a str,
}

/// What each call pays whatever its size, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    likely: f64,
    low: f64,
}

/// What the sizes of the calls say.
#[derive(Debug, Clone, Copy)]
enum Sized {
    /// Nothing: there are none, or they do not differ.
    Unknown,
    /// The time goes into the work; a batch would not save it.
    NoFixedCost,
    FixedCost(Fixed),
}

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let mut all: BTreeMap<(SiteId, SiteId), Rows<'_>> = BTreeMap::new();
    for weighted in evidence.trees() {
        outcome.looked = true;
        let tree = weighted.tree;
        if (tree.spans.len() as u64) <= evidence.thresholds.work.batch_calls {
            continue;
        }
        let special = special(tree);
        for (around, children) in Siblings::of(tree).families() {
            let in_a_row = |&one: &usize, &next: &usize| {
                let (one, next) = (&tree.spans[one], &tree.spans[next]);
                one.site.id == next.site.id && one.end <= next.start
            };
            for calls in children.chunk_by(in_a_row) {
                let calls: Vec<usize> = calls.iter().copied().filter(|&at| !special[at]).collect();
                let row = Row {
                    tree,
                    roots: weighted.roots,
                    calls,
                };
                if row.is_long(evidence, around) {
                    let site = tree.spans[row.calls[0]].site.id;
                    let rows = all.entry((site, tree.spans[around].site.id)).or_default();
                    rows.parent = tree.spans[around].site.name;
                    rows.rows.push(row);
                }
            }
        }
    }
    let candidates: Vec<_> = all
        .iter()
        .filter(|(_, rows)| rows.is_evidence(evidence))
        .collect();
    for ((site, _), rows) in &candidates {
        let inner = candidates.iter().any(|((other, _), inside)| {
            other != site
                && evidence.is_below(*other, *site)
                && !evidence.is_below(*site, *other)
                && inside.total() >= MOSTLY * rows.total()
        });
        let explained = |row: &SiteStats| is_explained(evidence, board, row);
        if inner || evidence.site(*site).is_some_and(explained) {
            continue;
        }
        if let Some(found) = found(evidence, *site, rows) {
            // A hint explains nothing.
            if found.finding.saving.is_some() {
                outcome.claims.extend(rows.without_all().claims(evidence));
            }
            outcome.found.push(found);
        }
    }
    outcome
}

/// Returns which operations do, or contain, what other rules know better: queries, requests, files, locks, devices.
fn special(tree: &OperationTree) -> Vec<bool> {
    let kinds = tree.spans.iter().map(fields::kind);
    let mut special: Vec<bool> = kinds
        .map(|kind| !matches!(kind, None | Some(Kind::Cpu | Kind::Other)))
        .collect();
    for index in (1..special.len()).rev() {
        if let (true, Some(parent)) = (special[index], parent(tree, index)) {
            special[parent] = true;
        }
    }
    special
}

impl Row<'_> {
    fn times(&self) -> impl Iterator<Item = f64> {
        let calls = self.calls.iter();
        calls.map(|&at| self.tree.spans[at].length().0 as f64)
    }

    fn is_long(&self, evidence: &Evidence<'_>, around: usize) -> bool {
        let thresholds = &evidence.thresholds.work;
        let count = self.calls.len();
        let total: f64 = self.times().sum();
        let around = self.tree.spans[around].length().0 as f64;
        let most = Nanos::from(thresholds.batch_call).0 as f64;
        count as u64 >= thresholds.batch_calls.max(2)
            && total <= most * count as f64
            && total >= thresholds.batch_parent_share * around
    }

    /// Returns how long the row took with the time between the calls.
    fn extent(&self) -> f64 {
        let ends = self.calls.first().zip(self.calls.last());
        ends.map_or(0.0, |(&first, &last)| {
            let spans = &self.tree.spans;
            spans[last].end.saturating_sub(spans[first].start).0 as f64
        })
    }

    /// Whether the sizes only count the calls.
    fn is_counted(&self) -> bool {
        let sizes: Vec<f64> = self
            .calls
            .iter()
            .filter_map(|&at| Some(fields::size(&self.tree.spans[at])?.1))
            .collect();
        let steps: Vec<f64> = sizes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let Some(usual) = median(&steps).filter(|step| *step != 0.0) else {
            return false;
        };
        let even = steps.iter().filter(|step| **step == usual).count();
        even as f64 >= NEARLY_ALL * steps.len() as f64
    }
}

impl Rows<'_> {
    fn total(&self) -> f64 {
        let totals = self
            .rows
            .iter()
            .map(|row| row.times().sum::<f64>() * row.roots);
        totals.sum()
    }

    fn longest(&self) -> u64 {
        let lengths = self.rows.iter().map(|row| row.calls.len() as u64);
        lengths.max().unwrap_or(0)
    }

    /// Whether the rows are many or long, matter, and their calls are alike.
    fn is_evidence(&self, evidence: &Evidence<'_>) -> bool {
        let thresholds = &evidence.thresholds.work;
        let parents: f64 = self.rows.iter().map(|row| row.roots).sum();
        let enough = parents.round() >= thresholds.batch_parents as f64
            || self.longest() >= thresholds.batch_many_calls;
        let whole = evidence
            .replay
            .as_ref()
            .map_or(0.0, |replay| replay.whole().0 as f64);
        if !enough || self.total() < thresholds.batch_share * whole {
            return false;
        }
        let times: Vec<f64> = self.rows.iter().flat_map(Row::times).collect();
        let middle = median(&times).unwrap_or(0.0);
        middle > 0.0 && mad(&times).is_some_and(|spread| spread <= thresholds.batch_spread * middle)
    }

    /// Fits `time = fixed + part * size`.
    fn sized(&self, evidence: &Evidence<'_>) -> Sized {
        let mut field = None;
        let mut points = Vec::new();
        let mut calls = 0;
        for row in &self.rows {
            for (&at, time) in row.calls.iter().zip(row.times()) {
                calls += 1;
                if let Some((name, size)) = fields::size(&row.tree.spans[at])
                    && *field.get_or_insert(name) == name
                {
                    points.push((size, time));
                }
            }
        }
        let counted = self.rows.iter().any(Row::is_counted);
        if counted || (points.len() as f64) < NEARLY_ALL * f64::from(calls) {
            return Sized::Unknown;
        }
        points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let points = thinned(&points);
        let (sizes, times): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let range = quantile_of(&sizes, 0.1).zip(quantile_of(&sizes, 0.9));
        let differ = range.is_some_and(|(small, large)| large >= SIZES * small && large > 0.0);
        let fit = theil_sen(&points).filter(|_| differ);
        let (Some(fit), Some(size), Some(time)) = (fit, median(&sizes), median(&times)) else {
            return Sized::Unknown;
        };
        // A field that the time does not depend on is no size.
        if fit.low <= 0.0 || time <= 0.0 {
            return Sized::Unknown;
        }
        let fixed = Fixed {
            likely: (time - fit.slope * size).clamp(0.0, time),
            low: (time - fit.high * size).clamp(0.0, time),
        };
        match fixed.low >= evidence.thresholds.work.batch_fixed_share * time {
            true => Sized::FixedCost(fixed),
            false => Sized::NoFixedCost,
        }
    }

    /// Returns the change in which all calls of a row but the first save so much.
    fn without(&self, saved: f64) -> Change {
        let mut change = Change::default();
        for row in &self.rows {
            for (&at, time) in row.calls.iter().zip(row.times()).skip(1) {
                let scale = if time > saved {
                    1.0 - saved / time
                } else {
                    0.0
                };
                change.scale(row.tree, at, scale);
            }
        }
        change
    }

    /// Returns the change in which no call takes any time.
    fn without_all(&self) -> Change {
        let mut change = Change::default();
        for row in &self.rows {
            for &at in &row.calls {
                change.scale(row.tree, at, 0.0);
            }
        }
        change
    }

    /// Returns the time between the calls, which a batch saves too.
    fn between(&self) -> f64 {
        let rows = self.rows.iter();
        rows.map(|row| (row.extent() - row.times().sum::<f64>()).max(0.0) * row.roots)
            .sum()
    }
}

fn found(evidence: &Evidence<'_>, site: SiteId, rows: &Rows<'_>) -> Option<Found> {
    let row = evidence.site(site).filter(|row| row.stats.gpu.is_none())?;
    let fixed = match rows.sized(evidence) {
        Sized::NoFixedCost => return None,
        Sized::Unknown => None,
        Sized::FixedCost(fixed) => Some(fixed),
    };
    let mut finding = RULE.about(&row.site);
    let ceiling = rows.without_all().ceiling(evidence, site, rows.between());
    if let Some(fixed) = fixed {
        let sure = rows.without(fixed.low).replayed(evidence, site)?;
        let expected = rows.without(fixed.likely).replayed(evidence, site);
        price(&mut finding, evidence, sure, expected, ceiling);
        finding.confidence = Confidence::Medium;
        finding.evidence.insert("fixed_ns", fixed.likely);
        finding.evidence.insert("fixed_low_ns", fixed.low);
    } else {
        // A loop that is as it must be looks like this too: no share, so that it stands behind what is known.
        finding.severity = Severity::Low;
        finding.confidence = Confidence::Low;
    }
    let total = rows.total();
    let calls: f64 = rows
        .rows
        .iter()
        .map(|row| row.calls.len() as f64 * row.roots)
        .sum();
    finding.evidence.extend([
        ("longest_row", rows.longest() as f64),
        ("calls_in_rows", calls),
        ("rows_ns", total),
    ]);
    let name = row.site.name;
    let parent = rows.parent;
    let facts = format!(
        "`{name}` ran up to {} times in a row inside `{parent}`, {} in all",
        rows.longest(),
        Nanos(total as u64)
    );
    let check = format!(
        "Afterwards `{name}` must be called once for many, and `{parent}` be faster by the fixed costs."
    );
    if let Some(fixed) = fixed {
        let cost = Nanos(fixed.likely as u64);
        let gain = gain_words(&finding, evidence, "Paying it once for each row");
        finding.message = format!(
            "{facts}; by their sizes about {cost} of each call is a cost that does not depend on the size.{gain}"
        );
        finding.recommendation = format!(
            "Give `{name}` a variant that takes many at once, in chunks if they need much memory: all of a chunk fail \
             together then. {check}"
        );
    } else {
        finding.message = format!(
            "{facts}. If each call pays a cost that does not depend on its input, one call for all would pay it once; \
             nothing recorded says so."
        );
        finding.recommendation = format!(
            "If `{name}` sets something up each time, let it take many at once; if it only computes, leave it. Record how \
             much each call has to do in a field `n`, and the fixed cost is measured. {check}"
        );
    }
    finding.example = EXAMPLE.to_owned();
    let lead = format!("{facts}: one call for all would pay fixed costs once.");
    Some(Found { finding, lead })
}
