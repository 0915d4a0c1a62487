//! Base-2 exponential histograms out of a [`Distribution`].
//!
//! Counts, sums, minima and maxima are exact. The buckets of a distribution are known by their middles, which are within
//! 1 % of every value in them; so a value that close to a boundary may be counted in the neighbouring bucket here. A
//! quantile that is read off is within one bucket's width and 1 % of the profile's.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

use crate::model::Distribution;

/// The scale in which counts are kept: buckets 2.2 % wide, a little wider than the recorder's. Finer ones would have gaps.
const FINEST: i32 = 5;

/// The most buckets of one point: what the OpenTelemetry SDKs send by default, and backends are prepared for.
pub(super) const MAX_BUCKETS: i32 = 160;

/// Stands for the value 0, which has no bucket. Below every index of a duration.
const ZERO: i32 = i32::MIN;

/// How many values are in which bucket of the scale [`FINEST`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    by_index: BTreeMap<i32, u64>,
}

/// The buckets as they are sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaled {
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) positive: Buckets,
}

impl Counts {
    pub(super) fn of(distribution: &Distribution) -> Counts {
        let mut counts = Counts::default();
        for bucket in &distribution.buckets {
            counts.add(index_of(bucket.value.0), bucket.count);
        }
        counts
    }

    fn add(&mut self, index: i32, count: u64) {
        let entry = self.by_index.entry(index).or_default();
        *entry = entry.saturating_add(count);
    }

    pub(super) fn absorb(&mut self, other: &Counts) {
        for (&index, &count) in &other.by_index {
            self.add(index, count);
        }
    }

    pub(super) fn total(&self) -> u64 {
        let sum = |sum: u64, &count| sum.saturating_add(count);
        self.by_index.values().fold(0, sum)
    }

    /// Returns what has to be added to `self` to become `later`; `None` if `later` is no continuation of it.
    ///
    /// The middle of the lowest and the highest bucket is kept within the minimum and the maximum. When those widen,
    /// the middle moves a little and may cross a boundary. What was sent cannot be taken back, so the value that moved
    /// stays where it was and the one that is missing there is left out of the bucket next to it.
    pub(super) fn growth(&self, later: &Counts) -> Option<Counts> {
        let mut growth = BTreeMap::new();
        let mut moved = Vec::new();
        for (&index, &count) in &later.by_index {
            let before = self.by_index.get(&index).copied().unwrap_or(0);
            if count > before {
                growth.insert(index, count - before);
            }
        }
        for (&index, &before) in &self.by_index {
            let count = later.by_index.get(&index).copied().unwrap_or(0);
            if before > count {
                moved.push((index, before - count));
            }
        }
        for (index, mut missing) in moved {
            for neighbour in [index.checked_sub(1)?, index.checked_add(1)?] {
                if let Some(count) = growth.get_mut(&neighbour) {
                    let taken = missing.min(*count);
                    *count -= taken;
                    missing -= taken;
                }
            }
            if missing > 0 {
                return None;
            }
        }
        growth.retain(|_, count| *count > 0);
        Some(Counts { by_index: growth })
    }

    /// Returns the buckets in the finest scale in which there are at most [`MAX_BUCKETS`].
    pub(super) fn scaled(&self) -> Scaled {
        let zero_count = self.by_index.get(&ZERO).copied().unwrap_or(0);
        let mut positive = self.by_index.range(ZERO + 1..);
        let (Some((&low, _)), Some((&high, _))) = (positive.next(), self.by_index.last_key_value())
        else {
            return Scaled {
                scale: FINEST,
                zero_count,
                positive: Buckets::default(),
            };
        };
        // Each step merges the buckets in pairs.
        let mut steps = 0;
        while (high >> steps) - (low >> steps) >= MAX_BUCKETS {
            steps += 1;
        }
        let offset = low >> steps;
        let mut bucket_counts = Vec::new();
        for (&index, &count) in self.by_index.range(ZERO + 1..) {
            let place = usize::try_from((index >> steps) - offset).unwrap_or(0);
            if bucket_counts.len() <= place {
                bucket_counts.resize(place + 1, 0);
            }
            bucket_counts[place] += count;
        }
        Scaled {
            scale: FINEST - steps,
            zero_count,
            positive: Buckets {
                offset,
                bucket_counts,
            },
        }
    }
}

