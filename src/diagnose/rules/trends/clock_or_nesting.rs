//! CTX904: operations begin before or end after what they are in.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, OperationTree, Severity, TreeKind, TreeSpan};

pub(super) const RULE: Rule = Rule {
    id: "CTX904",
    name: "clock-or-nesting-anomaly",
    healthy: "clocks and spans are in order",
    standing: Standing::Data,
    check,
};

const EXAMPLE: &str = "\
let span = tracing::info_span!(\"load\");
let value = load().instrument(span).await; // no `span.enter()` guard across an `.await`
";

/// A handful may be a coincidence of two threads.
const FEWEST: u64 = 5;

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut inside, mut wrong) = (0_u64, 0_u64);
    let mut by_site: BTreeMap<&str, u64> = BTreeMap::new();
    let kept = evidence.profile.trees.iter().flat_map(|group| &group.kept);
    for kept in kept.filter(|kept| !kept.tree.truncated) {
        for (index, span) in kept.tree.spans.iter().enumerate() {
            let Some(around) = around(&kept.tree, index) else {
                continue;
            };
            inside += 1;
            if is_wrong(span, around) {
                wrong += 1;
                *by_site.entry(span.site.name).or_default() += 1;
            }
        }
    }
    outcome.looked = inside > 0;
    let share = wrong as f64 / inside.max(1) as f64;
    let worst = by_site.iter().max_by_key(|(_, count)| **count);
    if let Some((site, _)) = worst
        && wrong >= FEWEST
        && share > evidence.thresholds.trends.nesting_share
    {
        outcome.found.push(found(site, wrong, inside));
    }
    outcome
}

/// A parent that does not stand before its child would be a loop.
fn around(tree: &OperationTree, index: usize) -> Option<&TreeSpan> {
    let parent = tree.spans.get(index)?.parent?;
    let parent = usize::try_from(parent).ok().filter(|&at| at < index)?;
    tree.spans.get(parent)
}

/// A task may outlive the one that started it; what a thread entered last it leaves first.
fn is_wrong(span: &TreeSpan, around: &TreeSpan) -> bool {
    let on_top = span.kind != TreeKind::Async
        && around.kind != TreeKind::Async
        && span.thread == around.thread
        && !span.unfinished
        && !around.unfinished;
    span.start < around.start || (on_top && span.start < around.end && span.end > around.end)
}

fn found(site: &str, wrong: u64, inside: u64) -> Found {
    let mut finding = RULE.about_process();
    finding.severity = Severity::Low;
    finding.confidence = Confidence::High;
    finding.evidence = BTreeMap::from([
        ("spans_out_of_place", wrong as f64),
        ("spans_inside_others", inside as f64),
    ]);
    let lead = format!(
        "{} of {inside} in the sampled trees begin before or end after the span around them, most of them `{site}`",
        wording::count(wrong, "span")
    );
    finding.message = format!(
        "{lead}. For the critical path and the replays they count as running beside it, so what they cost is \
         understated."
    );
    finding.recommendation = format!(
        "Leave spans in the order in which they were entered: keep no guard of `{site}` across an `.await` or in a \
         struct, and instrument futures instead. If there is no such guard, the clocks of the cores differ: see that the \
         machine's time source is `tsc`."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}
