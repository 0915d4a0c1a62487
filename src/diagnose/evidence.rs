//! The profile as the rules look at it: what a share is a share of, who is whose child, who computed and who waited.

use std::collections::HashSet;

use crate::diagnose::calls::Calls;
use crate::diagnose::replay::{Replay, Replayed, Weighted};
use crate::diagnose::thresholds::Thresholds;
use crate::diagnose::wording;
use crate::model::{
    CpuTime, Nanos, OnCpu, OperationTree, PathStats, Profile, Site, SiteId, SiteStats, Stats,
};

/// What self time is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One thread ran spans: the wall time.
    Wall(Nanos),
    /// Several did, but on average at most one at a time was busy: the wall time, and how many they were.
    Turns(Nanos, u64),
    /// Several did at the same time: their time inside spans, and how many they were.
    ///
    /// Their time between spans is left out: it grows with every thread of a pool that has nothing to do.
    Busy(Nanos, u64),
}

/// What latencies and subtrees are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Roots that hardly overlap: the wall time.
    Wall(Nanos),
    /// A service's roots: the sum of their latencies.
    Roots(Nanos),
}

/// What the samples say about a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sampled {
    /// The share of samples that were running, and how many samples there were.
    Enough(f64, u64),
    /// Too few samples to tell.
    TooFew(u64),
}

/// With less than this share of the CPU time that its threads could have used, a process went short.
const ENOUGH_CPU: f64 = 0.8;

