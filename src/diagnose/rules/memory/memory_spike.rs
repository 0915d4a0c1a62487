//! CTX305: memory peaks far above what the process usually needs.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::leak::series;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::median;
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Series, Severity, TreeSpan};

pub(super) const RULE: Rule = Rule {
    id: "CTX305",
    name: "memory-spike",
    healthy: "memory has no peak far above its usual level",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
for line in std::io::BufReader::new(file).lines() {
    handle(line?); // one at a time, instead of all in a Vec
}
";

/// A peak of this part of what the process may use is high, or critical.
const HIGH: f64 = 0.4;
const CRITICAL: f64 = 0.7;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.memory;
    let mut outcome = Outcome::default();
    let Some(memory) = series(evidence, "process.rss") else {
        return outcome;
    };
    outcome.looked = memory.samples >= thresholds.spike_samples;
    let usual: Vec<f64> = memory.points.iter().map(|point| point.mean).collect();
    let Some(usual) = median(&usual).filter(|_| outcome.looked) else {
        return outcome;
    };
    let half_way = f64::midpoint(usual, memory.max);
    let high = memory.points.iter().filter(|point| point.mean > half_way);
    let high: u64 = high.map(|point| point.samples).sum();
    let is_spike = usual > 0.0
        && memory.max >= thresholds.spike_ratio * usual
        && memory.max - usual >= thresholds.spike_bytes as f64
        && high as f64 <= thresholds.spike_part * memory.samples as f64;
    if is_spike {
        outcome.found.push(found(evidence, memory, usual));
    }
    outcome
}

fn found(evidence: &Evidence<'_>, memory: &Series, usual: f64) -> Found {
    let at = memory
        .points
        .iter()
        .min_by(|one, other| other.max.total_cmp(&one.max))
        .map_or(Nanos::ZERO, |point| point.at);
    let under_way = under_way(evidence, at);
    let mut finding = match under_way {
        Some(span) => RULE.about(&span.site),
        None => RULE.about_process(),
    };
    let part = evidence.profile.process.memory_limit;
    let part = part.map(|limit| memory.max / limit.max(1) as f64);
    finding.severity = match part {
        Some(part) if part >= CRITICAL => Severity::Critical,
        Some(part) if part >= HIGH => Severity::High,
        _ => Severity::Medium,
    };
    // Other spans may have been open at that time, of which no tree was kept.
    finding.confidence = match under_way {
        Some(_) => Confidence::Medium,
        None => Confidence::High,
    };
    finding.evidence = BTreeMap::from([
        ("samples", memory.samples as f64),
        ("peak_bytes", memory.max),
        ("usual_bytes", usual),
        ("peak_at_s", at.as_secs_f64()),
    ]);
    let during = under_way.map_or(String::new(), |span| {
        format!(" during `{}`", span.site.name)
    });
    let lead = format!(
        "Memory peaked at {}, {} what the process usually holds{during}",
        wording::megabytes(memory.max),
        wording::ratio(memory.max / usual),
    );
    finding.message = format!(
        "{lead} ({} readings, median {}, peak {:.1} s after the start). A machine or container must have room for the \
         peak, and most of the time it is empty.",
        memory.samples,
        wording::megabytes(usual),
        at.as_secs_f64(),
    );
    finding.recommendation =
        "Handle the data in pieces as it comes in, instead of collecting all of it first; where all of it is needed, drop \
         each intermediate form before the next is built. Afterwards the peak is near the median."
            .to_owned();
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}

/// Returns the innermost operation that was open at a time, of the longest root that was; `None` where no tree is known.
fn under_way<'a>(evidence: &Evidence<'a>, at: Nanos) -> Option<&'a TreeSpan> {
    let holds = |span: &TreeSpan| span.start <= at && at <= span.end;
    let trees = evidence.profile.trees.iter().flat_map(|group| &group.kept);
    let tree = trees
        .map(|kept| &kept.tree)
        .filter(|tree| tree.spans.first().is_some_and(holds))
        .max_by_key(|tree| tree.wall())?;
    // What stands further back began later.
    tree.spans.iter().rev().find(|span| holds(span))
}
