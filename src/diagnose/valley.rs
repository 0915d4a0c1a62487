//! Two speeds of one site: a valley between two peaks of its histogram.

use crate::diagnose::thresholds::TrendThresholds;
use crate::model::{Distribution, Nanos};

/// Bins of one power of two.
const PER_OCTAVE: f64 = 4.0;

/// By how many standard deviations of a count the lower peak stands out of the valley. With the smoothing below, the
/// simulation in the tests finds two speeds in fewer than one of a hundred samples of 200 that have one.
const CLEAR: f64 = 1.5;

/// Where the operations part, and what is on either side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Valley {
    /// Operations up to this time are fast.
    pub(crate) split: Nanos,
    /// How deep it is, as a share of the lower peak.
    pub(crate) depth: f64,
    pub(crate) fast: Side,
    pub(crate) slow: Side,
}

/// The operations on one side.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Side {
    pub(crate) count: u64,
    pub(crate) median: Nanos,
    pub(crate) sum: Nanos,
}

impl Valley {
    /// Looks at a histogram of the logarithms: on that scale a wide tail alone has one peak.
    pub(crate) fn of(calls: &Distribution, thresholds: &TrendThresholds) -> Option<Valley> {
        let bin_of = |value: Nanos| ((value.0.max(1) as f64).log2() * PER_OCTAVE) as usize;
        let lowest = bin_of(calls.buckets.first()?.value);
        let highest = bin_of(calls.buckets.last()?.value);
        let mut counts = vec![0.0; highest - lowest + 1];
        for bucket in &calls.buckets {
            counts[bin_of(bucket.value) - lowest] += bucket.count as f64;
        }
        let heights = smoothed(&smoothed(&counts));
        let apart = (thresholds.valley_ratio.log2() * PER_OCTAVE)
            .ceil()
            .max(2.0) as usize;
        let total: f64 = counts.iter().sum();
        let least = total * thresholds.valley_side;

        let higher = |one: usize, other: usize| {
            if heights[other] > heights[one] {
                other
            } else {
                one
            }
        };
        let mut highest_after = vec![heights.len() - 1; heights.len()];
        for at in (0..heights.len().saturating_sub(1)).rev() {
            highest_after[at] = higher(highest_after[at + 1], at);
        }
        let (mut left, mut below) = (0, 0.0);
        let mut best: Option<(f64, usize)> = None;
        for at in 0..heights.len() {
            left = higher(left, at);
            below += counts[at];
            let right = highest_after[at];
            let lower = heights[left].min(heights[right]);
            let depth = 1.0 - heights[at] / lower;
            let stands_out = lower - heights[at] >= CLEAR * lower.sqrt();
            if right >= left + apart
                && depth >= thresholds.valley_depth
                && stands_out
                && below >= least
                && total - below >= least
                && best.is_none_or(|(deepest, _)| depth > deepest)
            {
                best = Some((depth, at));
            }
        }
        let (depth, at) = best?;
        let is_fast = |value: Nanos| bin_of(value) - lowest <= at;
        let split = calls.buckets.iter().rev();
        let split = split
            .map(|bucket| bucket.value)
            .find(|&value| is_fast(value))?;
        Some(Valley {
            split,
            depth,
            fast: Side::of(calls, is_fast),
            slow: Side::of(calls, |value| !is_fast(value)),
        })
    }

    /// Returns how much longer the slow operations took than if each had been a usual fast one.
    pub(crate) fn excess(&self) -> Nanos {
        let fast = self.fast.median.0.saturating_mul(self.slow.count);
        self.slow.sum.saturating_sub(Nanos(fast))
    }
}

impl Side {
    fn of(calls: &Distribution, belongs: impl Fn(Nanos) -> bool) -> Side {
        let mut side = Side::default();
        let buckets = || calls.buckets.iter().filter(|bucket| belongs(bucket.value));
        for bucket in buckets() {
            side.count = side.count.saturating_add(bucket.count);
            let sum = Nanos(bucket.value.0.saturating_mul(bucket.count));
            side.sum = side.sum.saturating_add(sum);
        }
        let mut below = 0_u64;
        let middle = buckets().find(|bucket| {
            below = below.saturating_add(bucket.count);
            below >= side.count.div_ceil(2)
        });
        side.median = middle.map_or(Nanos::ZERO, |bucket| bucket.value);
        side
    }
}

