//! From merged paths to the call tree and the sites.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::merge::Merged;
use crate::model::{CaptureSnapshot, CpuTime, PathId, TickScale};
use crate::model::{Nanos, PathStats, Site, SiteId, SiteStats, Stats};

/// What the layer itself costs, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    pub(super) span_ns: f64,
    pub(super) activation_ns: f64,
}

/// The tree and the sites, and what was counted on the way.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) paths: Vec<PathStats>,
    /// The number of each of `paths`.
    pub(super) path_ids: Vec<PathId>,
    pub(super) sites: Vec<SiteStats>,
    /// Spans, and activations beyond one per span.
    pub(super) spans: u64,
    pub(super) polls: u64,
}

/// Samples below which shares of on-CPU time say too little.
const MIN_SAMPLES: u64 = 20;

struct Builder<'a> {
    merged: &'a HashMap<PathId, Merged>,
    snapshot: &'a CaptureSnapshot,
    costs: Costs,
    children: HashMap<PathId, Vec<PathId>>,
    sites: HashMap<SiteId, PerSite>,
    built: Built,
}

/// One site over all its paths.
#[derive(Default)]
struct PerSite {
    merged: Merged,
    overhead: u64,
}

pub(super) fn build(
    merged: &HashMap<PathId, Merged>,
    snapshot: &CaptureSnapshot,
    costs: Costs,
) -> Built {
    let mut children: HashMap<PathId, Vec<PathId>> = HashMap::new();
    // From the leaves up, so that a path is kept where something below it was active.
    let mut kept = vec![false; snapshot.paths.nodes.len()];
    for (index, &(parent, _)) in snapshot.paths.nodes.iter().enumerate().skip(1).rev() {
        let path = PathId(index as u32);
        let active = merged
            .get(&path)
            .is_some_and(|merged| merged.activations > 0 || merged.open > 0 || merged.spans() > 0);
        if !active && !kept[index] {
            continue;
        }
        kept[parent.0 as usize] = true;
        children.entry(parent).or_default().push(path);
    }
    let busy = |path: &PathId| merged.get(path).map_or(0, |merged| merged.busy);
    for list in children.values_mut() {
        list.sort_by_key(|path| (std::cmp::Reverse(busy(path)), *path));
    }
    let mut builder = Builder {
        merged,
        snapshot,
        costs,
        children,
        sites: HashMap::new(),
        built: Built::default(),
    };
    builder.walk();
    builder.finish()
}

