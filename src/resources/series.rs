//! Readings over time in bounded memory.

use std::collections::HashMap;

use crate::model::{Nanos, Point, Sample, Series};

/// The most points that a series keeps: more than the columns of a wide terminal, and 5 MiB for [`MAX_SERIES`].
const MAX_POINTS: usize = 512;

/// The most series: the crate's own are 23 and 17 per GPU, so this is for programs that put an id into a name.
pub(super) const MAX_SERIES: usize = 256;

/// Why a reading was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are [`MAX_SERIES`] others.
    TooMany,
    /// The series is another source's, or is in another unit.
    Taken,
}

/// All series of a capture.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    /// In the order of their first readings.
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Entry {
    series: Series,
    /// Which source recorded it first.
    owner: usize,
}

impl SeriesTable {
    /// Adds a reading of the source `owner`.
    pub(super) fn record(&mut self, owner: usize, sample: Sample<'_>) -> Result<(), Refusal> {
        let index = match self.by_name.get(sample.series) {
            Some(&index) => index,
            None if self.entries.len() >= MAX_SERIES => return Err(Refusal::TooMany),
            None => {
                self.entries.push(Entry {
                    series: Series::new(sample.series, sample.unit),
                    owner,
                });
                let index = self.entries.len() - 1;
                self.by_name.insert(sample.series.to_owned(), index);
                index
            }
        };
        match self.entries.get_mut(index) {
            Some(entry) if entry.owner == owner && entry.series.unit == sample.unit => {
                append(&mut entry.series, sample.at, sample.value);
                Ok(())
            }
            _ => Err(Refusal::Taken),
        }
    }

    /// Returns a copy of all series.
    pub(super) fn to_vec(&self) -> Vec<Series> {
        self.entries
            .iter()
            .map(|entry| entry.series.clone())
            .collect()
    }

    /// Forgets all readings.
    pub(super) fn clear(&mut self) {
        *self = SeriesTable::default();
    }
}

/// Adds a reading, which is no earlier than the last one.
pub(super) fn append(series: &mut Series, at: Nanos, value: f64) {
    let reading = Point {
        at,
        samples: 1,
        mean: value,
        min: value,
        max: value,
    };
    let all = Point {
        at,
        samples: series.samples,
        mean: series.mean,
        min: series.min,
        max: series.max,
    };
    let all = if series.samples == 0 {
        reading
    } else {
        merge(all, reading)
    };
    series.samples = all.samples;
    series.mean = all.mean;
    series.min = all.min;
    series.max = all.max;

    if series.points.len() >= MAX_POINTS {
        thin(&mut series.points);
    }
    series.points.push(reading);
}

/// Makes room by merging neighbours in pairs, the finest points first and among them the oldest.
///
/// Merging all points alike each time would leave the first hours of a long run in a handful of points. This way no old
/// point is much coarser than another, and a trend over the whole run stays visible.
fn thin(points: &mut Vec<Point>) {
    // So much that the next time is far off.
    let enough = MAX_POINTS - MAX_POINTS / 8;
    let mut finest = points.iter().map(|point| point.samples).min().unwrap_or(1);
    while points.len() > enough {
        let mut merged: Vec<Point> = Vec::with_capacity(MAX_POINTS);
        // Whether the last point may still take in its successor.
        let mut open = false;
        for &point in points.iter() {
            match merged.last_mut() {
                Some(last) if open && point.samples <= finest => {
                    *last = merge(*last, point);
                    open = false;
                }
                _ => {
                    merged.push(point);
                    open = point.samples <= finest;
                }
            }
        }
        *points = merged;
        finest = finest.saturating_mul(2);
    }
}

