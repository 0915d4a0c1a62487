//! What the rules about networks compare with.

use std::time::Duration;

/// CTX420 to 423: networks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NetworkThresholds {
    /// CTX420: the share of the time that would vanish without any request: 0.5. Most programs that ask others wait for
    /// them; below a half that only describes the profile. Own choice.
    pub waiting_share: f64,
    /// CTX420: the share of a request that is spent running at most: 0.2. Own choice.
    pub running_share: f64,
    /// CTX420: requests that were seen: 10, unless they take the next together. Own choice.
    pub waiting_calls: u64,
    /// CTX420: how long fewer requests take together: 200 ms. Own choice.
    pub waiting_time: Duration,

    /// CTX421: requests to one route inside one operation: 10, as Sentry's detector of N+1 calls has it.
    pub repeated_requests: u64,
    /// CTX421: how long they take together in one operation: 300 ms, from the same detector, or the next.
    pub repeated_time: Duration,
    /// CTX421: their part of that operation: 0.1. Own choice.
    pub repeated_share: f64,
    /// CTX421: how many there are at least if it happened in one operation only: 20. Own choice.
    pub repeated_once: u64,
    /// CTX421: how many at a time the advice is about: 8. Own choice.
    pub at_a_time: u64,

    /// CTX422: requests that open a connection, of all to one host: 0.5. Own choice.
    pub connecting_share: f64,
    /// CTX422: the part of the requests' time that opening takes: 0.2. Own choice.
    pub connecting_time: f64,
    /// CTX422: requests to one host: 20. Own choice.
    pub connecting_calls: u64,

    /// CTX423: bytes of an answer: 300,000, as Sentry has it.
    pub large_bytes: f64,
    /// CTX423: how long such a request takes: 100 ms, from the same detector.
    pub large_time: Duration,
    /// CTX423: the share of the time that such requests take: 0.05. Own choice.
    pub large_share: f64,
    /// CTX423: how many there were: 3. Own choice.
    pub large_calls: u64,
}

impl Default for NetworkThresholds {
    fn default() -> NetworkThresholds {
        NetworkThresholds {
            waiting_share: 0.5,
            running_share: 0.2,
            waiting_calls: 10,
            waiting_time: Duration::from_millis(200),
            repeated_requests: 10,
            repeated_time: Duration::from_millis(300),
            repeated_share: 0.1,
            repeated_once: 20,
            at_a_time: 8,
            connecting_share: 0.5,
            connecting_time: 0.2,
            connecting_calls: 20,
            large_bytes: 300_000.0,
            large_time: Duration::from_millis(100),
            large_share: 0.05,
            large_calls: 3,
        }
    }
}
