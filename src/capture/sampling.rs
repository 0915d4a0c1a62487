//! Which roots' trees are streamed where nobody asked for everything.
//!
//! Whole roots are sampled, because half a tree says nothing. Whether one is, is decided when it is first entered; what
//! happens inside inherits the decision through the frames of the stack and the states of open spans, in bits that say
//! which of the open sampled trees it is. All other spans pay for looking at those bits, which they read anyway.
//!
//! The collector grants samples: with each grant every thread may sample one more root of every site. It stops granting
//! while there are more records than their price allows, so that the cost has a bound whatever the program does.

use std::sync::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use super::capture::Capture;
use super::local::{ThreadShared, Work};
use super::lock;
use super::ring::Ring;
use super::span_state::SpanState;

/// The bits that say which tree a span is in: the slot plus one, 0 for none. The same in the flags of frames and of
/// states.
pub(super) const TREE: u32 = 0xFF << TREE_SHIFT;
const TREE_SHIFT: u32 = 24;

/// The most sampled trees whose root is open. Beyond it further roots are not sampled.
const SLOTS: usize = 255;
/// The most records of one tree. What follows is not streamed, and the tree counts as truncated.
const MAX_RECORDS: i32 = 10_000;
/// Roots of each site that the first thread samples whatever was granted, so that a short run has some. The second one
/// samples half as many and so on, so that a thousand threads do not sample a thousand times as much.
const FIRST_ROOTS: u32 = 16;
/// After this many roots in a row for which nothing was left a thread looks for samples no more until the next grant: a
/// thread with so many roots at a time need not ask for each of them which site it is of.
const MOST_MISSES: u32 = 1024;
/// The most cut trees that wait for the collector.
const MAX_CUT: usize = 1024;

/// The open sampled trees of a capture.
#[derive(Debug)]
pub(super) struct Sampling {
    /// Counts up with every grant.
    grant: AtomicU32,
    /// There are too many records at the moment.
    exhausted: AtomicBool,
    slots: [Slot; SLOTS],
    /// Where to look for a free slot first.
    next: AtomicU32,
    /// Roots whose tree was cut, by sequence number.
    cut: Mutex<Vec<u64>>,
}

/// An open sampled tree.
#[derive(Debug, Default)]
struct Slot {
    /// The sequence number of the root, 0 if the slot is free.
    root: AtomicU64,
    /// How many records more the tree may have.
    left: AtomicI32,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            grant: AtomicU32::new(1),
            exhausted: AtomicBool::new(false),
            slots: std::array::from_fn(|_| Slot::default()),
            next: AtomicU32::new(0),
            cut: Mutex::default(),
        }
    }
}

impl Sampling {
    #[inline]
    pub(super) fn granted(&self) -> u32 {
        self.grant.load(Relaxed)
    }

    /// Finds a slot for a new tree; returns its bits, none if all are taken.
    fn claim(&self, root: u64) -> u32 {
        let first = self.next.fetch_add(1, Relaxed) as usize;
        for offset in 0..SLOTS {
            let index = (first + offset) % SLOTS;
            let slot = &self.slots[index];
            let claimed = slot.root.compare_exchange(0, root, AcqRel, Relaxed);
            if claimed.is_ok() {
                slot.left.store(MAX_RECORDS, Relaxed);
                return (index as u32 + 1) << TREE_SHIFT;
            }
        }
        0
    }

    fn slot(&self, bits: u32) -> Option<&Slot> {
        let index = ((bits & TREE) >> TREE_SHIFT).checked_sub(1)?;
        self.slots.get(index as usize)
    }

    /// Takes one of the records that a tree may have; returns whether there was one.
    fn take(&self, bits: u32) -> bool {
        let Some(slot) = self.slot(bits) else {
            return false;
        };
        // Once below zero it need not go on falling, where it could come around in the end.
        if slot.left.load(Relaxed) <= 0 {
            return false;
        }
        let left = slot.left.fetch_sub(1, Relaxed);
        if left == 1 {
            let mut cut = lock(&self.cut);
            if cut.len() < MAX_CUT {
                cut.push(slot.root.load(Relaxed));
            }
        }
        left > 1
    }

