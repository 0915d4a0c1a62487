//! Merges what all threads recorded into one [`Profile`].
//!
//! | file | holds |
//! |---|---|
//! | `merge` | adding up one call path over threads |
//! | `tree` | from merged paths to the call tree and the sites |
//! | `slow` | when operations were far slower than most |
//! | `threads` | one row per thread |
//! | `windows` | operations over time |
//! | `gpu` | what devices did, by span and by device |

mod gpu;
mod merge;
mod slow;
mod threads;
mod tree;
mod windows;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use gpu::GpuContext;
use gpu::{Gpu, StepsOf, reported};
use merge::Merged;
use slow::Slow;
use threads::Threads;
use windows::Windows;

use crate::model::{
    CaptureSnapshot, PathId, PathProgress, PathSpread, ThreadSightings, ThreadSnapshot, TickScale,
};
use crate::model::{
    Export, Failure, GpuCall, GpuWork, Nanos, Overhead, Process, Profile, Series, Split, WallAnchor,
};

/// Keeps what outlives its thread, and builds profiles.
#[derive(Debug, Default)]
pub(crate) struct Aggregator {
    /// Paths of threads that have ended.
    ended: HashMap<PathId, Merged>,
    threads: Threads,
    windows: Windows,
    slow: Slow,
    gpu: Gpu,
}

/// What other stages contribute to a profile.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) started: WallAnchor,
    pub(crate) process: Process,
    pub(crate) sightings: ThreadSightings,
    pub(crate) resources: Vec<Series>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) exports: Vec<Export>,
    /// What is known of the GPUs beyond their work; `None` where the capture was not told to look.
    pub(crate) gpu: Option<GpuContext>,
    /// The layer's cost of a span and of one more activation, in nanoseconds.
    pub(crate) span_ns: f64,
    pub(crate) activation_ns: f64,
}

impl Aggregator {
    /// Takes over the statistics of threads that have ended.
    pub(crate) fn take_ended(&mut self, threads: Vec<ThreadSnapshot>, scale: TickScale) {
        for thread in threads {
            for node in &thread.nodes {
                self.ended.entry(node.path).or_default().add(node, &thread);
            }
            self.threads.take_ended(&thread, scale);
        }
    }

    /// Notes what each path has seen by now, for the windows; `progress` has what the live threads did.
    pub(crate) fn tick(&mut self, at: Nanos, mut progress: HashMap<PathId, PathProgress>) {
        for (path, merged) in &self.ended {
            progress.entry(*path).or_default().add(merged.progress());
        }
        self.windows.tick(at, &progress);
    }

    /// Returns how long a window is at present.
    pub(crate) fn window(&self) -> Nanos {
        self.windows.length()
    }

    /// Returns of which paths [`Aggregator::set_slow_limits`] wants to know how their operations are spread.
    pub(crate) fn slow_wanted(
        &self,
        progress: &HashMap<PathId, PathProgress>,
        scale: TickScale,
    ) -> HashMap<PathId, usize> {
        self.slow.wanted(progress, scale)
    }

    /// Says from what time on operations of these paths are slow.
    pub(crate) fn set_slow_limits(
        &mut self,
        spread: HashMap<PathId, PathSpread>,
        scale: TickScale,
    ) {
        self.slow.set_limits(spread, scale);
    }

    /// Returns the paths whose slow operations are looked for, each with the page of buckets from which they count.
    pub(crate) fn slow_watched(&self) -> HashMap<PathId, usize> {
        self.slow.watched()
    }

    /// Notes slow operations that ended since the last look.
    pub(crate) fn look_for_slow(&mut self, at: Nanos, spread: &HashMap<PathId, PathSpread>) {
        self.slow.look(at, spread);
    }

