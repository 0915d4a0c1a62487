//! How long the diagnosis of a large profile takes, and how much memory.
//!
//! `cargo bench --bench diagnose` prints both for 1,000 sites, 50,000 call paths and 10,000 sampled trees of 50 operations.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot measure has to stop, and it exists to print"
)]

use std::sync::Arc;
use std::time::Instant;

use tracing_cortex::{
    KeptTree, Nanos, OnCpu, OperationTree, PathStats, Profile, RootTrees, Site, SiteId, SiteStats,
    Stats, ThreadStats, Thresholds, TreeSpan, diagnose,
};

const SITES: usize = 1_000;
const PATHS: usize = 50_000;
const TREES: usize = 10_000;
const SPANS_PER_TREE: u32 = 50;
/// Sites of which roots are.
const ROOT_SITES: usize = 400;
const ROUNDS: usize = 5;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing to test; measure with: cargo bench --bench diagnose");
        return;
    }
    let before = resident_bytes();
    let profile = profile();
    let with_profile = resident_bytes();
    let thresholds = Thresholds::default();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            let diagnosis = diagnose(&profile, &thresholds);
            let took = begin.elapsed().as_secs_f64();
            assert!(diagnosis.critical_path.is_some());
            took
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{SITES} sites, {PATHS} call paths, {TREES} trees of {SPANS_PER_TREE} operations");
    println!(
        "diagnosis: {:.0} ms (median of {ROUNDS})",
        times[ROUNDS / 2] * 1e3
    );
    if let (Some(before), Some(profile), Some(after)) = (before, with_profile, resident_bytes()) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "memory: {:.0} MiB for the profile, {:.0} MiB more for the diagnosis",
            mib(profile.saturating_sub(before)),
            mib(after.saturating_sub(profile))
        );
    }
}

fn profile() -> Profile {
    let mut random = Random(7);
    let sites: Vec<Arc<Site>> = (1..=SITES as u32)
        .map(|id| {
            Arc::new(Site::new(
                SiteId(id),
                "work",
                "app",
                Some("src/app.rs"),
                Some(id),
            ))
        })
        .collect();
    let mut profile = Profile::default();
    let wall = 100_000_000_000;
    for at in 0..PATHS {
        let parent = (at >= ROOT_SITES).then(|| random.below(at as u64) as usize);
        let site = match parent {
            None => &sites[at],
            Some(_) => &sites[random.below(SITES as u64) as usize],
        };
        let depth = parent.map_or(0, |parent| profile.paths[parent].depth + 1);
        let stats = stats(if parent.is_none() {
            wall / ROOT_SITES as u64
        } else {
            1_000_000
        });
        profile
            .paths
            .push(PathStats::new(parent, depth, Arc::clone(site), stats));
    }
    for site in &sites {
        profile
            .sites
            .push(SiteStats::new(Arc::clone(site), stats(wall / SITES as u64)));
    }
    for group in 0..ROOT_SITES {
        let kept =
            (0..TREES / ROOT_SITES).map(|_| KeptTree::sampled(tree(group, &sites, &mut random)));
        let mut trees = RootTrees::new(Arc::clone(&sites[group]), kept.collect());
        trees.wall = Nanos(wall / ROOT_SITES as u64);
        profile.trees.push(trees);
    }
    profile.wall = Nanos(wall);
    profile.split.busy = Nanos(2 * wall);
    for _ in 0..2 {
        let mut thread = ThreadStats::default();
        (thread.threads, thread.observed, thread.busy) = (1, Nanos(wall), Nanos(wall));
        profile.threads.push(thread);
    }
    profile
}

fn stats(busy: u64) -> Stats {
    let mut stats = Stats::default();
    (stats.calls, stats.spans, stats.activations) = (100, 100, 100);
    (stats.busy, stats.self_time) = (Nanos(busy), Nanos(busy));
    stats.on_cpu = Some(OnCpu::new(100, 100));
    stats
}

fn tree(group: usize, sites: &[Arc<Site>], random: &mut Random) -> OperationTree {
    let mut spans = vec![TreeSpan::new(
        Arc::clone(&sites[group]),
        None,
        Nanos(0),
        Nanos(1_000_000),
    )];
    let mut starts: Vec<u64> = (1..SPANS_PER_TREE).map(|_| random.below(900_000)).collect();
    starts.sort_unstable();
    for (at, start) in starts.into_iter().enumerate() {
        let parent = random.below(at as u64 + 1) as u32;
        let site = (group + random.below(20) as usize) % SITES;
        let end = start + random.below(100_000);
        let site = Arc::clone(&sites[site]);
        spans.push(TreeSpan::new(site, Some(parent), Nanos(start), Nanos(end)));
    }
    OperationTree::new(spans)
}

/// Linux only.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
