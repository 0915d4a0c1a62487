//! CTX103: waits that may have nothing to do with each other are awaited one after the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::board::{Board, Found, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::flag;
use crate::diagnose::replay::Replayed;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, Nanos, OperationTree, Severity, SiteId, SiteStats};

use super::serial_runs::{self, Run};
use super::tree;

pub(super) const RULE: Rule = Rule {
    id: "CTX103",
    name: "serial-awaits",
    healthy: "no awaits in a row that could run side by side",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
let (user, cart, ads) = tokio::try_join!(get_user(id), get_cart(id), get_ads(id))?;
// in a loop: stream::iter(ids).map(fetch).buffered(8)
";

/// Rules that know more of what is awaited: the same query or request again and again, commits, retries, batches.
const OWNED_BY: [&str; 5] = ["CTX410", "CTX421", "CTX403", "CTX009", "CTX004"];

/// What is awaited where, in which order.
type Key = (SiteId, Vec<SiteId>);

/// All runs of one key.
#[derive(Debug, Default)]
struct Seen {
    /// Parents that have such runs, and how long they took.
    parents: BTreeSet<(usize, usize)>,
    wall: Nanos,
    /// Groups, of which a loop has many in one parent.
    groups: u64,
    /// Groups, or rounds of loops over one site.
    rounds: u64,
    repeated: bool,
    saved: Nanos,
    /// What all but the longest of a group takes, and the longest.
    summed: Nanos,
    longest: Nanos,
    dependent: u64,
    independent: u64,
}

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome {
        looked: evidence.trees().next().is_some(),
        ..Outcome::default()
    };
    let mut seen: BTreeMap<Key, Seen> = BTreeMap::new();
    for (at, weighted) in evidence.trees().enumerate() {
        for run in serial_runs::of(weighted.tree, &evidence.thresholds.tasks) {
            let parent = &weighted.tree.spans[run.parent];
            let known = seen
                .entry((parent.site.id, run.pattern.clone()))
                .or_default();
            if known.parents.insert((at, run.parent)) {
                known.wall = known.wall.saturating_add(parent.length());
            }
            known.add(weighted.tree, &run);
        }
    }
    let orders = orders(&seen);
    for (key, of_key) in &seen {
        let (all, swapped) = orders[&set(key)];
        if let Some(found) = judge(evidence, board, key, of_key, all, swapped) {
            outcome.found.push(found);
        }
    }
    outcome
}

impl Seen {
    fn add(&mut self, tree: &OperationTree, run: &Run) {
        self.repeated |= run.repeats;
        for group in &run.groups {
            self.groups += 1;
            self.rounds += match run.pattern.len() {
                1 => group.len() as u64,
                _ => 1,
            };
            let lengths = group.iter().map(|&at| tree.spans[at].length());
            let sum: Nanos = lengths.clone().sum();
            let longest = lengths.max().unwrap_or_default();
            self.summed = self.summed.saturating_add(sum);
            self.longest = self.longest.saturating_add(longest);
            self.saved = self.saved.saturating_add(sum.saturating_sub(longest));
        }
        let says = |at: usize| flag(&tree.spans[at], "cortex.independent") == Some(true);
        let all = run.groups.iter().flatten().all(|&at| says(at));
        match all || says(run.parent) {
            true => self.independent += 1,
            false => self.dependent += 1,
        }
    }

    fn is_independent(&self) -> bool {
        self.independent > 0 && self.dependent == 0
    }
}

/// The sites of a key without their order.
fn set((parent, pattern): &Key) -> Key {
    let mut sites = pattern.clone();
    sites.sort_unstable();
    (*parent, sites)
}

/// Counts the parents for each set of sites, and in how many orders they come.
fn orders(seen: &BTreeMap<Key, Seen>) -> BTreeMap<Key, (usize, usize)> {
    let mut orders: BTreeMap<Key, (usize, usize)> = BTreeMap::new();
    for (key, of_key) in seen {
        let order = orders.entry(set(key)).or_default();
        order.0 += of_key.parents.len();
        order.1 += 1;
    }
    orders
}

fn judge(
    evidence: &Evidence<'_>,
    board: &Board,
    key: &Key,
    seen: &Seen,
    parents_of_set: usize,
    orders: usize,
) -> Option<Found> {
    let thresholds = &evidence.thresholds.tasks;
    let stable = seen.parents.len() as f64 >= thresholds.serial_stable * parents_of_set as f64;
    let worth = seen.saved.share_of(seen.wall) >= thresholds.serial_saving;
    if seen.rounds < thresholds.serial_repeats || !stable || !worth {
        return None;
    }
    let parent = evidence.site(key.0)?;
    let members: Option<Vec<&SiteStats>> = key.1.iter().map(|&site| evidence.site(site)).collect();
    let members = members?;
    let is_owned = |row: &SiteStats| OWNED_BY.iter().any(|rule| board.has(rule, row.site.name));
    if is_owned(parent) || members.iter().any(|row| is_owned(row)) {
        return None;
    }
    let replayed = evidence.changed(u64::from(key.0.0), |tree, scales| {
        for run in serial_runs::of(tree, thresholds) {
            if tree.spans[run.parent].site.id == key.0 && run.pattern == key.1 {
                remove_all_but_longest(tree, &run, scales);
            }
        }
    })?;
    (replayed.share >= super::LEAST_SAVING)
        .then(|| found(evidence, parent, &members, seen, replayed, orders > 1))
}

