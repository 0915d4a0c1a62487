//! What the rules about files compare with.

use std::time::Duration;

/// CTX401 to 403: files.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StorageThresholds {
    /// CTX401: the share of the time that would vanish without reading and writing files: 0.5. Below a half that only
    /// describes the profile. Own choice.
    pub waiting_share: f64,
    /// CTX401: the share of those operations that is spent running at most: 0.3. What the page cache holds is copied, not
    /// waited for. Own choice.
    pub running_share: f64,
    /// CTX401: operations that were seen: 10, unless they take the next together. Own choice.
    pub waiting_calls: u64,
    /// CTX401: how long fewer operations take together: 100 ms. Own choice.
    pub waiting_time: Duration,

    /// CTX402: operations of one callsite: 1000. Own choice.
    pub small_calls: u64,
    /// CTX402: bytes of one on average: less than 4096, a page.
    pub small_bytes: f64,
    /// CTX402: the share of the time that they take: 0.1. Own choice.
    pub small_share: f64,

    /// CTX403: syncs inside one operation: 20. Own choice.
    pub syncs: u64,
    /// CTX403: the share of the time that would vanish without them: 0.1. Own choice.
    pub sync_share: f64,
    /// CTX403: operations with so many syncs: 3, unless one has the next. Own choice.
    pub sync_operations: u64,
    /// CTX403: syncs in one operation, where fewer have them: 50. Own choice.
    pub syncs_once: u64,
}

impl Default for StorageThresholds {
    fn default() -> StorageThresholds {
        StorageThresholds {
            waiting_share: 0.5,
            running_share: 0.3,
            waiting_calls: 10,
            waiting_time: Duration::from_millis(100),
            small_calls: 1000,
            small_bytes: 4096.0,
            small_share: 0.1,
            syncs: 20,
            sync_share: 0.1,
            sync_operations: 3,
            syncs_once: 50,
        }
    }
}
