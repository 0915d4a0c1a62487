//! The histogram of the hot path: one writer, any number of readers, no lock, pages on first touch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::model::RecorderSnapshot;
use crate::model::buckets;

type Page = [AtomicU32; buckets::PER_PAGE];

/// Durations in ticks, recorded by the owning thread only.
///
/// A store after a load is enough where only one thread writes, and costs a plain `mov`; a read-modify-write would cost
/// twenty times as much. Readers on other threads see each number whole, but not all numbers of the same moment.
#[derive(Debug)]
pub(super) struct Recorder {
    pages: [OnceLock<Box<Page>>; buckets::PAGES],
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    outliers: AtomicU64,
    /// Full buckets handed over, in units of 2^32, as `(page, place)`: once in four billion values.
    carried: std::sync::Mutex<Vec<(u8, u8)>>,
}

impl Recorder {
    pub(super) fn new() -> Recorder {
        Recorder {
            pages: [const { OnceLock::new() }; buckets::PAGES],
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            outliers: AtomicU64::new(0),
            carried: std::sync::Mutex::default(),
        }
    }

    /// Records one value, which is not `u64::MAX`; returns whether it was the first.
    #[inline]
    pub(super) fn record(&self, ticks: u64) -> bool {
        self.sum
            .store(self.sum.load(Relaxed).wrapping_add(ticks), Relaxed);
        if ticks > self.max.load(Relaxed) {
            self.max.store(ticks, Relaxed);
        }
        let mut first = false;
        let min = self.min.load(Relaxed);
        if ticks < min {
            self.min.store(ticks, Relaxed);
            first = min == u64::MAX;
        }
        if ticks > buckets::MAX {
            self.record_outlier();
            return first;
        }
        let (page, place) = buckets::locate(ticks);
        let Some(filled) = self.pages[page].get() else {
            self.fill(page, place);
            return first;
        };
        let count = filled[place].load(Relaxed).wrapping_add(1);
        filled[place].store(count, Relaxed);
        if count == 0 {
            self.carry(page, place);
        }
        first
    }

    #[cold]
    fn fill(&self, page: usize, place: usize) {
        let page = self.pages[page]
            .get_or_init(|| Box::new([const { AtomicU32::new(0) }; buckets::PER_PAGE]));
        page[place].store(1, Relaxed);
    }

    /// Beyond the range: the last bucket counts it, `max` keeps the true value.
    #[cold]
    fn record_outlier(&self) {
        self.outliers
            .store(self.outliers.load(Relaxed) + 1, Relaxed);
        let (page, place) = buckets::locate(buckets::MAX);
        let page = self.pages[page]
            .get_or_init(|| Box::new([const { AtomicU32::new(0) }; buckets::PER_PAGE]));
        page[place].store(page[place].load(Relaxed).saturating_add(1), Relaxed);
    }

    #[cold]
    fn carry(&self, page: usize, place: usize) {
        let mut carried = super::lock(&self.carried);
        carried.push((page as u8, place as u8));
    }

    /// Returns how many values were recorded.
    pub(super) fn count(&self) -> u64 {
        let pages = self.pages.iter().filter_map(OnceLock::get);
        let counts = pages.flat_map(|page| page.iter());
        let carried = super::lock(&self.carried).len() as u64;
        counts
            .map(|count| u64::from(count.load(Relaxed)))
            .sum::<u64>()
            + (carried << 32)
    }

    /// Returns the largest value; zero without any.
    pub(super) fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Adds the filled buckets from the page `first` on.
    pub(super) fn read_from(&self, first: usize, filled: &mut Vec<(u8, u8, u64)>) {
        for (page, counts) in self.pages.iter().enumerate().skip(first) {
            let Some(counts) = counts.get() else { continue };
            for (place, count) in counts.iter().enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    filled.push((page as u8, place as u8, u64::from(count)));
                }
            }
        }
    }

    /// Returns the sum of all values.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// Reads the recorder; exact when its thread is not recording at the moment.
    pub(super) fn snapshot(&self) -> RecorderSnapshot {
        let mut filled = Vec::new();
        for (page, counts) in self.pages.iter().enumerate() {
            let Some(counts) = counts.get() else { continue };
            for (place, count) in counts.iter().enumerate() {
                filled.push((page as u8, place as u8, u64::from(count.load(Relaxed))));
            }
        }
        for &(page, place) in super::lock(&self.carried).iter() {
            for bucket in &mut filled {
                if (bucket.0, bucket.1) == (page, place) {
                    bucket.2 += 1 << 32;
                }
            }
        }
        filled.retain(|bucket| bucket.2 > 0);
        RecorderSnapshot {
            buckets: filled,
            sum: self.sum.load(Relaxed),
            min: self.min.load(Relaxed),
            max: self.max.load(Relaxed),
            outliers: self.outliers.load(Relaxed),
        }
    }

    /// Returns the memory that this recorder holds beyond its own size, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let pages = self.pages.iter().filter(|page| page.get().is_some());
        pages.count() * size_of::<Page>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_never_counts_more_than_was_recorded_nor_less_than_before() {
        const VALUES: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let recorder = Recorder::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for value in 0..VALUES {
                    recorder.record(value * 977);
                }
            });
            let mut before = 0;
            while !writer.is_finished() {
                let snapshot = recorder.snapshot();
                let count = snapshot.buckets.iter().map(|bucket| bucket.2).sum();
                assert!(before <= count && count <= VALUES, "{before}, then {count}");
                before = count;
            }
        });
        assert_eq!(recorder.count(), VALUES);
        let snapshot = recorder.snapshot();
        assert_eq!((snapshot.min, snapshot.max), (0, (VALUES - 1) * 977));
        assert_eq!(snapshot.sum, VALUES * (VALUES - 1) / 2 * 977);
    }

    #[test]
    fn a_bucket_that_overflows_is_carried() {
        let recorder = Recorder::new();
        recorder.record(5);
        let page = recorder.pages[0].get().unwrap();
        page[5].store(u32::MAX, Relaxed);
        recorder.record(5);
        recorder.record(5);
        assert_eq!(recorder.count(), (1 << 32) + 1);
        assert_eq!(recorder.snapshot().buckets, [(0, 5, (1 << 32) + 1)]);
    }

    #[test]
    fn values_beyond_the_range_are_outliers_with_their_true_maximum() {
        let recorder = Recorder::new();
        for value in [buckets::MAX, buckets::MAX + 1, u64::MAX - 1] {
            recorder.record(value);
        }
        let snapshot = recorder.snapshot();
        assert_eq!(snapshot.outliers, 2);
        assert_eq!(snapshot.max, u64::MAX - 1);
        let last = (buckets::PAGES as u8 - 1, buckets::PER_PAGE as u8 - 1);
        assert_eq!(snapshot.buckets, [(last.0, last.1, 3)]);
    }
}
