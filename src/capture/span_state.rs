//! What is remembered of each open span.
//!
//! A span that lives on one thread has its state in that thread's own table, found by the low bits of its id. Any
//! other thread finds it there too, because the tables consist of atomics and are shared; only what does not fit goes
//! to a table behind locks.

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::place::{PLACE_FLAGS, Place};
use super::{lock, sites};
use crate::model::{PathId, SiteId};

/// States in a thread's own table. More open spans than that at once are async tasks, whose cost is elsewhere.
pub(super) const OWN: usize = 128;

/// The span was entered by, or handed to, a thread that did not create it.
pub(super) const SHARED: u32 = 1 << 8;
/// An error was recorded in it.
pub(super) const ERROR: u32 = 1 << 9;
/// `extra` holds fields.
pub(super) const FIELDS: u32 = 1 << 10;
/// `inline` holds the fields that the span was created with.
pub(super) const INLINE: u32 = 1 << 20;
/// Something was said of its work on a device.
pub(super) const REPORTS: u32 = 1 << 21;

/// The first activation overlaps its neighbours.
pub(super) const OVERLAPS: u32 = 1 << 11;
/// The first activation is no longer pending; always so where it was on another thread than the creator's.
pub(super) const FIRST_STREAMED: u32 = 1 << 12;

// Set only where a sink wants ids; see `place`.

/// The trace began elsewhere: its id is stored as it is.
pub(super) const FOREIGN: u32 = 1 << 13;
/// The parent is known by its id, because it is in another process or another library made it.
pub(super) const PARENT_FOREIGN: u32 = 1 << 14;
/// Who began the trace does not want it recorded.
pub(super) const UNSAMPLED: u32 = 1 << 15;
/// There is a `tracestate` or baggage to hand on.
pub(super) const CARRIES: u32 = 1 << 16;
/// The program named the parent, or said that there is none.
pub(super) const EXPLICIT: u32 = 1 << 17;
/// Somebody was told the ids.
pub(super) const IDS_USED: u32 = 1 << 18;
/// Another layer made the ids; `ambient` is the span's id.
pub(super) const ADOPTED: u32 = 1 << 19;

/// The state of one open span.
///
/// Relaxed atomics throughout: a program that uses a span on several threads orders those uses itself, by handing the
/// span over. Where threads enter one span at the same time, only `busy` (hence idle time) can lose an addition.
///
/// What belongs to one step of a span's life shares a word or is written in that step only: each store less is a tenth
/// of a nanosecond for every span of the program.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct SpanState {
    /// The subscriber's id; 0 when free. Subscribers use ids again, so `seq` tells two spans apart.
    pub(super) id: AtomicU64,
    pub(super) seq: AtomicU64,
    /// The site in the upper half, bits of `sites` and of this module in the lower.
    site_and_flags: AtomicU64,
    /// Tick of its creation; not set where the site is known to be plain.
    opened: AtomicU64,
    pub(super) declared_parent: AtomicU64,
    declared_path: AtomicU32,
    /// The path of its latest activation; not set before the first.
    path: AtomicU32,
    /// The activations on the thread that created it in the lower half; in the upper which activation of its runtime
    /// parent was around the first of them.
    counts: AtomicU64,
    /// The activations on other threads; zero unless [`SHARED`].
    elsewhere: AtomicU32,
    /// The runtime parent of its first activation.
    pub(super) first_parent: AtomicU64,
    /// The first activation, pending until it is known what it is a part of. Its end is before its start while it
    /// goes on, because it is then that of an earlier span.
    pub(super) first_start: AtomicU64,
    first_end: AtomicU64,
    /// Ticks in all later activations; not set before the second.
    pub(super) busy: AtomicU64,
    /// The operation around it and the root of its trace; see `place`. Not set unless a sink wants ids.
    parent: AtomicU64,
    trace: AtomicU64,
    /// What most captures do not need; allocated when a span in this place first does, and then kept.
    more: OnceLock<Box<More>>,
}

/// What is remembered of an open span for its fields and its ids.
#[derive(Debug, Default)]
struct More {
    /// Encoded fields, after those in `inline`.
    extra: Mutex<Vec<u8>>,
    trace_high: AtomicU64,
    /// The span of another library that the thread was in when this one was created; this one's own id if it is adopted.
    ambient: AtomicU64,
    /// The encoded fields that the span was created with, if they fit: three locks less for most spans.
    inline: [AtomicU64; INLINE_WORDS],
    inline_bytes: AtomicU32,
}

