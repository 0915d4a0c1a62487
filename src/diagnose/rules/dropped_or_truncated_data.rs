//! CTX902: something is missing from the outputs, and what that touches.

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording::{count, percent};
use crate::model::{Confidence, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX902",
    name: "dropped-or-truncated-data",
    healthy: "nothing is missing that would matter",
    standing: Standing::Data,
    check,
};

/// One kind of loss: its number, what it means, and what to change.
struct Loss {
    number: u64,
    name: &'static str,
    severity: Severity,
    fact: String,
    advice: &'static str,
    example: &'static str,
}

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let losses = losses(evidence);
    let mut outcome = Outcome {
        looked: true,
        ..Outcome::default()
    };
    let Some(first) = losses.first() else {
        return outcome;
    };
    let mut finding = RULE.about_process();
    let severities = losses.iter().map(|loss| loss.severity);
    finding.severity = severities.max().unwrap_or(Severity::Info);
    finding.confidence = Confidence::High;
    finding.evidence = losses
        .iter()
        .map(|loss| (loss.name, loss.number as f64))
        .collect();
    let facts: Vec<&str> = losses.iter().map(|loss| loss.fact.as_str()).collect();
    finding.message = facts.join(" ");
    let mut advice: Vec<&str> = losses.iter().map(|loss| loss.advice).collect();
    advice.dedup();
    finding.recommendation = advice.join(" ");
    finding.example = first.example.to_owned();
    outcome.found.push(Found {
        lead: first.fact.clone(),
        finding,
    });
    outcome
}

/// Returns what is missing, the gravest first: what touches statistics, then gaps in the trace, then notes.
fn losses(evidence: &Evidence<'_>) -> Vec<Loss> {
    let losses = &evidence.profile.losses;
    let dropped = losses.dropped_spans.saturating_add(losses.dropped_events);
    let mut found = Vec::new();
    let mut add = |number: u64, loss: Loss| {
        if number > 0 {
            found.push(loss);
        }
    };
    add(
        losses.untracked_spans,
        Loss {
            number: losses.untracked_spans,
            name: "untracked_spans",
            severity: Severity::Low,
            fact: format!(
                "{} came while too many were open: their activations count, their latency does not.",
                count(losses.untracked_spans, "span")
            ),
            advice: "Raise the limit of open spans.",
            example: "let builder = CortexLayer::builder().max_open_spans(1 << 20);\n",
        },
    );
    add(
        losses.teardown,
        Loss {
            number: losses.teardown,
            name: "teardown_callbacks",
            severity: Severity::Low,
            fact: format!(
                "{} from threads that were shutting down could not be counted.",
                count(losses.teardown, "callback")
            ),
            advice: "End spans before their thread ends, not in destructors of thread-locals.",
            example: "// do not keep an entered span in a `thread_local!`\n",
        },
    );
    add(
        dropped,
        Loss {
            number: dropped,
            name: "dropped_records",
            severity: Severity::Low,
            fact: format!(
                "{} dropped because the buffer was full: the trace has gaps, the statistics are exact.",
                match dropped {
                    1 => "1 record of the event stream was".to_owned(),
                    _ => format!("{dropped} records of the event stream were"),
                }
            ),
            advice: "Give the event stream a larger buffer, or let the program wait for it when you profile offline.",
            example: "let builder = CortexLayer::builder().max_record_bytes(64 << 20).overflow(Overflow::Block);\n",
        },
    );
    add(
        open_spans(evidence),
        Loss {
            number: losses.open_spans,
            name: "open_spans",
            severity: Severity::Low,
            fact: format!(
                "{} ({} of all) were still open at the end: their activations count, their latency does not.",
                count(losses.open_spans, "span"),
                percent(open_share(evidence))
            ),
            advice: "Finish the capture after the tasks have ended.",
            example: "let results = tasks.join_all().await;\nlet summary = guard.finish()?;\n",
        },
    );
    add(
        losses.folded_activations,
        Loss {
            number: losses.folded_activations,
            name: "folded_activations",
            severity: Severity::Info,
            fact: format!(
                "{} beyond the call tree's limits, folded into a node above or into `(other)`; their time is in it.",
                match losses.folded_activations {
                    1 => "1 activation was".to_owned(),
                    number => format!("{number} activations were"),
                }
            ),
            advice: "Raise the call tree's limits if those paths matter.",
            example: "let builder = CortexLayer::builder().max_tree_nodes(1 << 16).max_path_depth(512);\n",
        },
    );
    add(
        losses.cut_strings,
        Loss {
            number: losses.cut_strings,
            name: "cut_strings",
            severity: Severity::Info,
            fact: format!(
                "{} cut at the length limit.",
                match losses.cut_strings {
                    1 => "1 field value was".to_owned(),
                    number => format!("{number} field values were"),
                }
            ),
            advice: "Skip large arguments, or raise the limit for field values.",
            example: "#[tracing::instrument(skip(body))]\nfn store(name: &str, body: &[u8]) {}\n",
        },
    );
    found
}

/// Returns the number of open spans if it is worth a word, else zero.
fn open_spans(evidence: &Evidence<'_>) -> u64 {
    let open = evidence.profile.losses.open_spans;
    let thresholds = evidence.thresholds;
    if open > thresholds.open_spans && open_share(evidence) > thresholds.open_span_share {
        open
    } else {
        0
    }
}

fn open_share(evidence: &Evidence<'_>) -> f64 {
    let sites = evidence.profile.sites.iter();
    let spans = sites.fold(0_u64, |sum, row| sum.saturating_add(row.stats.spans));
    let open = evidence.profile.losses.open_spans;
    (open as f64 / spans.max(open).max(1) as f64).min(1.0)
}
