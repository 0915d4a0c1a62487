//! Bounds of a quantile that hold whatever the distribution: values of the sample itself, by their rank.

use super::probability::binomial_most;
use crate::model::{Distribution, Nanos};

/// Returns what the quantile `q` is at least, with probability `sure`; `None` if the sample is too small to say.
pub(crate) fn quantile_at_least(values: &Distribution, q: f64, sure: f64) -> Option<Nanos> {
    let above = binomial_most(values.count, 1.0 - q, sure);
    let rank = values.count.checked_sub(above).filter(|&rank| rank > 0)?;
    value_at_rank(values, rank)
}

/// Returns what the quantile `q` is at most, with probability `sure`; `None` if the sample is too small to say.
pub(crate) fn quantile_at_most(values: &Distribution, q: f64, sure: f64) -> Option<Nanos> {
    let below = binomial_most(values.count, q, sure);
    value_at_rank(values, below.saturating_add(1))
}

/// Returns the value that a share `q` of the sample does not exceed; `None` without values.
///
/// [`Distribution::quantile`] rounds up by as much as 0.1 %, which would put values that are all the same beyond a limit
/// that they keep.
pub(crate) fn quantile_in(values: &Distribution, q: f64) -> Option<Nanos> {
    // What is a whole number but for rounding stays one.
    let rank = (values.count as f64 * q - 1e-6).ceil().max(1.0);
    value_at_rank(values, rank as u64)
}

/// Returns the value with this rank, counted from 1, within the width of a bucket.
fn value_at_rank(values: &Distribution, rank: u64) -> Option<Nanos> {
    let mut below = 0_u64;
    let bucket = values.buckets.iter().find(|bucket| {
        below = below.saturating_add(bucket.count);
        below >= rank
    })?;
    Some(bucket.value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Bucket;

    /// Values 1 to `n`, so that a value is its rank.
    fn ranks(n: u64) -> Distribution {
        let buckets = (1..=n)
            .map(|rank| Bucket {
                value: Nanos(rank),
                count: 1,
            })
            .collect();
        Distribution::from_buckets(buckets, Nanos(n * (n + 1) / 2), Nanos(1), Nanos(n), 0)
    }

    /// Of 100 values at most 9 lie above the 95th percentile with 95 %; 59 are the fewest that bound it from above.
    #[test]
    fn the_ranks_are_those_of_the_tables() {
        assert_eq!(quantile_at_least(&ranks(100), 0.95, 0.95), Some(Nanos(91)));
        assert_eq!(quantile_at_most(&ranks(100), 0.95, 0.95), Some(Nanos(99)));
        assert_eq!(quantile_at_most(&ranks(59), 0.95, 0.95), Some(Nanos(59)));
        assert_eq!(quantile_at_most(&ranks(58), 0.95, 0.95), None);
        assert_eq!(quantile_at_least(&ranks(4), 0.5, 0.95), None);
        assert_eq!(quantile_at_least(&ranks(5), 0.5, 0.95), Some(Nanos(1)));
    }

    #[test]
    fn no_values_have_no_bounds() {
        let none = Distribution::default();
        assert_eq!(quantile_in(&none, 0.5), None);
        assert_eq!(quantile_at_least(&none, 0.5, 0.95), None);
        assert_eq!(quantile_at_most(&none, 0.5, 0.95), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_bounds_hold_the_quantile(n in 60_u64..400, q in 0.1_f64..0.99) {
            let values = ranks(n);
            let point = quantile_in(&values, q).unwrap().0;
            if let Some(low) = quantile_at_least(&values, q, 0.95) {
                prop_assert!(low.0 <= point, "{low:?} {point}");
            }
            if let Some(high) = quantile_at_most(&values, q, 0.95) {
                prop_assert!(high.0 >= point, "{high:?} {point}");
            }
        }
    }
}
