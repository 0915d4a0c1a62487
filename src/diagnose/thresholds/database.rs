//! What the rules about databases compare with.

use std::time::Duration;

/// CTX410 to 413: databases.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DatabaseThresholds {
    /// CTX410: queries of one shape inside one operation: 5, as Sentry's detector of N+1 queries has it.
    pub repeated_queries: u64,
    /// CTX410: how long they take together in one operation: 50 ms, from the same detector, or the next.
    pub repeated_time: Duration,
    /// CTX410: their part of that operation: 0.1. Own choice.
    pub repeated_share: f64,
    /// CTX410: how many there are at least if it happened in one operation only: 20. Own choice.
    pub repeated_once: u64,
    /// CTX410: rows of one answer from which queries read in portions, and not row by row: 100. Own choice.
    pub portion_rows: f64,

    /// CTX411: the length that one in twenty queries reaches: 500 ms, Sentry's slow query.
    pub slow_query: Duration,
    /// CTX411: one query of this length is enough: 1 s, from which sqlx warns.
    pub slow_query_once: Duration,
    /// CTX411: faster ones count if a replay says that this share of the time would vanish without them: 0.2. Own choice.
    pub slow_query_share: f64,
    /// CTX411: and if they take so long on average: 20 ms, where no round trip explains it. Own choice.
    pub slow_query_mean: Duration,
    /// CTX411: queries of the shape that were seen: 3. Own choice.
    pub slow_query_calls: u64,

    /// CTX412: the share of the time that waiting for connections takes: 0.05. Own choice.
    pub pool_share: f64,
    /// CTX412: a smaller share counts if one in twenty waits as long as half of the queries take, and at least so long:
    /// 1 ms. Own choice.
    pub pool_wait: Duration,
    /// CTX412: connections that were asked for: 20. Own choice.
    pub pool_acquires: u64,
    /// CTX412: how many of them had to wait: 0.2. Opening the first connections is no shortage. Own choice.
    pub pool_waiting: f64,

    /// CTX413: rows of one answer: 1000. Own choice.
    pub many_rows: f64,
    /// CTX413: the part of them that is used at most: 0.1. Own choice.
    pub used_rows: f64,
    /// CTX413: bytes of one answer, where nothing says how much of it is used: 1,000,000, Sentry's former limit of a
    /// large payload.
    pub large_result_bytes: f64,
    /// CTX413: the share of the time that such answers take: 0.1. Own choice.
    pub large_result_share: f64,
}

impl Default for DatabaseThresholds {
    fn default() -> DatabaseThresholds {
        DatabaseThresholds {
            repeated_queries: 5,
            repeated_time: Duration::from_millis(50),
            repeated_share: 0.1,
            repeated_once: 20,
            portion_rows: 100.0,
            slow_query: Duration::from_millis(500),
            slow_query_once: Duration::from_secs(1),
            slow_query_share: 0.2,
            slow_query_mean: Duration::from_millis(20),
            slow_query_calls: 3,
            pool_share: 0.05,
            pool_wait: Duration::from_millis(1),
            pool_acquires: 20,
            pool_waiting: 0.2,
            many_rows: 1000.0,
            used_rows: 0.1,
            large_result_bytes: 1_000_000.0,
            large_result_share: 0.1,
        }
    }
}
