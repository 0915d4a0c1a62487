//! CTX203: threads share work, and all wait for the one that got most of it.

use std::collections::BTreeMap;

use super::tree_parts::{Change, Siblings, gain_words, is_explained, price};
use crate::diagnose::board::{Board, Found, Outcome, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::fields::{self, Kind};
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::statistics::median;
use crate::diagnose::wording;
use crate::model::{
    Confidence, KeptTree, Nanos, OperationTree, RootTrees, SiteId, SiteStats, TreeKind, TreeSpan,
};

pub(super) const RULE: Rule = Rule {
    id: "CTX203",
    name: "thread-imbalance",
    healthy: "threads share the work evenly",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
use rayon::prelude::*;
items.par_iter().with_max_len(1).for_each(work); // idle workers take what is left
";

/// What the other threads did must mostly have been done beside the busiest: else a task only moved between threads.
const BESIDE: f64 = 0.5;

/// Threads that begin within this part of a region were started together.
const TOGETHER: f64 = 0.1;

/// What one thread did in a region, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct OfThread {
    busy: f64,
    longest: f64,
    items: u64,
    first: u64,
}

/// One time in which several threads shared work of one site.
#[derive(Debug)]
struct Region {
    threads: BTreeMap<u32, OfThread>,
    length: f64,
    from: u64,
    overlap: f64,
}

/// All regions of one site inside parents of one site; `None` for work that is in no span of another thread.
#[derive(Debug, Default)]
struct Regions<'a> {
    parent: Option<&'a str>,
    count: f64,
    longest: f64,
    imbalances: Vec<f64>,
    busiest: f64,
    mean: f64,
    saved: f64,
    length: f64,
    threads: usize,
    balanced: Change,
    removed: Change,
}

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let mut outcome = Outcome::default();
    let mut sites: BTreeMap<(SiteId, Option<SiteId>), Regions<'_>> = BTreeMap::new();
    for weighted in evidence.trees() {
        let tree = weighted.tree;
        let thread = tree.spans.first().map(|root| root.thread);
        if tree.spans.iter().all(|span| Some(span.thread) == thread) {
            continue;
        }
        for (around, children) in Siblings::of(tree).families() {
            let mut by_site: BTreeMap<SiteId, Vec<usize>> = BTreeMap::new();
            for &child in children.iter().filter(|&&at| computes(&tree.spans[at])) {
                let site = tree.spans[child].site.id;
                by_site.entry(site).or_default().push(child);
            }
            for (site, items) in by_site {
                let region = Region::of(items.iter().map(|&at| &tree.spans[at]));
                let Some(region) = region.filter(|region| region.is_shared(evidence)) else {
                    continue;
                };
                let around = &tree.spans[around].site;
                let regions = sites.entry((site, Some(around.id))).or_default();
                regions.parent = Some(around.name);
                regions.note(&region, weighted.roots);
                let target = region.target();
                for at in items {
                    let thread = region.threads.get(&tree.spans[at].thread);
                    let scale = thread.map_or(1.0, |thread| target / thread.busy.max(1.0));
                    regions.balanced.scale(tree, at, scale.min(1.0));
                    regions.removed.scale(tree, at, 0.0);
                }
            }
        }
    }
    for group in &evidence.profile.trees {
        for region in of_roots(group) {
            if region.is_shared(evidence) && region.is_started_together() {
                sites
                    .entry((group.site.id, None))
                    .or_default()
                    .note(&region, 1.0);
            }
        }
    }
    for ((site, _), regions) in &sites {
        outcome.looked = true;
        let explained = |row: &SiteStats| is_explained(evidence, board, row);
        if regions.is_uneven(evidence)
            && !evidence.site(*site).is_some_and(explained)
            && let Some(found) = found(evidence, *site, regions)
        {
            let removed = match regions.parent {
                Some(_) => &regions.removed,
                None => &roots_of(evidence, *site),
            };
            outcome.claims.extend(removed.claims(evidence));
            outcome.found.push(found);
        }
    }
    outcome
}

