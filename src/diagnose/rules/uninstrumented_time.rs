//! CTX003: most of the time is in code without a span, so nothing can be said about it.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::{Evidence, Sampled, total};
use crate::diagnose::outermost::OutermostAsync;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX003",
    name: "uninstrumented-time",
    healthy: "the time is inside spans that say what it is",
    standing: Standing::Pointer,
    check,
};

const EXAMPLE: &str = "\
#[tracing::instrument(skip_all)]
fn parse(buf: &[u8]) -> Doc {
    Doc::from_bytes(buf)
}
";

/// With less CPU time than this share of the time outside all spans a process may be said to wait there.
const MOSTLY_WAITING: f64 = 0.1;

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: !evidence.profile.paths.is_empty(),
        ..Outcome::default()
    };
    let roots = (0..evidence.profile.paths.len()).filter(|&index| evidence.parent(index).is_none());
    let bare = roots
        .filter(|&root| !evidence.children(root).is_empty())
        .filter_map(|root| bare_root(evidence, board, root));
    outcome.found.extend(bare);
    outcome.found.extend(outside(evidence));
    outcome
}

fn bare_root(evidence: &Evidence<'_>, board: &Board, root: usize) -> Option<Found> {
    let path = evidence.path(root);
    // Of what a rule before has explained the cause is known.
    let known = board.claimed(path.site.id);
    let own = path.stats.self_time.saturating_sub(known);
    let share = evidence.whole.share(own);
    if own == Nanos::ZERO || share < evidence.thresholds.uninstrumented_share {
        return None;
    }
    let whole = total(&path.stats);
    let part = own.share_of(whole).min(1.0);
    let mut finding = RULE.about(&path.site);
    finding.severity = Severity::Info;
    finding.confidence = Confidence::High;
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("self_ns", own.0 as f64),
        ("total_ns", whole.0 as f64),
        ("self_share", part),
    ]);
    let cpu = match evidence.running(&path.stats) {
        Sampled::Enough(cpu_share, samples) => {
            finding.evidence.insert("cpu_share", cpu_share);
            finding.evidence.insert("cpu_samples", samples as f64);
            format!(
                " It was on a CPU for {} of it.",
                wording::percent(cpu_share)
            )
        }
        Sampled::TooFew(_) => String::new(),
    };
    let site = path.site.name;
    let lead = format!(
        "{} of `{site}` is not covered by any child span, so the report cannot name its cause.",
        wording::percent(part),
    );
    finding.message = format!("{lead}{cpu}");
    finding.recommendation = format!("Add `#[instrument]` to the functions that `{site}` calls.");
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}

fn outside(evidence: &Evidence<'_>) -> Option<Found> {
    let split = &evidence.profile.split;
    let cpu = evidence.profile.process.cpu;
    let (share, fact) = uncovered(evidence)?;
    let mut finding = RULE.about_process();
    finding.severity = Severity::Info;
    finding.confidence = Confidence::High;
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("uncovered_ns", split.uncovered.0 as f64),
        ("thread_time_ns", split.thread_time.0 as f64),
    ]);
    if let Some(cpu) = cpu {
        finding.evidence.insert("process_cpu_ns", cpu.0 as f64);
    }
    let waited = evidence.cpu_outside().is_some_and(|cpu| {
        cpu.as_secs_f64() < MOSTLY_WAITING * share * evidence.profile.wall.as_secs_f64()
    });
    let (lead, how, recommendation) = if waited {
        (
            format!("{fact}, and the process waited."),
            " It hardly used a CPU meanwhile: it waited.",
            "If it waited for work, nothing is wrong; else add `#[instrument]` to what waits there.",
        )
    } else {
        let unsure = cpu.is_none() && evidence.scope.threads() > 1;
        (
            format!("{fact}: add `#[instrument]` to what runs there."),
            if unsure {
                " Threads that wait for work between spans count too."
            } else {
                ""
            },
            "Add `#[instrument]` to what runs there: the functions that `main` and the threads' closures call.",
        )
    };
    finding.message = format!("{fact}, so the report cannot name its cause.{how}");
    finding.recommendation = recommendation.to_owned();
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}

/// Returns what share of which time is outside all spans, if it is more than is good.
///
/// Threads of a pool are outside whenever they have nothing to do. So where several threads ran spans, the wall time
/// counts in which certainly none was inside one, or the CPU time that certainly was not used inside one.
fn uncovered(evidence: &Evidence<'_>) -> Option<(f64, String)> {
    let profile = evidence.profile;
    let split = &profile.split;
    let limit = evidence.thresholds.uninstrumented_share;
    let threads = evidence.scope.threads();
    let percent = wording::percent;

    // An async span that waits is open, though no thread is inside.
    let open = OutermostAsync::of(evidence).idle;
    let bare = split
        .uncovered
        .0
        .saturating_sub(open.0.saturating_mul(threads));
    let of_threads = Nanos(bare).share_of(split.thread_time).min(1.0);
    let cpu = profile.process.cpu;
    if of_threads > limit && (threads == 1 || cpu.is_none()) {
        let of_whom = match profile.threads.as_slice() {
            [only] => format!("the time of thread `{}`", only.name),
            _ => format!("the time of {threads} threads"),
        };
        let fact = format!("{} of {of_whom} is outside all spans", percent(of_threads));
        return Some((of_threads, fact));
    }
    let nobody = profile.wall.saturating_sub(split.busy.saturating_add(open));
    let share = nobody.share_of(profile.wall);
    if threads > 1 && share > limit {
        let fact = format!(
            "For at least {} of the wall time no thread was inside a span and no async span was open",
            percent(share)
        );
        return Some((share, fact));
    }
    let cpu = cpu?;
    let outside = cpu.saturating_sub(split.busy);
    let share = outside.share_of(cpu);
    let matters = outside.share_of(profile.wall) > evidence.thresholds.medium_share;
    (share > limit && matters).then(|| {
        let fact = format!(
            "At least {} of the process's CPU time is outside all spans",
            percent(share)
        );
        (share, fact)
    })
}
