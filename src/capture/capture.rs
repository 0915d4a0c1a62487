//! What all threads of one layer share.

#[cfg(feature = "cuda")]
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use tracing_core::Metadata;

use super::context::CarriedTable;
use super::counters::Counters;
use super::cpu_time::LONG_NS;
use super::found::Found;
use super::gpu_reports::Reports;
use super::local::ThreadShared;
use super::place::Identity;
use super::process::is_forked_child;
use super::ring::Ring;
use super::sampling::Sampling;
use super::sites::{HELD, HeldFn, Registry, SiteState};
use super::span_state::{SpanState, Spilled};
use super::{Limits, Overflow, lock};
use crate::clock::Clock;
use crate::model::{Ambient, FrameCount, IdKeys, Ids, Nanos, SpanMarks};

/// Everything a capture is told when it starts.
pub(crate) struct Settings {
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) streams: Streams,
    pub(crate) overflow: Overflow,
    pub(crate) held: Option<Box<HeldFn>>,
    pub(crate) ambient: Option<AmbientFn>,
    pub(crate) sampler: Option<Box<SamplerFn>>,
    /// Another tool that is to show the spans. What it costs is not measured by `calibrate`.
    pub(crate) marks: Option<Box<dyn SpanMarks>>,
}

/// Decides whether a trace is recorded. Told what whoever began the trace decided, as `sampled`.
pub(crate) type SamplerFn = dyn Fn(&Ids) -> bool + Send + Sync;

/// Asks another tracing library which of its spans the thread is in.
pub(crate) type AmbientFn = fn() -> Option<Ambient>;

/// What the sinks want streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Streams {
    pub(crate) spans: bool,
    pub(crate) events: bool,
    pub(crate) fields: bool,
    /// Activations of async spans, one by one.
    pub(crate) polls: bool,
    /// Trace and span ids.
    pub(crate) ids: bool,
    /// Everything inside sampled roots, whatever else is streamed.
    pub(crate) trees: bool,
    /// CPU time of activations.
    pub(crate) cpu: bool,
}

/// The state that all threads of one layer share.
pub(crate) struct Capture {
    /// Tells captures in one process apart; never 0.
    pub(super) id: u32,
    /// The id in the upper half and in the lower the epoch, which counts resets and is [`CLOSED`] in the end: all that
    /// a callback compares in order to know that it has the right part of the right capture.
    pub(super) key: AtomicU64,
    pub(super) clock: Clock,
    pub(super) streams: Streams,
    pub(super) registry: Registry,
    pub(super) spilled: Spilled,
    pub(super) counters: Counters,
    pub(super) id_keys: IdKeys,
    pub(super) carried: CarriedTable,
    pub(super) marks: Option<Box<dyn SpanMarks>>,
    /// Whether a frame is more than times and numbers: it has ids or a range in another tool. One question, because it is
    /// asked for every span.
    pub(super) has_rich_frames: bool,
    /// From this length on activations are worth measuring their CPU time.
    pub(super) long_ticks: u64,
    pub(super) gpu_reports: Reports,
    pub(super) sampling: Sampling,
    ambient: Option<AmbientFn>,
    sampler: Option<Box<SamplerFn>>,
    /// Whether another layer's ids are taken over.
    adopts: AtomicBool,
    /// Whether calls into the driver of a GPU are noted.
    notes_gpu_calls: AtomicBool,
    /// What devices are measured with besides, for those who only know the layer.
    #[cfg(feature = "cuda")]
    pub(super) of_gpu: OnceLock<Arc<dyn Any + Send + Sync>>,
    overflow: Overflow,
    /// Tick of the start or of the last reset.
    began: AtomicU64,
    pub(super) threads: Mutex<Vec<Arc<ThreadShared>>>,
    /// Held while a ring is emptied: at the end, whoever takes over from a slow collector may meet it.
    pub(super) draining: Mutex<()>,
    next_thread: AtomicU32,
    pub(super) ring_bytes: AtomicUsize,
    collector: OnceLock<Thread>,
    collector_sleeps: AtomicBool,
    /// The last epoch before the end.
    last_epoch: AtomicU32,
    /// How many activations each span had that was open at the last reset, by sequence number.
    before_reset: Mutex<HashMap<u64, u32>>,
}

