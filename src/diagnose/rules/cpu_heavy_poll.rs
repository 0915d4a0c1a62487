//! CTX102: a poll computes for long, and no other task on this worker can run meanwhile.

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::rules::poll_time::{self, PollTime};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::Confidence;

pub(super) const RULE: Rule = Rule {
    id: "CTX102",
    name: "cpu-heavy-poll",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let (tx, rx) = tokio::sync::oneshot::channel();
rayon::spawn(move || { let _ = tx.send(heavy(input)); });
let out = rx.await?;
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: poll_time::has_workers(evidence),
        ..Outcome::default()
    };
    for polls in poll_time::long_polls(evidence) {
        if polls.worker_share < evidence.thresholds.cpu_poll_share {
            continue;
        }
        match evidence.sampled(polls.on_cpu) {
            Sampled::Enough(share, samples) if share >= evidence.thresholds.on_cpu_share => {
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
    finding.severity = ladder(share, evidence.thresholds);
    finding.confidence = match evidence.starved() {
        Some(_) => Confidence::Low,
        None => Confidence::Medium,
    };
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(polls.removable);
    finding.evidence = poll_time::numbers(polls, cpu_share, samples);
    let site = polls.site.name;
    let place = match polls.inside {
        Some(owner) => format!(" inside a poll of the async span `{}`", owner.name),
        None => " in one poll".to_owned(),
    };
    let lead = format!(
        "`{site}` keeps a worker for {}{place}, without an `.await`; no other task on this worker can run meanwhile.",
        polls.typical,
    );
    finding.message = format!(
        "{lead} {} On a CPU or ready for one in {} of the samples.{}",
        poll_time::amount(evidence, polls),
        wording::percent(cpu_share),
        evidence.starved_words()
    );
    finding.recommendation = format!(
        "Move the work of `{site}` to a thread pool for computing and await its result, or yield between chunks of at \
         least 50 us. What that gains depends on the tasks that waited meanwhile: measure it."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