#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) scope: Scope,
    pub(crate) whole: Whole,
    /// The sampled trees, where there are enough of them.
    pub(crate) replay: Option<Replay<'a>>,
    /// What the trees asked databases, files and other programs for.
    pub(crate) calls: Calls<'a>,
    children: Vec<Vec<usize>>,
    async_sites: HashSet<SiteId>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(profile: &'a Profile, thresholds: &'a Thresholds) -> Evidence<'a> {
        let mut children = vec![Vec::new(); profile.paths.len()];
        for index in 0..profile.paths.len() {
            if let Some(parent) = parent(profile, index) {
                children[parent].push(index);
            }
        }
        let async_sites = profile
            .sites
            .iter()
            .filter(|row| row.stats.is_async())
            .map(|row| row.site.id)
            .collect();
        let replay = Replay::of(profile, roots(profile));
        Evidence {
            profile,
            thresholds,
            scope: scope(profile),
            whole: whole(profile, thresholds),
            calls: Calls::of(replay.iter().flat_map(Replay::trees)),
            replay,
            children,
            async_sites,
        }
    }

    /// The callsites, without the row that stands for everything beyond the limits.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &'a SiteStats> {
        self.profile
            .sites
            .iter()
            .filter(|row| row.site.id != SiteId::OTHER)
    }

    pub(crate) fn site(&self, id: SiteId) -> Option<&'a SiteStats> {
        self.sites().find(|row| row.site.id == id)
    }

    /// Returns the callsite, which only the trees know where its operations were made out of events.
    pub(crate) fn site_of(&self, id: SiteId) -> Option<&Site> {
        let row = self.site(id).map(|row| &*row.site);
        row.or_else(|| {
            let mut made = self.calls.shapes.iter().map(|shape| &*shape.site);
            made.find(|site| site.id == id)
        })
    }

    pub(crate) fn is_async(&self, id: SiteId) -> bool {
        self.async_sites.contains(&id)
    }

    pub(crate) fn path(&self, index: usize) -> &'a PathStats {
        &self.profile.paths[index]
    }

    pub(crate) fn parent(&self, index: usize) -> Option<usize> {
        parent(self.profile, index)
    }

    pub(crate) fn children(&self, index: usize) -> &[usize] {
        &self.children[index]
    }

    /// Whether any span of `inner` ran below a span of `outer`.
    pub(crate) fn is_below(&self, inner: SiteId, outer: SiteId) -> bool {
        (0..self.profile.paths.len())
            .filter(|&index| self.path(index).site.id == inner)
            .any(|index| {
                std::iter::successors(self.parent(index), |&above| self.parent(above))
                    .any(|above| self.path(above).site.id == outer)
            })
    }

    /// Whether the run was too short to be judged.
    pub(crate) fn too_short(&self) -> bool {
        self.profile.wall < Nanos::from(self.thresholds.min_run)
    }

    /// Whether all spans ran on one thread and none waited: then what a site saves, the program saves.
    pub(crate) fn is_sequential(&self) -> bool {
        matches!(self.scope, Scope::Wall(_))
            && self
                .profile
                .sites
                .iter()
                .all(|row| row.stats.idle.is_none_or(|idle| idle == Nanos::ZERO))
    }

    /// Returns what would vanish if a site's own time were multiplied by `scale`; `None` without enough trees, or where
    /// the site is in none of them.
    pub(crate) fn replayed(&self, site: SiteId, scale: f64) -> Option<Replayed> {
        let replayed = self.replay.as_ref()?.site(site, scale);
        replayed.applies.then_some(replayed)
    }

    /// Returns what would vanish with each operation's own time scaled as [`Replay::change`] says; `None` without enough
    /// trees, or where nothing changes in any of them.
    pub(crate) fn changed(
        &self,
        seed: u64,
        change: impl Fn(&OperationTree, &mut [f64]),
    ) -> Option<Replayed> {
        let replayed = self.replay.as_ref()?.change(seed, change);
        replayed.applies.then_some(replayed)
    }

    /// Returns the whole sampled trees, none if they stand for too little of the time.
    pub(crate) fn trees(&self) -> impl Iterator<Item = Weighted<'a>> {
        self.replay.iter().flat_map(Replay::trees)
    }

    /// Returns how many trees are replayed, and for how many roots they stand.
    pub(crate) fn replay_trees(&self) -> (u64, u64) {
        self.replay.as_ref().map_or((0, 0), Replay::trees_and_roots)
    }

    /// Continues a sentence that names what a replay says.
    pub(crate) fn replayed_words(&self) -> String {
        let (trees, roots) = self.replay_trees();
        if trees == roots {
            format!(" or more, replayed on {}", wording::count(roots, "root"))
        } else {
            format!(
                " or more, replayed on {trees} of {}",
                wording::count(roots, "root")
            )
        }
    }

    /// Returns self time as a share of [`Evidence::scope`].
    pub(crate) fn share(&self, length: Nanos) -> f64 {
        length.share_of(self.scope.length()).min(1.0)
    }

    /// Returns the factor that removing `active` can never beat; `None` if there is no finite one.
    ///
    /// `active` is a sum over threads, never below the time in which at least one thread was active; that much wall
    /// time is the most that can vanish. Latencies of roots that overlap get no smaller ceiling: where roots wait for
    /// one another, by a lock or by a worker that is taken, a millisecond saved in one is saved in all that wait.
    pub(crate) fn ceiling(&self, active: Nanos) -> Option<f64> {
        let wall = self.profile.wall;
        (active < wall).then(|| wall.0 as f64 / (wall.0 - active.0) as f64)
    }

    /// Returns the factor that a change of operations, and of `beside` nanoseconds between them, can never beat.
    ///
    /// A replay counts in the time of all roots, of which some ran beside others; nobody waits for more than the wall
    /// time, of which the same milliseconds are a larger part.
    pub(crate) fn cannot_beat(&self, replayed: &Replayed, beside: f64) -> Option<f64> {
        let whole = self.replay.as_ref()?.whole().0 as f64;
        // The layer's own cost for these spans goes with them.
        let span = self.profile.overhead.span_ns;
        let span = if span.is_finite() { span.max(0.0) } else { 0.0 };
        let active = replayed.most * whole + beside + replayed.operations * span;
        self.ceiling(Nanos(active.ceil() as u64))
    }

    /// Returns what the samples say, if there are enough of them.
    pub(crate) fn sampled(&self, on_cpu: Option<OnCpu>) -> Sampled {
        let seen = on_cpu.unwrap_or_default();
        if seen.samples >= self.thresholds.min_cpu_samples.max(1) {
            Sampled::Enough(seen.share().min(1.0), seen.samples)
        } else {
            Sampled::TooFew(seen.samples)
        }
    }

    /// Returns the CPU time that was measured, if that is enough to tell: of several activations, or of a long one.
    pub(crate) fn measured(&self, stats: &Stats) -> Option<CpuTime> {
        stats.cpu.filter(|cpu| {
            cpu.activations >= self.thresholds.min_calls
                || cpu.self_time >= Nanos::from(self.thresholds.long_call)
        })
    }

    /// Returns how much of a site's own time was spent running: measured where it was, else sampled.
    pub(crate) fn running(&self, stats: &Stats) -> Sampled {
        match self.measured(stats) {
            Some(cpu) => Sampled::Enough(cpu.share(), cpu.activations),
            None => self.sampled(stats.on_cpu),
        }
    }

    /// Says how much of a site's own time was spent running: continues "spends 5 ms in its own code, ".
    pub(crate) fn running_words(&self, stats: &Stats, share: f64) -> String {
        let percent = wording::percent(share);
        match self.measured(stats) {
            Some(_) => format!("{percent} of it computing by the thread's CPU time"),
            None => format!("on a CPU or ready for one in {percent} of the samples"),
        }
    }

    /// Returns the CPU time that the process got, if that is clearly less than its threads could have used inside spans.
    ///
    /// Then other programs had the cores, and part of every span's time is waiting for one.
    pub(crate) fn starved(&self) -> Option<Nanos> {
        let split = &self.profile.split;
        let ready = split.busy.saturating_sub(split.waiting?);
        let got = self.profile.process.cpu?;
        (got.share_of(ready) < ENOUGH_CPU && ready > Nanos::ZERO).then_some(got)
    }

    /// Returns how much CPU time the process used outside all spans at most, as far as that was measured or sampled.
    pub(crate) fn cpu_outside(&self) -> Option<Nanos> {
        let split = &self.profile.split;
        let cpu = self.profile.process.cpu?;
        // Of a process that went short, samples do not say which part of its CPU time was inside spans.
        let sampled = match split.waiting {
            Some(waiting) if self.starved().is_none() => split.busy.saturating_sub(waiting),
            _ => Nanos::ZERO,
        };
        let rows = self.profile.sites.iter();
        let measured = rows.filter_map(|row| self.measured_cpu(&row.stats)).sum();
        Some(cpu.saturating_sub(sampled.max(measured)))
    }

    /// Returns the CPU time of a site's own code, where enough of it was measured to tell.
    pub(crate) fn measured_cpu(&self, stats: &Stats) -> Option<Nanos> {
        let share = self.measured(stats)?.share();
        Some(Nanos((stats.self_time.0 as f64 * share) as u64))
    }

    /// Returns how long the workers of an async runtime were ready to run without a core, and their CPU time; `None`
    /// where the system does not tell.
    pub(crate) fn queued_workers(&self) -> Option<(Nanos, Nanos)> {
        let rows = self.profile.threads.iter();
        let workers = rows.filter(|row| row.async_sites >= 2);
        let known = workers.filter_map(|row| Some((row.run_queue?, row.cpu?)));
        known.reduce(|one, other| (one.0.saturating_add(other.0), one.1.saturating_add(other.1)))
    }

    /// Returns for each unit of CPU time how long it takes a worker to get it, 1 where nobody waits for a core or where
    /// that is not known.
    pub(crate) fn worker_slowdown(&self) -> f64 {
        match self.queued_workers() {
            Some((queued, got)) if got > Nanos::ZERO => 1.0 + queued.0 as f64 / got.0 as f64,
            _ => 1.0,
        }
    }

    /// Returns a sentence to append to a finding if the process got too little CPU time, else nothing.
    pub(crate) fn starved_words(&self) -> &'static str {
        match self.starved() {
            Some(_) => " Part of that is waiting for a core.",
            None => "",
        }
    }

    /// Returns the part of their time that the workers of an async runtime were inside spans; `None` without workers.
    pub(crate) fn busy_workers(&self) -> Option<f64> {
        let threads = self.profile.threads.iter();
        let workers = threads.filter(|thread| thread.async_sites >= 2);
        let (busy, observed) = workers.fold((Nanos::ZERO, Nanos::ZERO), |(busy, observed), row| {
            (
                busy.saturating_add(row.busy),
                observed.saturating_add(row.observed),
            )
        });
        (observed > Nanos::ZERO).then(|| busy.share_of(observed).min(1.0))
    }

    /// Returns the time of the threads that work for an async runtime.
    pub(crate) fn worker_time(&self) -> Nanos {
        let workers: Nanos = self
            .profile
            .threads
            .iter()
            .filter(|thread| thread.async_sites >= 2)
            .map(|thread| thread.observed)
            .sum();
        if workers == Nanos::ZERO {
            self.scope.length()
        } else {
            workers
        }
    }
}

