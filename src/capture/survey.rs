//! What is told of all threads at one moment: statistics, what each is doing, memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use super::capture::Capture;
use super::frame::Frame;
use super::local::ThreadShared;
use super::lock;
use super::ring::Ring;
use super::sites::HELD;
use super::span_state::SpanState;
#[cfg(feature = "cuda")]
use crate::model::Site;
use crate::model::{CaptureSnapshot, FrameSnapshot, OpenSnapshot, PathId};
use crate::model::{PathProgress, PathSpread};
use crate::model::{SiteId, ThreadSnapshot, ThreadTop};

impl Capture {
    /// Removes threads that have ended, have no open spans and no records left, and returns their statistics.
    pub(crate) fn take_ended(&self) -> Vec<ThreadSnapshot> {
        let mut ended = Vec::new();
        lock(&self.threads).retain(|shared| {
            // Pairs with the release in `Local::drop`.
            let gone = shared.ended.load(Acquire)
                && shared.ring.as_ref().is_none_or(Ring::is_drained)
                && !shared.has_open_spans();
            if gone {
                ended.push(Arc::clone(shared));
            }
            !gone
        });
        let mut snapshots = Vec::with_capacity(ended.len());
        for shared in ended {
            if let Some(ring) = &shared.ring {
                self.ring_bytes.fetch_sub(ring.capacity() * 8, Relaxed);
                let add = |to: &AtomicU64, from: &AtomicU64| {
                    to.fetch_add(from.load(Relaxed), Relaxed);
                };
                // A thread that has not followed the last reset dropped its records before it.
                if self.is_current(&shared) {
                    add(&self.counters.dropped_spans, &ring.dropped_spans);
                    add(&self.counters.dropped_events, &ring.dropped_events);
                }
            }
            snapshots.push(self.thread_snapshot(&shared));
        }
        snapshots
    }

    pub(crate) fn snapshot(&self) -> CaptureSnapshot {
        let threads = self.threads();
        let now = self.clock.tick();
        let mut open = Vec::new();
        self.for_each_open(&threads, |state| {
            let activations = u64::from(state.activations());
            // One of the activations may be going on; the frame it is in tells what it counts as.
            open.push(OpenSnapshot {
                path: self.path_of(state),
                activations,
                polls: self.polls(state),
                root: activations > 0 && state.first_parent.load(Relaxed) == 0 && !state.has(HELD),
            });
        });
        let snapshots: Vec<_> = threads
            .iter()
            .map(|shared| self.thread_snapshot(shared))
            .collect();
        let mut losses = self.counters.to_losses();
        let current = threads.iter().filter(|shared| self.is_current(shared));
        for ring in current.filter_map(|shared| shared.ring.as_ref()) {
            losses.dropped_spans += ring.dropped_spans.load(Relaxed);
            losses.dropped_events += ring.dropped_events.load(Relaxed);
        }
        losses.open_spans = open.len() as u64;
        CaptureSnapshot {
            scale: self.clock.scale(),
            began: self.began(),
            now,
            sites: self.registry.sites(),
            paths: self.registry.path_table(),
            reported: self.gpu_reports.sums(),
            threads: snapshots,
            open,
            losses,
            memory_bytes: self.memory_bytes(&threads),
        }
    }

    /// Returns the callsite of a path's last step.
    #[cfg(feature = "cuda")]
    pub(crate) fn site_of(&self, path: PathId) -> Option<Arc<Site>> {
        let &(_, site) = self.registry.steps(path).last()?;
        self.registry.sites().get(site.0 as usize).cloned()
    }

    /// Returns the nodes from the root to a path.
    #[cfg(feature = "cuda")]
    pub(crate) fn steps_of(&self, path: PathId) -> Vec<(PathId, SiteId)> {
        self.registry.steps(path)
    }

    /// Returns the path of an open span, entered or not.
    pub(super) fn path_of(&self, state: &SpanState) -> PathId {
        state.path().unwrap_or_else(|| {
            let declared = state.declared_path();
            self.registry
                .path(declared, state.site())
                .unwrap_or_else(|| self.registry.other_path(declared))
        })
    }

