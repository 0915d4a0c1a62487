//! One thread's statistics of one call path, and the thread's call tree.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::frame::{FRAME_FOLDED, FRAME_OTHER};
use super::recorder::Recorder;
use super::sites::Registry;
use crate::model::{CpuSnapshot, Ended, NodeSnapshot, PathProgress, PathSpread};
use crate::model::{PathId, SiteId};

/// Statistics of one call path on one thread: written by that thread, read by the report.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) path: PathId,
    pub(super) activation: Recorder,
    self_time: AtomicU64,
    /// Self time of activations folded into an outer one of the same node; their whole time is not busy again.
    folded: AtomicU64,
    /// Activations that began with nothing around them on this thread.
    detached: AtomicU64,
    errors: AtomicU64,
    /// Activations that were one more of an async span, now closed: no span and no operation of their own.
    polls: AtomicU64,
    /// Activations that are one more of a held span: an operation, but no span of their own.
    held_calls: AtomicU64,
    /// Spans that were closed without having been entered.
    unentered: AtomicU64,
    /// One tick later than it was, so that 0 stands for none; a manual clock may start at 0.
    first_start: AtomicU64,
    first_length: AtomicU64,
    latency: OnceLock<Box<Latency>>,
    cpu: OnceLock<Box<CpuSums>>,
}

/// Sums over the activations of which the CPU time was measured.
#[derive(Debug, Default)]
struct CpuSums {
    /// Of all activations, measured or not.
    all: AtomicU64,
    all_ticks: AtomicU64,
    activations: AtomicU64,
    self_ticks: AtomicU64,
    self_cpu: AtomicU64,
}

#[derive(Debug)]
struct Latency {
    recorder: Recorder,
    idle: AtomicU64,
    first_start: AtomicU64,
    first_length: AtomicU64,
}

impl CpuSums {
    /// Returns the sums; `None` if nothing was measured.
    fn snapshot(&self) -> Option<CpuSnapshot> {
        let activations = self.activations.load(Relaxed);
        (activations > 0).then(|| CpuSnapshot {
            activations,
            self_ticks: self.self_ticks.load(Relaxed),
            self_cpu: self.self_cpu.load(Relaxed),
        })
    }
}

/// Adds to a number that only this thread writes.
#[inline]
pub(super) fn add(cell: &AtomicU64, value: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(value), Relaxed);
}

impl Node {
    fn new(path: PathId) -> Node {
        Node {
            path,
            activation: Recorder::new(),
            self_time: AtomicU64::new(0),
            folded: AtomicU64::new(0),
            detached: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            held_calls: AtomicU64::new(0),
            unentered: AtomicU64::new(0),
            first_start: AtomicU64::new(0),
            first_length: AtomicU64::new(0),
            latency: OnceLock::new(),
            cpu: OnceLock::new(),
        }
    }

    /// Records one activation of `total` ticks, `own` of them outside its children.
    #[inline]
    pub(super) fn record(&self, start: u64, total: u64, own: u64) {
        add(&self.self_time, own);
        if self.activation.record(total) {
            self.record_first(start, total);
        }
    }

    #[cold]
    fn record_first(&self, start: u64, total: u64) {
        self.first_length.store(total, Relaxed);
        self.first_start.store(start, Relaxed);
    }

    /// Counts a measured activation: its ticks outside of measured activations inside, and its CPU time in nanoseconds.
    pub(super) fn count_cpu(&self, self_ticks: u64, self_cpu: u64) {
        let cpu = self.cpu.get_or_init(Box::default);
        add(&cpu.activations, 1);
        add(&cpu.self_ticks, self_ticks);
        add(&cpu.self_cpu, self_cpu);
    }

    /// Counts an activation, where some are measured.
    pub(super) fn count_at_all(&self, ticks: u64) {
        let cpu = self.cpu.get_or_init(Box::default);
        add(&cpu.all, 1);
        add(&cpu.all_ticks, ticks);
    }

    /// Returns how many activations [`Node::count_at_all`] saw, and their ticks.
    pub(super) fn activations_at_all(&self) -> (u64, u64) {
        self.cpu.get().map_or((0, 0), |cpu| {
            (cpu.all.load(Relaxed), cpu.all_ticks.load(Relaxed))
        })
    }

    pub(super) fn count_folded(&self, total: u64) {
        add(&self.folded, total);
    }

    pub(super) fn count_detached(&self) {
        add(&self.detached, 1);
    }

    pub(super) fn count_error(&self) {
        add(&self.errors, 1);
    }

    /// Counts what an async span had besides its first activation, when it closes.
    pub(super) fn count_polls(&self, polls: u32) {
        add(&self.polls, u64::from(polls));
    }

    pub(super) fn count_held_calls(&self, calls: u32) {
        add(&self.held_calls, u64::from(calls));
    }

    pub(super) fn count_unentered(&self) {
        add(&self.unentered, 1);
    }

    /// Returns `spans - activations` and `calls - activations`.
    fn deltas(&self) -> (i64, i64) {
        let read = |cell: &AtomicU64| cell.load(Relaxed).cast_signed();
        let (polls, unentered) = (read(&self.polls), read(&self.unentered));
        let spans = unentered - polls - read(&self.held_calls);
        (spans, unentered - polls)
    }

