//! One thread's part of a capture, and how a callback finds it.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release},
};

use tracing_core::Metadata;

use super::capture::Capture;
use super::cpu_time::{self, Timed};
use super::frame::Frame;
use super::lock;
use super::node::{Node, Tree};
use super::process::is_forked_child;
use super::ring::{Producer, Ring};
use super::sites::SiteState;
use super::span_state::{OWN, SpanState};
use crate::clock::Clock;
use crate::model::{SiteId, Thread};

/// What a thread shares with the collector and with threads that take over its spans.
#[derive(Debug)]
pub(super) struct ThreadShared {
    pub(super) thread: Thread,
    /// The reset that these statistics belong to.
    pub(super) epoch: AtomicU32,
    pub(super) ended: AtomicBool,
    /// How many spans are entered.
    pub(super) depth: AtomicUsize,
    /// Ticks inside at least one span.
    pub(super) busy: AtomicU64,
    pub(super) first: AtomicU64,
    pub(super) last: AtomicU64,
    /// All nodes but the root, in the order of the thread's tree.
    pub(super) nodes: Mutex<Vec<Arc<Node>>>,
    pub(super) ring: Option<Ring>,
    frames: [Frame; SHARED_FRAMES],
    pub(super) own: [SpanState; OWN],
}

/// Frames that the sampler and the live profile can see; deeper ones are the thread's alone.
const SHARED_FRAMES: usize = 64;

impl ThreadShared {
    fn new(thread: Thread, epoch: u32, now: u64, ring: Option<Ring>) -> ThreadShared {
        // The main thread runs since before the capture began; others are observed from their first span.
        ThreadShared {
            thread,
            epoch: AtomicU32::new(epoch),
            ended: AtomicBool::new(false),
            depth: AtomicUsize::new(0),
            busy: AtomicU64::new(0),
            first: AtomicU64::new(now),
            last: AtomicU64::new(now),
            nodes: Mutex::default(),
            ring,
            frames: std::array::from_fn(|_| Frame::default()),
            own: [const { SpanState::unused() }; OWN],
        }
    }

    /// Returns a frame that other threads can see too.
    pub(super) fn shared_frame(&self, depth: usize) -> Option<&Frame> {
        self.frames.get(depth)
    }

    #[inline]
    pub(super) fn own_state(&self, id: u64) -> &SpanState {
        &self.own[id as usize % OWN]
    }

    /// Whether a span that was created here is still open.
    pub(super) fn has_open_spans(&self) -> bool {
        self.own.iter().any(|state| state.id.load(Relaxed) != 0)
    }
}

/// A thread's part of one capture.
#[derive(Debug)]
pub(super) struct Local {
    capture: u32,
    epoch: u32,
    /// Tells when the thread ends.
    clock: Clock,
    pub(super) shared: Arc<ThreadShared>,
    pub(super) work: Work,
}

/// What only the thread itself needs.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) tree: Tree,
    pub(super) producer: Producer,
    pub(super) deep: Vec<Frame>,
    next_seq: u64,
    sites: Box<[SiteEntry; SITES]>,
    pub(super) found: Vec<super::found::Found>,
    /// The ranges of another tool that this thread has open, one per frame; empty where there is no such tool.
    pub(super) marks: Vec<SiteId>,
    /// The CPU times of the frames; empty where they are not measured.
    pub(super) timed: Vec<Timed>,
}

#[derive(Debug, Clone, Default)]
struct SiteEntry {
    address: usize,
    state: Option<Arc<SiteState>>,
}

const SITES: usize = 128;

/// Sequence numbers carry the thread in the upper bits, so that threads need not agree on them.
pub(super) const SEQ_BITS: u32 = 40;

impl Work {
    fn new(thread: u32) -> Work {
        Work {
            tree: Tree::new(),
            producer: Producer::new(),
            deep: Vec::new(),
            next_seq: u64::from(thread) << SEQ_BITS,
            sites: Box::new(std::array::from_fn(|_| SiteEntry::default())),
            found: Vec::new(),
            marks: Vec::new(),
            timed: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn next_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// The newest sequence number.
    pub(super) fn last_seq(&self) -> u64 {
        self.next_seq
    }

    #[inline]
    pub(super) fn frame<'a>(&'a self, shared: &'a ThreadShared, depth: usize) -> &'a Frame {
        match shared.frames.get(depth) {
            Some(frame) => frame,
            None => &self.deep[depth - SHARED_FRAMES],
        }
    }

    /// Makes sure that a frame exists beyond the shared ones.
    #[inline]
    pub(super) fn reserve_frame(&mut self, depth: usize) {
        if depth >= SHARED_FRAMES && depth - SHARED_FRAMES >= self.deep.len() {
            self.deep.push(Frame::default());
        }
    }

    /// Whether this thread created the span.
    pub(super) fn created(&self, state: &SpanState) -> bool {
        state.seq.load(Relaxed) >> SEQ_BITS == self.next_seq >> SEQ_BITS
    }

    /// Returns the site of a callsite and its flags.
    #[inline]
    pub(super) fn site(
        &mut self,
        capture: &Capture,
        metadata: &'static Metadata<'static>,
    ) -> (SiteId, u32) {
        let address = std::ptr::from_ref(metadata).addr();
        // Callsites are statics of well over 64 bytes, so the lower bits say little.
        let entry = &mut self.sites[(address >> 6) % SITES];
        match &entry.state {
            Some(state) if entry.address == address => (state.id, state.flags()),
            _ => entry.fill(address, capture.site(metadata)),
        }
    }
}

impl SiteEntry {
    #[cold]
    fn fill(&mut self, address: usize, state: Arc<SiteState>) -> (SiteId, u32) {
        let known = (state.id, state.flags());
        self.address = address;
        self.state = Some(state);
        known
    }
}

struct Locals {
    /// [`Capture::key`] as it was when `current` was last brought up to date; 0 where there is none.
    key: u64,
    current: Option<Box<Local>>,
    /// Parts of other captures in the same process.
    #[expect(
        clippy::vec_box,
        reason = "a part changes places with `current` without being copied"
    )]
    others: Vec<Box<Local>>,
}

