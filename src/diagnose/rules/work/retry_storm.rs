//! CTX009: calls fail and are tried again at once, several times.

use std::collections::{BTreeMap, BTreeSet};

use super::tree_parts::{Change, Siblings, gain_words, is_explained, price, times};
use crate::diagnose::board::{Board, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, OperationTree, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX009",
    name: "retry-storm",
    healthy: "nothing fails and is tried again at once",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
for attempt in 0..3u32 {
    match call().await {
        Ok(value) => return Ok(value),
        Err(error) if !error.is_transient() => return Err(error),
        Err(_) => tokio::time::sleep(base * 2u32.pow(attempt)).await,
    }
}
";

/// Pauses that grow by this from the first to the last are backoff, even with jitter.
const GROWTH: f64 = 1.5;

/// Pauses below this part of an attempt are the loop around it.
const PAUSE: f64 = 0.1;

/// In one parent that tries several things, so many rows of failures, each of this length at most, are retries and not
/// independent failures: those would vary more.
const ROWS: usize = 8;
const LONGEST_ROW: usize = 10;

/// The attempts of one site under one parent site.
#[derive(Debug, Default)]
struct Attempts<'a> {
    /// Parents in which the site was called, and those in which it was tried again and again.
    parents: f64,
    stormy: f64,
    failed: f64,
    time: f64,
    /// Between the attempts.
    pauses: f64,
    change: Change,
    parent: Option<&'a str>,
}

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.work;
    let mut outcome = Outcome::default();
    let mut sites: BTreeMap<(SiteId, SiteId), Attempts<'_>> = BTreeMap::new();
    let mut fail: BTreeSet<SiteId> = BTreeSet::new();
    for weighted in evidence.trees() {
        outcome.looked = true;
        let failed = weighted.tree.spans.iter().filter(|span| span.error);
        fail.extend(failed.map(|span| span.site.id));
    }
    if fail.is_empty() {
        return outcome;
    }
    for weighted in evidence.trees() {
        let tree = weighted.tree;
        for (around, children) in Siblings::of(tree).families() {
            let mut by_site: BTreeMap<(SiteId, Option<&str>), Vec<usize>> = BTreeMap::new();
            for &child in children {
                let span = &tree.spans[child];
                if !fail.contains(&span.site.id) {
                    continue;
                }
                let key = fields::text(span, "cortex.key");
                by_site.entry((span.site.id, key)).or_default().push(child);
            }
            let mut seen: Vec<(SiteId, bool)> = Vec::new();
            for ((site, _), calls) in by_site {
                let attempts = sites.entry((site, tree.spans[around].site.id)).or_default();
                attempts.parent = Some(tree.spans[around].site.name);
                let before = attempts.failed;
                for row in rows(tree, &calls, thresholds.retry_attempts) {
                    attempts.note(tree, weighted.roots, row);
                }
                let stormy = attempts.failed > before;
                match seen.last_mut().filter(|last| last.0 == site) {
                    Some(last) => last.1 |= stormy,
                    None => seen.push((site, stormy)),
                }
            }
            for (site, stormy) in seen {
                let attempts = sites.entry((site, tree.spans[around].site.id)).or_default();
                attempts.parents += weighted.roots;
                attempts.stormy += if stormy { weighted.roots } else { 0.0 };
            }
        }
    }
    for ((site, _), attempts) in &sites {
        let explained = |row: &SiteStats| is_explained(evidence, board, row);
        if evidence.site(*site).is_some_and(explained) {
            continue;
        }
        if let Some(found) = found(evidence, *site, attempts) {
            outcome.claims.extend(attempts.change.claims(evidence));
            outcome.found.push(found);
        }
    }
    outcome
}

impl Attempts<'_> {
    /// Notes failed attempts and the one that succeeded after them.
    fn note(&mut self, tree: &OperationTree, roots: f64, row: &[usize]) {
        let Some((_, failed)) = row.split_last() else {
            return;
        };
        for &attempt in failed {
            self.failed += roots;
            self.time += tree.spans[attempt].length().0 as f64 * roots;
            self.change.scale(tree, attempt, 0.0);
        }
        self.pauses += pauses(tree, row).sum::<f64>() * roots;
    }
}