impl Scope {
    pub(crate) fn length(self) -> Nanos {
        let (Scope::Wall(length) | Scope::Turns(length, _) | Scope::Busy(length, _)) = self;
        length
    }

    /// Returns how many threads ran spans.
    pub(crate) fn threads(self) -> u64 {
        match self {
            Scope::Wall(_) => 1,
            Scope::Turns(_, threads) | Scope::Busy(_, threads) => threads,
        }
    }

    /// Continues "61 % of ...".
    pub(crate) fn words(self) -> String {
        match self {
            Scope::Wall(_) => "the wall time".to_owned(),
            Scope::Turns(_, threads) => format!("the wall time, summed over {threads} threads"),
            Scope::Busy(_, threads) => format!("the busy time of {threads} threads"),
        }
    }
}

impl Whole {
    pub(crate) fn length(self) -> Nanos {
        let (Whole::Wall(length) | Whole::Roots(length)) = self;
        length
    }

    pub(crate) fn share(self, length: Nanos) -> f64 {
        length.share_of(self.length()).min(1.0)
    }

    /// Continues "61 % of ...".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Whole::Wall(_) => "the wall time",
            Whole::Roots(_) => "the summed latency of the root spans, which overlap",
        }
    }
}

/// Returns how long the spans of one path or site took together: open to close where they wait, else entered.
pub(crate) fn total(stats: &Stats) -> Nanos {
    match &stats.latency {
        Some(latency) => latency.sum.max(stats.busy),
        None => stats.busy,
    }
}

