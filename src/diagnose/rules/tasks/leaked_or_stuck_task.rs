//! CTX109: spans of one site that are opened and not closed, more and more of them.

use std::collections::{BTreeMap, HashSet};

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::flag;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::{mann_kendall, theil_sen};
use crate::diagnose::wording;
use crate::model::{
    Confidence, Nanos, OperationTree, Point, Severity, Site, SiteId, SiteStats, TreeKind,
};

use super::tree;

pub(super) const RULE: Rule = Rule {
    id: "CTX109",
    name: "leaked-or-stuck-task",
    healthy: "open spans do not pile up",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let mut set = tokio::task::JoinSet::new();
set.spawn(job());
while let Some(r) = set.join_next().await { r?; }
";

/// How many of the usual length of a span the rise has to last: what is merely long ends by then.
const LENGTHS: u64 = 2;

/// The end of the readings may show the shut-down, up to this part of them.
const SHUTDOWN: f64 = 0.1;

/// A rise of the number of open spans.
#[derive(Debug, Clone, Copy)]
struct Rise {
    samples: u64,
    over: Nanos,
    /// How many more there are at its end, by its slope, and that slope.
    growth: f64,
    per_second: f64,
    chance: f64,
    /// How many were open then.
    open: u64,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let stuck = stuck(evidence);
    let daemons = daemons(evidence);
    for row in evidence.sites() {
        outcome.looked |= !row.open_readings.is_empty();
        let known_stuck = stuck.get(&row.site.id).copied().unwrap_or_default();
        // What is around may say it of some of its spans only: trees show which.
        if daemons.contains(&row.site.id) && !says_otherwise(evidence, row.site.id) {
            continue;
        }
        let open = row.stats.open >= evidence.thresholds.tasks.live_growth;
        match rise(evidence, row) {
            Ok(rise) => outcome.found.push(leaked(row, rise)),
            Err(Silent::No) if open && known_stuck >= evidence.thresholds.tasks.stuck_spans => {
                outcome.found.push(idle(evidence, row, known_stuck));
            }
            Err(Silent::No) => {}
            Err(Silent::TooFew(have)) => outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have,
                need: evidence.thresholds.tasks.live_samples,
                what: "readings of open spans",
            }),
        }
    }
    outcome
}

/// Why nothing is said of a site.
#[derive(Debug)]
enum Silent {
    No,
    TooFew(u64),
}

/// Whether the number of open spans rises all the time: by chance hardly ever, by a size that matters, without an end in
/// sight, and without coming down in between.
fn rise(evidence: &Evidence<'_>, row: &SiteStats) -> Result<Rise, Silent> {
    let thresholds = &evidence.thresholds.tasks;
    let readings = before_shutdown(&row.open_readings);
    let samples = readings
        .iter()
        .fold(0_u64, |sum, point| sum.saturating_add(point.samples));
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return Err(match row.stats.open >= thresholds.live_growth {
            true => Silent::TooFew(0),
            false => Silent::No,
        });
    };
    let all = last.at.saturating_sub(first.at);
    if samples < thresholds.live_samples || all < Nanos::from(thresholds.live_time) {
        // Below that nobody could have seen it rise by enough.
        let rose = last.mean - first.mean >= thresholds.live_growth as f64;
        return Err(match rose {
            true => Silent::TooFew(samples.min(thresholds.live_samples.saturating_sub(1))),
            false => Silent::No,
        });
    }
    let warm_up = Nanos((all.0 as f64 * thresholds.live_warm_up) as u64);
    let from = first.at.saturating_add(warm_up);
    let kept: Vec<Point> = readings
        .iter()
        .copied()
        .filter(|point| point.at >= from)
        .collect();
    rising(thresholds, &kept, samples)
        .filter(|rise| rise.over.0 >= usual(row, rise.open).0.saturating_mul(LENGTHS))
        .ok_or(Silent::No)
}

fn rising(
    thresholds: &crate::diagnose::TaskThresholds,
    kept: &[Point],
    samples: u64,
) -> Option<Rise> {
    let (first, last) = (kept.first()?, kept.last()?);
    let over = last.at.saturating_sub(first.at);
    let line: Vec<(f64, f64)> = kept
        .iter()
        .map(|point| (point.at.as_secs_f64(), point.mean))
        .collect();
    let values: Vec<f64> = line.iter().map(|&(_, value)| value).collect();
    let slope = theil_sen(&line)?;
    let chance = mann_kendall(&values)?.rising;
    let growth = slope.slope * over.as_secs_f64();
    let (begin, end) = line.split_at(line.len() / 2);
    let (begin, end) = (theil_sen(begin)?.slope, theil_sen(end)?.slope);
    let quarter = (values.len() / 4).max(1);
    let minima: Vec<f64> = values
        .chunks(quarter)
        .take(4)
        .map(|part| part.iter().copied().fold(f64::INFINITY, f64::min))
        .collect();
    let steady = end >= thresholds.live_steady * begin && end > 0.0;
    let never_down = minima.windows(2).all(|pair| pair[0] < pair[1]);
    let holds = chance < thresholds.live_chance
        && slope.low > 0.0
        && growth >= thresholds.live_growth as f64
        && steady
        && never_down;
    holds.then_some(Rise {
        samples,
        over,
        growth,
        per_second: slope.slope,
        chance,
        open: last.mean.max(0.0) as u64,
    })
}

/// Leaves out the end of the readings if the number falls there by more than half: a runtime that is shut down drops all
/// its tasks.
fn before_shutdown(readings: &[Point]) -> &[Point] {
    let most = readings.iter().map(|point| point.mean).fold(0.0, f64::max);
    let last = readings.iter().rposition(|point| point.mean * 2.0 >= most);
    let kept = last.map_or(0, |last| last + 1);
    if (readings.len() - kept) as f64 <= SHUTDOWN * readings.len() as f64 {
        &readings[..kept]
    } else {
        readings
    }
}

