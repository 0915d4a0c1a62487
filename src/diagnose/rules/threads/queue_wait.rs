//! CTX207: items wait longer in a queue than anyone works on them.

use std::collections::BTreeMap;

use super::lock_contention::gain_of;
use super::locks::most;
use super::queues::{Queue, queues};
use crate::diagnose::board::{Board, Claim, Found, HeldBack, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::{statistics, wording};
use crate::model::{Confidence, Nanos, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX207",
    name: "queue-wait",
    healthy: "queues are emptied as they are filled",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let (tx, rx) = tokio::sync::mpsc::channel(64); // bounded: who sends too fast waits
for _ in 0..4 { spawn_worker(rx_shared.clone()); }
";

/// The most depths that are tested for growth: the test compares all pairs.
const DEPTHS: usize = 500;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let thresholds = &evidence.thresholds.threads;
    for queue in queues(evidence) {
        outcome.looked = true;
        if queue.wait <= 0.0 || queue.wait < thresholds.queue_wait_per_work * queue.work {
            continue;
        }
        let replayed = queue.replayed(evidence, 1.0);
        let shown = replayed.map_or(0.0, |replayed| replayed.share);
        let share = (shown + queue.before_share(evidence)).min(1.0);
        if share < thresholds.queue_share {
            continue;
        }
        if queue.items < thresholds.queue_items as f64 {
            outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: queue.name.clone(),
                have: queue.items as u64,
                need: thresholds.queue_items,
                what: "items",
            });
            continue;
        }
        if let Some(found) = found(evidence, &queue, replayed, share) {
            outcome
                .claims
                .extend(queue.spent_in.iter().map(|(&site, &time)| Claim {
                    site,
                    time: Nanos(time as u64),
                }));
            outcome.found.push(found);
        }
    }
    outcome
}

fn found(
    evidence: &Evidence<'_>,
    queue: &Queue,
    replayed: Option<Replayed>,
    share: f64,
) -> Option<Found> {
    let (site, _) = most(&queue.sites)?;
    let row = evidence.site(site)?;
    let mut finding = RULE.about(&row.site);
    let grew = growth(queue, evidence.thresholds.threads.queue_growth_chance);
    finding.share = Some(share);
    finding.severity = ladder(share, evidence.thresholds);
    if grew.is_some() {
        finding.severity = worse(finding.severity);
    }
    let each = |time: f64| Nanos((time / queue.items) as u64);
    finding.evidence = BTreeMap::from([
        ("wait_ns", queue.wait),
        ("work_ns", queue.work),
        ("items", queue.items),
        ("seen_items", queue.seen as f64),
        ("consumers", queue.consumers.len() as f64),
    ]);
    let mut low = String::new();
    match replayed.filter(|_| queue.before_wait < queue.wait / 2.0) {
        Some(replayed) => {
            finding.confidence = Confidence::High;
            finding.saving = Some(replayed.share);
            finding.gain.bound = evidence.ceiling(Nanos(queue.wait as u64));
            // With twice the consumers at most half as many items are ahead of each.
            let halved = queue.replayed(evidence, 0.5);
            finding.gain.low = halved.and_then(|halved| gain_of(halved.low));
            if let Some(factor) = finding.gain.low {
                low = format!(
                    " Halving the waits gives {}{}.",
                    wording::factor(factor),
                    evidence.replayed_words()
                );
            }
        }
        // Who waits for these items does so in trees that are not known.
        None => finding.confidence = Confidence::Medium,
    }
    let utilisation = queue.utilisation(evidence.profile.wall);
    let busy = utilisation.map_or(String::new(), |busy| {
        finding.evidence.insert("utilisation", busy);
        format!(
            " The {} taking them out worked on them for {} of the time.",
            wording::count(queue.consumers.len() as u64, "thread"),
            wording::percent(busy)
        )
    });
    let depth = grew.map_or(String::new(), |(from, to)| {
        finding.evidence.insert("depth_first_quarter", from);
        finding.evidence.insert("depth_last_quarter", to);
        format!(
            " And it grows: from {from:.0} items in the first quarter to {to:.0} in the last, so the waits will too."
        )
    });
    let lead = format!(
        "Items waited {} in the queue `{}` for {} of work in `{}`.",
        each(queue.wait),
        queue.name,
        each(queue.work),
        row.site.name
    );
    finding.message = format!(
        "{lead} Means over {:.0} items; {} of {}.{busy}{depth}{low}",
        queue.items,
        wording::percent(share),
        evidence.whole.words()
    );
    finding.recommendation = format!(
        "Take items out faster: more consumers where they wait for something, less work per item where they compute. Or let \
         whoever fills `{}` wait, with a bounded queue: the delay then shows where it begins. Consumers beyond the cores \
         help only if they wait. Afterwards `queue.wait_ns` must fall.",
        queue.name
    );
    finding.example = EXAMPLE.to_owned();
    Some(Found { finding, lead })
}

/// Returns the median depths of the first and the last quarter if the queue grew over the run.
fn growth(queue: &Queue, chance: f64) -> Option<(f64, f64)> {
    let mut depths = queue.depths.clone();
    depths.sort_by_key(|&(at, _)| at);
    let step = depths.len().div_ceil(DEPTHS).max(1);
    let depths: Vec<f64> = depths
        .iter()
        .step_by(step)
        .map(|&(_, depth)| depth)
        .collect();
    let test = statistics::mann_kendall(&depths)?;
    let quarter = depths.len() / 4;
    let first = statistics::median(&depths[..quarter])?;
    let last = statistics::median(&depths[depths.len() - quarter..])?;
    // A rise by less than one item or a tenth is none that matters, however sure.
    (test.rising < chance && last >= first + (first / 10.0).max(1.0)).then_some((first, last))
}

fn worse(severity: Severity) -> Severity {
    match severity {
        Severity::Info | Severity::Low => Severity::Medium,
        Severity::Medium => Severity::High,
        Severity::High | Severity::Critical => Severity::Critical,
    }
}