/// Stands for both; exact but for the rounding of the mean.
fn merge(earlier: Point, later: Point) -> Point {
    let samples = earlier.samples.saturating_add(later.samples);
    let share = |part: Point| part.samples as f64 / samples as f64;
    let (min, max) = (earlier.min.min(later.min), earlier.max.max(later.max));
    // Weighted before they are added, as the sum of two large readings could overflow; rounding may not carry the mean
    // past what was read.
    let mean = earlier.mean * share(earlier) + later.mean * share(later);
    Point {
        at: earlier.at,
        samples,
        mean: mean.max(min).min(max),
        min,
        max,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Unit;

    fn series_of(values: &[f64]) -> Series {
        let mut series = Series::new("s", Unit::Count);
        for (at, &value) in (0..).zip(values) {
            append(&mut series, Nanos(at), value);
        }
        series
    }

    fn close(left: f64, right: f64, scale: f64) -> bool {
        (left - right).abs() <= 1e-9 * scale.max(f64::MIN_POSITIVE)
    }

    proptest! {
        #[test]
        fn merging_keeps_samples_mean_min_and_max(
            values in prop::collection::vec(-1e12_f64..1e12, 1..3000),
        ) {
            let series = series_of(&values);
            // The sum of the magnitudes bounds the rounding; a mean of +x and -x has no relative error to speak of.
            let scale = values.iter().map(|value| value.abs()).sum::<f64>() / values.len() as f64;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);

            prop_assert_eq!(series.samples, values.len() as u64);
            prop_assert!(close(series.mean, mean, scale));
            prop_assert_eq!((series.min, series.max), (min, max));

            let points = &series.points;
            prop_assert!(points.len() <= MAX_POINTS);
            prop_assert_eq!(points.iter().map(|point| point.samples).sum::<u64>(), series.samples);
            let of_points =
                points.iter().map(|point| point.mean * point.samples as f64).sum::<f64>() / values.len() as f64;
            prop_assert!(close(of_points, mean, scale));
            prop_assert_eq!(points.iter().map(|p| p.min).fold(f64::INFINITY, f64::min), min);
            prop_assert_eq!(points.iter().map(|p| p.max).fold(f64::NEG_INFINITY, f64::max), max);
        }

        #[test]
        fn each_point_stands_for_the_readings_from_its_time_on(
            values in prop::collection::vec(-1e3_f64..1e3, 513..2000),
        ) {
            let mut rest = values.as_slice();
            let mut next = 0;
            for point in series_of(&values).points {
                prop_assert_eq!(point.at, Nanos(next));
                let (own, others) = rest.split_at(usize::try_from(point.samples).unwrap());
                let mean = own.iter().sum::<f64>() / own.len() as f64;
                prop_assert!(close(point.mean, mean, 1e3));
                rest = others;
                next += point.samples;
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_short_series_is_kept_as_it_is() {
        let values: Vec<f64> = (0..512).map(f64::from).collect();
        let series = series_of(&values);
        let kept: Vec<f64> = series.points.iter().map(|point| point.mean).collect();
        assert_eq!(kept, values);
    }

    #[test]
    fn a_day_of_readings_stays_evenly_resolved() {
        let readings: u32 = 24 * 3600 * 4;
        let values: Vec<f64> = (0..readings).map(f64::from).collect();
        let points = series_of(&values).points;
        assert!(
            (MAX_POINTS / 3..=MAX_POINTS).contains(&points.len()),
            "{}",
            points.len()
        );
        let even = u64::from(readings) / 512;
        let coarsest = points.iter().map(|point| point.samples).max();
        assert!(coarsest <= Some(4 * even), "{coarsest:?} against {even}");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let series = series_of(&[f64::MAX, f64::MAX, -f64::MAX, f64::MAX]);
        assert!(close(series.mean, f64::MAX / 2.0, f64::MAX));
    }

    #[test]
    fn a_series_belongs_to_its_first_source_and_unit() {
        let mut table = SeriesTable::default();
        let reading = |unit| Sample::new("s", unit, Nanos::ZERO, 1.0);
        assert_eq!(table.record(0, reading(Unit::Count)), Ok(()));
        assert_eq!(table.record(1, reading(Unit::Count)), Err(Refusal::Taken));
        assert_eq!(table.record(0, reading(Unit::Bytes)), Err(Refusal::Taken));
        assert_eq!(table.record(0, reading(Unit::Count)), Ok(()));
        assert_eq!(table.to_vec()[0].samples, 2);
    }

    #[test]
    fn series_beyond_the_limit_are_refused_and_the_known_ones_go_on() {
        let mut table = SeriesTable::default();
        let mut record =
            |name: &str| table.record(0, Sample::new(name, Unit::Count, Nanos::ZERO, 1.0));
        for number in 0..MAX_SERIES {
            assert_eq!(record(&number.to_string()), Ok(()));
        }
        assert_eq!(record("one more"), Err(Refusal::TooMany));
        assert_eq!(record("7"), Ok(()));
        assert_eq!(table.to_vec().len(), MAX_SERIES);
    }
}
