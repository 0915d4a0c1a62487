//! The simulated GPUs that the tests of GPU measurement stand on do what real ones do.
//!
//! Every test runs this program once more, as a child on a machine that has them.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "a test stops where it cannot go on; the simulator is a C library"
)]

mod activities;
mod driver;
#[path = "../support/gpu/mod.rs"]
mod gpu;

use gpu::{Driver, scenario};

const MEMCPY: u32 = 1;
const MEMSET: u32 = 2;
const KERNEL: u32 = 10;
const PEER: u32 = 22;
const SYNCHRONIZATION: u32 = 38;
const GRAPH: u32 = 51;

/// From a launch to the earliest start of its work.
const LATENCY: u64 = 2_000;

/// The child; as a test of the parent it does nothing.
#[test]
fn child() {
    match scenario().as_deref() {
        None => (),
        Some("correlation") => activities::correlation(),
        Some("order") => driver::order(),
        Some("events") => driver::events(),
        Some("copies") => activities::copies(),
        Some("graph") => activities::graph(),
        Some("shuffle") => activities::shuffled(),
        Some("unfinished") => activities::unfinished(),
        Some("late") => activities::late(),
        Some("buffers") => activities::buffers(),
        Some("subscribers") => activities::subscribers(),
        Some("timestamps") => activities::timestamps(),
        Some("runtime") => activities::runtime(),
        Some("capture") => driver::capture(),
        Some("lost") => driver::lost(),
        Some("symbol") => driver::symbol(),
        Some("cost") => driver::cost(),
        Some(other) => panic!("there is no scenario called {other}"),
    }
}

fn word(record: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(record[at..at + 4].try_into().unwrap())
}

fn long(record: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(record[at..at + 8].try_into().unwrap())
}

/// A driver with a clock that stands at 1 s.
fn stopped() -> Driver {
    let driver = Driver::ready();
    driver.manual_clock(1_000_000_000);
    driver
}
