//! Time in which at least one piece of work ran.

use std::collections::BTreeMap;

use crate::model::{GpuWork, Nanos};

/// The union of intervals that come in nearly any order, in bounded memory.
///
/// Work of one stream comes in order, but streams come buffer by buffer. So the newest intervals are kept apart, merged
/// where they touch, and the oldest are added up for good. What comes later than that for a time before them is not
/// counted: too little is better than the same time twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Union {
    /// Disjoint and not touching, end by start.
    kept: BTreeMap<u64, u64>,
    folded: u64,
    /// Everything before this is in `folded`.
    floor: u64,
}

impl Union {
    /// Adds an interval, and keeps at most `most` intervals apart.
    pub(super) fn add(&mut self, start: Nanos, end: Nanos, most: usize) {
        let (mut start, mut end) = (start.0.max(self.floor), end.0);
        if start >= end {
            return;
        }
        // Nearly all come at the end.
        if let Some(mut last) = self.kept.last_entry()
            && start >= *last.key()
        {
            let last = last.get_mut();
            if start <= *last {
                *last = end.max(*last);
            } else {
                self.kept.insert(start, end);
                self.fold(most);
            }
            return;
        }
        if let Some((&before, &its_end)) = self.kept.range(..=start).next_back()
            && its_end >= start
        {
            start = before;
            end = end.max(its_end);
        }
        while let Some((&next, &its_end)) = self.kept.range(start..=end).next() {
            end = end.max(its_end);
            self.kept.remove(&next);
        }
        self.kept.insert(start, end);
        self.fold(most);
    }

    /// Adds the time of a piece of work.
    pub(super) fn add_work(&mut self, work: &GpuWork, most: usize) {
        self.add(work.start, work.end, most);
    }

    pub(super) fn length(&self) -> Nanos {
        let kept: u64 = self.kept.iter().map(|(start, end)| end - start).sum();
        Nanos(self.folded + kept)
    }

    fn fold(&mut self, most: usize) {
        if self.kept.len() <= most {
            return;
        }
        while self.kept.len() > most / 2
            && let Some((start, end)) = self.kept.pop_first()
        {
            self.folded += end - start;
            self.floor = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn union_of(intervals: &[(u64, u64)], most: usize) -> Union {
        let mut union = Union::default();
        for &(start, length) in intervals {
            union.add(Nanos(start), Nanos(start + length), most);
        }
        union
    }

    /// The unions's length by looking at every point in time.
    fn brute_force(intervals: &[(u64, u64)]) -> u64 {
        let covered = |at| {
            intervals
                .iter()
                .any(|&(start, length)| (start..start + length).contains(&at))
        };
        (0..700).filter(|&at| covered(at)).count() as u64
    }

    #[test]
    fn what_comes_too_late_is_not_counted_twice() {
        let mut union = union_of(&[(0, 10), (20, 10), (40, 10), (60, 10), (80, 10)], 4);
        assert_eq!((union.kept.len(), union.length()), (2, Nanos(50)));
        union.add(Nanos(5), Nanos(45), 4);
        assert_eq!(union.length(), Nanos(50));
        union.add(Nanos(45), Nanos(55), 4);
        assert_eq!(union.length(), Nanos(55));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_length_is_that_of_every_point_looked_at(
            intervals in prop::collection::vec((0_u64..600, 0_u64..40), 0..40),
        ) {
            let union = union_of(&intervals, 1_000);
            prop_assert_eq!(union.length().0, brute_force(&intervals));
        }

        /// In order the bound costs nothing, out of order it never makes the length larger than it is.
        #[test]
        fn a_small_memory_is_exact_in_order_and_never_too_much(
            intervals in prop::collection::vec((0_u64..600, 0_u64..40), 0..40),
            most in 1_usize..6,
        ) {
            let union = union_of(&intervals, most);
            prop_assert!(union.length().0 <= brute_force(&intervals));
            prop_assert!(union.kept.len() <= most);
            let mut sorted = intervals.clone();
            sorted.sort_unstable();
            prop_assert_eq!(union_of(&sorted, most).length().0, brute_force(&intervals));
        }
    }
}
