//! One entered span on a thread's stack.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::model::{FrameCount, PathId};

/// One entered span.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The subscriber's id.
    pub(super) id: AtomicU64,
    pub(super) seq: AtomicU64,
    pub(super) entered: AtomicU64,
    /// Ticks in spans entered and left inside.
    pub(super) child: AtomicU64,
    /// The node of the thread's tree in the upper half, flags in the lower.
    node_and_flags: AtomicU64,
    /// Which activation of its span this is, from 1.
    pub(super) activation: AtomicU32,
    /// The node's path, for the frame's children and for other threads.
    path: AtomicU32,
    // Written only where a sink wants ids; see `place`.
    /// The number of the operation; its span id where [`FRAME_ADOPTED`] is set.
    pub(super) operation: AtomicU64,
    /// The number of the trace's root, or with [`FRAME_FOREIGN`] the two halves of its id.
    pub(super) trace: AtomicU64,
    pub(super) trace_high: AtomicU64,
}

impl Frame {
    #[inline]
    pub(super) fn node(&self) -> u32 {
        (self.node_and_flags.load(Relaxed) >> 32) as u32
    }

    #[inline]
    pub(super) fn node_and_flags(&self) -> (u32, u32) {
        let both = self.node_and_flags.load(Relaxed);
        ((both >> 32) as u32, both as u32)
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
    pub(super) fn set_node_and_flags(&self, both: u64) {
        self.node_and_flags.store(both, Relaxed);
    }

    pub(super) fn copy_from(&self, other: &Frame) {
        let copy64 = |to: &AtomicU64, from: &AtomicU64| to.store(from.load(Relaxed), Relaxed);
        copy64(&self.id, &other.id);
        copy64(&self.seq, &other.seq);
        copy64(&self.entered, &other.entered);
        copy64(&self.child, &other.child);
        copy64(&self.node_and_flags, &other.node_and_flags);
        copy64(&self.operation, &other.operation);
        copy64(&self.trace, &other.trace);
        copy64(&self.trace_high, &other.trace_high);
        let activation = other.activation.load(Relaxed);
        self.activation.store(activation, Relaxed);
        self.set_path(other.path());
    }

    /// Says what this activation, which goes on, counts as.
    pub(super) fn count(&self) -> FrameCount {
        let (_, flags) = self.node_and_flags();
        if flags & FRAME_NESTED != 0 {
            FrameCount::Nothing
        } else if flags & FRAME_AGAIN == 0 {
            FrameCount::Span
        } else if flags & FRAME_HELD != 0 {
            FrameCount::Call
        } else {
            FrameCount::Poll
        }
    }

    pub(super) fn add_flag(&self, flag: u32) {
        let both = self.node_and_flags.load(Relaxed);
        self.node_and_flags.store(both | u64::from(flag), Relaxed);
    }
}

/// The frame belongs to a held span.
pub(super) const FRAME_HELD: u32 = 1;
/// The thread had entered the span already: its time is the outer frame's.
pub(super) const FRAME_NESTED: u32 = 1 << 1;
/// The activation counts for a node that an outer frame counts for too.
pub(super) const FRAME_FOLDED: u32 = 1 << 2;
/// A frame below was left first, so that the two overlap without nesting.
pub(super) const FRAME_OVERLAPS: u32 = 1 << 3;
/// An error was recorded in this activation.
pub(super) const FRAME_ERROR: u32 = 1 << 4;
/// Not the first activation of its span.
pub(super) const FRAME_AGAIN: u32 = 1 << 5;
/// The activation counts for `(other)`, because the tree is full.
pub(super) const FRAME_OTHER: u32 = 1 << 6;
/// The trace began elsewhere.
pub(super) const FRAME_FOREIGN: u32 = 1 << 7;
/// Who began the trace does not want it recorded.
pub(super) const FRAME_UNSAMPLED: u32 = 1 << 8;
/// There is a `tracestate` or baggage to hand on.
pub(super) const FRAME_CARRIES: u32 = 1 << 9;
/// Another layer made the ids.
pub(super) const FRAME_ADOPTED: u32 = 1 << 10;
/// A range in another tool belongs to it.
pub(super) const FRAME_MARKED: u32 = 1 << 11;
/// The thread has a [`Timed`](super::cpu_time::Timed) for the frame.
pub(super) const FRAME_TIMED: u32 = 1 << 12;
/// All that says where in which trace the frame is.
pub(super) const FRAME_PLACE: u32 = FRAME_FOREIGN | FRAME_UNSAMPLED | FRAME_CARRIES | FRAME_ADOPTED;