    /// Records an async span that was open for `total` ticks, of which `idle` without an activation.
    pub(super) fn record_latency(&self, opened: u64, total: u64, idle: u64) {
        let latency = self.latency.get_or_init(|| {
            Box::new(Latency {
                recorder: Recorder::new(),
                idle: AtomicU64::new(0),
                first_start: AtomicU64::new(0),
                first_length: AtomicU64::new(0),
            })
        });
        add(&latency.idle, idle);
        if latency.recorder.record(total) {
            latency.first_length.store(total, Relaxed);
            latency.first_start.store(opened, Relaxed);
        }
    }

    pub(super) fn snapshot(&self) -> NodeSnapshot {
        let activation = self.activation.snapshot();
        let latency = self.latency.get();
        let latency_snapshot = latency.map(|latency| latency.recorder.snapshot());
        // An async operation is first by its latency; the first poll would say little.
        let first = match latency {
            Some(latency) => (&latency.first_start, &latency.first_length),
            None => (&self.first_start, &self.first_length),
        };
        let operations = latency_snapshot.as_ref().unwrap_or(&activation);
        let any = !operations.buckets.is_empty();
        let (spans_delta, calls_delta) = self.deltas();
        NodeSnapshot {
            path: self.path,
            spans_delta,
            calls_delta,
            errors: self.errors.load(Relaxed),
            busy: activation.sum.saturating_sub(self.folded.load(Relaxed)),
            self_time: self.self_time.load(Relaxed),
            detached: self.detached.load(Relaxed),
            first: any.then(|| (first.0.load(Relaxed), first.1.load(Relaxed))),
            activation,
            latency: latency_snapshot,
            idle: latency.map_or(0, |latency| latency.idle.load(Relaxed)),
            cpu: self.cpu.get().and_then(|cpu| cpu.snapshot()),
        }
    }

    /// Returns what this thread has done so far.
    pub(super) fn progress(&self) -> PathProgress {
        let ended = |recorder: &Recorder| Ended {
            count: recorder.count(),
            ticks: recorder.sum(),
        };
        let (_, calls) = self.deltas();
        let activations = ended(&self.activation);
        let latency = self.latency.get().map(|latency| &latency.recorder);
        PathProgress {
            calls: activations.count.cast_signed().saturating_add(calls),
            activations,
            spans: latency.map(ended).unwrap_or_default(),
            longest: latency.unwrap_or(&self.activation).max(),
        }
    }

    /// Adds the buckets of operations from the page `first` on.
    pub(super) fn spread(&self, first: usize, spread: &mut PathSpread) {
        match self.latency.get() {
            Some(latency) => latency.recorder.read_from(first, &mut spread.spans),
            None => self.activation.read_from(first, &mut spread.activations),
        }
    }

    /// Returns the memory that this node holds, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let latency = self.latency.get().map_or(0, |latency| {
            size_of::<Latency>() + latency.recorder.heap_bytes()
        });
        let cpu = self.cpu.get().map_or(0, |_| size_of::<CpuSums>());
        size_of::<Node>() + self.activation.heap_bytes() + latency + cpu
    }
}

/// The call tree as its thread walks it: which node follows on which.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<TreeNode>,
    /// Direct-mapped by parent and site; a collision costs one look into `children`.
    cache: Box<[CacheEntry; CACHE]>,
    children: HashMap<(u32, SiteId), Child>,
    /// Nodes by path number; [`ROOT`] where this thread has none.
    by_path: Vec<u32>,
    /// The grant of samples of which nothing seems to be left for this thread.
    pub(super) idle_grant: u32,
    /// Roots in a row for which nothing was left.
    pub(super) misses: u32,
}

#[derive(Debug)]
struct TreeNode {
    node: Arc<Node>,
    parent: u32,
    depth: u32,
    site: SiteId,
    samples: Samples,
}

/// What this thread has sampled of the roots of one site.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Samples {
    /// The last grant that was made use of.
    pub(super) grant: u32,
    /// How many were sampled without one.
    pub(super) first: u32,
}

/// A step down the tree, as the frame of the activation will hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    /// The node in the upper half; in the lower [`FRAME_FOLDED`] if it is that of an activation further out, or
    /// [`FRAME_OTHER`] if it stands for all that did not fit.
    pub(super) node_and_flags: u64,
    pub(super) path: PathId,
}

impl Child {
    pub(super) fn node(self) -> u32 {
        (self.node_and_flags >> 32) as u32
    }
}

#[derive(Debug, Clone, Copy)]
struct CacheEntry {
    key: u64,
    child: Child,
}

const CACHE: usize = 256;
/// Spreads (parent, site) over the cache: 2^64 divided by the golden ratio, as in Knuth's multiplicative hashing.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The node that stands for "nothing around".
pub(super) const ROOT: u32 = 0;