thread_local! {
    // Without a destructor of its own, so that a callback need not ask whether that has run; `END` does its work.
    static LOCALS: RefCell<ManuallyDrop<Locals>> = const {
        RefCell::new(ManuallyDrop::new(Locals { key: 0, current: None, others: Vec::new() }))
    };
    static END: End = const { End };
    static SUPPRESSED: Cell<bool> = const { Cell::new(false) };
}

/// Ends the thread's parts of all captures when the thread ends.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        LOCALS.with(|locals| {
            // Borrowed only if the thread ends inside a callback, which then keeps its part for good.
            if let Ok(mut locals) = locals.try_borrow_mut() {
                locals.key = 0;
                drop(locals.current.take());
                locals.others.clear();
            }
        });
    }
}

/// Keeps all captures from recording what this thread does. For the crate's own threads.
pub(crate) fn suppress_on_this_thread() {
    SUPPRESSED.set(true);
}

/// Whether [`suppress_on_this_thread`] was called.
pub(super) fn is_suppressed_on_this_thread() -> bool {
    SUPPRESSED.try_with(Cell::get).unwrap_or(true)
}

/// Runs `work` on this thread's part of the capture; not at all where there is none.
///
/// `work` must not call into the user's code, which could come back here.
#[inline]
pub(super) fn with<R>(capture: &Capture, work: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCALS.with(|locals| {
        let mut locals = locals.try_borrow_mut().ok()?;
        if locals.key != capture.key.load(Relaxed) {
            locals.select(capture)?;
        }
        locals.current.as_mut().map(|local| work(local))
    })
}

/// Has this thread's next callback ask anew whether there is anything to record.
#[cfg(any(unix, test))]
pub(super) fn ask_again() {
    LOCALS.with(|locals| {
        if let Ok(mut locals) = locals.try_borrow_mut() {
            locals.key = 0;
        }
    });
}

/// Gives up this thread's part of a capture that nobody will use again.
pub(super) fn forget(capture: &Capture) {
    LOCALS.with(|locals| {
        let Ok(mut locals) = locals.try_borrow_mut() else {
            return;
        };
        if locals
            .current
            .take_if(|local| local.capture == capture.id)
            .is_some()
        {
            locals.key = 0;
        }
        locals.others.retain(|local| local.capture != capture.id);
    });
}

impl Locals {
    /// Makes the capture's part the current one, creating it or bringing it up to date.
    #[cold]
    fn select(&mut self, capture: &Capture) -> Option<()> {
        self.key = 0;
        if END.try_with(|_| ()).is_err() {
            capture.counters.teardown.fetch_add(1, Relaxed);
            return None;
        }
        if SUPPRESSED.get() || capture.is_closed() || is_forked_child() {
            return None;
        }
        if self
            .current
            .as_ref()
            .is_none_or(|local| local.capture != capture.id)
        {
            let next = match self
                .others
                .iter()
                .position(|local| local.capture == capture.id)
            {
                Some(at) => self.others.swap_remove(at),
                None => Box::new(Local::new(capture)),
            };
            self.others.extend(self.current.replace(next));
            // Parts of captures that are gone, which nobody else holds.
            self.others
                .retain(|local| Arc::strong_count(&local.shared) > 1);
        }
        let local = self.current.as_mut()?;
        let key = capture.key.load(Relaxed);
        let epoch = Capture::epoch_of(key);
        if local.epoch != epoch {
            local.start_epoch(capture, epoch);
        }
        self.key = key;
        Some(())
    }
}

impl Local {
    fn new(capture: &Capture) -> Local {
        let now = capture.clock.tick();
        let epoch = capture.epoch();
        let shared = capture.add_thread(|index| {
            let current = std::thread::current();
            let thread = Thread::new(index, os_thread_id(), current.name().map(Arc::from));
            let first = match current.name() {
                Some("main") => capture.began(),
                _ => now,
            };
            ThreadShared::new(thread, epoch, first, capture.new_ring())
        });
        Local {
            capture: capture.id,
            epoch,
            clock: capture.clock.clone(),
            work: Work::new(shared.thread.index),
            shared,
        }
    }

