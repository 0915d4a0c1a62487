//! CTX106: one poll computes for a second or more.

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::model::{Confidence, Nanos};

use super::poll_time::{self, PollTime};
use super::ran::{self, Ran};

pub(super) const RULE: Rule = Rule {
    id: "CTX106",
    name: "never-yields",
    healthy: "every task yields",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let out = tokio::task::spawn_blocking(move || work(&data)).await?;
// or: for chunk in data.chunks(4096) { work(chunk); tokio::task::yield_now().await; }
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: poll_time::has_workers(evidence),
        ..Outcome::default()
    };
    let from = Nanos::from(evidence.thresholds.tasks.never_yields);
    for polls in poll_time::long_polls(evidence, from, 0.0) {
        match ran::ran(evidence, &polls) {
            Ran::Computed { share, samples, .. } => {
                outcome.claims.push(Claim {
                    site: polls.site.id,
                    time: polls.claim,
                });
                outcome.found.push(found(evidence, &polls, share, samples));
            }
            Ran::Waited { .. } | Ran::WithoutCore => {}
            Ran::Unknown(samples) => outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: polls.site.name.to_owned(),
                have: samples,
                need: evidence.thresholds.min_cpu_samples,
                what: "on-CPU samples",
            }),
        }
    }
    outcome
}

fn found(evidence: &Evidence<'_>, polls: &PollTime<'_>, cpu_share: f64, samples: u64) -> Found {
    let mut finding = RULE.about(polls.site);
    let share = evidence.share(polls.slow);
    // A replay prices the task itself and not those that it keeps from running.
    finding.severity = ladder(share, evidence.thresholds);
    finding.confidence = match evidence.starved() {
        Some(_) => Confidence::Medium,
        None => Confidence::High,
    };
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(polls.removable);
    finding.evidence = poll_time::numbers(polls, cpu_share, samples);
    finding
        .evidence
        .extend(poll_time::replayed(evidence, polls, polls.claim).0);
    let site = polls.site.name;
    let place = match polls.inside {
        Some(owner) => format!(" inside a poll of the async span `{}`", owner.name),
        None => " in one poll".to_owned(),
    };
    let often = match polls.slow_polls {
        0 | 1 => String::new(),
        times => format!(", {times} times"),
    };
    let lead = format!(
        "`{site}` ran for {}{place} without yielding once{often}.",
        polls.max
    );
    finding.message = format!(
        "{lead} Until it ended, no other task on this worker could run, and timers and I/O of that worker were late.{}",
        evidence.starved_words()
    );
    finding.recommendation = format!(
        "Run `{site}` on a thread of its own (`spawn_blocking`, a pool for computing) and await the result, or yield \
         between chunks of at least 50 us. The task itself gets no faster by that, the others do: compare their latency \
         before and after."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
