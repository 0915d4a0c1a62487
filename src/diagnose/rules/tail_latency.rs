//! CTX601: one call in a hundred takes ten times as long as most.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::excess::excess_at_most;
use crate::diagnose::rules::{Rule, Standing, own_part, without_first};
use crate::diagnose::statistics::{quantile_at_least, quantile_at_most};
use crate::diagnose::wording;
use crate::model::{Confidence, Distribution, Nanos, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX601",
    name: "tail-latency",
    healthy: "the slowest calls are near the others",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let fast = tokio::time::timeout(p95, call(a.clone()));
let r = match fast.await { Ok(r) => r, Err(_) => call(b).await }; // hedge idempotent calls only
";

/// Below this many calls a 99th percentile is one single value and says nothing.
const FEWEST_CALLS: u64 = 20;

/// An outer site is not told apart when an inner one has this share of its slow time.
const SAME_TAIL: f64 = 0.8;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = evidence.thresholds;
    let mut outcome = Outcome::default();
    let mut tails: Vec<Tail<'_>> = Vec::new();
    for row in evidence.sites() {
        let calls = row
            .stats
            .operations()
            .count
            .saturating_sub(u64::from(row.stats.first.is_some()));
        outcome.looked |= calls >= thresholds.tail_calls;
        let has_two_speeds = board.has("CTX602", row.site.name);
        if calls < FEWEST_CALLS
            || has_two_speeds
            || !may_have_tail(evidence, row.stats.operations())
        {
            continue;
        }
        let tail = Tail::of(row);
        if tail.stands_out(evidence, tail.ratio) {
            if tail.calls.count < thresholds.tail_calls {
                outcome.held_back.push(HeldBack {
                    rule: RULE.id,
                    site: row.site.name.to_owned(),
                    have: tail.calls.count,
                    need: thresholds.tail_calls,
                    what: "calls",
                });
            } else if tail.stands_out(evidence, lower_bound_of_ratio(&tail.calls)) {
                tails.push(tail);
            }
        }
    }
    let innermost = tails.iter().filter(|outer| {
        !tails.iter().any(|inner| {
            inner.row.site.id != outer.row.site.id
                && inner.excess.share_of(outer.excess) >= SAME_TAIL
                && evidence.is_below(inner.row.site.id, outer.row.site.id)
                && !evidence.is_below(outer.row.site.id, inner.row.site.id)
        })
    });
    for tail in innermost {
        outcome.claims.push(Claim {
            site: tail.row.site.id,
            time: own_part(&tail.row.stats, tail.excess),
        });
        outcome.found.push(tail.found(evidence));
    }
    outcome
}

/// Sorts out most sites before a histogram is built: one without a slow call has no tail.
fn may_have_tail(evidence: &Evidence<'_>, operations: &Distribution) -> bool {
    operations.max.saturating_sub(operations.quantiles.p50)
        >= Nanos::from(evidence.thresholds.tail_gap)
}

#[derive(Debug)]
struct Tail<'a> {
    row: &'a SiteStats,
    /// Without the first call.
    calls: Distribution,
    ratio: f64,
    /// Time beyond the 95th percentile, summed over the calls that take longer.
    excess: Nanos,
    share_of_calls: f64,
}

impl<'a> Tail<'a> {
    fn of(row: &'a SiteStats) -> Tail<'a> {
        let calls = without_first(row.stats.operations(), row.stats.first);
        let p95 = calls.quantiles.p95;
        let excess: Nanos = calls
            .buckets
            .iter()
            .map(|bucket| {
                Nanos(
                    bucket
                        .value
                        .saturating_sub(p95)
                        .0
                        .saturating_mul(bucket.count),
                )
            })
            .sum();
        let excess = excess.min(calls.sum);
        Tail {
            row,
            ratio: ratio(calls.quantiles.p99, calls.quantiles.p50),
            share_of_calls: excess.share_of(calls.sum),
            excess,
            calls,
        }
    }

    fn stands_out(&self, evidence: &Evidence<'_>, ratio: f64) -> bool {
        let thresholds = evidence.thresholds;
        let gap = self
            .calls
            .quantiles
            .p99
            .saturating_sub(self.calls.quantiles.p50);
        ratio >= thresholds.tail_ratio
            && gap >= Nanos::from(thresholds.tail_gap)
            && self.share_of_calls >= thresholds.tail_share
    }

    fn found(&self, evidence: &Evidence<'_>) -> Found {
        let quantiles = &self.calls.quantiles;
        let mut finding = RULE.about(&self.row.site);
        let share = evidence.whole.share(self.excess);
        finding.severity = ladder(share, evidence.thresholds);
        finding.confidence = Confidence::High;
        finding.share = Some(share);
        // Without its tail no call need take longer than half of them do.
        let usual = quantiles.p50;
        let most = excess_at_most(self.row.stats.operations(), usual, usual);
        finding.gain.bound = evidence.ceiling(most);
        finding.evidence = BTreeMap::from([
            ("calls", self.calls.count as f64),
            ("p50_ns", quantiles.p50.0 as f64),
            ("p95_ns", quantiles.p95.0 as f64),
            ("p99_ns", quantiles.p99.0 as f64),
            ("ratio", self.ratio),
            ("ratio_lower_bound", lower_bound_of_ratio(&self.calls)),
            ("beyond_p95_ns", self.excess.0 as f64),
            ("beyond_p95_share", self.share_of_calls),
        ]);
        let site = self.row.site.name;
        let lead = format!(
            "1 in 100 `{site}` calls takes {} or more, {} the median.",
            quantiles.p99,
            wording::ratio(self.ratio),
        );
        finding.message = format!(
            "{lead} Of all time in `{site}`, {} is what slow calls take beyond the 95th percentile.",
            wording::percent(self.share_of_calls)
        );
        finding.recommendation = format!(
            "Find out what the slow calls of `{site}` share: record their inputs as fields and look at them in the \
             trace. If they wait for something that answers late at random, and calling twice does no harm, start a \
             second call after {}.",
            quantiles.p95
        );
        finding.example = EXAMPLE.to_owned();
        Found { finding, lead }
    }
}

fn ratio(upper: Nanos, lower: Nanos) -> f64 {
    upper.0 as f64 / lower.0.max(1) as f64
}

/// Returns what p99/p50 is at least, with 95 % confidence and whatever the distribution.
///
/// Both quantiles get the order statistic that bounds them with 97.5 %, p99 from below and the median from above.
fn lower_bound_of_ratio(calls: &Distribution) -> f64 {
    let p99 = quantile_at_least(calls, 0.99, 0.975).unwrap_or(calls.min);
    let p50 = quantile_at_most(calls, 0.5, 0.975).unwrap_or(calls.max);
    ratio(p99, p50)
}
