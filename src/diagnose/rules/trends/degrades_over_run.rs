//! CTX605: a site takes longer and longer as the run goes on.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::fields;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::median;
use crate::diagnose::trend::{Trend, quarters, strictly_rising};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX605",
    name: "degrades-over-run",
    healthy: "no site becomes slower over the run",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let mut seen = std::collections::HashSet::new(); // was a Vec that `contains` scans
if seen.insert(key) { handle(key); } // or drop what is done: queue.retain(|job| !job.done())
";

/// An outer site is not told apart when an inner one has this share of what it takes longer.
const SAME_RISE: f64 = 0.8;

/// Sampled calls with a size from which the size is looked at.
const SIZED_CALLS: usize = 20;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.trends;
    let mut outcome = Outcome::default();
    let mut slowing: Vec<Slowing<'_>> = Vec::new();
    for row in evidence.sites() {
        let calls: u64 = complete(&row.ended_per_window).iter().sum();
        let windows = means(row, evidence);
        let enough = windows.len() >= thresholds.windows && calls >= thresholds.slower_calls;
        outcome.looked |= enough;
        let Some(slow) = Slowing::of(evidence, row, &windows) else {
            continue;
        };
        if enough {
            slowing.push(slow);
        } else if windows.len() < thresholds.windows {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have: windows.len() as u64,
                need: thresholds.windows as u64,
                what: "windows with calls",
            });
        }
    }
    let innermost = slowing.iter().filter(|outer| {
        !slowing.iter().any(|inner| {
            inner.row.site.id != outer.row.site.id
                && inner.excess.share_of(outer.excess) >= SAME_RISE
                && evidence.is_below(inner.row.site.id, outer.row.site.id)
                && !evidence.is_below(outer.row.site.id, inner.row.site.id)
        })
    });
    for slow in innermost {
        outcome.claims.push(Claim {
            site: slow.row.site.id,
            time: slow.excess.min(slow.row.stats.self_time),
        });
        outcome.found.push(slow.found(evidence));
    }
    outcome
}

/// Leaves out the window that is under way.
pub(super) fn complete<T>(windows: &[T]) -> &[T] {
    windows.split_last().map_or(&[], |(_, complete)| complete)
}

/// Returns the mean of each complete window with operations, in ns, over its time in seconds.
fn means(row: &SiteStats, evidence: &Evidence<'_>) -> Vec<(f64, f64)> {
    let window = evidence.profile.throughput.window.as_secs_f64();
    let ended = complete(&row.ended_per_window).iter();
    let sums = ended.zip(complete(&row.time_per_window)).enumerate();
    let filled = sums.filter(|(_, (ended, _))| **ended > 0);
    filled
        .map(|(index, (&ended, &time))| (index as f64 * window, time.0 as f64 / ended as f64))
        .collect()
}

#[derive(Debug)]
struct Slowing<'a> {
    row: &'a SiteStats,
    trend: Trend,
    windows: usize,
    /// What all operations took longer than those at the start.
    excess: Nanos,
    /// The excess as a share of what all operations took.
    part: f64,
}