/// Whether a span was inside one thread from start to end, and no other rule knows better what for.
fn computes(span: &TreeSpan) -> bool {
    span.kind == TreeKind::Plain
        && !span.unfinished
        && matches!(fields::kind(span), None | Some(Kind::Cpu | Kind::Other))
}

/// Returns the times in which roots of one site ran on several threads: programs that start threads seldom tell them what
/// they are part of.
fn of_roots(group: &RootTrees) -> Vec<Region> {
    let complete = group.kept.len() as u64 >= group.roots;
    let roots = group
        .kept
        .iter()
        .filter_map(|KeptTree { tree, .. }: &KeptTree| root(tree));
    let mut roots: Vec<&TreeSpan> = roots.collect();
    if !complete || roots.len() < group.kept.len() || roots.iter().any(|root| !computes(root)) {
        return Vec::new();
    }
    roots.sort_by_key(|root| (root.start, root.end));
    let mut regions = Vec::new();
    let mut from = 0;
    let mut reached = Nanos::ZERO;
    for at in 0..=roots.len() {
        if at > from && roots.get(at).is_none_or(|root| root.start >= reached) {
            regions.extend(Region::of(roots[from..at].iter().copied()));
            from = at;
        }
        reached = roots.get(at).map_or(reached, |root| reached.max(root.end));
    }
    regions
}

/// Returns the change in which no root of a site takes any time.
fn roots_of(evidence: &Evidence<'_>, site: SiteId) -> Change {
    let mut removed = Change::default();
    for weighted in evidence.trees() {
        if root(weighted.tree).is_some_and(|root| root.site.id == site) {
            removed.scale(weighted.tree, 0, 0.0);
        }
    }
    removed
}

fn root(tree: &OperationTree) -> Option<&TreeSpan> {
    tree.spans.first()
}

impl Region {
    /// Returns the region of these items, which come by their start; `None` if one thread did all.
    fn of<'s>(items: impl Iterator<Item = &'s TreeSpan>) -> Option<Region> {
        let mut threads: BTreeMap<u32, OfThread> = BTreeMap::new();
        let (mut from, mut reached, mut overlap) = (None, 0, 0.0);
        for item in items {
            let busy = item.length().0 as f64;
            let first = item.start.0;
            let thread = threads.entry(item.thread).or_insert(OfThread {
                first,
                ..OfThread::default()
            });
            thread.busy += busy;
            thread.longest = thread.longest.max(busy);
            thread.items += 1;
            from.get_or_insert(first);
            overlap += item.end.0.min(reached).saturating_sub(first) as f64;
            reached = reached.max(item.end.0);
        }
        let from = from?;
        (threads.len() > 1).then_some(Region {
            threads,
            length: u64::saturating_sub(reached, from) as f64,
            from,
            overlap,
        })
    }

    fn busiest(&self) -> f64 {
        self.threads
            .values()
            .map(|thread| thread.busy)
            .fold(0.0, f64::max)
    }

    fn sum(&self) -> f64 {
        self.threads.values().map(|thread| thread.busy).sum()
    }

    fn mean(&self) -> f64 {
        self.sum() / self.threads.len() as f64
    }

    /// Whether it is long enough and the threads worked at the same time.
    fn is_shared(&self, evidence: &Evidence<'_>) -> bool {
        let least = Nanos::from(evidence.thresholds.work.imbalance_region).0 as f64;
        let others = self.sum() - self.busiest();
        self.length >= least && others > 0.0 && self.overlap >= BESIDE * others
    }

    fn is_started_together(&self) -> bool {
        let latest = self.threads.values().map(|thread| thread.first).max();
        latest
            .is_some_and(|latest| latest.saturating_sub(self.from) as f64 <= TOGETHER * self.length)
    }

    /// Returns how long the busiest thread would be with the work spread evenly; an item among several stays whole.
    fn target(&self) -> f64 {
        let one_each = self.threads.values().all(|thread| thread.items == 1);
        let longest = self.threads.values().map(|thread| thread.longest);
        match one_each {
            true => self.mean(),
            false => longest.fold(self.mean(), f64::max),
        }
    }
}

