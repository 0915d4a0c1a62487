//! What devices do is told of the spans that had them do it; on simulated GPUs, through the product's own way of opening
//! the driver and CUPTI.
//!
//! Every test runs this program once more, as a child on a machine that has such GPUs.
#![cfg(all(target_os = "linux", feature = "cuda"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "a test stops where it cannot go on; the simulator is a C library"
)]

mod attribution;
mod capture;
mod captures;
mod clock;
mod degrading;
mod delivery;
mod diagnosis;
mod ends;
#[path = "../support/gpu/mod.rs"]
mod gpu;
mod memory;
mod outputs;
mod ranges;

use gpu::scenario;

/// What a child can be told to do, by name.
type Scenarios = &'static [(&'static str, fn())];

const SCENARIOS: &[Scenarios] = &[
    attribution::SCENARIOS,
    captures::SCENARIOS,
    clock::SCENARIOS,
    degrading::SCENARIOS,
    diagnosis::SCENARIOS,
    ends::SCENARIOS,
    delivery::SCENARIOS,
    memory::SCENARIOS,
    outputs::SCENARIOS,
    ranges::SCENARIOS,
];

/// The child; as a test of the parent it does nothing.
#[test]
fn child() {
    let Some(wanted) = scenario() else { return };
    let known = SCENARIOS.iter().copied().flatten();
    let (_, run) = known
        .clone()
        .find(|(name, _)| *name == wanted)
        .unwrap_or_else(|| panic!("there is no scenario called {wanted}"));
    run();
}
