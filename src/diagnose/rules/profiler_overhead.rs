//! CTX901: the layer itself takes a noticeable part of the CPU time.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX901",
    name: "profiler-overhead",
    healthy: "measuring costs little",
    standing: Standing::Data,
    check,
};

const EXAMPLE: &str = "\
#[tracing::instrument(level = \"trace\", skip_all)] // filtered out at INFO
fn tiny() {}
";

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let overhead = &evidence.profile.overhead;
    let Some(share) = overhead.share_of_cpu.filter(|share| share.is_finite()) else {
        return Outcome::default();
    };
    let mut outcome = Outcome {
        looked: true,
        ..Outcome::default()
    };
    if share <= evidence.thresholds.overhead_share {
        return outcome;
    }
    let share = share.min(1.0);
    let mut finding = RULE.about_process();
    finding.severity = Severity::Low;
    finding.confidence = Confidence::Medium;
    finding.share = Some(share);
    finding.evidence = BTreeMap::from([
        ("overhead_share", share),
        ("overhead_ns", overhead.total.0 as f64),
    ]);
    for (name, cost) in [
        ("span_cost_ns", overhead.span_ns),
        ("activation_cost_ns", overhead.activation_ns),
    ] {
        if cost.is_finite() {
            finding.evidence.insert(name, cost);
        }
    }
    let lead = format!(
        "This layer cost about {} of the process's CPU time.",
        wording::percent_fine(share)
    );
    let busiest = evidence.sites().max_by_key(|row| row.stats.activations);
    match busiest.filter(|row| row.stats.activations > 0) {
        Some(row) => {
            let mean = Nanos(row.stats.busy.0 / row.stats.activations);
            finding
                .evidence
                .insert("site_activations", row.stats.activations as f64);
            finding.evidence.insert("site_mean_ns", mean.0 as f64);
            let site = row.site.name;
            finding.message = format!(
                "{lead} Most of it is for `{site}`, which was entered {} times for {mean} on average.",
                row.stats.activations
            );
            finding.recommendation = format!(
                "Lower the level of the span `{site}` so that a filter drops it, or put the span around its loop."
            );
        }
        None => {
            finding.message.clone_from(&lead);
            finding.recommendation = "Filter out spans that are short and frequent.".to_owned();
        }
    }
    finding.example = EXAMPLE.to_owned();
    outcome.found.push(Found { finding, lead });
    outcome
}
