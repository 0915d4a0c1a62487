//! GPUs for tests: the C symbols of the driver, CUPTI, NVML and NVTX in one library.
//!
//! Nothing runs. Work gets its start and its end on a timeline when it is launched, and counts as finished when the
//! host's clock has passed its end. No lock is held while a callback of the program runs.
#![allow(
    non_snake_case,
    unsafe_op_in_unsafe_fn,
    clippy::missing_safety_doc,
    clippy::redundant_closure_call,
    clippy::unused_unit,
    clippy::too_many_arguments,
    reason = "the names and the signatures are those of the libraries"
)]

#[macro_use]
mod exports;

mod activities;
mod buffers;
mod callbacks;
mod capture;
mod clock;
mod control;
mod copies;
mod counters;
mod driver;
mod errors;
mod events;
mod graphs;
mod knobs;
mod launch;
mod memory;
mod nvml;
mod nvtx;
mod state;
mod streams;
mod symbols;
