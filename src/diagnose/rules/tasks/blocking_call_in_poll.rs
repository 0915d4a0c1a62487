//! CTX101: a worker of an async runtime waits inside a poll, and all other tasks on it wait too.

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity};

use super::poll_time::{self, PollTime};
use super::ran::{self, Ran};

pub(super) const RULE: Rule = Rule {
    id: "CTX101",
    name: "blocking-call-in-poll",
    healthy: "no poll blocks its worker",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let data = tokio::task::spawn_blocking(move || std::fs::read(path)).await??;
// or: let data = tokio::fs::read(path).await?;
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: poll_time::has_workers(evidence),
        ..Outcome::default()
    };
    let from = Nanos::from(evidence.thresholds.slow_poll);
    for polls in poll_time::long_polls(evidence, from, poll_time::least_share(evidence)) {
        if polls.worker_share < evidence.thresholds.blocking_share {
            continue;
        }
        match ran::ran(evidence, &polls) {
            Ran::Waited { share, samples } => {
                let known = board.claimed(polls.site.id);
                outcome.claims.push(Claim {
                    site: polls.site.id,
                    time: polls.claim,
                });
                outcome
                    .found
                    .push(found(evidence, &polls, (share, samples), known));
            }
            Ran::Computed { .. } | Ran::WithoutCore => {}
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

/// Of `known` other rules know what it waits for.
fn found(
    evidence: &Evidence<'_>,
    polls: &PollTime<'_>,
    (cpu_share, samples): (f64, u64),
    known: Nanos,
) -> Found {
    let mut finding = RULE.about(polls.site);
    let share = evidence.share(polls.slow);
    let ready = (cpu_share * evidence.worker_slowdown()).min(1.0);
    let waited = Nanos((polls.slow.0 as f64 * (1.0 - ready)) as u64);
    let left = match known {
        Nanos::ZERO => polls.claim,
        _ => polls.claim.min(waited.saturating_sub(known)),
    };
    let (numbers, replayed) = poll_time::replayed(evidence, polls, left);
    // Workers that are always busy can do more as soon as they need not wait; unless what they wait for is the limit.
    let busy = evidence.busy_workers().unwrap_or(0.0);
    let saturated = busy >= evidence.thresholds.tasks.saturated_workers && known == Nanos::ZERO;
    // A replay prices the wait in each task itself. That of all others, in the queue of a worker, is more than that.
    finding.saving = match left {
        Nanos::ZERO => Some(0.0),
        _ => replayed
            .map(|replayed| replayed.share)
            .filter(|_| !saturated),
    };
    let by_share = ladder(finding.saving.unwrap_or(share), evidence.thresholds);
    // What it waits for has a finding of its own, and that one's severity is the one that counts.
    finding.severity = match known.share_of(waited) >= evidence.thresholds.claimed_share {
        true => by_share,
        false => severity(evidence, polls.typical).max(by_share),
    };
    // A thread that another process kept off its core would count as running, so a low share means that it slept.
    finding.confidence = Confidence::Medium;
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(polls.removable);
    finding.evidence = poll_time::numbers(polls, cpu_share, samples);
    finding.evidence.extend(numbers);
    finding.gain.likely = with_free_workers(evidence, polls).filter(|_| saturated);
    let site = polls.site.name;
    let place = match polls.inside {
        Some(owner) => format!("inside a poll of the async span `{}`", owner.name),
        None => "in one poll".to_owned(),
    };
    let lead = format!(
        "`{site}` blocked an async worker for {} {place} ({} on CPU): a blocking call inside `async`.",
        polls.typical,
        wording::percent(cpu_share),
    );
    finding.message = format!(
        "{lead} Every other task on that worker waited. {}",
        poll_time::amount(evidence, polls)
    );
    let gain = match finding.gain.likely {
        Some(likely) => format!(
            "The workers were busy for {} of the time; without the blocking they could do about {} as much: measure the \
             requests per second before and after.",
            wording::percent(busy),
            wording::factor(likely)
        ),
        None => {
            "What that gains depends on the tasks that waited meanwhile: measure it.".to_owned()
        }
    };
    finding.recommendation = format!(
        "Use the async form of what `{site}` waits for, or move the call to `spawn_blocking`. {gain}"
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}

/// Returns how many times faster it is done if the workers do not wait; one call still takes as long as it takes.
fn with_free_workers(evidence: &Evidence<'_>, polls: &PollTime<'_>) -> Option<f64> {
    let longest = evidence.profile.wall.share_of(polls.max.max(Nanos(1)));
    let free = 1.0 - polls.worker_share;
    let factor = if free > 0.0 {
        (1.0 / free).min(longest)
    } else {
        longest
    };
    (factor > 1.0 && factor.is_finite()).then_some(factor)
}

fn severity(evidence: &Evidence<'_>, poll: Nanos) -> Severity {
    let thresholds = evidence.thresholds;
    if poll >= Nanos::from(thresholds.slow_poll_high) {
        Severity::High
    } else if poll >= Nanos::from(thresholds.slow_poll_medium) {
        Severity::Medium
    } else {
        Severity::Low
    }
}
