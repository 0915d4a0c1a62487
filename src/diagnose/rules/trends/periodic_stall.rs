//! CTX604: a site is slow at regular intervals.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::median;
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteStats, SlowMoment};

pub(super) const RULE: Rule = Rule {
    id: "CTX604",
    name: "periodic-stall",
    healthy: "no stalls at regular times",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let full = std::mem::take(&mut buffer);
std::thread::spawn(move || write(full)); // flush beside the requests, not inside one
";

/// An interval is so many times the time between two looks, or it would be the looks' own rhythm.
const COARSEST: f64 = 5.0;
/// Three times will do for so many intervals: chance makes that many alike in one case of ten thousand.
const COARSEST_OF_MANY: f64 = 3.0;
const MANY: usize = 8;

/// Savings below this share of the time are not told apart from none.
const LEAST_SHARE: f64 = 0.01;

/// An outer site is not told apart when an inner one has this share of its slow time.
const SAME_STALLS: f64 = 0.8;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.trends;
    let mut outcome = Outcome::default();
    let mut stalling: Vec<Stalls<'_>> = Vec::new();
    for row in evidence.sites() {
        if row.stats.operations().count >= thresholds.stall_calls {
            outcome.looked = true;
            stalling.extend(Stalls::of(evidence, row));
        }
    }
    let innermost = stalling.iter().filter(|outer| {
        !stalling.iter().any(|inner| {
            inner.row.site.id != outer.row.site.id
                && inner.excess.share_of(outer.excess) >= SAME_STALLS
                && evidence.is_below(inner.row.site.id, outer.row.site.id)
                && !evidence.is_below(outer.row.site.id, inner.row.site.id)
        })
    });
    outcome.found = innermost.map(|stalls| stalls.found(evidence)).collect();
    outcome
}

#[derive(Debug)]
struct Stalls<'a> {
    row: &'a SiteStats,
    moments: usize,
    /// From one to the next, and how much that varies.
    interval: Nanos,
    variation: f64,
    /// How long a slow operation takes.
    length: Nanos,
    /// What slow operations take beyond the median.
    excess: Nanos,
}

impl<'a> Stalls<'a> {
    fn of(evidence: &Evidence<'_>, row: &'a SiteStats) -> Option<Stalls<'a>> {
        let thresholds = &evidence.thresholds.trends;
        let slow = row.slow.as_ref()?;
        let operations = row.stats.operations();
        let usual = operations.quantiles.p50;
        let beyond = || {
            let buckets = operations.buckets.iter();
            buckets.filter(|bucket| bucket.value > slow.limit)
        };
        let excess: Nanos = beyond()
            .map(|bucket| {
                let more = bucket.value.saturating_sub(usual);
                Nanos(more.0.saturating_mul(bucket.count))
            })
            .sum();
        let count = beyond().fold(0_u64, |sum, bucket| sum.saturating_add(bucket.count));
        let length = usual.saturating_add(Nanos(excess.0 / count.max(1)));
        let times = times(&slow.moments);
        let looks: Vec<f64> = slow
            .moments
            .iter()
            .map(|moment| moment.to.saturating_sub(moment.from).0 as f64)
            .collect();
        let intervals: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = intervals.iter().sum::<f64>() / intervals.len().max(1) as f64;
        let squares: f64 = intervals.iter().map(|one| (one - mean).powi(2)).sum();
        let variation = (squares / intervals.len().max(1) as f64).sqrt() / mean;
        let coarsest = match intervals.len() >= MANY {
            true => COARSEST_OF_MANY,
            false => COARSEST,
        };
        let regular = times.len() >= thresholds.stalls
            && variation <= thresholds.stall_variation
            && mean >= coarsest * median(&looks)?;
        let worth = length.saturating_sub(usual) >= Nanos::from(thresholds.stall_excess)
            && evidence.whole.share(excess) >= LEAST_SHARE;
        (regular && worth).then_some(Stalls {
            row,
            moments: times.len(),
            interval: Nanos(mean as u64),
            variation,
            length,
            excess: excess.min(operations.sum),
        })
    }

    fn found(&self, evidence: &Evidence<'_>) -> Found {
        let share = evidence.whole.share(self.excess);
        let mut finding = RULE.about(&self.row.site);
        finding.severity = ladder(share, evidence.thresholds);
        finding.confidence = Confidence::Medium;
        finding.share = Some(share);
        finding.gain.bound = evidence.ceiling(self.excess);
        let usual = self.row.stats.operations().quantiles.p50;
        finding.evidence = BTreeMap::from([
            ("calls", self.row.stats.calls as f64),
            ("stalls", self.moments as f64),
            ("interval_ns", self.interval.0 as f64),
            ("variation_of_interval", self.variation),
            ("stall_ns", self.length.0 as f64),
            ("usual_ns", usual.0 as f64),
            ("excess_ns", self.excess.0 as f64),
        ]);
        let site = self.row.site.name;
        let lead = format!(
            "`{site}` stalls every {} for {}, against {} as a rule",
            self.interval, self.length, usual
        );
        finding.message = format!(
            "{lead}: {} at intervals that vary by {}, which chance does not do. It is a timer, a flush, a rotation or a \
             collection of garbage, and costs {} of {}.",
            wording::count(self.moments as u64, "time"),
            wording::percent(self.variation),
            wording::percent(share),
            evidence.whole.words(),
        );
        finding.recommendation = format!(
            "Find what runs every {} and move it off the way of `{site}`: to a thread or task of its own, in smaller \
             pieces, or without the lock that both need. A span around it shows it in the trace beside the slow calls. \
             Afterwards the slowest calls are no longer apart from the others.",
            self.interval
        );
        finding.example = EXAMPLE.to_owned();
        Found { finding, lead }
    }
}

/// Returns the middle of each stall, in ns. One that is seen in two looks after each other is one.
fn times(moments: &[SlowMoment]) -> Vec<f64> {
    let mut times: Vec<f64> = Vec::with_capacity(moments.len());
    let mut until = None;
    for moment in moments {
        if until != Some(moment.from) {
            times.push((moment.from.0 as f64 + moment.to.0 as f64) / 2.0);
        }
        until = Some(moment.to);
    }
    times
}