/// Returns the bucket of a duration: number `i` holds what is greater than `base^i` and at most `base^(i + 1)` seconds.
fn index_of(nanos: u64) -> i32 {
    if nanos == 0 {
        return ZERO;
    }
    let seconds = nanos as f64 / 1e9;
    (seconds.log2() * f64::from(1 << FINEST)).ceil() as i32 - 1
}

/// Returns the upper boundary of a bucket in seconds.
#[cfg(test)]
pub(super) fn upper_bound(index: i32, scale: i32) -> f64 {
    (f64::from(index + 1) * 2_f64.powi(-scale)).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(of: &[(i32, u64)]) -> Counts {
        Counts {
            by_index: of.iter().copied().collect(),
        }
    }

    #[test]
    fn powers_of_two_are_the_upper_ends_of_their_buckets() {
        for (nanos, upper) in [(1_000_000_000, 0), (2_000_000_000, 32), (500_000_000, -32)] {
            assert_eq!(index_of(nanos), upper - 1);
            assert_eq!(index_of(nanos + 1), upper);
        }
        assert_eq!(index_of(0), ZERO);
    }

    #[test]
    fn a_value_that_moved_to_the_next_bucket_is_not_counted_twice() {
        let sent = counts(&[(10, 1)]);
        let moved_up = counts(&[(11, 1), (40, 2)]);
        assert_eq!(sent.growth(&moved_up), Some(counts(&[(40, 2)])));
        let moved_down = counts(&[(9, 1), (40, 2)]);
        assert_eq!(sent.growth(&moved_down), Some(counts(&[(40, 2)])));
    }

    #[test]
    fn other_values_in_place_of_the_sent_ones_are_no_growth() {
        let sent = counts(&[(10, 5)]);
        assert_eq!(sent.growth(&counts(&[(10, 4)])), None);
        assert_eq!(sent.growth(&counts(&[(300, 9)])), None);
        assert_eq!(counts(&[(ZERO, 1)]).growth(&counts(&[(3, 1)])), None);
    }

    #[test]
    fn nothing_but_zeros_has_no_buckets() {
        let scaled = counts(&[(ZERO, 7)]).scaled();
        assert_eq!((scaled.zero_count, scaled.scale), (7, FINEST));
        assert!(scaled.positive.bucket_counts.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_duration_is_within_the_bounds_of_its_bucket(nanos in 1_u64.., shift in 0_u32..64) {
            let nanos = (nanos >> shift).max(1);
            let seconds = nanos as f64 / 1e9;
            let index = index_of(nanos);
            // Only the rounding of the logarithm, far below a nanosecond in an hour.
            prop_assert!(seconds <= upper_bound(index, FINEST) * (1.0 + 1e-12));
            prop_assert!(seconds >= upper_bound(index - 1, FINEST) * (1.0 - 1e-12));
        }

        #[test]
        fn scaling_keeps_every_value_in_at_most_160_buckets(
            filled in prop::collection::btree_map(-960_i32..1100, 1_u64..1000, 1..200),
            zeros in 0_u64..3,
        ) {
            let mut all = Counts { by_index: filled.clone() };
            if zeros > 0 {
                all.add(ZERO, zeros);
            }
            let scaled = all.scaled();
            let sent = &scaled.positive.bucket_counts;
            prop_assert!(sent.len() <= 160 && scaled.scale <= FINEST);
            prop_assert_eq!(scaled.zero_count, zeros);
            prop_assert_eq!(sent.iter().sum::<u64>() + zeros, all.total());
            let (first, last) = (sent.first().copied(), sent.last().copied());
            prop_assert!(first > Some(0) && last > Some(0));
            // One scale finer would need more.
            if scaled.scale < FINEST {
                let steps = FINEST - scaled.scale - 1;
                let low = *filled.keys().next().unwrap() >> steps;
                let high = *filled.keys().next_back().unwrap() >> steps;
                prop_assert!(high - low >= MAX_BUCKETS);
            }
            for (&index, &count) in &filled {
                let place = (index >> (FINEST - scaled.scale)) - scaled.positive.offset;
                prop_assert!(sent[usize::try_from(place).unwrap()] >= count);
            }
        }

        #[test]
        fn growth_adds_up(
            before in prop::collection::btree_map(-900_i32..1000, 1_u64..50, 0..40),
            more in prop::collection::btree_map(-900_i32..1000, 1_u64..50, 0..40),
        ) {
            let before = Counts { by_index: before };
            let mut later = before.clone();
            later.absorb(&Counts { by_index: more.clone() });
            prop_assert_eq!(before.growth(&later), Some(Counts { by_index: more }));
        }
    }
}
