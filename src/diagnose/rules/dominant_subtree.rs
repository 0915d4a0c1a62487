//! CTX002: a wrapper that looks slow because of the one thing it calls.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::{Evidence, total};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, Severity};

pub(super) const RULE: Rule = Rule {
    id: "CTX002",
    name: "dominant-subtree",
    healthy: "no wrapper hides where its time goes",
    standing: Standing::Pointer,
    check,
};

fn check(evidence: &Evidence<'_>, _: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: !evidence.profile.paths.is_empty(),
        ..Outcome::default()
    };
    for index in 0..evidence.profile.paths.len() {
        // Wrappers in wrappers are one chain, told once from its top.
        let above = evidence
            .parent(index)
            .and_then(|above| heir(evidence, above));
        if above == Some(index) {
            continue;
        }
        if let Some(child) = heir(evidence, index) {
            outcome.found.push(found(evidence, index, child));
        }
    }
    outcome
}

/// Returns the child that explains a wrapper, if this path is one.
fn heir(evidence: &Evidence<'_>, index: usize) -> Option<usize> {
    let thresholds = evidence.thresholds;
    let stats = &evidence.path(index).stats;
    let whole = total(stats);
    let is_wrapper = whole > Nanos::ZERO
        && evidence.whole.share(whole) >= thresholds.subtree_share
        && stats.self_time.share_of(whole) < thresholds.subtree_self_share;
    if !is_wrapper {
        return None;
    }
    let children = evidence.children(index).iter().copied();
    let heaviest = children.max_by_key(|&child| total(&evidence.path(child).stats))?;
    let part = total(&evidence.path(heaviest).stats).share_of(whole);
    (part >= thresholds.subtree_child_share).then_some(heaviest)
}

fn found(evidence: &Evidence<'_>, top: usize, first: usize) -> Found {
    let mut way = vec![top, first];
    while let Some(next) = way.last().and_then(|&last| heir(evidence, last)) {
        way.push(next);
    }
    let path = evidence.path(top);
    let end = evidence.path(way.last().copied().unwrap_or(first));
    let (whole, part) = (total(&path.stats), total(&end.stats));
    let child_share = part.share_of(whole).min(1.0);

    let mut finding = RULE.about(&path.site);
    finding.severity = Severity::Info;
    finding.confidence = Confidence::High;
    finding.share = Some(evidence.whole.share(whole));
    finding.evidence = BTreeMap::from([
        ("total_ns", whole.0 as f64),
        ("self_ns", path.stats.self_time.0 as f64),
        ("child_ns", part.0 as f64),
        ("child_share", child_share),
    ]);
    let lead = format!(
        "`{}` looks slow but {} of it is inside `{}`; start there.",
        path.site.name,
        wording::percent(child_share),
        end.site.name,
    );
    finding.message.clone_from(&lead);
    let names: Vec<&str> = way.iter().map(|&at| evidence.path(at).site.name).collect();
    finding.recommendation = format!(
        "Nothing to change in `{}`: follow {}.",
        path.site.name,
        abridged(&names)
    );
    finding.example = example(&names);
    Found { finding, lead }
}

/// The way down, as a comment: there is nothing to write.
fn example(names: &[&str]) -> String {
    let mut text = "// nothing to change here: follow the path down the call tree\n".to_owned();
    // A line break in a span's name would end the comment.
    let line = abridged(names).replace(|c: char| c.is_control(), " ");
    text.push_str(&format!("// {line}\n"));
    text
}

/// Long chains keep both ends.
fn abridged(names: &[&str]) -> String {
    match names {
        [first, second, .., last] if names.len() > 6 => {
            format!("{first} > {second} > ... > {last}")
        }
        _ => names.join(" > "),
    }
}