impl Builder<'_> {
    /// Visits the tree parent first, without recursion: paths may be as deep as the user allows.
    fn walk(&mut self) {
        let none = Merged::default();
        let roots = self.children.remove(&PathId::ROOT).unwrap_or_default();
        let mut pending: Vec<(PathId, Option<usize>, u32)> = roots
            .into_iter()
            .rev()
            .map(|root| (root, None, 0))
            .collect();
        // The sites from the root to the path under way.
        let mut chain: Vec<SiteId> = Vec::new();
        while let Some((path, parent, depth)) = pending.pop() {
            let below = self.children.remove(&path).unwrap_or_default();
            let site = self.site(path);
            let merged = self.merged.get(&path).unwrap_or(&none);
            let overhead = self.overhead_of(&below);
            chain.truncate(depth as usize);
            let outermost = !chain.contains(&site.id);
            chain.push(site.id);
            let per_site = self.sites.entry(site.id).or_default();
            per_site.merged.absorb(merged);
            per_site.overhead += overhead;
            if outermost {
                per_site.merged.busy += merged.busy;
            }
            self.built.spans += merged.spans();
            self.built.polls += merged.activations.saturating_sub(merged.spans());
            let index = self.built.paths.len();
            let stats = stats(merged, overhead, self.snapshot.scale);
            self.built.path_ids.push(path);
            self.built
                .paths
                .push(PathStats::new(parent, depth, site, stats));
            pending.extend(
                below
                    .into_iter()
                    .rev()
                    .map(|child| (child, Some(index), depth + 1)),
            );
        }
    }

    fn site(&self, path: PathId) -> Arc<Site> {
        let table = &self.snapshot.paths.nodes;
        let known = table
            .get(path.0 as usize)
            .and_then(|(_, site)| self.snapshot.sites.get(site.0 as usize));
        known.map_or_else(|| Arc::new(Site::other()), Arc::clone)
    }

    /// What the layer cost its users inside a path: the spans entered directly below, in nanoseconds.
    fn overhead_of(&self, children: &[PathId]) -> u64 {
        let cost = |merged: &Merged| {
            // An activation with nothing around it runs on another thread and costs this path nothing.
            let inside = merged.activations.saturating_sub(merged.detached);
            let spans = merged.spans().min(inside);
            spans as f64 * self.costs.span_ns + (inside - spans) as f64 * self.costs.activation_ns
        };
        let all = children.iter().filter_map(|child| self.merged.get(child));
        all.map(cost).sum::<f64>() as u64
    }

    fn finish(mut self) -> Built {
        let scale = self.snapshot.scale;
        for (id, per_site) in self.sites {
            let site = self.snapshot.sites.get(id.0 as usize);
            let site = site.map_or_else(|| Arc::new(Site::other()), Arc::clone);
            let merged = &per_site.merged;
            let mut row = SiteStats::new(site, stats(merged, per_site.overhead, scale));
            row.threads = u32::try_from(merged.self_by_thread.len()).unwrap_or(u32::MAX);
            let most = merged.self_by_thread.values().copied().max();
            row.self_max_thread = scale.length(most.unwrap_or(0)).min(row.stats.self_time);
            row.open_root_activations = merged.open_root_activations;
            self.built.sites.push(row);
        }
        self.built.sites.sort_by(|a, b| {
            let key = |row: &SiteStats| (std::cmp::Reverse(row.stats.self_time), row.site.id);
            key(a).cmp(&key(b))
        });
        self.built
    }
}

fn stats(merged: &Merged, overhead_ns: u64, scale: TickScale) -> Stats {
    let own = scale.length(merged.self_time);
    // Calibration runs in a tight loop and may exceed what a very short parent has.
    let overhead = Nanos(overhead_ns).min(own);
    Stats {
        calls: merged.calls(),
        spans: merged.spans(),
        activations: merged.activations,
        errors: merged.errors,
        open: merged.open,
        busy: scale.length(merged.busy),
        self_time: own.saturating_sub(overhead),
        overhead,
        idle: merged.latency.as_ref().map(|_| scale.length(merged.idle)),
        activation: merged.activation.distribution(scale),
        latency: merged
            .latency
            .as_ref()
            .map(|latency| latency.distribution(scale)),
        first: merged.first().map(|first| scale.length(first)),
        on_cpu: merged.on_cpu,
        cpu: merged.cpu.map(|cpu| {
            let self_time = scale.length(cpu.self_ticks);
            CpuTime::new(cpu.activations, self_time, Nanos(cpu.self_cpu))
        }),
        ..Stats::default()
    }
}

/// Returns the sites whose spans are async.
pub(super) fn async_sites(sites: &[SiteStats]) -> BTreeSet<SiteId> {
    sites
        .iter()
        .filter(|row| row.stats.is_async())
        .map(|row| row.site.id)
        .collect()
}

/// Estimates how much of the time inside spans the threads were off the CPU.
pub(super) fn waiting(sites: &[SiteStats]) -> Option<Nanos> {
    let sampled = sites
        .iter()
        .filter_map(|row| Some((row.stats.self_time, row.stats.on_cpu?)));
    let mut samples = 0;
    let mut waiting = 0.0;
    for (own, seen) in sampled {
        samples += seen.samples;
        waiting += own.0 as f64 * (1.0 - seen.share());
    }
    (samples >= MIN_SAMPLES).then_some(Nanos(waiting as u64))
}
