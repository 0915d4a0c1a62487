//! What is remembered of each open span.
//!
//! A span that lives on one thread has its state in that thread's own table, found by the low bits of its id. Any
//! other thread finds it there too, because the tables consist of atomics and are shared; only what does not fit goes
//! to a table behind locks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::model::{PathId, SiteId};

/// States in a thread's own table. More open spans than that at once are async tasks, whose cost is elsewhere.
pub(super) const OWN: usize = 128;

/// The span was entered by, or handed to, a thread that did not create it.
pub(super) const SHARED: u32 = 1 << 8;
/// An error was recorded in it.
pub(super) const ERROR: u32 = 1 << 9;
/// `extra` holds fields.
pub(super) const FIELDS: u32 = 1 << 10;

/// The first activation overlaps its neighbours.
pub(super) const OVERLAPS: u32 = 1 << 11;
/// The first activation is no longer pending.
pub(super) const FIRST_STREAMED: u32 = 1 << 12;

/// The state of one open span.
///
/// Relaxed atomics throughout: a program that uses a span on several threads orders those uses itself, by handing the
/// span over. Where threads enter one span at the same time, only `busy` (hence idle time) can lose an addition.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct SpanState {
    /// The subscriber's id; 0 when free. Subscribers use ids again, so `seq` tells two spans apart.
    pub(super) id: AtomicU64,
    pub(super) seq: AtomicU64,
    site: AtomicU32,
    /// Bits of `sites` and of this module.
    pub(super) flags: AtomicU32,
    /// Tick of its creation.
    pub(super) opened: AtomicU64,
    pub(super) declared_parent: AtomicU64,
    declared_path: AtomicU32,
    /// The path of its latest activation; the root before the first.
    path: AtomicU32,
    /// The runtime parent of its first activation, and which activation of that parent.
    pub(super) first_parent: AtomicU64,
    pub(super) first_parent_activation: AtomicU32,
    pub(super) activations: AtomicU32,
    /// The first activation, pending until it is known what it is a part of.
    pub(super) first_start: AtomicU64,
    pub(super) first_end: AtomicU64,
    /// Ticks in all later activations.
    pub(super) busy: AtomicU64,
    /// Encoded fields.
    pub(super) extra: Mutex<Vec<u8>>,
}

/// What is known of a span when it is created.
#[derive(Debug, Clone, Copy)]
pub(super) struct Birth {
    pub(super) id: u64,
    pub(super) seq: u64,
    pub(super) site: SiteId,
    pub(super) flags: u32,
    pub(super) opened: u64,
    pub(super) declared_parent: u64,
    pub(super) declared_path: PathId,
}

impl SpanState {
    pub(super) const fn free() -> SpanState {
        SpanState {
            id: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            site: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            declared_parent: AtomicU64::new(0),
            declared_path: AtomicU32::new(0),
            path: AtomicU32::new(0),
            first_parent: AtomicU64::new(0),
            first_parent_activation: AtomicU32::new(0),
            activations: AtomicU32::new(0),
            first_start: AtomicU64::new(0),
            first_end: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            extra: Mutex::new(Vec::new()),
        }
    }

    /// Takes a span in. What only later activations read is set when they come.
    #[inline]
    pub(super) fn open(&self, birth: Birth) {
        self.seq.store(birth.seq, Relaxed);
        self.site.store(birth.site.0, Relaxed);
        self.flags.store(birth.flags, Relaxed);
        self.opened.store(birth.opened, Relaxed);
        self.declared_parent.store(birth.declared_parent, Relaxed);
        self.declared_path.store(birth.declared_path.0, Relaxed);
        self.path.store(0, Relaxed);
        self.activations.store(0, Relaxed);
        self.busy.store(0, Relaxed);
        self.id.store(birth.id, Relaxed);
    }

    #[inline]
    pub(super) fn site(&self) -> SiteId {
        SiteId(self.site.load(Relaxed))
    }

    #[inline]
    pub(super) fn path(&self) -> PathId {
        PathId(self.path.load(Relaxed))
    }

    #[inline]
    pub(super) fn set_path(&self, path: PathId) {
        self.path.store(path.0, Relaxed);
    }

    #[inline]
    pub(super) fn declared_path(&self) -> PathId {
        PathId(self.declared_path.load(Relaxed))
    }

    #[inline]
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    /// Sets a flag; atomically, because threads that share a span may do so at once.
    pub(super) fn set(&self, flag: u32) {
        self.flags.fetch_or(flag, Relaxed);
    }

    /// Counts an activation and returns its number, from 1.
    #[inline]
    pub(super) fn count_activation(&self) -> u32 {
        if self.has(SHARED) {
            return self.activations.fetch_add(1, Relaxed).saturating_add(1);
        }
        let number = self.activations.load(Relaxed).saturating_add(1);
        self.activations.store(number, Relaxed);
        number
    }

    /// Returns the ticks of all finished activations.
    pub(super) fn busy_total(&self) -> u64 {
        let first_end = self.first_end.load(Relaxed);
        let first = first_end.saturating_sub(self.first_start.load(Relaxed));
        self.busy.load(Relaxed).saturating_add(first)
    }
}

/// Open spans that did not fit into the table of the thread that created them.
#[derive(Debug)]
pub(super) struct Spilled {
    shards: [Mutex<HashMap<u64, Arc<SpanState>>>; SHARDS],
    limit_per_shard: usize,
}

const SHARDS: usize = 64;

impl Spilled {
    pub(super) fn new(max_open_spans: usize) -> Spilled {
        Spilled {
            shards: std::array::from_fn(|_| Mutex::default()),
            limit_per_shard: max_open_spans.div_ceil(SHARDS),
        }
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Arc<SpanState>>> {
        // The low bits count up within one thread's table, so they spread by themselves.
        &self.shards[id as usize % SHARDS]
    }

    /// Takes a span in; returns `None` at the limit of open spans.
    pub(super) fn insert(&self, birth: Birth) -> Option<Arc<SpanState>> {
        let mut shard = lock(self.shard(birth.id));
        if shard.len() >= self.limit_per_shard && !shard.contains_key(&birth.id) {
            return None;
        }
        let state = Arc::new(SpanState::free());
        state.open(birth);
        shard.insert(birth.id, Arc::clone(&state));
        Some(state)
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<SpanState>> {
        lock(self.shard(id)).get(&id).cloned()
    }

    pub(super) fn remove(&self, id: u64) {
        let mut shard = lock(self.shard(id));
        shard.remove(&id);
        // A burst of open spans must not keep its memory for good.
        if shard.capacity() > 1024 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to_fit();
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&SpanState)) {
        for shard in &self.shards {
            for state in lock(shard).values() {
                visit(state);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}