    /// Returns how many records found no room since the start or the last reset.
    pub(crate) fn dropped_records(&self) -> u64 {
        let threads = self.threads();
        let rings = threads.iter().filter_map(|shared| shared.ring.as_ref());
        let dropped = rings
            .map(|ring| ring.dropped_spans.load(Relaxed) + ring.dropped_events.load(Relaxed))
            .sum::<u64>();
        let counters = &self.counters;
        let of_ended = [&counters.dropped_spans, &counters.dropped_events];
        of_ended
            .iter()
            .fold(dropped, |sum, counter| sum + counter.load(Relaxed))
    }

    fn thread_snapshot(&self, shared: &ThreadShared) -> ThreadSnapshot {
        let current = self.is_current(shared);
        let began = self.began();
        let depth = shared.depth.load(Acquire);
        let mut frames = Vec::new();
        for frame in (0..depth).map_while(|at| shared.shared_frame(at)) {
            frames.push(FrameSnapshot {
                path: frame.path(),
                entered: frame.entered.load(Relaxed).max(began),
                child: if current {
                    frame.child.load(Relaxed)
                } else {
                    0
                },
                count: frame.count(),
            });
        }
        let mut snapshot = ThreadSnapshot {
            thread: shared.thread.clone(),
            ended: shared.ended.load(Acquire),
            first: shared.first.load(Relaxed).max(began),
            last: shared.last.load(Relaxed).max(began),
            busy: 0,
            nodes: Vec::new(),
            frames,
        };
        if current {
            snapshot.busy = shared.busy.load(Relaxed);
            let nodes = lock(&shared.nodes);
            snapshot.nodes = nodes.iter().map(|node| node.snapshot()).collect();
        }
        snapshot
    }

    /// Tells what each thread is doing at the moment.
    pub(crate) fn tops(&self, tops: &mut Vec<ThreadTop>) {
        for shared in lock(&self.threads).iter() {
            if shared.ended.load(Relaxed) {
                continue;
            }
            let depth = shared.depth.load(Acquire);
            let frame = depth
                .checked_sub(1)
                .and_then(|top| shared.shared_frame(top));
            tops.push(ThreadTop {
                index: shared.thread.index,
                os_id: shared.thread.os_id,
                path: frame.map_or(PathId::ROOT, Frame::path),
            });
        }
    }

    /// Counts the spans of each callsite that are open now.
    pub(crate) fn open_by_site(&self, counts: &mut HashMap<SiteId, u64>) {
        self.for_each_open(&self.threads(), |state| {
            *counts.entry(state.site()).or_default() += 1;
        });
    }

    /// Adds up what each path has seen, for the windows.
    pub(crate) fn progress(&self, progress: &mut HashMap<PathId, PathProgress>) {
        let threads = self.threads();
        // Open spans first: what closes in between is then missing until the next time, and never counted twice.
        self.for_each_open(&threads, |state| {
            let polls = self.polls(state);
            if polls > 0 {
                progress.entry(self.path_of(state)).or_default().calls -= polls.cast_signed();
            }
        });
        for shared in threads {
            if !self.is_current(&shared) {
                continue;
            }
            for node in lock(&shared.nodes).iter() {
                let path = progress.entry(node.path).or_default();
                path.add(node.progress());
            }
        }
    }

    /// Returns how the operations of some paths are spread, of each from a page of buckets on.
    pub(crate) fn spread(&self, from: &HashMap<PathId, usize>) -> HashMap<PathId, PathSpread> {
        let mut spread: HashMap<PathId, PathSpread> = HashMap::new();
        for shared in self.threads() {
            if !self.is_current(&shared) {
                continue;
            }
            for node in lock(&shared.nodes).iter() {
                if let Some(&first) = from.get(&node.path) {
                    node.spread(first, spread.entry(node.path).or_default());
                }
            }
        }
        spread
    }

    fn memory_bytes(&self, threads: &[Arc<ThreadShared>]) -> u64 {
        let of_thread = |shared: &Arc<ThreadShared>| {
            let nodes: usize = lock(&shared.nodes)
                .iter()
                .map(|node| node.memory_bytes())
                .sum();
            let ring = shared.ring.as_ref().map_or(0, |ring| ring.capacity() * 8);
            size_of::<ThreadShared>() + nodes + ring
        };
        let threads: usize = threads.iter().map(of_thread).sum();
        let spilled = self.spilled.len() * (size_of::<SpanState>() + 2 * size_of::<usize>());
        (threads + spilled) as u64
    }
}
