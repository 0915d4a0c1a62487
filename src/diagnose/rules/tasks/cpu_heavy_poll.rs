//! CTX102: a poll computes for long, and no other task on this worker can run meanwhile.

use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos};

use super::poll_time::{self, PollTime};
use super::ran::{self, Ran};

pub(super) const RULE: Rule = Rule {
    id: "CTX102",
    name: "cpu-heavy-poll",
    healthy: "no poll computes for long",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let (tx, rx) = tokio::sync::oneshot::channel();
rayon::spawn(move || { let _ = tx.send(heavy(input)); });
let out = rx.await?;
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: poll_time::has_workers(evidence),
        ..Outcome::default()
    };
    let from = Nanos::from(evidence.thresholds.slow_poll);
    for polls in poll_time::long_polls(evidence, from, poll_time::least_share(evidence)) {
        if polls.worker_share < evidence.thresholds.cpu_poll_share
            || board.has("CTX106", polls.site.name)
        {
            continue;
        }
        match ran::ran(evidence, &polls) {
            ran @ Ran::Computed { .. } if still_heavy(evidence, &polls, ran) => {
                outcome.claims.push(Claim {
                    site: polls.site.id,
                    time: polls.claim,
                });
                outcome.found.extend(found(evidence, &polls, ran));
            }
            Ran::Computed { .. } | Ran::Waited { .. } | Ran::WithoutCore => {}
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

/// Whether the polls would be slow on a machine that had a core for each thread: short ones that lost theirs for a while
/// look long.
fn still_heavy(evidence: &Evidence<'_>, polls: &PollTime<'_>, ran: Ran) -> bool {
    let on_core = match (ran, evidence.starved()) {
        (Ran::Computed { share, exact, .. }, _) if exact => share,
        // A time slice is longer than most polls, so a few of any kind are slow then.
        (_, Some(_)) if ran::are_rare(polls) => return false,
        (_, Some(got)) => {
            let split = &evidence.profile.split;
            got.share_of(split.busy.saturating_sub(split.waiting.unwrap_or_default()))
        }
        (_, None) => return true,
    };
    let thresholds = evidence.thresholds;
    polls.worker_share * on_core >= thresholds.cpu_poll_share
        && polls.typical.0 as f64 * on_core >= Nanos::from(thresholds.slow_poll).0 as f64
}

fn found(evidence: &Evidence<'_>, polls: &PollTime<'_>, ran: Ran) -> Option<Found> {
    let Ran::Computed {
        share: cpu_share,
        samples,
        exact,
    } = ran
    else {
        return None;
    };
    let mut finding = RULE.about(polls.site);
    let share = evidence.share(polls.slow);
    let (numbers, replayed) = poll_time::replayed(evidence, polls, polls.claim);
    let busy = evidence.busy_workers().unwrap_or(0.0);
    let saturated = busy >= evidence.thresholds.tasks.saturated_workers;
    // A replay prices the time in each task itself, not that of the tasks that wait for the worker meanwhile.
    finding.saving = replayed
        .map(|replayed| replayed.share)
        .filter(|_| !saturated);
    finding.severity = ladder(finding.saving.unwrap_or(share), evidence.thresholds);
    finding.confidence = match (exact, evidence.starved()) {
        (true, None) => Confidence::High,
        (true, Some(_)) | (false, None) => Confidence::Medium,
        // Ready for a core that others had looks the same.
        (false, Some(_)) => Confidence::Low,
    };
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(polls.removable);
    finding.evidence = poll_time::numbers(polls, cpu_share, samples);
    finding.evidence.extend(numbers);
    let site = polls.site.name;
    let place = match polls.inside {
        Some(owner) => format!(" inside a poll of the async span `{}`", owner.name),
        None => " in one poll".to_owned(),
    };
    let lead = format!(
        "`{site}` keeps a worker for {}{place}, without an `.await`; no other task on this worker can run meanwhile.",
        polls.typical,
    );
    let on_cpu = wording::percent(cpu_share);
    let on_cpu = match exact {
        true => format!("On a CPU for {on_cpu} of it."),
        false => format!("On a CPU or ready for one in {on_cpu} of the samples."),
    };
    finding.message = format!(
        "{lead} {} {on_cpu}{}",
        poll_time::amount(evidence, polls),
        evidence.starved_words()
    );
    finding.recommendation = format!(
        "Move the work of `{site}` to a thread pool for computing and await its result, or yield between chunks of at \
         least 50 us. What that gains depends on the tasks that waited meanwhile: measure it."
    );
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}