/// Three or four numbers, or one and a short text.
const INLINE_WORDS: usize = 7;

/// Encoded fields in words.
#[derive(Clone, Copy)]
pub(super) struct Inline<'a> {
    words: &'a [AtomicU64],
    bytes: usize,
}

impl Inline<'_> {
    pub(super) const EMPTY: Inline<'static> = Inline {
        words: &[],
        bytes: 0,
    };

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        self.words
    }
}

/// What is known of a span when it is created.
#[derive(Debug, Clone, Copy)]
pub(super) struct Birth {
    pub(super) id: u64,
    pub(super) seq: u64,
    pub(super) site: SiteId,
    pub(super) flags: u32,
    /// `None` where the site is known to be plain, so that nobody will ask.
    pub(super) opened: Option<u64>,
    pub(super) declared_parent: u64,
    pub(super) declared_path: PathId,
}

impl SpanState {
    pub(super) const fn unused() -> SpanState {
        SpanState {
            id: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            site_and_flags: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            declared_parent: AtomicU64::new(0),
            declared_path: AtomicU32::new(0),
            path: AtomicU32::new(0),
            counts: AtomicU64::new(0),
            elsewhere: AtomicU32::new(0),
            first_parent: AtomicU64::new(0),
            first_start: AtomicU64::new(0),
            first_end: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            parent: AtomicU64::new(0),
            trace: AtomicU64::new(0),
            more: OnceLock::new(),
        }
    }

    #[inline]
    fn more(&self) -> &More {
        self.more.get_or_init(Box::default)
    }

