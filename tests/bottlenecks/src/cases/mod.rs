//! The cases, by what they are about.

mod database;
mod healthy;
mod latency;
mod memory;
mod network;
mod storage;
mod tasks;
mod threads;
mod work;

use crate::case::Case;

/// Returns all cases, plants first.
pub fn all() -> Vec<&'static Case> {
    let cases = [
        work::CASES,
        tasks::CASES,
        threads::CASES,
        memory::CASES,
        storage::CASES,
        database::CASES,
        network::CASES,
        latency::CASES,
    ];
    cases.into_iter().chain(healthy::CASES).flatten().collect()
}