fn smoothed(counts: &[f64]) -> Vec<f64> {
    let at = |index: Option<usize>| {
        index
            .and_then(|index| counts.get(index))
            .copied()
            .unwrap_or(0.0)
    };
    (0..counts.len())
        .map(|index| {
            let around = at(index.checked_sub(1)) + at(Some(index + 1));
            counts[index] / 2.0 + around / 4.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bucket;

    /// Steele's splitmix64, as numbers in (0, 1).
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) as f64 + 0.5) / (u64::MAX as f64 + 1.0)
        }

        fn normal(&mut self) -> f64 {
            let (one, other) = (self.uniform(), self.uniform());
            (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
        }
    }

    fn found(n: usize, mut draw: impl FnMut(&mut Random) -> f64) -> f64 {
        const RUNS: u64 = 100;
        let thresholds = TrendThresholds::default();
        let mut found = 0.0;
        for seed in 0..RUNS {
            let mut random = Random(seed * 7_919 + n as u64);
            let mut values: Vec<u64> = (0..n)
                .map(|_| (draw(&mut random) * 1e7) as u64 + 1)
                .collect();
            values.sort_unstable();
            let buckets = values.iter().map(|&value| Bucket {
                value: Nanos(value),
                count: 1,
            });
            let calls = Distribution {
                count: n as u64,
                buckets: buckets.collect(),
                ..Distribution::default()
            };
            found += f64::from(u8::from(Valley::of(&calls, &thresholds).is_some()));
        }
        found / RUNS as f64
    }

    type Draw = fn(&mut Random) -> f64;

    #[test]
    fn one_speed_is_not_taken_for_two() {
        let draws: [(&str, Draw); 6] = [
            ("exponential", |random| -random.uniform().ln()),
            ("log-normal 1", |random| random.normal().exp()),
            ("log-normal 0.3", |random| (0.3 * random.normal()).exp()),
            ("uniform", |random| random.uniform()),
            ("Pareto", |random| random.uniform().powf(-0.5)),
            ("Pareto 1.2", |random| random.uniform().powf(-1.0 / 1.2)),
        ];
        for (name, draw) in draws {
            for n in [200, 1_000] {
                let share = found(n, draw);
                assert!(share <= 0.01, "{name}, {n}: {share}");
            }
        }
    }

    #[test]
    fn two_speeds_are_found() {
        let draws: [(&str, Draw); 3] = [
            ("hit and miss", |random| {
                let slow = if random.uniform() < 0.2 { 8.0 } else { 1.0 };
                slow * (0.3 * random.normal()).exp()
            }),
            ("one in ten", |random| {
                let slow = if random.uniform() < 0.1 { 20.0 } else { 1.0 };
                slow * (0.4 * random.normal()).exp()
            }),
            ("even", |random| {
                let slow = if random.uniform() < 0.5 { 4.0 } else { 1.0 };
                slow * (0.2 * random.normal()).exp()
            }),
        ];
        for (name, draw) in draws {
            for n in [200, 500] {
                let share = found(n, draw);
                assert!(share >= 0.9, "{name}, {n}: {share}");
            }
        }
    }

    #[test]
    fn both_sides_and_what_the_slow_one_costs_are_told() {
        let calls = crate::diagnose::planted::distribution(&[(1_000_000, 300), (8_000_000, 100)]);
        let valley = Valley::of(&calls, &TrendThresholds::default()).unwrap();
        assert_eq!((valley.fast.count, valley.slow.count), (300, 100));
        assert_eq!(valley.slow.median, Nanos(8_000_000));
        assert_eq!(valley.excess(), Nanos(700_000_000));
        assert_eq!(valley.split, Nanos(1_000_000));
    }
}