impl Regions<'_> {
    fn note(&mut self, region: &Region, roots: f64) {
        let (busiest, mean) = (region.busiest(), region.mean());
        self.count += roots;
        self.longest = self.longest.max(region.length);
        self.imbalances.push(busiest / mean.max(1.0) - 1.0);
        self.busiest += busiest * roots;
        self.mean += mean * roots;
        self.saved += (busiest - region.target()).max(0.0) * roots;
        self.length += region.length * roots;
        self.threads = self.threads.max(region.threads.len());
    }

    fn is_uneven(&self, evidence: &Evidence<'_>) -> bool {
        let thresholds = &evidence.thresholds.work;
        let long = Nanos::from(evidence.thresholds.long_call).0 as f64;
        let enough =
            self.count.round() >= thresholds.imbalance_regions as f64 || self.longest >= long;
        let usual = median(&self.imbalances).unwrap_or(0.0);
        let sum = self.busiest / self.mean.max(1.0) - 1.0;
        enough && usual.min(sum) >= thresholds.imbalance
    }
}

fn found(evidence: &Evidence<'_>, site: SiteId, regions: &Regions<'_>) -> Option<Found> {
    let row = evidence.site(site)?;
    let mut finding = RULE.about(&row.site);
    let least = evidence.thresholds.work.imbalance_share;
    if regions.parent.is_some() {
        let balanced = regions.balanced.replayed(evidence, site)?;
        if balanced.share < least {
            return None;
        }
        let ceiling = regions.removed.ceiling(evidence, site, 0.0);
        price(&mut finding, evidence, balanced, Some(balanced), ceiling);
    } else {
        // No tree has all threads, so that what waits for them is unknown.
        let saved = Nanos(regions.saved as u64);
        let share = saved.share_of(evidence.profile.wall);
        if !(least..1.0).contains(&share) {
            return None;
        }
        finding.share = Some(share);
        finding.severity = ladder(share, evidence.thresholds);
        finding.gain.bound = evidence.ceiling(Nanos(regions.length as u64));
        let bounded = finding.gain.bound.is_some();
        finding.gain.likely = bounded.then(|| 1.0 / (1.0 - share));
    }
    finding.confidence = Confidence::Medium;
    let above = regions.busiest / regions.mean.max(1.0) - 1.0;
    finding.evidence.extend([
        ("imbalance", above),
        ("regions", regions.count),
        ("threads", regions.threads as f64),
        ("busiest_thread_ns", regions.busiest),
        ("mean_thread_ns", regions.mean),
        ("balance_saves_ns", regions.saved),
    ]);
    let name = row.site.name;
    let whose = regions
        .parent
        .map_or(String::new(), |parent| format!(" inside `{parent}`"));
    let (busiest, mean) = (
        Nanos((regions.busiest / regions.count.max(1.0)) as u64),
        Nanos((regions.mean / regions.count.max(1.0)) as u64),
    );
    let idle = wording::percent((1.0 - regions.mean / regions.busiest.max(1.0)).max(0.0));
    let facts = format!(
        "`{name}`{whose} keeps one of {} threads busy for {busiest} where the mean is {mean}",
        regions.threads
    );
    let gain = match regions.parent {
        Some(_) => gain_words(&finding, evidence, "Even shares"),
        None => match finding.gain.likely {
            Some(likely) => format!(" Even shares make it about {}.", wording::factor(likely)),
            None => String::new(),
        },
    };
    let times = wording::count(regions.count.round() as u64, "time");
    finding.message =
        format!("{facts} ({times}): the others have nothing to do for {idle} of that.{gain}");
    finding.recommendation = format!(
        "Hand `{name}` out in smaller parts that threads take when they are free, instead of one fixed part for each; put \
         the largest parts first. Parts should take 50 us or more, and if a single one is that long, split it. Afterwards \
         the threads must end at nearly the same time."
    );
    finding.example = EXAMPLE.to_owned();
    let lead = format!("{facts}: the others wait for {idle} of that.");
    Some(Found { finding, lead })
}