    /// Takes over what devices did and the calls that have returned. `steps_of` returns the nodes from the root to a
    /// path, in either order.
    #[cfg_attr(
        not(any(feature = "cuda", test)),
        expect(dead_code, reason = "nothing measures devices then")
    )]
    pub(crate) fn take_gpu(
        &mut self,
        work: &[GpuWork],
        calls: &[Arc<GpuCall>],
        steps_of: &StepsOf<'_>,
    ) {
        self.gpu.take(work, calls, steps_of);
    }

    /// Forgets everything that was measured, for a reset at this time.
    pub(crate) fn reset(&mut self, at: Nanos) {
        let mut gpu = std::mem::take(&mut self.gpu);
        gpu.reset(at);
        *self = Aggregator {
            gpu,
            ..Aggregator::default()
        };
    }

    /// Builds the profile of this moment.
    pub(crate) fn profile(&self, snapshot: &CaptureSnapshot, context: Context) -> Profile {
        let scale = snapshot.scale;
        let mut paths = self.ended.clone();
        for thread in &snapshot.threads {
            for node in &thread.nodes {
                paths.entry(node.path).or_default().add(node, thread);
            }
            merge::add_frames(&mut paths, thread, snapshot.now);
        }
        for open in &snapshot.open {
            paths.entry(open.path).or_default().add_open(open);
        }
        for (&path, &on_cpu) in &context.sightings.on_cpu {
            if let Some(merged) = paths.get_mut(&path) {
                merged.on_cpu = Some(on_cpu);
            }
        }
        let wall = scale.length(snapshot.now.saturating_sub(snapshot.began));
        let costs = tree::Costs {
            span_ns: context.span_ns,
            activation_ns: context.activation_ns,
        };
        let mut built = tree::build(&paths, snapshot, costs);
        let progress = paths
            .iter()
            .map(|(&path, merged)| (path, merged.progress()))
            .collect();
        let throughput =
            self.windows
                .finish(wall, scale, &progress, &snapshot.paths, &mut built.sites);

        self.slow.fill_in(&snapshot.paths, scale, &mut built.sites);

        let reported = &snapshot.reported[..];
        // Without a look at devices there is still what the program says of them.
        let looked = context.gpu.is_some() || !reported.is_empty();
        let gpu = looked.then(|| {
            self.gpu.fill_in(&mut built);
            reported::fill_in(&mut built, reported, &snapshot.paths);
            let mut profile = self.gpu.profile(context.gpu.unwrap_or_default());
            reported::add_to_devices(&mut profile, reported);
            profile
        });
        let async_sites = tree::async_sites(&built.sites);
        let threads =
            self.threads
                .rows(snapshot, &async_sites, &context.sightings, &mut built.sites);
        let busy = threads.iter().map(|thread| thread.busy).sum();
        let thread_time: Nanos = threads.iter().map(|thread| thread.observed).sum();
        let mut open = context.sightings.open;
        for row in &mut built.sites {
            row.open_readings = open.remove(&row.site.id).unwrap_or_default();
        }
        let mut losses = snapshot.losses.clone();
        losses.outliers = built
            .sites
            .iter()
            .map(|site| site.stats.activation.outliers)
            .sum();
        losses.failures = context.failures;
        let total = Nanos(
            (built.spans as f64 * costs.span_ns + built.polls as f64 * costs.activation_ns) as u64,
        );
        Profile {
            wall,
            started: context.started,
            began: scale.at(snapshot.began),
            process: Process {
                cpu: context.sightings.process_cpu,
                ..context.process
            },
            split: Split {
                thread_time,
                busy,
                uncovered: thread_time.saturating_sub(busy),
                waiting: tree::waiting(&built.sites),
            },
            overhead: Overhead {
                span_ns: costs.span_ns,
                activation_ns: costs.activation_ns,
                total,
                share_of_cpu: context
                    .sightings
                    .process_cpu
                    .filter(|cpu| cpu.0 > 0)
                    .map(|cpu| total.share_of(cpu)),
                background_cpu: context.sightings.background_cpu,
                memory_bytes: snapshot.memory_bytes,
            },
            sites: built.sites,
            paths: built.paths,
            threads,
            resources: context.resources,
            gpu,
            throughput,
            trees: Vec::new(),
            losses,
            exports: context.exports,
        }
    }
}
