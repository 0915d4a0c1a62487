//! What `capture` hands to `aggregate`: one thread's statistics as plain numbers, in ticks.

use std::collections::HashMap;
use std::sync::Arc;

use super::{GpuReported, Losses, Nanos, OnCpu, Point, Site, SiteId, Thread, TickScale};

/// The layout of the recorder's buckets, known to the side that fills them and the side that merges them.
///
/// Log-linear: values below 64 have a bucket each; above, every power of two is cut into 64 equal parts, so the middle
/// of a bucket is within 1/128 (0.8 %) of every value in it.
pub(crate) mod buckets {
    /// Buckets in one page, and parts of one power of two.
    pub(crate) const PER_PAGE: usize = 64;
    const BITS: u32 = PER_PAGE.trailing_zeros();

    /// Pages of a recorder: values up to 2^43 ticks, which is 49 minutes at 3 GHz and 2.4 hours in nanoseconds.
    pub(crate) const PAGES: usize = 38;

    /// The largest value with a bucket of its own; larger ones are outliers in the last bucket.
    pub(crate) const MAX: u64 = (1 << (BITS as usize + PAGES - 1)) - 1;

    /// Returns the page and the place in the page of a value that is at most [`MAX`].
    #[inline]
    pub(crate) fn locate(value: u64) -> (usize, usize) {
        if value < PER_PAGE as u64 {
            return (0, value as usize);
        }
        let shift = value.ilog2() - BITS;
        // The highest bit says the page, the next six the place.
        let place = (value >> shift) as usize & (PER_PAGE - 1);
        (shift as usize + 1, place)
    }

    /// Returns the middle of a bucket.
    pub(crate) fn middle(page: usize, place: usize) -> u64 {
        if page == 0 {
            return place as u64;
        }
        let shift = page - 1;
        let low = (PER_PAGE as u64 + place as u64) << shift;
        low + ((1_u64 << shift) >> 1)
    }
}

/// One node of the call tree, the same number on all threads. Number 0 is the root, which is no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct PathId(pub(crate) u32);

impl PathId {
    pub(crate) const ROOT: PathId = PathId(0);
}

/// The call tree's shape: for each [`PathId`] its parent and its site. A parent has a smaller number than its children.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathTable {
    /// Indexed by `PathId`; entry 0 is the root.
    pub(crate) nodes: Vec<(PathId, SiteId)>,
}

/// What has been done under one path so far, on some of the threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PathProgress {
    /// Operations. Below zero where async spans close on these threads that were polled on others.
    pub(crate) calls: i64,
    /// Activations that have ended, and their ticks.
    pub(crate) activations: Ended,
    /// Async spans that have closed, and their ticks from open to close.
    pub(crate) spans: Ended,
    /// The longest of them, in ticks.
    pub(crate) longest: u64,
}

/// How many there were, and how many ticks they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) count: u64,
    pub(crate) ticks: u64,
}

impl PathProgress {
    /// Adds what other threads did.
    pub(crate) fn add(&mut self, other: PathProgress) {
        self.calls += other.calls;
        self.activations.add(other.activations);
        self.spans.add(other.spans);
        self.longest = self.longest.max(other.longest);
    }
}

/// How one path's operations are spread on the threads that live: what is needed to tell slow ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathSpread {
    /// `(page, place, count)`, in no order.
    pub(crate) activations: Vec<(u8, u8, u64)>,
    /// The same of async spans that have closed; where there are any, these are the operations.
    pub(crate) spans: Vec<(u8, u8, u64)>,
}

impl PathSpread {
    /// Returns the buckets of operations.
    pub(crate) fn operations(&self) -> &[(u8, u8, u64)] {
        match self.spans.is_empty() {
            true => &self.activations,
            false => &self.spans,
        }
    }
}

impl Ended {
    pub(crate) fn add(&mut self, other: Ended) {
        self.count += other.count;
        self.ticks = self.ticks.saturating_add(other.ticks);
    }

    /// Returns what came since `before`.
    pub(crate) fn since(self, before: Ended) -> Ended {
        Ended {
            count: self.count.saturating_sub(before.count),
            ticks: self.ticks.saturating_sub(before.ticks),
        }
    }
}

/// Filled buckets and exact figures of one recorder.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecorderSnapshot {
    /// `(page, place, count)` of each filled bucket, by rising value.
    pub(crate) buckets: Vec<(u8, u8, u64)>,
    pub(crate) sum: u64,
    /// `u64::MAX` when empty.
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) outliers: u64,
}

/// One thread's share of one call-tree node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeSnapshot {
    pub(crate) path: PathId,
    /// `spans - activations` and `calls - activations`: zero for plain spans, which are most.
    pub(crate) spans_delta: i64,
    pub(crate) calls_delta: i64,
    pub(crate) errors: u64,
    pub(crate) busy: u64,
    pub(crate) self_time: u64,
    /// Activations that began with nothing around them, and so cost their parent nothing.
    pub(crate) detached: u64,
    pub(crate) activation: RecorderSnapshot,
    /// Latency of async spans that closed here, and their idle time.
    pub(crate) latency: Option<RecorderSnapshot>,
    pub(crate) idle: u64,
    /// When the first operation began, and how long it took.
    pub(crate) first: Option<(u64, u64)>,
    pub(crate) cpu: Option<CpuSnapshot>,
}

