//! CTX104: spawned tasks wait for a worker before they run for the first time.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::quantile_of;
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, OperationTree, SiteId};

use super::tree;

pub(super) const RULE: Rule = Rule {
    id: "CTX104",
    name: "scheduler-delay",
    healthy: "tasks run soon after they are spawned",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
#[tokio::main(worker_threads = 8)]
async fn main() {} // after fixing long polls
";

/// What else explains that tasks wait for a worker, and says more.
const EXPLAINED_BY: [&str; 3] = ["CTX106", "CTX101", "CTX102"];

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.tasks;
    let delays = delays(evidence);
    let mut outcome = Outcome {
        looked: !delays.is_empty(),
        ..Outcome::default()
    };
    let explained = evidence.sites().any(|row| {
        EXPLAINED_BY
            .iter()
            .any(|rule| board.has(rule, row.site.name))
    });
    // Where workers are mostly idle, whoever made the task let it wait.
    let busy = evidence.busy_workers().unwrap_or(0.0);
    if explained || busy < thresholds.delay_busy_share {
        return outcome;
    }
    let lengths: Vec<f64> = delays.iter().map(|&(_, delay)| delay.0 as f64).collect();
    let p95 = Nanos(quantile_of(&lengths, 0.95).unwrap_or(0.0) as u64);
    if p95 < Nanos::from(thresholds.delay) {
        return outcome;
    }
    let Some(replayed) = evidence.changed(104, remove_delays) else {
        return outcome;
    };
    if replayed.share < thresholds.delay_share {
        return outcome;
    }
    if (lengths.len() as u64) < thresholds.delay_starts {
        outcome.held_back.push(HeldBack {
            rule: RULE.id,
            site: most_delayed(evidence, &delays)
                .map_or("tasks", |site| site.name)
                .to_owned(),
            have: lengths.len() as u64,
            need: thresholds.delay_starts,
            what: "starts of tasks",
        });
        return outcome;
    }
    let Some(site) = most_delayed(evidence, &delays) else {
        return outcome;
    };
    let mean = Nanos((lengths.iter().sum::<f64>() / lengths.len() as f64) as u64);
    let mut finding = RULE.about(site);
    finding.saving = Some(replayed.share);
    finding.share = Some(replayed.share);
    finding.severity = ladder(replayed.share, evidence.thresholds);
    finding.confidence = Confidence::Medium;
    finding.gain.bound = evidence.cannot_beat(&replayed, 0.0);
    finding.evidence = BTreeMap::from([
        ("delay_p95_ns", p95.0 as f64),
        ("delay_mean_ns", mean.0 as f64),
        ("starts", lengths.len() as f64),
        ("workers_busy", busy),
        ("replayed_saving", replayed.share),
        ("replayed_saving_low", replayed.low),
        ("replayed_saving_high", replayed.high),
    ]);
    let longest = longest_poll(evidence);
    let cause = longest.map_or(String::new(), |(name, poll)| {
        format!(" The longest poll was one of `{name}`, {poll}.")
    });
    let lead = format!(
        "Spawned tasks such as `{}` waited {p95} for a worker (p95 of {}).",
        site.name,
        wording::count(lengths.len() as u64, "start")
    );
    finding.message = format!(
        "{lead} The workers were busy for {} of the time; without the delays {} of {} would vanish{}.{cause}",
        wording::percent(busy),
        wording::percent(replayed.share),
        evidence.whole.words(),
        evidence.replayed_words()
    );
    finding.recommendation = "Give the workers less to do: shorten the longest polls, spawn less at once; or give the \
                              runtime more workers where cores are idle. Compare p95 from spawn to first poll before \
                              and after."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    outcome.found.push(Found { finding, lead });
    outcome
}

/// Returns how long each spawned task of the trees waited for its first poll.
fn delays(evidence: &Evidence<'_>) -> Vec<(SiteId, Nanos)> {
    let trees = evidence.trees();
    trees
        .flat_map(|weighted| {
            let spans = weighted.tree.spans.iter().enumerate();
            spans.filter_map(|(index, span)| {
                let delay = delay(weighted.tree, index)?;
                Some((span.site.id, delay))
            })
        })
        .collect()
}

/// Returns the time from the creation of a spawned task to its first poll.
fn delay(tree: &OperationTree, index: usize) -> Option<Nanos> {
    let span = &tree.spans[index];
    let first = span.activations.first()?;
    tree::is_spawned(tree, index).then(|| first.begin.saturating_sub(span.start))
}

fn remove_delays(tree: &OperationTree, scales: &mut [f64]) {
    let children = tree::children(tree);
    for (index, scale) in scales.iter_mut().enumerate() {
        if let Some(delay) = delay(tree, index).filter(|&delay| delay > Nanos::ZERO) {
            tree::remove(scale, delay, tree::own_time(tree, index, &children[index]));
        }
    }
}

fn most_delayed<'a>(
    evidence: &Evidence<'a>,
    delays: &[(SiteId, Nanos)],
) -> Option<&'a crate::model::Site> {
    let mut sums: BTreeMap<SiteId, Nanos> = BTreeMap::new();
    for &(site, delay) in delays {
        let sum = sums.entry(site).or_default();
        *sum = sum.saturating_add(delay);
    }
    let (site, _) = sums.into_iter().max_by_key(|&(_, sum)| sum)?;
    evidence.site(site).map(|row| &*row.site)
}

fn longest_poll(evidence: &Evidence<'_>) -> Option<(&'static str, Nanos)> {
    let polled = evidence
        .sites()
        .filter(|row| row.stats.is_async() && row.workers > 0);
    polled
        .map(|row| (row.site.name, row.stats.activation.max))
        .max_by_key(|&(_, poll)| poll)
}