impl<'a> Slowing<'a> {
    fn of(
        evidence: &Evidence<'_>,
        row: &'a SiteStats,
        means: &[(f64, f64)],
    ) -> Option<Slowing<'a>> {
        let thresholds = &evidence.thresholds.trends;
        let trend = Trend::rising(means, thresholds.trend_chance)?;
        let quarters = quarters(means, median)?;
        let least = 1.0 + thresholds.slower;
        // One step up, or an outlier at the end, is no trend.
        let rises = trend.from > 0.0
            && trend.to >= trend.from * least
            && trend.goes_on(means)
            && strictly_rising(&quarters)
            && quarters[3] >= quarters[0] * least;
        if !rises || has_more_to_do(evidence, row) {
            return None;
        }
        let ended = complete(&row.ended_per_window).iter();
        let start = quarters[0];
        let excess: f64 = ended
            .zip(complete(&row.time_per_window))
            .map(|(&ended, &time)| (time.0 as f64 - start * ended as f64).max(0.0))
            .sum();
        let whole = total(&row.stats);
        let excess = Nanos(excess as u64).min(whole);
        (evidence.whole.share(excess) >= thresholds.slower_share).then_some(Slowing {
            row,
            trend,
            windows: means.len(),
            excess,
            part: excess.share_of(whole),
        })
    }

    fn found(&self, evidence: &Evidence<'_>) -> Found {
        let row = self.row;
        let share = evidence.whole.share(self.excess);
        let ratio = self.trend.to / self.trend.from;
        let mut finding = RULE.about(&row.site);
        finding.severity = severity(ratio);
        if share <= evidence.thresholds.medium_share {
            finding.severity = finding.severity.min(Severity::Medium);
        }
        finding.confidence = Confidence::Medium;
        finding.share = Some(share);
        let saved = evidence.replayed(row.site.id, 1.0 - self.part);
        if let Some(saved) = saved {
            finding.saving = Some(saved.share);
            let worth = saved.low >= 0.01;
            finding.gain.low = worth.then(|| 1.0 / (1.0 - saved.low));
        } else if evidence.is_sequential() && share < 1.0 {
            finding.gain.low = Some(1.0 / (1.0 - share));
        }
        // How fast it was before the first window nobody has seen.
        finding.gain.bound = evidence.ceiling(total(&row.stats));
        let (from, to) = (self.trend.from.max(0.0), self.trend.to.max(0.0));
        finding.evidence = BTreeMap::from([
            ("windows", self.windows as f64),
            ("calls", row.stats.calls as f64),
            ("mean_at_start_ns", from),
            ("mean_at_end_ns", to),
            ("slower_per_second_ns", self.trend.slope.slope),
            ("slower_per_second_low_ns", self.trend.slope.low),
            ("slower_per_second_high_ns", self.trend.slope.high),
            ("excess_ns", self.excess.0 as f64),
        ]);
        let site = row.site.name;
        let (from, to) = (Nanos(from as u64), Nanos(to as u64));
        let lead = format!("`{site}` slowed from {from} to {to} during the run");
        finding.message = format!(
            "{lead}: the mean of a call rose steadily over {} of {}. Had it stayed as at the start, {} of {} would not \
             have been spent. Something that it scans, locks or fills is growing.",
            wording::count(self.windows as u64, "window"),
            evidence.profile.throughput.window,
            self.excess,
            evidence.whole.words(),
        );
        finding.recommendation = format!(
            "Look for what grows with every call of `{site}`: a list that is searched, a log or a table without an index, \
             a cache without a limit. Index it or drop what is done. Record its length as the field `len`: then the \
             report tells whether time follows it. Afterwards the mean per window stays flat."
        );
        finding.example = EXAMPLE.to_owned();
        Found { finding, lead }
    }
}

/// The ladder of everything that gets worse over time.
pub(super) fn severity(ratio: f64) -> Severity {
    if ratio >= 2.0 {
        Severity::Critical
    } else if ratio >= 1.5 {
        Severity::High
    } else if ratio >= 1.2 {
        Severity::Medium
    } else {
        Severity::Low
    }
}

/// Whether calls came to have more to do, and take no longer for each part of it.
fn has_more_to_do(evidence: &Evidence<'_>, row: &SiteStats) -> bool {
    let mut sized: Vec<(f64, f64, f64)> = Vec::new();
    for tree in evidence.trees() {
        let calls = tree.tree.spans.iter();
        let calls = calls.filter(|span| span.site.id == row.site.id && !span.unfinished);
        sized.extend(calls.filter_map(|span| {
            let (_, size) = fields::size(span).filter(|(_, size)| *size > 0.0)?;
            Some((span.start.as_secs_f64(), size, span.length().0 as f64))
        }));
    }
    if sized.len() < SIZED_CALLS {
        return false;
    }
    sized.sort_by(|one, other| one.0.total_cmp(&other.0));
    let step = sized.len().div_ceil(MOST_SIZED);
    let sized: Vec<_> = sized.into_iter().step_by(step).collect();
    let rises = |figure: fn(&(f64, f64, f64)) -> f64| {
        let points: Vec<_> = sized.iter().map(|call| (call.0, figure(call))).collect();
        Trend::rising(&points, evidence.thresholds.trends.trend_chance).is_some()
    };
    rises(|call| call.1) && !rises(|call| call.2 / call.1)
}

/// Sampled calls beyond which more say nothing new; their pairs are compared.
const MOST_SIZED: usize = 400;