/// Takes out the subtrees of all but the longest of each group.
fn remove_all_but_longest(tree: &OperationTree, run: &Run, scales: &mut [f64]) {
    let mut gone = vec![false; tree.spans.len()];
    for group in &run.groups {
        let longest = group
            .iter()
            .copied()
            .max_by_key(|&at| (tree.spans[at].length(), std::cmp::Reverse(at)));
        for &at in group.iter().filter(|&&at| Some(at) != longest) {
            gone[at] = true;
        }
    }
    for (index, span) in tree.spans.iter().enumerate() {
        gone[index] |= tree::parent(span, index).is_some_and(|parent| gone[parent]);
        if gone[index] {
            scales[index] = 0.0;
        }
    }
}

fn found(
    evidence: &Evidence<'_>,
    parent: &SiteStats,
    members: &[&SiteStats],
    seen: &Seen,
    replayed: Replayed,
    swapped: bool,
) -> Found {
    let thresholds = &evidence.thresholds.tasks;
    let mut finding = RULE.about(&parent.site);
    let independent = seen.is_independent();
    let severity = ladder(replayed.share, evidence.thresholds);
    // A trace does not show which result the next call needs.
    finding.severity = match independent {
        true => severity,
        false => severity.min(Severity::Medium),
    };
    finding.confidence = match (independent, swapped) {
        (true, _) => Confidence::High,
        (false, true) => Confidence::Medium,
        (false, false) => Confidence::Low,
    };
    finding.saving = Some(replayed.share);
    finding.share = Some(replayed.share);
    finding.gain.low = super::factor(replayed.low);
    finding.gain.likely = super::factor(replayed.share);
    finding.gain.bound = evidence.cannot_beat(&replayed, 0.0);
    let groups = seen.groups.max(1);
    let (sum, longest) = (
        Nanos(seen.summed.0 / groups),
        Nanos(seen.longest.0 / groups),
    );
    finding.evidence = BTreeMap::from([
        ("parents", seen.parents.len() as f64),
        ("groups", seen.groups as f64),
        ("sum_ns", sum.0 as f64),
        ("longest_ns", longest.0 as f64),
        ("replayed_saving", replayed.share),
        ("replayed_saving_low", replayed.low),
        ("replayed_saving_high", replayed.high),
        ("replayed_trees", evidence.replay_trees().0 as f64),
        ("known_independent", f64::from(u8::from(independent))),
    ]);
    let site = parent.site.name;
    let names = names(members);
    let in_a_loop = members.len() == 1;
    let lead = match (in_a_loop, seen.repeated) {
        (true, _) => format!(
            "`{site}` awaits {names} in a loop, one after the other ({sum} for {} rounds).",
            thresholds.serial_batch
        ),
        (false, true) => {
            format!("`{site}` awaits {names} one after the other in each round of a loop ({sum}).")
        }
        (false, false) => format!("`{site}` awaits {names} one after the other ({sum})."),
    };
    let condition = match independent {
        true => "They are marked as independent: together they take",
        false => "If they do not need each other's result, run them together:",
    };
    finding.message = format!(
        "{lead} {condition} {longest}. Seen {} in {}; without that wait {} of {} would vanish{}.",
        wording::count(seen.groups, "time"),
        wording::count(seen.parents.len() as u64, "parent"),
        wording::percent(replayed.share),
        evidence.whole.words(),
        evidence.replayed_words()
    );
    let how = match in_a_loop {
        true => format!("`buffered({})`", thresholds.serial_batch),
        false => "`tokio::join!` or `try_join!`".to_owned(),
    };
    finding.recommendation = format!(
        "Run them together with {how}, after a look at whether one needs what another returns or changes: a trace does \
         not show it. Mark the spans with `cortex.independent` to say so. Compare the latency of `{site}` before and after."
    );
    finding.example = EXAMPLE.to_owned();
    Found { finding, lead }
}

/// Lists the first sites of a pattern.
fn names(members: &[&SiteStats]) -> String {
    const SHOWN: usize = 4;
    let names: Vec<String> = members
        .iter()
        .take(SHOWN)
        .map(|row| format!("`{}`", row.site.name))
        .collect();
    match members.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", names.join(", ")),
        _ => names.join(", "),
    }
}
