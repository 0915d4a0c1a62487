//! How long something took, over all its occurrences.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::Nanos;

/// The significant decimal digits of [`Distribution::histogram`]: 3 keep its own error under 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Durations in nanoseconds: exact count, sum, minimum and maximum; quantiles within 1 %.
///
/// The quantiles come from an [`hdrhistogram::Histogram`]. Because one of those takes up to 300 KiB, a distribution
/// keeps only the filled buckets and builds the histogram when asked.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Distribution {
    /// How many values were recorded; exact.
    pub count: u64,
    /// The sum of all values; exact.
    pub sum: Nanos,
    /// The smallest value; exact.
    pub min: Nanos,
    /// The largest value; exact, also when it is an outlier.
    pub max: Nanos,
    /// The standard deviation, from the buckets (each value off by less than 1 %).
    pub stddev: f64,
    /// The values that half of all values do not exceed, and so on; see [`Quantiles`].
    pub quantiles: Quantiles,
    /// Values beyond the recorder's range (about an hour); they count as the largest bucket.
    pub outliers: u64,
    /// The filled buckets, by rising value.
    pub buckets: Vec<Bucket>,
}

/// The quantiles that every output shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Quantiles {
    /// The median.
    pub p50: Nanos,
    /// 90 % of the values are at most this.
    pub p90: Nanos,
    /// 95 % of the values are at most this.
    pub p95: Nanos,
    /// 99 % of the values are at most this.
    pub p99: Nanos,
    /// 99.9 % of the values are at most this.
    pub p999: Nanos,
}

/// One filled bucket of a [`Distribution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The middle of the bucket; no value in it is further away than 1 %.
    pub value: Nanos,
    /// How many values fell into it.
    pub count: u64,
}

impl Distribution {
    /// Builds a distribution from filled buckets (by rising value) and the exact figures.
    pub fn from_buckets(
        buckets: Vec<Bucket>,
        sum: Nanos,
        min: Nanos,
        max: Nanos,
        outliers: u64,
    ) -> Distribution {
        let count = buckets
            .iter()
            .fold(0_u64, |sum, bucket| sum.saturating_add(bucket.count));
        let mut distribution = Distribution {
            count,
            sum,
            min,
            max,
            outliers,
            buckets,
            ..Distribution::default()
        };
        if count > 0 {
            let histogram = distribution.histogram();
            let at = |q| distribution.clamp(histogram.value_at_quantile(q));
            distribution.quantiles = Quantiles {
                p50: at(0.5),
                p90: at(0.9),
                p95: at(0.95),
                p99: at(0.99),
                p999: at(0.999),
            };
            distribution.stddev = distribution.spread();
        }
        distribution
    }

    /// Returns the exact mean, or zero if nothing was recorded.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum.0 as f64 / self.count as f64
        }
    }

    /// Returns the value that a share `q` of all values does not exceed; `q` is in `[0, 1]`.
    ///
    /// Builds the histogram anew; for the usual quantiles use [`Distribution::quantiles`].
    pub fn quantile(&self, q: f64) -> Nanos {
        if self.count == 0 {
            return Nanos::ZERO;
        }
        self.clamp(self.histogram().value_at_quantile(q.clamp(0.0, 1.0)))
    }

    /// Returns the values as an HDR histogram in nanoseconds, to merge, to serialise or to plot.
    pub fn histogram(&self) -> Histogram<u64> {
        let top = self.buckets.last().map_or(0, |bucket| bucket.value.0);
        #[expect(
            clippy::expect_used,
            reason = "the highest value is at least 2 and the digits are in 0..=5"
        )]
        let mut histogram = Histogram::new_with_max(top.max(2), SIGNIFICANT_DIGITS)
            .expect("valid histogram bounds");
        for bucket in &self.buckets {
            histogram.saturating_record_n(bucket.value.0, bucket.count);
        }
        histogram
    }

    fn clamp(&self, value: u64) -> Nanos {
        Nanos(value.clamp(self.min.0, self.max.0.max(self.min.0)))
    }

    fn spread(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self
            .buckets
            .iter()
            .map(|bucket| (bucket.value.0 as f64 - mean).powi(2) * bucket.count as f64)
            .sum();
        (squares / self.count as f64).sqrt()
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Distribution", 11)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("p50_ns", &self.quantiles.p50)?;
        out.serialize_field("p90_ns", &self.quantiles.p90)?;
        out.serialize_field("p95_ns", &self.quantiles.p95)?;
        out.serialize_field("p99_ns", &self.quantiles.p99)?;
        out.serialize_field("p999_ns", &self.quantiles.p999)?;
        out.serialize_field("min_ns", &self.min)?;
        out.serialize_field("max_ns", &self.max)?;
        out.serialize_field("mean_ns", &self.mean())?;
        out.serialize_field("stddev_ns", &self.stddev)?;
        out.serialize_field("outliers", &self.outliers)?;
        out.end()
    }
}
