//! What the program asked databases and other programs for, by the shape of the request.

use serde::Serialize;

use super::Nanos;

/// Database and network operations, out of sampled trees.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationTables {
    /// Trees that were looked at.
    pub trees: u64,
    /// Roots that they stand for.
    pub roots: u64,
    /// Whether every root was looked at. Otherwise counts and times are estimates.
    pub exact: bool,
    /// What the shares are of: the wall time, or the time of all roots where that is more because they overlap.
    #[serde(rename = "whole_ns")]
    pub whole: Nanos,
    /// Queries by their shape, those that took longest first; at most 20.
    pub database: Vec<OperationRow>,
    /// Requests by method, host and route, those that took longest first; at most 20.
    pub network: Vec<OperationRow>,
}

/// All operations of one shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationRow {
    /// A query without its values, or method, host and route; the callsite's name where the fields say none of that.
    pub shape: String,
    /// The callsite that most of them come from.
    pub site: String,
    /// Where in the source that is, `file:line`.
    pub location: Option<String>,
    /// How many there were.
    pub count: u64,
    /// In how many of them an error was recorded.
    pub errors: u64,
    /// How long all of them took together. Those that run at the same time all count.
    #[serde(rename = "total_ns")]
    pub total: Nanos,
    /// How long one took on average.
    #[serde(rename = "mean_ns")]
    pub mean: Nanos,
    /// How long one in twenty took at least.
    #[serde(rename = "p95_ns")]
    pub p95: Nanos,
    /// `total` as a share of [`OperationTables::whole`]; above 1 where they overlap.
    pub share: f64,
    /// Rows of an answer, or that were changed, on average; `None` where no field says it.
    pub rows: Option<f64>,
    /// Bytes of an answer on average; `None` where no field says it.
    pub bytes: Option<f64>,
}