/// CPU time of the activations for which it was measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuSnapshot {
    pub(crate) activations: u64,
    pub(crate) self_ticks: u64,
    /// In nanoseconds.
    pub(crate) self_cpu: u64,
}

impl CpuSnapshot {
    pub(crate) fn absorb(&mut self, other: CpuSnapshot) {
        self.activations += other.activations;
        self.self_ticks += other.self_ticks;
        self.self_cpu += other.self_cpu;
    }
}

/// A span that is entered now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameSnapshot {
    pub(crate) path: PathId,
    pub(crate) entered: u64,
    /// Time in spans that were entered and left inside.
    pub(crate) child: u64,
    pub(crate) count: FrameCount,
}

/// What an activation that goes on counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameCount {
    /// The first of its span.
    Span,
    /// A call through a held span.
    Call,
    /// One more of an async span.
    Poll,
    /// The thread had entered the span already.
    Nothing,
}

/// Spans of one path that are open now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenSnapshot {
    pub(crate) path: PathId,
    pub(crate) activations: u64,
    /// Activations beyond the first that are no operations, because the span is not held.
    pub(crate) polls: u64,
    /// Nothing was around it when it was entered, and it is not known to be held.
    pub(crate) root: bool,
}

/// One thread's statistics.
#[derive(Debug, Clone)]
pub(crate) struct ThreadSnapshot {
    pub(crate) thread: Thread,
    pub(crate) ended: bool,
    /// Ticks of the first callback and the last exit.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Time inside at least one span, without the frames that are open now.
    pub(crate) busy: u64,
    pub(crate) nodes: Vec<NodeSnapshot>,
    /// Entered now, the outermost first.
    pub(crate) frames: Vec<FrameSnapshot>,
}

/// What a thread is doing at this moment, for the sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadTop {
    /// [`Thread::index`].
    pub(crate) index: u32,
    /// [`Thread::os_id`].
    pub(crate) os_id: Option<u32>,
    /// The path of the innermost entered span; [`PathId::ROOT`] outside all spans.
    pub(crate) path: PathId,
}

/// What the sampler saw of the threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct ThreadSightings {
    /// Whether the thread was on a CPU, by the path that was on top of it.
    pub(crate) on_cpu: HashMap<PathId, OnCpu>,
    /// CPU time since the thread was first seen, by [`Thread::index`].
    pub(crate) cpu: HashMap<u32, Nanos>,
    /// How many spans were open at each reading, by callsite.
    pub(crate) open: HashMap<SiteId, Vec<Point>>,
    /// Time that the thread was ready without a core, likewise; not there where the kernel does not count it.
    pub(crate) run_queue: HashMap<u32, Nanos>,
    /// CPU time of the crate's own threads.
    pub(crate) background_cpu: Option<Nanos>,
    /// CPU time of the whole process since the capture began.
    pub(crate) process_cpu: Option<Nanos>,
}

/// All that the capture knows at one moment.
#[derive(Debug)]
pub(crate) struct CaptureSnapshot {
    pub(crate) scale: TickScale,
    /// Ticks of the start (or last reset) and of now.
    pub(crate) began: u64,
    pub(crate) now: u64,
    /// Indexed by [`SiteId`].
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) paths: PathTable,
    pub(crate) threads: Vec<ThreadSnapshot>,
    pub(crate) open: Vec<OpenSnapshot>,
    /// In no order.
    pub(crate) reported: Vec<GpuReported>,
    pub(crate) losses: Losses,
    pub(crate) memory_bytes: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::buckets::{MAX, PAGES, PER_PAGE, locate, middle};

    fn values() -> impl Strategy<Value = u64> {
        // Every order of magnitude alike; a uniform value would nearly always be large.
        (0_u32..43, 0..=MAX).prop_map(|(shift, value)| value >> shift)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_bucket_is_in_the_pages_and_its_middle_close_to_its_values(value in values()) {
            let (page, place) = locate(value);
            prop_assert!(page < PAGES && place < PER_PAGE);
            let middle = middle(page, place);
            prop_assert_eq!(locate(middle), (page, place));
            prop_assert!(middle.abs_diff(value) * 128 <= value, "{} for {}", middle, value);
        }

        #[test]
        fn larger_values_are_never_in_smaller_buckets(a in values(), b in values()) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(locate(low) <= locate(high));
        }
    }

    #[test]
    fn the_buckets_are_without_gaps_from_zero_to_the_largest_value() {
        assert_eq!(locate(0), (0, 0));
        assert_eq!(locate(MAX), (PAGES - 1, PER_PAGE - 1));
        for power in 6..43 {
            let first = 1_u64 << power;
            assert_eq!(locate(first), (power - 5, 0));
            assert_eq!(locate(first - 1), (power - 6, PER_PAGE - 1));
        }
    }
}
