//! What the rules about how work is done: batches, repetition, growth, retries, balance compare with.

use std::time::Duration;

/// CTX004 to 009, 203, 204: how work is done: batches, repetition, growth, retries, balance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkThresholds {
    /// CTX004: calls in a row inside one parent: 20. Own choice, four times what Sentry calls N+1.
    pub batch_calls: u64,
    /// CTX004: a row this long is evidence by itself: 100. Own choice.
    pub batch_many_calls: u64,
    /// CTX004: parents with such rows, where none is that long: 3. Own choice.
    pub batch_parents: u64,
    /// CTX004: the longest mean call: 1 ms, beyond which a fixed cost hardly matters. Own choice.
    pub batch_call: Duration,
    /// CTX004: the share of the parent's time that the row takes: 0.3. Own choice.
    pub batch_parent_share: f64,
    /// CTX004: the share of the whole that such calls take: 0.1, the ladder's medium.
    pub batch_share: f64,
    /// CTX004: the largest spread of the calls' times, as a share of their median: 0.5. Own choice.
    pub batch_spread: f64,
    /// CTX004: the part of a call's time that must be a fixed cost, by its lower 95 % bound, for more than a hint: 0.5.
    /// A plain loop has none. Own choice.
    pub batch_fixed_share: f64,

    /// CTX005: how often the same key must have been seen: 3 times. Own choice.
    pub repeats: u64,
    /// CTX005: the part of a site's calls that repeat an earlier one: 0.5. Own choice.
    pub repeated_calls_share: f64,
    /// CTX005: the share of the whole that would vanish with the repeats: 0.05. Own choice.
    pub repeated_share: f64,

    /// CTX006: the exponent of time over size: 1.5, well above `n log n` and the step from one cache to the next. Own
    /// choice.
    pub scaling_exponent: f64,
    /// CTX006: the least lower 95 % bound of the exponent, exclusive: 1.25. Own choice.
    pub scaling_exponent_low: f64,
    /// CTX006: the largest size against the smallest: 8 times. Own choice.
    pub scaling_range: f64,
    /// CTX006: calls with a size: 20. Own choice.
    pub scaling_calls: u64,
    /// CTX006: the share of the whole that the tenth with the largest sizes takes: 0.1, the ladder's medium.
    pub scaling_share: f64,

    /// CTX009: failed attempts before one that succeeds: 3. Own choice.
    pub retry_attempts: u64,
    /// CTX009: the part of the parents in which that happens: 0.05. Own choice.
    pub retry_parents_share: f64,
    /// CTX009: the share of the whole that would vanish without the failed attempts: 0.05. Own choice.
    pub retry_share: f64,

    /// CTX203: how far the busiest thread is above the mean: 0.25, as for devices. Own choice.
    pub imbalance: f64,
    /// CTX203: the share of the whole that balance would save: 0.1, the ladder's medium.
    pub imbalance_share: f64,
    /// CTX203: the shortest region in which threads share work: 5 ms, beside which starting them costs little. Own choice.
    pub imbalance_region: Duration,
    /// CTX203: regions: 3, unless one alone takes [`Thresholds::long_call`](super::Thresholds::long_call). Own choice.
    pub imbalance_regions: u64,

    /// CTX204: the share of the run in which one site computes alone: 0.2, the ladder's high. Own choice.
    pub alone_share: f64,
    /// CTX204: the part of its own time for which the site is alone: 0.8; what mostly runs beside others is parallel
    /// already. Own choice.
    pub alone_part: f64,
    /// CTX204: the share of the run in which several threads compute at once, which shows that there are workers: 0.05.
    /// Own choice.
    pub parallel_share: f64,
}

impl Default for WorkThresholds {
    fn default() -> WorkThresholds {
        WorkThresholds {
            batch_calls: 20,
            batch_many_calls: 100,
            batch_parents: 3,
            batch_call: Duration::from_millis(1),
            batch_parent_share: 0.3,
            batch_share: 0.1,
            batch_spread: 0.5,
            batch_fixed_share: 0.5,
            repeats: 3,
            repeated_calls_share: 0.5,
            repeated_share: 0.05,
            scaling_exponent: 1.5,
            scaling_exponent_low: 1.25,
            scaling_range: 8.0,
            scaling_calls: 20,
            scaling_share: 0.1,
            retry_attempts: 3,
            retry_parents_share: 0.05,
            retry_share: 0.05,
            imbalance: 0.25,
            imbalance_share: 0.1,
            imbalance_region: Duration::from_millis(5),
            imbalance_regions: 3,
            alone_share: 0.2,
            alone_part: 0.8,
            parallel_share: 0.05,
        }
    }
}
