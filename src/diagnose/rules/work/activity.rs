//! Which sites ran on which threads at the same time, from trees that show the whole run.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::diagnose::evidence::{Evidence, Sampled};
use crate::model::{OperationTree, SiteId, TreeKind};

/// From this share of the roots' time on, trees show the whole run.
const ENOUGH: f64 = 0.9;

/// What the sites did while no other thread computed, and while others did.
#[derive(Debug, Default)]
pub(super) struct Activity {
    pub(super) of_site: BTreeMap<SiteId, OfSite>,
    /// For how long so many threads surely computed at the same time.
    pub(super) width: BTreeMap<u64, u64>,
}

/// How long one site was on top of a thread, in nanoseconds.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OfSite {
    pub(super) time: u64,
    /// No other thread was inside a span that computes or may do so.
    pub(super) alone: u64,
    /// It was on top of another thread too.
    pub(super) beside_itself: u64,
}

/// Whether a site computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Computes {
    Yes,
    No,
    Unknown,
}

impl Computes {
    pub(super) fn of(evidence: &Evidence<'_>, site: SiteId) -> Computes {
        let running = evidence.site(site).map(|row| evidence.running(&row.stats));
        match running {
            Some(Sampled::Enough(share, _)) if share >= evidence.thresholds.on_cpu_share => {
                Computes::Yes
            }
            Some(Sampled::Enough(..)) => Computes::No,
            _ => Computes::Unknown,
        }
    }
}

/// A part of a thread's time with one site on top.
#[derive(Debug, Clone, Copy)]
struct Segment {
    from: u64,
    to: u64,
    site: SiteId,
}

impl Activity {
    /// Returns what ran when; `None` where part of the run is in no tree.
    pub(super) fn of(evidence: &Evidence<'_>) -> Option<Activity> {
        let groups = &evidence.profile.trees;
        let complete = groups.iter().all(|group| {
            let kept: f64 = group.kept.iter().map(|kept| kept.open.0 as f64).sum();
            kept >= ENOUGH * group.wall.0 as f64
                && !group.kept.iter().any(|kept| kept.tree.truncated)
        });
        if groups.is_empty() || !complete {
            return None;
        }
        let mut threads: BTreeMap<u32, Vec<Segment>> = BTreeMap::new();
        for kept in groups.iter().flat_map(|group| &group.kept) {
            collect(&kept.tree, &mut threads);
        }
        let segments = threads.into_values().flat_map(on_top).collect();
        Some(sweep(evidence, segments))
    }
}

fn collect(tree: &OperationTree, threads: &mut BTreeMap<u32, Vec<Segment>>) {
    for span in &tree.spans {
        let mut push = |thread: u32, from: u64, to: u64| {
            if to > from {
                let site = span.site.id;
                threads
                    .entry(thread)
                    .or_default()
                    .push(Segment { from, to, site });
            }
        };
        if span.kind == TreeKind::Async {
            for poll in &span.activations {
                push(poll.thread, poll.begin.0, poll.end.0);
            }
        } else {
            push(span.thread, span.start.0, span.end.0);
        }
    }
}

/// Returns what was on top when, of what one thread was inside.
fn on_top(mut inside: Vec<Segment>) -> Vec<Segment> {
    inside.sort_by_key(|segment| (segment.from, Reverse(segment.to)));
    let mut top = Vec::with_capacity(inside.len() * 2);
    let mut open: Vec<Segment> = Vec::new();
    let mut at = 0;
    let mut until = |open: &mut Vec<Segment>, now: u64| {
        while let Some(&inner) = open.last() {
            let to = inner.to.min(now);
            if to > at {
                top.push(Segment {
                    from: at,
                    to,
                    ..inner
                });
                at = to;
            }
            if inner.to > now {
                break;
            }
            open.pop();
        }
        at = at.max(now);
    };
    for segment in inside {
        until(&mut open, segment.from);
        open.push(segment);
    }
    until(&mut open, u64::MAX);
    top
}

fn sweep(evidence: &Evidence<'_>, segments: Vec<Segment>) -> Activity {
    let mut computes: BTreeMap<SiteId, Computes> = BTreeMap::new();
    for segment in &segments {
        computes
            .entry(segment.site)
            .or_insert_with(|| Computes::of(evidence, segment.site));
    }
    // Ends come before beginnings at the same time.
    let mut changes: Vec<(u64, bool, SiteId)> = Vec::with_capacity(segments.len() * 2);
    for segment in &segments {
        changes.push((segment.from, true, segment.site));
        changes.push((segment.to, false, segment.site));
    }
    changes.sort_unstable();
    let mut activity = Activity::default();
    let mut running: BTreeMap<SiteId, u64> = BTreeMap::new();
    let mut before = 0;
    for (at, begins, site) in changes {
        let length = at - before;
        if length > 0 && !running.is_empty() {
            activity.note(&running, &computes, length);
        }
        before = at;
        let count = running.entry(site).or_default();
        match begins {
            true => *count += 1,
            false => *count = count.saturating_sub(1),
        }
        if *count == 0 {
            running.remove(&site);
        }
    }
    activity
}

impl Activity {
    fn note(
        &mut self,
        running: &BTreeMap<SiteId, u64>,
        computes: &BTreeMap<SiteId, Computes>,
        length: u64,
    ) {
        let of = |site: &SiteId| computes.get(site).copied().unwrap_or(Computes::Unknown);
        let count = |wanted: fn(Computes) -> bool| -> u64 {
            let sites = running.iter().filter(|(site, _)| wanted(of(site)));
            sites.map(|(_, count)| count).sum()
        };
        let surely = count(|computes| computes == Computes::Yes);
        let perhaps = count(|computes| computes != Computes::No);
        let width = self.width.entry(surely).or_default();
        *width = width.saturating_add(length);
        for (&site, &threads) in running {
            let times = self.of_site.entry(site).or_default();
            times.time = times.time.saturating_add(length.saturating_mul(threads));
            if perhaps == 1 && of(&site) != Computes::No {
                times.alone = times.alone.saturating_add(length);
            }
            if threads > 1 {
                times.beside_itself = times.beside_itself.saturating_add(length);
            }
        }
    }

    /// Returns for how long at least so many threads computed at the same time.
    pub(super) fn at_least(&self, threads: u64) -> u64 {
        let times = self.width.range(threads..).map(|(_, &time)| time);
        times.fold(0, u64::saturating_add)
    }
}
