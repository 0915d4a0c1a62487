//! CTX101: a worker of an async runtime waits inside a poll, and all other tasks on it wait too.

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::rules::poll_time::{self, PollTime};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX101",
    name: "blocking-call-in-poll",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let data = tokio::task::spawn_blocking(move || std::fs::read(path)).await??;
// or: let data = tokio::fs::read(path).await?;
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: poll_time::has_workers(evidence),
        ..Outcome::default()
    };
    for polls in poll_time::long_polls(evidence) {
        if polls.worker_share < evidence.thresholds.blocking_share {
            continue;
        }
        match evidence.sampled(polls.on_cpu) {
            Sampled::Enough(share, samples) if share < evidence.thresholds.on_cpu_share => {
                outcome.claims.push(Claim {
                    site: polls.site.id,
                    time: polls.claim,
                });
                outcome.found.push(found(evidence, &polls, share, samples));
            }
            Sampled::Enough(..) => {}
            Sampled::TooFew(samples) => outcome.held_back.push(HeldBack {
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
    finding.severity = severity(evidence, polls.typical).max(ladder(share, evidence.thresholds));
    // A thread that another process kept off its core would count as running, so a low share means that it slept.
    finding.confidence = Confidence::Medium;
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(polls.removable);
    finding.evidence = poll_time::numbers(polls, cpu_share, samples);
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
    finding.recommendation = format!(
        "Use the async form of what `{site}` waits for, or move the call to `spawn_blocking`. What that gains depends \
         on the tasks that waited meanwhile: measure it."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
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
