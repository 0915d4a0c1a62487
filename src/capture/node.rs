//! One thread's statistics of one call path, and the thread's call tree.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::frame::{FRAME_FOLDED, FRAME_OTHER};
use super::recorder::Recorder;
use super::sites::Registry;
use crate::model::NodeSnapshot;
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
}

#[derive(Debug)]
struct Latency {
    recorder: Recorder,
    idle: AtomicU64,
    first_start: AtomicU64,
    first_length: AtomicU64,
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
        }
    }

    /// Returns how many operations this thread's share adds up to. Below zero where async spans close on this thread
    /// that were polled on others.
    pub(super) fn calls(&self) -> i64 {
        let (_, calls) = self.deltas();
        self.activation.count().cast_signed().saturating_add(calls)
    }

    /// Returns the memory that this node holds, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let latency = self.latency.get().map_or(0, |latency| {
            size_of::<Latency>() + latency.recorder.heap_bytes()
        });
        size_of::<Node>() + self.activation.heap_bytes() + latency
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
}

#[derive(Debug)]
struct TreeNode {
    node: Arc<Node>,
    parent: u32,
    depth: u32,
    site: SiteId,
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
        }
    }

    #[inline]
    pub(super) fn node(&self, index: u32) -> &Arc<Node> {
        &self.nodes[index as usize].node
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
        let node = Arc::new(Node::new(path));
        added(&node);
        self.nodes.push(TreeNode {
            node,
            parent,
            depth: self.nodes[parent as usize].depth + 1,
            site,
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
