//! CTX006: time grows much faster than the size of the input.

use std::collections::BTreeMap;

use super::tree_parts::{Change, gain_words, is_explained, price};
use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::{median, quantile_of, theil_sen};
use crate::diagnose::wording;
use crate::model::{Confidence, OperationTree, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX006",
    name: "superlinear-scaling",
    healthy: "no site's time grows faster than its input",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before, n^2: for item in &items { if wanted.contains(item) { hits += 1; } }
let wanted: std::collections::HashSet<_> = wanted.iter().collect();
let hits = items.iter().filter(|item| wanted.contains(item)).count();
";

/// More points than this are thinned out: an exponent needs no more, and its cost grows with their square.
pub(super) const MOST_POINTS: usize = 400;

/// Most programs have one size field per site; calls with another one are left out.
type Sizes<'a> = BTreeMap<(SiteId, &'static str), Vec<Call<'a>>>;

#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    tree: &'a OperationTree,
    roots: f64,
    index: usize,
    size: f64,
    time: f64,
}

/// Time as a power of size.
#[derive(Debug, Clone, Copy)]
struct Growth {
    exponent: f64,
    low: f64,
    high: f64,
    /// The size at and below which calls are taken as they are.
    usual: f64,
    largest: f64,
}

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.work;
    let mut outcome = Outcome::default();
    let mut sizes: Sizes<'_> = BTreeMap::new();
    for weighted in evidence.trees() {
        for (index, span) in weighted.tree.spans.iter().enumerate() {
            let time = span.length().0 as f64;
            if let Some((field, size)) = fields::size(span)
                && size > 0.0
                && time > 0.0
                && !span.unfinished
                && !span.error
                && matches!(fields::kind(span), None | Some(Kind::Cpu | Kind::Other))
            {
                let call = Call {
                    tree: weighted.tree,
                    roots: weighted.roots,
                    index,
                    size,
                    time,
                };
                sizes.entry((span.site.id, field)).or_default().push(call);
            }
        }
    }
    let mut growing = Vec::new();
    for ((site, field), calls) in &sizes {
        let Some(held_back) = candidate(evidence, calls) else {
            continue;
        };
        outcome.looked = true;
        let Some(growth) = grows(evidence, calls) else {
            continue;
        };
        match held_back {
            None => growing.push((*site, *field, calls, growth)),
            Some(have) => outcome
                .held_back
                .extend(evidence.site(*site).map(|row| HeldBack {
                    rule: RULE.id,
                    site: row.site.name.to_owned(),
                    have,
                    need: thresholds.scaling_calls,
                    what: "calls with a size",
                })),
        }
    }
    for (site, field, calls, growth) in &growing {
        // An outer site that grows because of an inner one is told as the inner one.
        let inner = growing.iter().any(|(other, _, inside, _)| {
            other != site
                && evidence.is_below(*other, *site)
                && !evidence.is_below(*site, *other)
                && total(inside) >= MOSTLY * total(calls)
        });
        let explained = |row: &SiteStats| is_explained(evidence, board, row);
        if inner || evidence.site(*site).is_some_and(explained) {
            continue;
        }
        if let Some(found) = found(evidence, *site, field, calls, *growth) {
            let mut all = Change::default();
            for call in *calls {
                all.scale(call.tree, call.index, 0.0);
            }
            outcome.claims.extend(all.claims(evidence));
            outcome.found.push(found);
        }
    }
    outcome
}

/// From this share of an outer site's time on, it is the inner one's.
const MOSTLY: f64 = 0.8;

/// Fewer calls than this do not even hint at an exponent.
const FEWEST: u64 = 8;

