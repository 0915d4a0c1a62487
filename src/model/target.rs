//! How fast a site is to be, and whether it was.

use serde::Serialize;

use super::Nanos;

/// How fast the operations of a site are to be: this share of them takes no longer than `limit`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Target {
    /// The callsite's name.
    pub site: String,
    /// The percentile, such as 95 or 99.9; from 50 to below 100.
    pub percentile: f64,
    /// How long that percentile may take; more than zero.
    #[serde(rename = "limit_ns")]
    pub limit: Nanos,
}

impl Target {
    /// Builds a target; the builder says whether its numbers are in range.
    pub fn new(site: impl Into<String>, percentile: f64, limit: impl Into<Nanos>) -> Target {
        Target {
            site: site.into(),
            percentile,
            limit: limit.into(),
        }
    }

    /// Whether the percentile and the limit are in range. 0.95 is not: that would be one call in a hundred.
    pub fn is_valid(&self) -> bool {
        (50.0..100.0).contains(&self.percentile) && self.limit > Nanos::ZERO
    }
}

/// What became of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TargetResult {
    /// The target.
    #[serde(flatten)]
    pub target: Target,
    /// Where in the source the site is, `file:line`.
    pub location: Option<String>,
    /// Operations of the site that have ended.
    pub calls: u64,
    /// The percentile as measured; `None` without operations.
    #[serde(rename = "measured_ns")]
    pub measured: Option<Nanos>,
    /// What the percentile is at least, with 95 % confidence; `None` where there are too few operations to say.
    #[serde(rename = "at_least_ns")]
    pub at_least: Option<Nanos>,
    /// What it is at most, with 95 % confidence; see `at_least`.
    #[serde(rename = "at_most_ns")]
    pub at_most: Option<Nanos>,
    /// The judgement.
    pub verdict: Verdict,
}

impl TargetResult {
    /// Builds the result for a site of which nothing was seen.
    pub fn unseen(target: Target) -> TargetResult {
        TargetResult {
            target,
            location: None,
            calls: 0,
            measured: None,
            at_least: None,
            at_most: None,
            verdict: Verdict::Unseen,
        }
    }
}

/// Whether a target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The measured percentile is within the limit.
    Met,
    /// It is above the limit, but by so little that chance explains it.
    AtRisk,
    /// It is above the limit, with 95 % confidence.
    Missed,
    /// There are too few operations to say.
    TooFew,
    /// No site of this name was recorded.
    Unseen,
}
