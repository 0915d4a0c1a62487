//! The targets that were set, against what was measured.

use crate::diagnose::evidence::Evidence;
use crate::diagnose::statistics::{quantile_at_least, quantile_at_most, quantile_in};
use crate::model::{Nanos, SiteStats, Target, TargetResult, Verdict};

/// How sure a bound of a percentile is.
const SURE: f64 = 0.95;

/// Judges every target, at every site of its name.
pub(super) fn of(evidence: &Evidence<'_>) -> Vec<TargetResult> {
    let targets = evidence.thresholds.targets.iter();
    let valid = targets.filter(|target| target.is_valid());
    let judged = valid.flat_map(|target| {
        let named = evidence.sites().filter(|row| row.site.name == target.site);
        let mut results: Vec<_> = named.map(|row| judge(target, row, evidence)).collect();
        if results.is_empty() {
            results.push(TargetResult::unseen(target.clone()));
        }
        results
    });
    judged.collect()
}

/// Returns how many operations it takes to judge a percentile.
pub(crate) fn calls_needed(percentile: f64, beyond: u64) -> u64 {
    let share = (1.0 - percentile / 100.0).max(f64::EPSILON);
    // 100 - 99.9 is a little more than 0.1.
    (beyond as f64 / share - 1e-6).ceil() as u64
}

/// Compares one site with a target.
pub(crate) fn judge(target: &Target, row: &SiteStats, evidence: &Evidence<'_>) -> TargetResult {
    let operations = row.stats.operations();
    let q = target.percentile / 100.0;
    let mut result = TargetResult::unseen(target.clone());
    result.location = row.site.location();
    result.calls = operations.count;
    result.verdict = Verdict::TooFew;
    let Some(measured) = quantile_in(operations, q) else {
        return result;
    };
    result.measured = Some(measured);
    result.at_least = quantile_at_least(operations, q, SURE);
    result.at_most = quantile_at_most(operations, q, SURE);
    if operations.count >= calls_needed(target.percentile, evidence.thresholds.trends.target_beyond)
    {
        result.verdict = verdict(target.limit, measured, result.at_least);
    }
    result
}

fn verdict(limit: Nanos, measured: Nanos, at_least: Option<Nanos>) -> Verdict {
    if measured <= limit {
        Verdict::Met
    } else if at_least.is_some_and(|at_least| at_least > limit) {
        Verdict::Missed
    } else {
        Verdict::AtRisk
    }
}
