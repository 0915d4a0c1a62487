//! What slow operations can cost at most beyond others, from a histogram.

use crate::model::{Distribution, Nanos};

/// How far a value may be from the middle of its bucket.
const BUCKET: f64 = 0.01;

/// Returns for how long the operations that took longer than `limit` ran beyond `usual`, counted at the upper ends of
/// their buckets.
pub(crate) fn excess_at_most(operations: &Distribution, limit: Nanos, usual: Nanos) -> Nanos {
    let slow = operations.buckets.iter().filter(|bucket| {
        let upper = bucket.value.0 as f64 * (1.0 + BUCKET);
        upper > limit.0 as f64
    });
    let excess: f64 = slow
        .map(|bucket| {
            let upper = bucket.value.0 as f64 * (1.0 + BUCKET);
            (upper - usual.0 as f64).max(0.0) * bucket.count as f64
        })
        .sum();
    Nanos(excess.ceil() as u64).min(operations.sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bucket;

    #[test]
    fn it_is_never_below_what_the_operations_really_took_longer() {
        let took = [100_u64, 104, 110, 1_000, 1_200];
        // Each lies at the upper end of its bucket.
        let middle = |value: u64| (value as f64 / 1.01).ceil() as u64;
        let buckets = took.map(|value| Bucket {
            value: Nanos(middle(value)),
            count: 1,
        });
        let operations = Distribution::from_buckets(
            buckets.to_vec(),
            Nanos(took.iter().sum()),
            Nanos(100),
            Nanos(1_200),
            0,
        );
        let most = excess_at_most(&operations, Nanos(500), Nanos(100));
        assert!((2_000..=2_025).contains(&most.0), "{most}");
    }
}