fn total(calls: &[Call<'_>]) -> f64 {
    calls.iter().map(|call| call.time * call.roots).sum()
}

/// Returns whether the calls matter and differ enough in size to be fitted: `Some(None)` if there are enough of them,
/// else how many there are.
fn candidate(evidence: &Evidence<'_>, calls: &[Call<'_>]) -> Option<Option<u64>> {
    let thresholds = &evidence.thresholds.work;
    let sizes: Vec<f64> = calls.iter().map(|call| call.size).collect();
    let smallest = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    let large = quantile_of(&sizes, 0.9)?;
    let large: f64 = calls
        .iter()
        .filter(|call| call.size >= large)
        .map(|call| call.time * call.roots)
        .sum();
    let whole = evidence.replay.as_ref()?.whole().0 as f64;
    let count = calls.len() as u64;
    let wide = largest >= thresholds.scaling_range * smallest;
    if count < FEWEST || !wide || large < thresholds.scaling_share * whole {
        return None;
    }
    Some((count < thresholds.scaling_calls).then_some(count))
}

fn grows(evidence: &Evidence<'_>, calls: &[Call<'_>]) -> Option<Growth> {
    let thresholds = &evidence.thresholds.work;
    let mut points: Vec<(f64, f64)> = calls
        .iter()
        .map(|call| (call.size.ln(), call.time.ln()))
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let fit = theil_sen(&thinned(&points))?;
    let sizes: Vec<f64> = calls.iter().map(|call| call.size).collect();
    let growth = Growth {
        exponent: fit.slope,
        low: fit.low,
        high: fit.high,
        usual: median(&sizes)?,
        largest: sizes.into_iter().fold(0.0, f64::max),
    };
    (growth.exponent >= thresholds.scaling_exponent && growth.low > thresholds.scaling_exponent_low)
        .then_some(growth)
}

/// Returns at most [`MOST_POINTS`] of the points, evenly over their order.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let last = points.len() - 1;
    (0..MOST_POINTS)
        .map(|at| points[at * last / (MOST_POINTS - 1)])
        .collect()
}

/// Returns what would be left of calls larger than usual if time grew in proportion to size from there on.
fn in_proportion(calls: &[Call<'_>], growth: Growth, exponent: f64) -> Change {
    let mut change = Change::default();
    for call in calls.iter().filter(|call| call.size > growth.usual) {
        let scale = (growth.usual / call.size).powf((exponent - 1.0).max(0.0));
        change.scale(call.tree, call.index, scale);
    }
    change
}

fn found(
    evidence: &Evidence<'_>,
    site: SiteId,
    field: &str,
    calls: &[Call<'_>],
    growth: Growth,
) -> Option<Found> {
    let row = evidence.site(site)?;
    let sure = in_proportion(calls, growth, growth.low).replayed(evidence, site)?;
    let expected = in_proportion(calls, growth, growth.exponent).replayed(evidence, site);
    let mut all = Change::default();
    for call in calls {
        all.scale(call.tree, call.index, 0.0);
    }
    let mut finding = RULE.about(&row.site);
    let ceiling = all.ceiling(evidence, site, 0.0);
    price(&mut finding, evidence, sure, expected, ceiling);
    finding.confidence = Confidence::Medium;
    finding.evidence.extend([
        ("exponent", growth.exponent),
        ("exponent_low", growth.low),
        ("exponent_high", growth.high),
        ("calls_with_size", calls.len() as f64),
        ("largest_size", growth.largest),
        ("median_size", growth.usual),
    ]);
    let name = row.site.name;
    let tenfold = wording::ratio(10_f64.powf(growth.exponent.min(9.0)));
    let gain = gain_words(&finding, evidence, "Time in proportion to size");
    finding.message = format!(
        "`{name}` takes {field}^{:.1} time (95 % interval {:.1} to {:.1}, {} with `{field}` up to {:.0}): ten times the \
         input costs {tenfold} the time.{gain}",
        growth.exponent,
        growth.low,
        growth.high,
        wording::count(calls.len() as u64, "call"),
        growth.largest
    );
    finding.recommendation = format!(
        "Look for a scan inside a loop in `{name}`: a `contains` or `position` on a vector, a `remove(0)`, a string that is \
         copied to grow. A set, a map or a sort makes it nearly proportional. Where the problem itself costs that much, as \
         a product of matrices does, keep `{field}` small instead. Afterwards run it with the same sizes: the exponent must \
         be near 1."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "`{name}` takes {field}^{:.1} time: ten times the input costs {tenfold} the time.",
        growth.exponent
    );
    Some(Found { finding, lead })
}