/// Returns how many spans had ended when so many were open.
fn closed(row: &SiteStats, open: u64) -> u64 {
    row.stats.spans.saturating_sub(open.max(row.stats.open))
}

/// Returns how long the spans of a site take that do end, nearly all of them. Those that only the shut-down ended took
/// longer.
fn usual(row: &SiteStats, open: u64) -> Nanos {
    let nearly_all = closed(row, open) as f64 * 0.95;
    let mut count = 0_u64;
    let lengths = &row.stats.operations().buckets;
    let bucket = lengths.iter().find(|bucket| {
        count = count.saturating_add(bucket.count);
        nearly_all > 0.0 && count as f64 >= nearly_all
    });
    bucket.map_or(Nanos::ZERO, |bucket| bucket.value)
}

/// Returns the sites that may say, of their spans or by what is around them, that they are meant to stay.
fn daemons(evidence: &Evidence<'_>) -> HashSet<SiteId> {
    let declares = |site: &Site| site.fields.contains(&"cortex.daemon");
    let sites = evidence.sites().filter(|row| declares(&row.site));
    let mut declared: HashSet<SiteId> = sites.map(|row| row.site.id).collect();
    let mut inside = Vec::with_capacity(evidence.profile.paths.len());
    for (index, path) in evidence.profile.paths.iter().enumerate() {
        // A parent stands before its children.
        let below = evidence.parent(index).is_some_and(|above| inside[above]);
        inside.push(below || declares(&path.site));
        if inside[index] {
            declared.insert(path.site.id);
        }
    }
    declared
}

/// Whether trees show the field on or around these spans, and always as false.
fn says_otherwise(evidence: &Evidence<'_>, site: SiteId) -> bool {
    let (mut yes, mut no) = (0_u64, 0_u64);
    for kept in evidence.profile.trees.iter().flat_map(|group| &group.kept) {
        for (index, span) in kept.tree.spans.iter().enumerate() {
            if span.site.id == site {
                match daemon_flag(&kept.tree, index) {
                    Some(true) => yes += 1,
                    Some(false) => no += 1,
                    None => {}
                }
            }
        }
    }
    yes == 0 && no > 0
}

fn daemon_flag(tree: &OperationTree, index: usize) -> Option<bool> {
    let mut above = std::iter::successors(Some(index), |&at| tree::parent(&tree.spans[at], at));
    above.find_map(|at| flag(&tree.spans[at], "cortex.daemon"))
}

/// Counts the async spans in the trees that are open and were not polled for long, by site.
fn stuck(evidence: &Evidence<'_>) -> BTreeMap<SiteId, u64> {
    let least = Nanos::from(evidence.thresholds.tasks.stuck);
    let mut stuck: BTreeMap<SiteId, u64> = BTreeMap::new();
    for kept in evidence.profile.trees.iter().flat_map(|group| &group.kept) {
        for span in &kept.tree.spans {
            let last = span.activations.last().map_or(span.start, |poll| poll.end);
            let quiet = span.end.saturating_sub(last) >= least;
            if span.unfinished && span.kind == TreeKind::Async && quiet {
                *stuck.entry(span.site.id).or_default() += 1;
            }
        }
    }
    stuck
}

fn leaked(row: &SiteStats, rise: Rise) -> Found {
    let mut finding = RULE.about(&row.site);
    finding.severity = Severity::Medium;
    let open = rise.open.max(row.stats.open);
    let closed = closed(row, rise.open);
    let end = match row.stats.open {
        0 => "were closed only by the end of the program",
        _ => "never closed",
    };
    finding.confidence = match closed {
        0 => Confidence::Medium,
        // Others of the same kind ended while these did not.
        _ => Confidence::High,
    };
    finding.evidence = BTreeMap::from([
        ("open", open as f64),
        ("closed", closed as f64),
        ("readings", rise.samples as f64),
        ("over_ns", rise.over.0 as f64),
        ("growth", rise.growth),
        ("growth_per_second", rise.per_second),
        ("chance", rise.chance),
    ]);
    let site = row.site.name;
    let lead = format!("{open} `{site}` spans {end}; the number of open ones rose all run long.");
    finding.message = format!(
        "{lead} It grew by {:.0} in {}, after the start-up, and did not come down in between (n = {} readings); {} closed. \
         Each holds its memory and whatever it borrowed.",
        rise.growth,
        rise.over,
        rise.samples,
        wording::count(closed, "span")
    );
    advise(row, finding, lead)
}

fn idle(evidence: &Evidence<'_>, row: &SiteStats, stuck: u64) -> Found {
    let mut finding = RULE.about(&row.site);
    finding.severity = Severity::Low;
    // Connections without traffic look the same.
    finding.confidence = Confidence::Low;
    finding.evidence = BTreeMap::from([
        ("open", row.stats.open as f64),
        ("stuck_in_trees", stuck as f64),
    ]);
    let site = row.site.name;
    let lead = format!(
        "{} `{site}` spans are open; {stuck} that were looked at had not been polled for {} or more.",
        row.stats.open,
        Nanos::from(evidence.thresholds.tasks.stuck)
    );
    finding.message = format!("{lead} What nobody wakes never ends.");
    advise(row, finding, lead)
}

fn advise(row: &SiteStats, mut finding: crate::model::Finding, lead: String) -> Found {
    finding.recommendation = format!(
        "See to it that every `{}` ends: keep its handle in a `JoinSet`, give it a time-out, tell it to stop. If it is \
         meant to stay, say so with the field `cortex.daemon`. Afterwards the number of open spans must come to rest.",
        row.site.name
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