    /// Locks the fields that did not come with the span, or did not fit into `inline`.
    pub(super) fn extra(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.more().extra)
    }

    /// Returns the span of another library that this one began in, or that it is.
    pub(super) fn ambient(&self) -> &AtomicU64 {
        &self.more().ambient
    }

    /// Keeps the fields of a span that no other thread knows yet; returns whether they fit. The caller sets [`INLINE`].
    #[inline]
    pub(super) fn keep_inline(&self, fields: &[u8]) -> bool {
        if fields.len() > INLINE_WORDS * 8 {
            return false;
        }
        let more = self.more();
        for (place, chunk) in more.inline.iter().zip(fields.chunks(8)) {
            let word = match chunk.first_chunk::<8>() {
                Some(whole) => u64::from_le_bytes(*whole),
                None => {
                    let mut padded = [0; 8];
                    padded[..chunk.len()].copy_from_slice(chunk);
                    u64::from_le_bytes(padded)
                }
            };
            place.store(word, Relaxed);
        }
        more.inline_bytes.store(fields.len() as u32, Relaxed);
        true
    }

    /// Has `write` put the fields of a span into words that no other thread knows yet; it returns how many bytes they
    /// take, or `None` if they cannot be there. Returns whether they are.
    #[inline]
    pub(super) fn write_inline(&self, write: impl FnOnce(&[AtomicU64]) -> Option<usize>) -> bool {
        let more = self.more();
        let Some(bytes) = write(&more.inline) else {
            return false;
        };
        if bytes > 0 {
            more.inline_bytes.store(bytes as u32, Relaxed);
            self.set_own(INLINE);
        }
        true
    }

    /// Returns the fields that are in words. Only where [`INLINE`] is set.
    #[inline]
    pub(super) fn inline(&self) -> Inline<'_> {
        let more = self.more();
        let bytes = more.inline_bytes.load(Relaxed) as usize;
        match more.inline.get(..bytes.div_ceil(8)) {
            Some(words) => Inline { words, bytes },
            None => Inline::EMPTY,
        }
    }

    /// Returns all fields, as bytes.
    pub(super) fn fields(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        if self.has(INLINE) {
            let more = self.more();
            for word in &more.inline {
                fields.extend_from_slice(&word.load(Relaxed).to_le_bytes());
            }
            fields.truncate(more.inline_bytes.load(Relaxed) as usize);
        }
        if self.has(FIELDS) {
            fields.extend_from_slice(&self.extra());
        }
        fields
    }

    /// Returns the operation around the span and the root of its trace, if both are numbers and not ids.
    #[inline]
    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.parent.load(Relaxed), self.trace.load(Relaxed))
    }

    pub(super) fn place(&self) -> Place {
        let flags = self.flags() & PLACE_FLAGS;
        Place {
            parent: self.parent.load(Relaxed),
            trace: self.trace.load(Relaxed),
            trace_high: match flags & FOREIGN {
                0 => 0,
                _ => self.more().trace_high.load(Relaxed),
            },
            flags,
        }
    }

    /// Puts the span into a place of a trace that began here. Its flags must not say otherwise.
    #[inline]
    pub(super) fn put(&self, parent: u64, trace: u64) {
        self.parent.store(parent, Relaxed);
        self.trace.store(trace, Relaxed);
    }

    /// Puts the span into any place of a trace; done before other threads know it, or under the program's own order.
    #[inline]
    pub(super) fn move_to(&self, place: Place) {
        self.put(place.parent, place.trace);
        if (self.flags() | place.flags) & PLACE_FLAGS != 0 {
            if place.flags & FOREIGN != 0 {
                self.more().trace_high.store(place.trace_high, Relaxed);
            }
            self.unset(PLACE_FLAGS & !place.flags);
            self.set(place.flags);
        }
    }

    fn unset(&self, flag: u32) {
        self.site_and_flags.fetch_and(!u64::from(flag), Relaxed);
    }

    /// Gives the place up, perhaps on another thread than the one whose place it is.
    #[inline]
    pub(super) fn free(&self) {
        // Pairs with the acquire in `taken_by`: nothing that was done to the old span may reach the next one.
        self.id.store(0, Release);
    }

    /// Returns the id of the span that has the place, 0 if it is free.
    #[inline]
    pub(super) fn taken_by(&self) -> u64 {
        self.id.load(Acquire)
    }

    /// Takes a span in.
    #[inline]
    pub(super) fn open(&self, birth: Birth) {
        self.seq.store(birth.seq, Relaxed);
        let site_and_flags = u64::from(birth.site.0) << 32 | u64::from(birth.flags);
        self.site_and_flags.store(site_and_flags, Relaxed);
        self.declared_parent.store(birth.declared_parent, Relaxed);
        self.declared_path.store(birth.declared_path.0, Relaxed);
        self.counts.store(0, Relaxed);
        if let Some(opened) = birth.opened {
            self.opened.store(opened, Relaxed);
        }
        self.id.store(birth.id, Relaxed);
    }

    #[inline]
    pub(super) fn site(&self) -> SiteId {
        SiteId((self.site_and_flags.load(Relaxed) >> 32) as u32)
    }

    #[inline]
    pub(super) fn flags(&self) -> u32 {
        self.site_and_flags.load(Relaxed) as u32
    }

    #[inline]
    pub(super) fn site_and_flags(&self) -> (SiteId, u32) {
        let both = self.site_and_flags.load(Relaxed);
        (SiteId((both >> 32) as u32), both as u32)
    }

    /// Returns the path of the latest activation, if there was one.
    pub(super) fn path(&self) -> Option<PathId> {
        (self.activations() > 0).then(|| PathId(self.path.load(Relaxed)))
    }

    #[inline]
    pub(super) fn set_path(&self, path: PathId) {
        self.path.store(path.0, Relaxed);
    }

    #[inline]
    pub(super) fn declared_path(&self) -> PathId {
        PathId(self.declared_path.load(Relaxed))
    }

    /// Returns when the span was created. Where that was not noted, because all earlier spans of the site were plain,
    /// its first activation is the best that is known.
    pub(super) fn opened(&self) -> (u64, bool) {
        if self.has(sites::PLAIN) {
            (self.first_start.load(Relaxed), false)
        } else {
            (self.opened.load(Relaxed), true)
        }
    }

    #[inline]
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    /// Sets a flag; atomically, because threads that share a span may do so at once. Returns whether it was set.
    pub(super) fn set(&self, flag: u32) -> bool {
        self.site_and_flags.fetch_or(u64::from(flag), Relaxed) & u64::from(flag) != 0
    }

    /// Puts the span into a sampled tree: sets the flags `bits` of those in `mask`.
    #[cold]
    pub(super) fn set_tree(&self, mask: u32, bits: u32) {
        self.unset(mask & !bits);
        self.set(bits);
    }

    /// Sets a flag of a span that no other thread knows yet.
    #[inline]
    pub(super) fn set_own(&self, flag: u32) {
        let both = self.site_and_flags.load(Relaxed);
        self.site_and_flags.store(both | u64::from(flag), Relaxed);
    }

    /// Returns the number of activations on all threads.
    pub(super) fn activations(&self) -> u32 {
        self.own_activations()
            .saturating_add(self.elsewhere.load(Relaxed))
    }

    /// Returns the number of activations on the thread that created the span.
    #[inline]
    pub(super) fn own_activations(&self) -> u32 {
        self.counts.load(Relaxed) as u32
    }

    /// Counts the first activation, if this is it, for the thread that created the span.
    #[inline]
    pub(super) fn count_first(&self, flags: u32, parent: u64, parent_activation: u32) -> bool {
        if flags & SHARED != 0 || self.own_activations() != 0 {
            return false;
        }
        let counts = u64::from(parent_activation) << 32 | 1;
        self.counts.store(counts, Relaxed);
        self.first_parent.store(parent, Relaxed);
        true
    }

    /// Counts another activation for the thread that created the span; returns how many there are on all threads.
    ///
    /// A thread that enters at the same moment for the first time may be told the same number. That both then pass
    /// for the first is put right when the span closes, by the number of all.
    #[inline]
    pub(super) fn count_again(&self, flags: u32) -> u32 {
        let counts = self.counts.load(Relaxed) + 1;
        self.counts.store(counts, Relaxed);
        match flags & SHARED {
            0 => counts as u32,
            _ => self.activations(),
        }
    }

    /// Counts an activation on another thread than the one that created the span; returns how many there are on all.
    pub(super) fn count_elsewhere(&self, parent: u64, parent_activation: u32) -> u32 {
        let elsewhere = self.elsewhere.fetch_add(1, Relaxed) + 1;
        let number = self.own_activations().saturating_add(elsewhere);
        if number == 1 {
            self.first_parent.store(parent, Relaxed);
            let upper = u64::from(parent_activation) << 32;
            self.counts.fetch_or(upper, Relaxed);
        }
        number
    }

    /// Takes back an activation that was no activation.
    pub(super) fn uncount(&self, own: bool) {
        if own {
            self.counts.store(self.counts.load(Relaxed) - 1, Relaxed);
        } else {
            self.elsewhere.fetch_sub(1, Relaxed);
        }
    }

    /// Makes the place ready for a span that nobody shares.
    pub(super) fn clear_elsewhere(&self) {
        self.elsewhere.store(0, Relaxed);
    }

    #[inline]
    pub(super) fn first_parent_activation(&self) -> u32 {
        (self.counts.load(Relaxed) >> 32) as u32
    }

    #[inline]
    pub(super) fn end_first(&self, end: u64) {
        self.first_end.store(end, Relaxed);
    }

    /// Returns the end of the first activation, unless it goes on.
    #[inline]
    pub(super) fn first_end(&self) -> Option<u64> {
        let end = self.first_end.load(Relaxed);
        (end >= self.first_start.load(Relaxed) && self.activations() > 0).then_some(end)
    }

    /// Returns the end of the only activation of a span that was entered, unless it goes on.
    #[inline]
    pub(super) fn only_end(&self) -> Option<u64> {
        let end = self.first_end.load(Relaxed);
        (end >= self.first_start.load(Relaxed)).then_some(end)
    }

    /// Returns the ticks of all finished activations.
    pub(super) fn busy_total(&self) -> u64 {
        let start = self.first_start.load(Relaxed);
        // At the end of a capture other threads may be entering the span while this is read.
        let first = self.first_end().map_or(0, |end| end.saturating_sub(start));
        let later = match self.activations() {
            0 | 1 => 0,
            _ => self.busy.load(Relaxed),
        };
        first.saturating_add(later)
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
        let state = Arc::new(SpanState::unused());
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

    /// Visits all states; not under the lock, because sinks may be called on the way.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&SpanState)) {
        for shard in &self.shards {
            let states: Vec<_> = lock(shard).values().cloned().collect();
            states.iter().for_each(|state| visit(state));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}
