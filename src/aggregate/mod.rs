//! Merges what all threads recorded into one [`Profile`].
//!
//! | file | holds |
//! |---|---|
//! | `merge` | adding up one call path over threads |
//! | `tree` | from merged paths to the call tree and the sites |
//! | `threads` | one row per thread |
//! | `windows` | operations over time |
//! | `gpu` | what devices did, by span and by device |

mod gpu;
mod merge;
mod threads;
mod tree;
mod windows;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use gpu::GpuContext;
use gpu::{Gpu, StepsOf, reported};
use merge::Merged;
use threads::Threads;
use windows::Windows;

use crate::model::{CaptureSnapshot, PathId, ThreadSightings, ThreadSnapshot, TickScale};
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

    /// Notes how many operations each path has seen by now, for throughput.
    ///
    /// `calls` has the difference that the live threads make, which is below zero where a span closes on one that was
    /// polled on a thread that has ended.
    pub(crate) fn tick(&mut self, at: Nanos, mut calls: HashMap<PathId, i64>) {
        for (path, merged) in &self.ended {
            *calls.entry(*path).or_default() += merged.calls_so_far();
        }
        let calls = calls
            .into_iter()
            .map(|(path, calls)| (path, u64::try_from(calls).unwrap_or(0)))
            .collect();
        self.windows.tick(at, &calls);
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
        let calls = paths
            .iter()
            .map(|(&path, merged)| (path, merged.calls()))
            .collect();
        let throughput = self
            .windows
            .finish(wall, &calls, &snapshot.paths, &mut built.sites);

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
        let threads = self.threads.rows(
            snapshot,
            &async_sites,
            &context.sightings.cpu,
            &mut built.sites,
        );
        let busy = threads.iter().map(|thread| thread.busy).sum();
        let thread_time: Nanos = threads.iter().map(|thread| thread.observed).sum();
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
            losses,
            exports: context.exports,
        }
    }
}
