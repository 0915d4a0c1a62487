//! CTX707: less and less gets done, though as much is asked for.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::trends::degrades_over_run::{complete, severity};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::median;
use crate::diagnose::trend::{Trend, quarters, strictly_rising};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX707",
    name: "throughput-drop",
    healthy: "the throughput holds",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(64)); // bound what runs at the same time
let permit = permits.clone().acquire_owned().await?; // so that what has begun can end
";

/// As much is asked for at the end as at the start if it is at least this share of it.
const HELD: f64 = 0.9;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.trends;
    let mut outcome = Outcome::default();
    let done = series(evidence, &evidence.profile.throughput.ended_per_window);
    let long = evidence.profile.wall >= Nanos::from(thresholds.drop_run);
    outcome.looked = done.len() >= thresholds.windows && long;
    let Some(drop) = Drop::of(evidence, &done) else {
        return outcome;
    };
    if outcome.looked {
        outcome.found.push(drop.found(evidence));
    } else if long {
        outcome.held_back.push(HeldBack {
            rule: RULE.id,
            site: drop.site.site.name.to_owned(),
            have: done.len() as u64,
            need: thresholds.windows as u64,
            what: "windows",
        });
    }
    outcome
}

/// Complete windows as points; those before the first operation are left out.
fn series(evidence: &Evidence<'_>, windows: &[u64]) -> Vec<(f64, f64)> {
    let window = evidence.profile.throughput.window.as_secs_f64();
    let begun = complete(windows).iter().enumerate();
    begun
        .skip_while(|(_, count)| **count == 0)
        .map(|(index, &count)| (index as f64 * window, count as f64))
        .collect()
}

#[derive(Debug)]
struct Drop<'a> {
    /// The root site that lost most.
    site: &'a SiteStats,
    trend: Trend,
    demand: Demand,
    windows: usize,
}

/// What says that as much is asked for as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Roots take as much time together, though fewer of them end.
    Busy,
    /// More and more of them wait.
    Queued,
}

impl<'a> Drop<'a> {
    fn of(evidence: &Evidence<'a>, done: &[(f64, f64)]) -> Option<Drop<'a>> {
        let thresholds = &evidence.thresholds.trends;
        let trend = Trend::falling(done, thresholds.trend_chance)?;
        let [first, second, third, last] = quarters(done, median)?;
        let most = 1.0 - thresholds.drop;
        let falls = trend.to <= trend.from * most
            && trend.goes_on(done)
            && strictly_rising(&[last, third, second, first])
            && last <= first * most;
        if !falls {
            return None;
        }
        Some(Drop {
            site: loser(evidence)?,
            trend,
            demand: demand(evidence)?,
            windows: done.len(),
        })
    }

    fn found(&self, evidence: &Evidence<'_>) -> Found {
        let window = evidence.profile.throughput.window.as_secs_f64();
        let per_second = |count: f64| count.max(0.0) / window;
        let (from, to) = (per_second(self.trend.from), per_second(self.trend.to));
        let mut finding = RULE.about(&self.site.site);
        // What is nearly nothing in the end is no more than ten times less.
        finding.severity = severity(from / to.max(from / 10.0));
        finding.confidence = Confidence::Medium;
        finding.evidence = BTreeMap::from([
            ("windows", self.windows as f64),
            ("at_start_per_second", from),
            ("at_end_per_second", to),
        ]);
        let site = self.site.site.name;
        let lead = format!("Throughput fell from {from:.3}/s to {to:.3}/s, most of it in `{site}`");
        let demand = match self.demand {
            Demand::Busy => "the operations under way took as much time together as at the start",
            Demand::Queued => "the queue grew meanwhile",
        };
        finding.message = format!(
            "{lead}, over {} of {}. Demand held: {demand}.",
            wording::count(self.windows as u64, "window"),
            evidence.profile.throughput.window,
        );
        finding.recommendation = format!(
            "See which site inside `{site}` took longer as time went on (CTX605), or what `{site}` waits for more and more: \
             a pool, a lock, a server that slows under load. Bound how much runs at the same time, so that what has begun \
             can end. Afterwards the operations per second stay flat."
        );
        finding.example = EXAMPLE.to_owned();
        Found { finding, lead }
    }
}

/// Returns the root site of which the most fewer operations ended in the second half than in the first.
fn loser<'a>(evidence: &Evidence<'a>) -> Option<&'a SiteStats> {
    let lost = |row: &SiteStats| {
        let windows = complete(&row.ended_per_window);
        let (early, late) = windows.split_at(windows.len() / 2);
        let sum = |part: &[u64]| part.iter().fold(0_u64, |sum, &one| sum.saturating_add(one));
        sum(early).saturating_sub(sum(late))
    };
    let roots = evidence.sites().filter(|row| {
        let paths = 0..evidence.profile.paths.len();
        let mut roots = paths.filter(|&index| evidence.parent(index).is_none());
        roots.any(|index| evidence.path(index).site.id == row.site.id)
    });
    roots
        .max_by_key(|row| lost(row))
        .filter(|row| lost(row) > 0)
}

/// Fewer operations because fewer are asked for are no fault. `None` where nothing says that demand held.
fn demand(evidence: &Evidence<'_>) -> Option<Demand> {
    let throughput = &evidence.profile.throughput;
    let times = complete(&throughput.time_per_window).iter().enumerate();
    let times: Vec<_> = times
        .map(|(index, time)| (index as f64, time.0 as f64))
        .collect();
    if let Some([first, _, _, last]) = quarters(&times, median)
        && first > 0.0
        && last >= first * HELD
    {
        return Some(Demand::Busy);
    }
    let is_queue = |name: &str| name == "queue.depth" || name.ends_with(".queue_depth");
    let mut queues = evidence.profile.resources.iter();
    let chance = evidence.thresholds.trends.trend_chance;
    let grows = queues.any(|series| {
        let points: Vec<_> = series
            .points
            .iter()
            .map(|point| (point.at.as_secs_f64(), point.mean))
            .collect();
        is_queue(&series.name) && Trend::rising(&points, chance).is_some()
    });
    grows.then_some(Demand::Queued)
}