const CLOSED: u32 = u32::MAX;

/// A new ring gets one of this many parts of the memory for records that is left. Where operations are made of the
/// records, four times as much: those are larger, and the collector has to share the processor with the exporter.
const RING_SHARE: usize = 16;
/// The smallest ring worth having: some 200 records.
const MIN_RING_WORDS: usize = 1024;
/// The largest: 1 MiB, some 26,000 records, which a program at full speed fills in 3 ms.
const MAX_RING_WORDS: usize = 1 << 17;

/// Where only sampled trees are streamed, this part of the memory for records is enough.
const TREE_PART: usize = 8;
/// The largest ring then: 128 KiB, some 5,000 records; the collector is woken when it is half full.
const TREE_RING_WORDS: usize = 1 << 14;

/// How long a thread that waits for room sleeps before it looks again.
const ROOM_WAIT: Duration = Duration::from_micros(50);

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Capture {
    pub(crate) fn new(settings: Settings) -> Capture {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let Settings {
            clock,
            limits,
            streams,
            overflow,
            held,
            ambient,
            sampler,
            marks,
        } = settings;
        let id = NEXT.fetch_add(1, Relaxed);
        Capture {
            id,
            key: AtomicU64::new(u64::from(id) << 32),
            streams,
            registry: Registry::new(limits, streams.fields, streams.trees, held),
            spilled: Spilled::new(limits.max_open_spans),
            counters: Counters::default(),
            id_keys: IdKeys::new(random()),
            carried: CarriedTable::default(),
            long_ticks: clock.scale().ticks(Nanos(LONG_NS)),
            has_rich_frames: streams.ids || streams.cpu || marks.is_some(),
            marks,
            gpu_reports: Reports::default(),
            sampling: Sampling::default(),
            ambient,
            sampler,
            adopts: AtomicBool::new(false),
            notes_gpu_calls: AtomicBool::new(false),
            #[cfg(feature = "cuda")]
            of_gpu: OnceLock::new(),
            overflow,
            began: AtomicU64::new(clock.tick()),
            clock,
            threads: Mutex::default(),
            draining: Mutex::default(),
            // Thread 0 would give its spans sequence numbers that start at zero, which stands for none.
            next_thread: AtomicU32::new(1),
            ring_bytes: AtomicUsize::new(0),
            collector: OnceLock::new(),
            collector_sleeps: AtomicBool::new(false),
            last_epoch: AtomicU32::new(0),
            before_reset: Mutex::default(),
        }
    }

    /// Returns the site of a callsite.
    pub(super) fn site(&self, metadata: &'static Metadata<'static>) -> Arc<SiteState> {
        let site = self.registry.site(metadata);
        if let Some(marks) = &self.marks
            && metadata.is_span()
        {
            marks.name(site.id, metadata.name());
        }
        site
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn streams(&self) -> Streams {
        self.streams
    }

    /// Says whether calls into the driver of a GPU will be noted: threads that come from now on have room for them.
    #[cfg(feature = "cuda")]
    pub(crate) fn note_gpu_calls(&self, on: bool) {
        self.notes_gpu_calls.store(on, Relaxed);
    }

    /// Whether threads have more to hand to the collector than sampled trees.
    pub(crate) fn streams_more_than_trees(&self) -> bool {
        self.streams.spans || self.streams.events || self.notes_gpu_calls.load(Relaxed)
    }

    /// Whether an output sends requests through crates that are instrumented themselves.
    pub(super) fn hides_own_requests(&self) -> bool {
        self.ambient.is_some()
    }

    /// Makes the ids of an operation, and decides whether its trace is recorded.
    pub(super) fn ids(&self, identity: Identity) -> Ids {
        let mut ids = identity.ids(self.id_keys);
        if let Some(sampler) = &self.sampler
            && !ids.adopted
        {
            ids.sampled = sampler(&ids);
        }
        ids
    }

    /// Has spans take over the ids that another layer of the same subscriber makes for them.
    pub(crate) fn adopt_ids(&self) {
        self.adopts.store(true, Relaxed);
    }

    #[inline]
    pub(super) fn adopts(&self) -> bool {
        self.adopts.load(Relaxed)
    }

    /// Returns the span of another library that this thread is in, where that matters.
    #[inline]
    pub(super) fn ambient(&self) -> Option<Ambient> {
        if !self.adopts() {
            return None;
        }
        self.ambient.and_then(|ambient| ambient())
    }

    pub(super) fn began(&self) -> u64 {
        self.began.load(Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.epoch() == CLOSED
    }

    pub(super) fn epoch(&self) -> u32 {
        Capture::epoch_of(self.key.load(SeqCst))
    }

    pub(super) fn epoch_of(key: u64) -> u32 {
        key as u32
    }

    /// Ends the capture: from now on the layer does nothing.
    pub(crate) fn close(&self) {
        let before = self.key.fetch_or(u64::from(CLOSED), SeqCst);
        let epoch = Capture::epoch_of(before);
        if epoch != CLOSED {
            self.last_epoch.store(epoch, SeqCst);
        }
    }

    /// Returns the epoch that statistics must belong to in order to count.
    fn statistics_epoch(&self) -> u32 {
        match self.epoch() {
            CLOSED => self.last_epoch.load(SeqCst),
            epoch => epoch,
        }
    }

    /// Whether the thread has followed the last reset.
    pub(super) fn is_current(&self, shared: &ThreadShared) -> bool {
        // Pairs with the release in `Local::start_epoch`.
        shared.epoch.load(Acquire) == self.statistics_epoch()
    }

    /// Starts all statistics anew. Each thread follows at its next callback; until then it counts as empty.
    pub(crate) fn reset(&self) {
        self.began.store(self.clock.tick(), Relaxed);
        let next = |key| match Capture::epoch_of(key) {
            CLOSED => None,
            epoch => Some(u64::from(self.id) << 32 | u64::from((epoch + 1) % CLOSED)),
        };
        if self.key.fetch_update(SeqCst, SeqCst, next).is_ok() {
            self.counters.reset();
            self.gpu_reports.reset();
            self.note_open_spans();
        }
    }

    /// Remembers which activations of open spans are forgotten, so that those are not taken for polls of this epoch.
    fn note_open_spans(&self) {
        let mut before = HashMap::new();
        self.for_each_open(&self.threads(), |state| {
            before.insert(state.seq.load(Relaxed), state.activations());
        });
        for shared in self.threads() {
            let depth = shared.depth.load(Acquire);
            for frame in (0..depth).map_while(|at| shared.shared_frame(at)) {
                // What goes on will end in this epoch.
                if frame.count() != FrameCount::Nothing
                    && let Some(activations) = before.get_mut(&frame.seq.load(Relaxed))
                {
                    *activations = activations.saturating_sub(1);
                }
            }
        }
        before.retain(|_, activations| *activations > 0);
        *lock(&self.before_reset) = before;
    }

    /// Returns how many of an open span's activations are older than the last reset.
    pub(super) fn before_reset(&self, state: &SpanState) -> u32 {
        if self.statistics_epoch() == 0 {
            return 0;
        }
        let before = lock(&self.before_reset);
        before.get(&state.seq.load(Relaxed)).copied().unwrap_or(0)
    }

    /// Forgets what was before the last reset of a span that closes.
    pub(super) fn take_before_reset(&self, state: &SpanState) -> u32 {
        if self.statistics_epoch() == 0 {
            return 0;
        }
        let mut before = lock(&self.before_reset);
        before.remove(&state.seq.load(Relaxed)).unwrap_or(0)
    }

    pub(super) fn for_each_open(
        &self,
        threads: &[Arc<ThreadShared>],
        mut visit: impl FnMut(&SpanState),
    ) {
        let mut visit = |state: &SpanState| {
            if state.id.load(Relaxed) != 0 {
                visit(state);
            }
        };
        for shared in threads {
            shared.own.iter().for_each(&mut visit);
        }
        self.spilled.for_each(visit);
    }

    /// Returns how many activations of an open span are one more of an async span.
    pub(super) fn polls(&self, state: &SpanState) -> u64 {
        if state.has(HELD) {
            return 0;
        }
        let activations = state.activations().saturating_sub(self.before_reset(state));
        u64::from(activations.saturating_sub(1))
    }

    /// Registers a thread under the next index.
    pub(super) fn add_thread(&self, thread: impl FnOnce(u32) -> ThreadShared) -> Arc<ThreadShared> {
        let shared = Arc::new(thread(self.next_thread.fetch_add(1, Relaxed)));
        lock(&self.threads).push(Arc::clone(&shared));
        shared
    }

    pub(super) fn threads(&self) -> Vec<Arc<ThreadShared>> {
        lock(&self.threads).clone()
    }

    /// Allocates a ring within the declared memory, smaller if need be.
    pub(super) fn new_ring(&self) -> Option<Ring> {
        let only_trees = !self.streams_more_than_trees();
        if only_trees && !self.streams.trees {
            return None;
        }
        let limit = match only_trees {
            true => self.registry.limits.max_record_bytes / TREE_PART,
            false => self.registry.limits.max_record_bytes,
        };
        let mut words = 0;
        let take = |used: usize| {
            // A share of what is left, so that the first threads have room to spare and late ones are not left out.
            let (share, most) = match self.streams.ids {
                true => (RING_SHARE / 4, MAX_RING_WORDS * 4),
                false if only_trees => (RING_SHARE, TREE_RING_WORDS),
                false => (RING_SHARE, MAX_RING_WORDS),
            };
            let share = limit.saturating_sub(used) / share / 8;
            words = 1 << share.clamp(MIN_RING_WORDS, most).ilog2();
            (used + words * 8 <= limit).then_some(used + words * 8)
        };
        let taken = self.ring_bytes.fetch_update(Relaxed, Relaxed, take);
        taken.is_ok().then(|| Ring::new(words))
    }

    /// Finds the state of a span in the table of another thread, or among those that fit into none.
    pub(super) fn find(&self, id: u64) -> Option<Found> {
        if is_forked_child() {
            return None;
        }
        if let Some(state) = self.spilled.get(id) {
            return Some(Found::Spilled(state));
        }
        let threads = lock(&self.threads);
        // The newest first: where a thread ended without closing a span, a later one may use the id again.
        threads.iter().rev().find_map(|shared| {
            let index = id as usize % shared.own.len();
            let taken = shared.own[index].id.load(Relaxed);
            (taken == id).then(|| Found::Table(Arc::clone(shared), index))
        })
    }

    pub(super) fn is_any_ring_filling(&self, threads: &[Arc<ThreadShared>]) -> bool {
        let mut rings = threads.iter().filter_map(|shared| shared.ring.as_ref());
        rings.any(Ring::is_filling)
    }

    /// Tells the capture which thread empties the rings.
    pub(crate) fn set_collector(&self, thread: Thread) {
        // Set once, by the collector itself, before it first sleeps.
        let _ = self.collector.set(thread);
    }

    /// Puts the collector to sleep until a ring is half full, it is woken, or the time is over.
    pub(crate) fn sleep_collector(&self, timeout: Duration) {
        self.collector_sleeps.store(true, SeqCst);
        std::thread::park_timeout(timeout);
        self.collector_sleeps.store(false, SeqCst);
    }

    /// Wakes the collector if it sleeps; costs one load if it does not.
    pub(crate) fn wake_collector(&self) {
        if self.collector_sleeps.load(Relaxed)
            && self.collector_sleeps.swap(false, SeqCst)
            && let Some(collector) = self.collector.get()
        {
            collector.unpark();
        }
    }

    /// Wakes the collector in any case, so that it sees what was asked of it before it sleeps again.
    pub(crate) fn call_collector(&self) {
        if let Some(collector) = self.collector.get() {
            collector.unpark();
        }
    }

    /// Returns the time since the start or the last reset.
    pub(crate) fn elapsed(&self) -> Nanos {
        let ticks = self.clock.tick().saturating_sub(self.began());
        self.clock.scale().length(ticks)
    }

    /// Waits a little for room in a ring; returns whether waiting makes sense.
    pub(super) fn wait_for_room(&self) -> bool {
        if self.overflow != Overflow::Block || self.is_closed() || is_forked_child() {
            return false;
        }
        std::thread::sleep(ROOM_WAIT);
        true
    }
}

/// Numbers that nobody can guess. The standard library seeds its hashers by the operating system.
fn random() -> [u64; 3] {
    std::array::from_fn(|_| RandomState::new().build_hasher().finish())
}