    /// Starts statistics anew after a reset; spans that are entered go on, from the time of the reset.
    fn start_epoch(&mut self, capture: &Capture, epoch: u32) {
        let began = capture.began();
        let Local { shared, work, .. } = self;
        let old = std::mem::replace(&mut work.tree, Tree::new());
        lock(&shared.nodes).clear();
        for depth in 0..shared.depth.load(Relaxed) {
            let frame = work.frame(shared, depth);
            let (node, flags) = frame.node_and_flags();
            let path = old.node(node).path;
            let node = work
                .tree
                .at_path(&capture.registry, path, |node| shared.add_node(node));
            let frame = work.frame(shared, depth);
            frame.set_node_and_flags(u64::from(node) << 32 | u64::from(flags));
            frame.child.store(0, Relaxed);
            let entered = frame.entered.load(Relaxed).max(began);
            frame.entered.store(entered, Relaxed);
        }
        cpu_time::start_anew(work);
        // Frames that were left still name nodes of the old tree.
        for frame in shared.frames.iter().skip(shared.depth.load(Relaxed)) {
            frame.id.store(0, Relaxed);
        }
        if let Some(ring) = &shared.ring {
            ring.dropped_spans.store(0, Relaxed);
            ring.dropped_events.store(0, Relaxed);
        }
        shared.busy.store(0, Relaxed);
        shared.first.store(began, Relaxed);
        shared.last.store(began, Relaxed);
        shared.epoch.store(epoch, Release);
        self.epoch = epoch;
    }
}

impl ThreadShared {
    /// Makes a new node of this thread's tree known to readers.
    pub(super) fn add_node(&self, node: &Arc<Node>) {
        lock(&self.nodes).push(Arc::clone(node));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.last.store(self.clock.tick(), Relaxed);
        // Pairs with the acquire in `Capture::take_ended`: all that this thread wrote is visible there.
        self.shared.ended.store(true, Release);
    }
}

/// Returns the id under which the operating system knows this thread.
fn os_thread_id() -> Option<u32> {
    // `/proc/thread-self` is a link to `<pid>/task/<tid>`; absent outside Linux.
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tracing_core::callsite::DefaultCallsite;
    use tracing_core::metadata::Kind;
    use tracing_core::{Level, metadata};

    use super::*;
    use crate::capture::lifecycle::Declared;
    use crate::capture::{Limits, Overflow, Settings, Streams, enter, exit, lifecycle};
    use crate::clock::ManualClock;

    static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
    static METADATA: Metadata<'static> = metadata! {
        name: "work",
        target: "test",
        level: Level::INFO,
        fields: &[],
        callsite: &CALLSITE,
        kind: Kind::SPAN,
    };

    fn capture() -> Capture {
        Capture::new(Settings {
            clock: Clock::manual(ManualClock::new()),
            limits: Limits {
                max_record_bytes: 1 << 20,
                max_tree_nodes: 100,
                max_path_depth: 10,
                max_field_bytes: 100,
                max_open_spans: 100,
            },
            streams: Streams::default(),
            overflow: Overflow::DropNewest,
            held: None,
            ambient: None,
            sampler: None,
            marks: None,
        })
    }

    fn open(capture: &Capture, id: u64) {
        with(capture, |local| {
            lifecycle::open(capture, local, &METADATA, Declared::Root, id)
        });
    }

    fn enter_and_exit(capture: &Capture, id: u64) {
        with(capture, |local| {
            enter::enter(capture, local, id, || None);
            exit::exit(capture, local, id);
        });
    }

    fn calls(capture: &Capture) -> i64 {
        let mut progress = HashMap::new();
        capture.progress(&mut progress);
        progress.values().map(|path| path.calls).sum()
    }

    #[test]
    fn a_thread_that_lives_on_keeps_no_part_of_captures_that_are_gone() {
        std::thread::spawn(|| {
            for _ in 0..5 {
                open(&capture(), 1);
            }
            let (a, b) = (capture(), capture());
            for _ in 0..3 {
                open(&a, 1);
                open(&b, 1);
            }
            LOCALS.with(|locals| assert_eq!(locals.borrow().others.len(), 1));
        })
        .join()
        .unwrap();
    }

    /// Throughput by window must not take ten polls of one open span for ten operations.
    #[test]
    fn polls_of_an_open_span_are_no_operations() {
        let capture = capture();
        open(&capture, 1);
        for _ in 0..10 {
            enter_and_exit(&capture, 1);
        }
        assert_eq!(calls(&capture), 1);
        with(&capture, |local| lifecycle::close(&capture, local, 1));
        assert_eq!(calls(&capture), 1);
    }

    #[test]
    fn after_asking_again_a_closed_capture_records_nothing() {
        let capture = capture();
        open(&capture, 1);
        ask_again();
        enter_and_exit(&capture, 1);
        assert_eq!(calls(&capture), 1);
        capture.close();
        ask_again();
        enter_and_exit(&capture, 1);
        assert_eq!(calls(&capture), 1);
    }
}
