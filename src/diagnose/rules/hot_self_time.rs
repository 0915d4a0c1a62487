//! CTX001: one site's own code takes a large share of the time, and it computes.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome, ladder};
use crate::diagnose::callers::Caller;
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX001",
    name: "hot-self-time",
    healthy: "no site's own code takes a large part of the time",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// hoist work out of the loop; try a cheaper algorithm; check with `cargo flamegraph`
let table = build_table(); // was rebuilt per item
for it in items { use_table(&table, it); }
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = evidence.thresholds;
    let mut outcome = Outcome {
        looked: evidence.sites().next().is_some(),
        ..Outcome::default()
    };
    for row in evidence.sites() {
        let claimed = board.claimed(row.site.id);
        if claimed > Nanos::ZERO
            && claimed.share_of(row.stats.self_time) >= thresholds.claimed_share
        {
            continue;
        }
        let own = row.stats.self_time.saturating_sub(claimed);
        let long_call = row.stats.activation.max >= Nanos::from(thresholds.long_call);
        let enough_calls = row.stats.calls >= thresholds.min_calls || long_call;
        if own == Nanos::ZERO || evidence.share(own) < thresholds.hot_share || !enough_calls {
            continue;
        }
        match evidence.running(&row.stats) {
            Sampled::Enough(cpu_share, samples) if cpu_share >= thresholds.on_cpu_share => {
                outcome
                    .found
                    .push(found(evidence, row, own, cpu_share, samples));
            }
            Sampled::Enough(..) => {}
            Sampled::TooFew(samples) => outcome.held_back.push(HeldBack {
                rule: RULE.id,
                site: row.site.name.to_owned(),
                have: samples,
                need: thresholds.min_cpu_samples,
                what: "on-CPU samples",
            }),
        }
    }
    outcome
}

fn found(
    evidence: &Evidence<'_>,
    row: &SiteStats,
    own: Nanos,
    cpu_share: f64,
    samples: u64,
) -> Found {
    let mut finding = RULE.about(&row.site);
    let share = evidence.share(own);
    let gain = Halved::of(evidence, row, own);
    finding.saving = gain.saving;
    // What a thread does while others take longer does not make the program slow.
    finding.severity = ladder(gain.saving.unwrap_or(share), evidence.thresholds);
    finding.confidence = confidence(evidence, cpu_share, samples);
    finding.share = Some(share);
    finding.gain.bound = evidence.ceiling(own);
    finding.gain.low = gain.low;
    finding.gain.likely = gain.likely;
    let halved = gain.low;
    finding.evidence = BTreeMap::from([
        ("self_ns", own.0 as f64),
        ("calls", row.stats.calls as f64),
        ("cpu_samples", samples as f64),
        ("cpu_share", cpu_share),
    ]);
    finding.evidence.extend(gain.evidence);
    if evidence.scope.threads() > 1 {
        let threads = evidence.scope.threads();
        finding.evidence.insert("threads", threads as f64);
    }

    let site = row.site.name;
    let percent = wording::percent(share);
    let scope = evidence.scope.words();
    let claimed = row.stats.self_time.saturating_sub(own);
    let caller = Caller::of(evidence, row, claimed);
    let under = caller.as_ref().map_or(String::new(), Caller::clause);
    let called_from = caller.as_ref().map_or(String::new(), Caller::lead);
    let running = evidence.running_words(&row.stats, cpu_share);
    let starved = evidence.starved_words();
    let bound = wording::ceiling(finding.gain.bound);
    let removing = bound
        .as_ref()
        .map(|bound| format!("Removing all of it cannot beat {bound}"));
    let halving = halved.map(wording::factor);
    let sampled = gain.sampled;
    let gain = match (removing, &halving) {
        (Some(removing), Some(halving)) => {
            format!(" {removing}; halving it gives {halving}{sampled}.")
        }
        (Some(removing), None) => format!(" {removing}."),
        (None, Some(halving)) => format!(" Halving it gives {halving}{sampled}."),
        (None, None) => String::new(),
    };
    finding.message = format!(
        "`{site}` spends {own} in its own code, {running}: {percent} of {scope}{under}.{starved}{gain}"
    );
    finding.recommendation = format!(
        "Do less in `{site}`: hoist work out of its loops, keep results that are computed again, or choose a cheaper \
         algorithm.{}",
        if halving.is_none() {
            " What that gains depends on what the other threads wait for: measure it."
        } else {
            ""
        }
    );
    finding.example = EXAMPLE.to_owned();
    let gain = match (halving, bound) {
        (Some(halving), _) => {
            format!("; halving it makes the program {halving} as fast.")
        }
        // Where threads work side by side this ceiling is far above what can be had.
        (None, Some(bound)) if evidence.scope.threads() == 1 => {
            format!("; without it the program would be at most {bound} as fast.")
        }
        (None, _) => ".".to_owned(),
    };
    let lead =
        format!("`{site}` takes {percent} of {scope} ({own} in its own code){called_from}{gain}");
    Found { finding, lead }
}

/// What halving a site's own time gains.
#[derive(Debug, Default)]
struct Halved {
    /// Without all of that time.
    saving: Option<f64>,
    low: Option<f64>,
    likely: Option<f64>,
    evidence: Vec<(&'static str, f64)>,
    /// Continues the sentence that names `low`.
    sampled: String,
}

impl Halved {
    /// Where everything runs one after the other the statistics say it exactly; elsewhere the sampled trees do.
    fn of(evidence: &Evidence<'_>, row: &SiteStats, own: Nanos) -> Halved {
        if evidence.is_sequential() {
            let halved = Some(1.0 / (1.0 - evidence.share(own) / 2.0));
            return Halved {
                low: halved,
                likely: halved,
                ..Halved::default()
            };
        }
        let site = row.site.id;
        let part = own.share_of(row.stats.self_time).min(1.0);
        let replayed = evidence.replayed(site, 1.0 - part);
        let (Some(removed), Some(halved)) = (replayed, evidence.replayed(site, 1.0 - part / 2.0))
        else {
            return Halved::default();
        };
        // Savings under a per cent are not told apart from none.
        let worth = halved.low >= LEAST_SAVING;
        let factor = |share: f64| 1.0 / (1.0 - share);
        Halved {
            saving: Some(removed.share),
            low: worth.then(|| factor(halved.low)),
            likely: worth.then(|| factor(halved.share)),
            evidence: vec![
                ("replayed_saving", removed.share),
                ("replayed_saving_low", removed.low),
                ("replayed_saving_high", removed.high),
                ("replayed_trees", evidence.replay_trees().0 as f64),
            ],
            sampled: evidence.replayed_words(),
        }
    }
}

/// The least share that is told.
const LEAST_SAVING: f64 = 0.01;

/// High where the samples leave no doubt, at two standard errors, that the site computes; whether a thread that is ready
/// to run has a core they do not say.
fn confidence(evidence: &Evidence<'_>, cpu_share: f64, samples: u64) -> Confidence {
    if evidence.starved().is_some() {
        return Confidence::Medium;
    }
    let error = (cpu_share * (1.0 - cpu_share) / samples as f64).sqrt();
    if cpu_share - 2.0 * error >= evidence.thresholds.on_cpu_share {
        Confidence::High
    } else {
        Confidence::Medium
    }
}