    /// Gives the slot of a tree free if `root` is its root.
    fn release(&self, bits: u32, root: u64) {
        if let Some(slot) = self.slot(bits) {
            // Another span of the tree, or one that outlived it, leaves it alone.
            let _ = slot.root.compare_exchange(root, 0, AcqRel, Relaxed);
        }
    }
}

impl Capture {
    /// Allows each thread to sample one more root of each site, or none until there are fewer records.
    pub(crate) fn grant_samples(&self, enough_left: bool) {
        self.sampling.exhausted.store(!enough_left, Relaxed);
        if enough_left {
            self.sampling.grant.fetch_add(1, Relaxed);
        }
    }

    /// Returns the roots whose tree was cut since the last call.
    pub(crate) fn take_cut(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.sampling.cut))
    }

    /// Decides whether the root that this thread enters at `node` is sampled; returns the bits of its tree.
    #[cold]
    pub(super) fn sample_root(
        &self,
        shared: &ThreadShared,
        work: &mut Work,
        state: &SpanState,
        node: u32,
        is_first: bool,
    ) -> u32 {
        let granted = self.sampling.granted();
        let samples = work.tree.samples(node);
        if samples.grant == granted {
            work.tree.misses += 1;
            if work.tree.misses >= MOST_MISSES {
                work.tree.misses = 0;
                work.tree.idle_grant = granted;
            }
            return 0;
        }
        let first_roots = FIRST_ROOTS / shared.thread.index.max(1);
        if samples.first < first_roots {
            samples.first += 1;
        } else {
            samples.grant = granted;
        }
        // Without room for a tree of usual size it would lose records.
        let is_filling = !self.streams.spans && shared.ring.as_ref().is_none_or(Ring::is_filling);
        if is_filling {
            self.wake_collector();
        }
        if is_filling || self.sampling.exhausted.load(Relaxed) {
            samples.grant = granted;
            return 0;
        }
        work.tree.misses = 0;
        let bits = self.sampling.claim(state.seq.load(Relaxed));
        if is_first && bits != 0 {
            state.set_tree(TREE, bits);
        }
        bits
    }

    /// Counts a poll of a span in a tree; returns whether it is to be streamed.
    #[cold]
    pub(super) fn takes_poll(&self, bits: u32) -> bool {
        self.sampling.take(bits)
    }

    /// Counts an event in a tree, if it is in one; returns whether it is to be streamed.
    #[cold]
    pub(super) fn takes_record(&self, bits: u32) -> bool {
        bits & TREE != 0 && self.sampling.take(bits)
    }

    /// A span ends, or a call through a held one, that may be the root of a tree.
    #[cold]
    pub(super) fn leave_tree(&self, bits: u32, seq: u64) {
        self.sampling.release(bits, seq);
    }
}

/// An operation begins inside the tree with these bits, which need not be the one that its span was created in; returns
/// the bits that hold for it, none if the tree has as many records as it may.
#[cold]
pub(super) fn join_tree(capture: &Capture, state: &SpanState, bits: u32, is_first: bool) -> u32 {
    let bits = match capture.sampling.take(bits) {
        true => bits,
        false => 0,
    };
    if is_first && state.flags() & TREE != bits {
        state.set_tree(TREE, bits);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_serves_one_tree_at_a_time_and_knows_when_it_is_cut() {
        let sampling = Sampling::default();
        let bits = sampling.claim(7);
        for _ in 1..MAX_RECORDS {
            assert!(sampling.take(bits));
        }
        assert!(!sampling.take(bits));
        assert!(!sampling.take(bits));
        assert_eq!(*lock(&sampling.cut), [7]);
        sampling.release(bits, 8);
        assert_eq!(
            sampling.slot(bits).map(|slot| slot.root.load(Relaxed)),
            Some(7)
        );
        sampling.release(bits, 7);
        assert_eq!(
            sampling.slot(bits).map(|slot| slot.root.load(Relaxed)),
            Some(0)
        );
    }

    #[test]
    fn with_all_slots_taken_nothing_is_sampled() {
        let sampling = Sampling::default();
        let claimed: Vec<_> = (1..=SLOTS as u64)
            .map(|root| sampling.claim(root))
            .collect();
        assert!(claimed.iter().all(|&bits| bits != 0));
        assert_eq!(sampling.claim(1_000), 0);
        sampling.release(claimed[3], 4);
        assert_eq!(sampling.claim(1_000), claimed[3]);
    }
}