/// Adds up samples; `None` if neither side has any.
pub(crate) fn add_samples(one: Option<OnCpu>, other: Option<OnCpu>) -> Option<OnCpu> {
    match (one, other) {
        (Some(one), Some(other)) => Some(OnCpu::new(
            one.samples.saturating_add(other.samples),
            one.running.saturating_add(other.running),
        )),
        (one, other) => one.or(other),
    }
}

/// A parent that does not stand before its child would be a loop.
fn parent(profile: &Profile, index: usize) -> Option<usize> {
    profile.paths[index].parent.filter(|&parent| parent < index)
}

fn scope(profile: &Profile) -> Scope {
    let busy_threads = profile
        .threads
        .iter()
        .filter(|thread| thread.busy > Nanos::ZERO)
        .fold(0_u64, |sum, thread| {
            sum.saturating_add(u64::from(thread.threads.max(1)))
        });
    let busy = profile.split.busy;
    if busy_threads <= 1 {
        Scope::Wall(profile.wall)
    } else if busy <= profile.wall {
        Scope::Turns(profile.wall, busy_threads)
    } else {
        Scope::Busy(busy, busy_threads)
    }
}

/// Returns how long all root operations took together.
fn roots(profile: &Profile) -> Nanos {
    (0..profile.paths.len())
        .filter(|&index| parent(profile, index).is_none())
        .map(|index| total(&profile.paths[index].stats))
        .sum()
}

fn whole(profile: &Profile, thresholds: &Thresholds) -> Whole {
    let roots = roots(profile);
    if roots.share_of(profile.wall) > thresholds.root_overlap {
        Whole::Roots(roots)
    } else {
        Whole::Wall(profile.wall)
    }
}
