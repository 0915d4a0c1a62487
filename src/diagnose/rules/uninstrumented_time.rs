//! CTX003: most of the time is in code without a span, so nothing can be said about it.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::{Evidence, Sampled, Scope, total};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX003",
    name: "uninstrumented-time",
    standing: Standing::Pointer,
    check,
};

const EXAMPLE: &str = "\
#[tracing::instrument(skip_all)]
fn parse(buf: &[u8]) -> Doc {
    Doc::from_bytes(buf)
}
";

/// Below this share of CPU time the threads outside all spans may be said to wait.
const MOSTLY_WAITING: f64 = 0.1;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: !evidence.profile.paths.is_empty(),
        ..Outcome::default()
    };
    let roots = (0..evidence.profile.paths.len()).filter(|&index| evidence.parent(index).is_none());
    let bare = roots
        .filter(|&root| !evidence.children(root).is_empty())
        .filter_map(|root| bare_root(evidence, root));
    outcome.found.extend(bare);
    outcome.found.extend(outside(evidence));
    outcome
}

fn bare_root(evidence: &Evidence<'_>, root: usize) -> Option<Found> {
    let path = evidence.path(root);
    let own = path.stats.self_time;
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
    let cpu = match evidence.sampled(path.stats.on_cpu) {
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
    finding.example = EXAMPLE;
    Some(Found { finding, lead })
}

fn outside(evidence: &Evidence<'_>) -> Option<Found> {
    let split = &evidence.profile.split;
    let share = split.uncovered.share_of(split.thread_time).min(1.0);
    if split.uncovered == Nanos::ZERO || share <= evidence.thresholds.uninstrumented_share {
        return None;
    }
    let mut finding = RULE.about_process();
    finding.severity = Severity::Info;
    finding.confidence = Confidence::High;
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("uncovered_ns", split.uncovered.0 as f64),
        ("thread_time_ns", split.thread_time.0 as f64),
    ]);
    let scope = evidence.scope.observed();
    let lead = format!(
        "{} of {scope} is outside all spans, so the report cannot name its cause.",
        wording::percent(share)
    );
    let cpu = cpu_of_threads(evidence);
    let waited = cpu.is_some_and(|cpu| cpu.share_of(split.uncovered) < MOSTLY_WAITING);
    if let Some(cpu) = cpu {
        finding.evidence.insert("thread_cpu_ns", cpu.0 as f64);
    }
    let how = if waited {
        " The threads hardly used a CPU meanwhile: they waited."
    } else if matches!(evidence.scope, Scope::Threads(..)) {
        " Threads that wait for work between spans count too."
    } else {
        ""
    };
    finding.message = format!("{lead}{how}");
    finding.recommendation =
        "Add `#[instrument]` to what runs there: the functions that `main` and the threads' closures call.".to_owned();
    finding.example = EXAMPLE;
    Some(Found { finding, lead })
}

/// Returns the CPU time of all observed threads, if it is known of each.
fn cpu_of_threads(evidence: &Evidence<'_>) -> Option<Nanos> {
    let threads = &evidence.profile.threads;
    let times: Option<Vec<Nanos>> = threads.iter().map(|thread| thread.cpu).collect();
    times
        .filter(|times| !times.is_empty())
        .map(|times| times.into_iter().sum())
}
