//! CTX903: what could not be judged, and what it would take.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, HeldBack, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording::count;
use crate::model::{Confidence, Nanos, Severity, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX903",
    name: "insufficient-data",
    healthy: "there is enough data",
    standing: Standing::Data,
    check,
};

const LONGER: &str = "// run longer, or repeat the work\nfor _ in 0..100 {\n    run();\n}\n";
const MORE_SAMPLES: &str =
    "let builder = CortexLayer::builder().resources(std::time::Duration::from_millis(250));\n";
const HELD: &str =
    "let builder = CortexLayer::builder().held(|metadata| metadata.name() == \"forward\");\n";
const INSTALL_FIRST: &str = "\
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _cortex = tracing_cortex::init()?; // before the first span
    run()
}
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: true,
        ..Outcome::default()
    };
    outcome.found.extend(thin(evidence, board.held_back()));
    let held = evidence
        .sites()
        .filter(|row| row.open_root_activations >= evidence.thresholds.held_activations.max(1));
    outcome.found.extend(held.map(held_root));
    outcome
}

/// Says in one finding what the whole run lacks and which rules were held back.
fn thin(evidence: &Evidence<'_>, held_back: &[HeldBack]) -> Option<Found> {
    let mut facts = Vec::new();
    let mut finding = RULE.about_process();
    let no_span = evidence
        .profile
        .sites
        .iter()
        .all(|row| row.stats.activations == 0);
    if no_span {
        facts.push("No span was recorded, so no rule could look at anything.".to_owned());
    } else if evidence.too_short() {
        facts.push(format!(
            "The run took {}, too short to judge: {} are needed.",
            evidence.profile.wall,
            Nanos::from(evidence.thresholds.min_run)
        ));
    } else if few_calls(evidence) {
        facts.push(format!(
            "No site has {} or one of {}: too little to judge.",
            count(evidence.thresholds.min_calls, "call"),
            Nanos::from(evidence.thresholds.long_call),
        ));
    }
    let rules = by_rule(held_back);
    if !rules.is_empty() {
        let list: Vec<String> = rules.iter().map(|(rule, held)| line(rule, held)).collect();
        facts.push(format!("Held back for want of data: {}.", list.join("; ")));
    }
    if facts.is_empty() {
        return None;
    }
    let sampling = held_back.iter().any(|held| held.what == "on-CPU samples");
    finding.severity = Severity::Info;
    finding.confidence = Confidence::High;
    finding.evidence = BTreeMap::from([
        ("run_ns", evidence.profile.wall.0 as f64),
        ("rules_held_back", rules.len() as f64),
    ]);
    if let Some(held) = held_back.iter().find(|held| held.what == "on-CPU samples") {
        finding.evidence.insert("cpu_samples", held.have as f64);
        finding
            .evidence
            .insert("cpu_samples_needed", held.need as f64);
    }
    let lead = facts.first().cloned().unwrap_or_default();
    finding.message = facts.join(" ");
    let (recommendation, example) = if no_span {
        (
            "Install the layer before the first span, and let its filter pass the program's spans.",
            INSTALL_FIRST,
        )
    } else if sampling
        && evidence
            .profile
            .sites
            .iter()
            .all(|row| row.stats.on_cpu.is_none())
        && !evidence.too_short()
    {
        (
            "Whether a span computes or waits is sampled with the resources: turn them on, where the system has per-thread readings.",
            MORE_SAMPLES,
        )
    } else {
        ("Run longer, or with more input.", LONGER)
    };
    finding.recommendation = recommendation.to_owned();
    finding.example = example.to_owned();
    Some(Found { finding, lead })
}

fn few_calls(evidence: &Evidence<'_>) -> bool {
    let thresholds = evidence.thresholds;
    evidence.profile.sites.iter().all(|row| {
        row.stats.calls < thresholds.min_calls
            && row.stats.activation.max < Nanos::from(thresholds.long_call)
    })
}

fn by_rule(held_back: &[HeldBack]) -> BTreeMap<&'static str, Vec<&HeldBack>> {
    let mut rules: BTreeMap<&'static str, Vec<&HeldBack>> = BTreeMap::new();
    for held in held_back {
        rules.entry(held.rule).or_default().push(held);
    }
    rules
}

fn line(rule: &str, held: &[&HeldBack]) -> String {
    let Some((first, others)) = held.split_first() else {
        return rule.to_owned();
    };
    let HeldBack {
        site,
        have,
        need,
        what,
        ..
    } = first;
    let more = match others.len() {
        0 => String::new(),
        1 => " and one more site".to_owned(),
        number => format!(" and {number} more sites"),
    };
    format!("{rule} for `{site}` ({have} of {need} {what}){more}")
}

/// A root that is entered again and again with nothing around it is a task, or a span kept in a struct.
fn held_root(row: &SiteStats) -> Found {
    let mut finding = RULE.about(&row.site);
    finding.severity = Severity::Info;
    finding.confidence = Confidence::Low;
    finding.evidence =
        BTreeMap::from([("open_root_activations", row.open_root_activations as f64)]);
    let site = row.site.name;
    let lead = format!(
        "One span `{site}` was entered {} times with nothing around it and is still open, so all of that counts as one call.",
        row.open_root_activations
    );
    finding.message = format!("{lead} A task looks the same as a span that is kept in a struct.");
    finding.recommendation = format!(
        "If `{site}` is kept in a struct and entered on every call, say so with `builder.held(..)`: then every enter is a call."
    );
    finding.example = HELD.to_owned();
    Found { finding, lead }
}