/// Returns the rows of failures with the success that ends each, where they are attempts at one thing without backoff.
fn rows<'c>(tree: &OperationTree, calls: &'c [usize], least: u64) -> Vec<&'c [usize]> {
    let least = usize::try_from(least.max(1)).unwrap_or(usize::MAX);
    let one_after_the_other = calls
        .windows(2)
        .all(|pair| tree.spans[pair[0]].end <= tree.spans[pair[1]].start);
    if !one_after_the_other {
        return Vec::new();
    }
    let failed = |&at: &usize| tree.spans[at].error;
    let rows: Vec<&[usize]> = calls
        .split_inclusive(|at| !failed(at))
        .filter(|row| row.len() > 1)
        .collect();
    let complete = rows.iter().all(|row| !row.last().is_some_and(failed));
    let one_thing = rows.len() == 1 && rows[0].len() == calls.len();
    let alike = rows.len() >= ROWS
        && rows
            .iter()
            .all(|row| row.len() > least && row.len() <= LONGEST_ROW + 1);
    if !complete || !(one_thing || alike) {
        return Vec::new();
    }
    let stormy = |row: &&[usize]| row.len() > least && !backs_off(tree, row);
    rows.into_iter().filter(stormy).collect()
}

fn pauses(tree: &OperationTree, row: &[usize]) -> impl Iterator<Item = f64> {
    row.windows(2).map(|pair| {
        let (one, next) = (&tree.spans[pair[0]], &tree.spans[pair[1]]);
        next.start.saturating_sub(one.end).0 as f64
    })
}

/// Whether the pauses leave the other side time to recover: they grow, or are longer than the attempts.
fn backs_off(tree: &OperationTree, row: &[usize]) -> bool {
    let count = (row.len() - 1) as f64;
    let failed = row[..row.len() - 1].iter();
    let attempt = failed
        .map(|&at| tree.spans[at].length().0 as f64)
        .sum::<f64>()
        / count;
    let pauses: Vec<f64> = pauses(tree, row).collect();
    let pause = pauses.iter().sum::<f64>() / count;
    let (first, last) = (pauses[0], pauses[pauses.len() - 1]);
    pause > 0.0 && (pause >= attempt || (pause >= PAUSE * attempt && last >= GROWTH * first))
}

fn found(evidence: &Evidence<'_>, site: SiteId, attempts: &Attempts<'_>) -> Option<Found> {
    let thresholds = &evidence.thresholds.work;
    let row = evidence.site(site)?;
    let parents = attempts.stormy / attempts.parents.max(f64::MIN_POSITIVE);
    if attempts.stormy == 0.0 || parents < thresholds.retry_parents_share {
        return None;
    }
    let saved = attempts.change.replayed(evidence, site)?;
    if saved.share < thresholds.retry_share {
        return None;
    }
    let mut finding = RULE.about(&row.site);
    let ceiling = attempts.change.ceiling(evidence, site, attempts.pauses);
    price(&mut finding, evidence, saved, None, ceiling);
    finding.confidence = Confidence::High;
    finding.evidence.extend([
        ("failed_attempts", attempts.failed),
        ("failed_ns", attempts.time),
        ("pauses_ns", attempts.pauses),
        ("parents_with_retries", attempts.stormy),
        ("parents", attempts.parents),
    ]);
    let name = row.site.name;
    let each = attempts.failed / attempts.stormy;
    let parent = attempts.parent.unwrap_or_default();
    let time = Nanos(attempts.time as u64);
    let lead = format!(
        "`{name}` failed {each:.1} times before it succeeded, in {} of {}",
        wording::percent(parents),
        wording::count(times(attempts.parents), "operation")
    );
    let gain = gain_words(&finding, evidence, "Succeeding at once");
    finding.message = format!(
        "{lead} `{parent}`: {time} went to failed attempts, with no pause that grows between them.{gain}"
    );
    finding.recommendation = format!(
        "Find out why the first `{name}` fails; that is the saving. Try again only what can succeed later, a few times, \
         and wait longer each time: attempts at once keep an overloaded service down. Afterwards failed attempts must be \
         rare among the calls of `{name}`."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("{lead} of `{parent}`; {time} went to failed attempts.");
    Some(Found { finding, lead })
}