impl Tree {
    pub(super) fn new() -> Tree {
        let root = TreeNode {
            node: Arc::new(Node::new(PathId::ROOT)),
            parent: ROOT,
            depth: 0,
            site: SiteId::OTHER,
            samples: Samples::default(),
        };
        let empty = CacheEntry {
            key: u64::MAX,
            child: Child {
                node_and_flags: 0,
                path: PathId::ROOT,
            },
        };
        Tree {
            nodes: vec![root],
            cache: Box::new([empty; CACHE]),
            children: HashMap::new(),
            by_path: Vec::new(),
            idle_grant: 0,
            misses: 0,
        }
    }

    #[inline]
    pub(super) fn node(&self, index: u32) -> &Arc<Node> {
        &self.nodes[index as usize].node
    }

    /// Returns what was sampled at a node.
    #[inline]
    pub(super) fn samples(&mut self, index: u32) -> &mut Samples {
        &mut self.nodes[index as usize].samples
    }

    /// Returns the node of `site` under `parent`; `added` is told of a new one.
    #[inline]
    pub(super) fn child(
        &mut self,
        registry: &Registry,
        parent: u32,
        site: SiteId,
        added: impl FnMut(&Arc<Node>),
    ) -> Child {
        let key = u64::from(parent) << 32 | u64::from(site.0);
        let place = (key.wrapping_mul(SPREAD) >> 56) as usize % CACHE;
        let entry = self.cache[place];
        if entry.key == key {
            return entry.child;
        }
        self.child_uncached(registry, parent, site, key, place, added)
    }

    #[cold]
    fn child_uncached(
        &mut self,
        registry: &Registry,
        parent: u32,
        site: SiteId,
        key: u64,
        place: usize,
        added: impl FnMut(&Arc<Node>),
    ) -> Child {
        let child = match self.children.get(&(parent, site)) {
            Some(&child) => child,
            None => {
                let child = self.add_child(registry, parent, site, added);
                self.children.insert((parent, site), child);
                child
            }
        };
        self.cache[place] = CacheEntry { key, child };
        child
    }

    fn add_child(
        &mut self,
        registry: &Registry,
        parent: u32,
        site: SiteId,
        mut added: impl FnMut(&Arc<Node>),
    ) -> Child {
        let above = &self.nodes[parent as usize];
        if above.depth >= registry.limits.max_path_depth {
            return self.fold(parent, site);
        }
        let parent_path = above.node.path;
        let (path, site, flags) = match registry.path(parent_path, site) {
            Some(path) => (path, site, 0),
            None if above.site == SiteId::OTHER && parent != ROOT => {
                return self.step(parent, FRAME_FOLDED);
            }
            None => (registry.other_path(parent_path), SiteId::OTHER, FRAME_OTHER),
        };
        let node = self.insert(parent, path, site, &mut added);
        self.step(node, flags)
    }

    fn step(&self, node: u32, flags: u32) -> Child {
        Child {
            node_and_flags: u64::from(node) << 32 | u64::from(flags),
            path: self.node(node).path,
        }
    }

    fn insert(
        &mut self,
        parent: u32,
        path: PathId,
        site: SiteId,
        added: &mut impl FnMut(&Arc<Node>),
    ) -> u32 {
        if let Some(known) = self.known(path) {
            return known;
        }
        let index = self.nodes.len() as u32;
        // Its first roots are to be sampled.
        self.idle_grant = 0;
        let node = Arc::new(Node::new(path));
        added(&node);
        self.nodes.push(TreeNode {
            node,
            parent,
            depth: self.nodes[parent as usize].depth + 1,
            site,
            samples: Samples::default(),
        });
        let place = path.0 as usize;
        if self.by_path.len() <= place {
            self.by_path.resize(place + 1, ROOT);
        }
        self.by_path[place] = index;
        index
    }

    #[inline]
    fn known(&self, path: PathId) -> Option<u32> {
        let known = self.by_path.get(path.0 as usize).copied();
        known.filter(|&node| node != ROOT)
    }

    /// Beyond the depth limit: the nearest ancestor of the same site takes the activation, or else the parent.
    fn fold(&self, parent: u32, site: SiteId) -> Child {
        let mut at = parent;
        while at != ROOT {
            let node = &self.nodes[at as usize];
            if node.site == site {
                break;
            }
            at = node.parent;
        }
        self.step(if at == ROOT { parent } else { at }, FRAME_FOLDED)
    }

    /// Returns the node of a path that may come from another thread.
    #[inline(always)]
    pub(super) fn at_path(
        &mut self,
        registry: &Registry,
        path: PathId,
        added: impl FnMut(&Arc<Node>),
    ) -> u32 {
        if path == PathId::ROOT {
            return ROOT;
        }
        match self.known(path) {
            Some(known) => known,
            None => self.at_new_path(registry, path, added),
        }
    }

    #[cold]
    fn at_new_path(
        &mut self,
        registry: &Registry,
        path: PathId,
        mut added: impl FnMut(&Arc<Node>),
    ) -> u32 {
        let mut parent = ROOT;
        for (path, site) in registry.steps(path) {
            parent = self.insert(parent, path, site, &mut added);
        }
        parent
    }
}
