//! What the rules about distributions, targets and change over time compare with.

use std::time::Duration;

/// CTX602, 604, 605, 701, 707, 904: distributions, targets and change over time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TrendThresholds {
    /// CTX701: operations beyond the percentile of a target: 5, which needs 100 operations for p95 and 500 for p99.
    pub target_beyond: u64,
    /// CTX701: how far beyond its target a percentile is critical, not only high: 2 times. Own choice.
    pub target_critical: f64,

    /// CTX605, CTX707: complete windows: 20, below which a chance order looks like a trend. Own choice.
    pub windows: usize,
    /// CTX605, CTX707: the chance of a trend this clear where there is none: below 0.01.
    pub trend_chance: f64,
    /// CTX605: how much longer operations take at the end than at the start: 0.2. Own choice.
    pub slower: f64,
    /// CTX605: operations: 200. Own choice.
    pub slower_calls: u64,
    /// CTX605: the least share of the time that is more than at the start: 0.02, or nobody gains from it. Own choice.
    pub slower_share: f64,
    /// CTX707: how many operations fewer there are at the end than at the start: 0.2. Own choice.
    pub drop: f64,
    /// CTX707: how long the run must have been: 20 s. The work of a shorter one is often just done. Own choice.
    pub drop_run: Duration,

    /// CTX602: how deep the valley between two speeds is, as a share of the lower peak: 0.5. Simulated.
    pub valley_depth: f64,
    /// CTX602: how far apart the peaks are: 2 times, an octave. Simulated.
    pub valley_ratio: f64,
    /// CTX602: the part of the operations on either side: 0.05. Own choice.
    pub valley_side: f64,
    /// CTX602: operations after the first: 200; at 100 one exponential distribution in eight has two peaks. Simulated.
    pub valley_calls: u64,
    /// CTX602: the slower speed costs at least this share of the time: 0.05. Own choice.
    pub valley_share: f64,
    /// CTX602: the least distance of the peaks: 1 ms, below which nobody waits. Own choice.
    pub valley_gap: Duration,

    /// CTX604: slow operations: 6, which makes 5 intervals. Own choice.
    pub stalls: usize,
    /// CTX604: how much their intervals vary, as a share of their mean: 0.2. At random they vary by 1. Own choice.
    pub stall_variation: f64,
    /// CTX604: operations: 200. Own choice.
    pub stall_calls: u64,
    /// CTX604: how much longer than most a slow operation takes: 1 ms. Own choice.
    pub stall_excess: Duration,

    /// CTX904: the part of the operations of sampled trees that end after what they are in: 0.001, exclusive. CRISP
    /// corrects such skew silently. Own choice.
    pub nesting_share: f64,
}

impl Default for TrendThresholds {
    fn default() -> TrendThresholds {
        TrendThresholds {
            target_beyond: 5,
            target_critical: 2.0,
            windows: 20,
            trend_chance: 0.01,
            slower: 0.2,
            slower_calls: 200,
            slower_share: 0.02,
            drop: 0.2,
            drop_run: Duration::from_secs(20),
            valley_depth: 0.5,
            valley_ratio: 2.0,
            valley_side: 0.05,
            valley_calls: 200,
            valley_share: 0.05,
            valley_gap: Duration::from_millis(1),
            stalls: 6,
            stall_variation: 0.2,
            stall_calls: 200,
            stall_excess: Duration::from_millis(1),
            nesting_share: 0.001,
        }
    }
}
