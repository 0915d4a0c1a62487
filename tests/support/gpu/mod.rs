//! Simulated GPUs for tests: a machine that has them, a child process on it, and the driver seen from that child.
//!
//! The libraries are those of `tests/fake-gpu`. A test sets up a [`Machine`] and runs a scenario of its own program on
//! it; there [`Driver`] is the program's CUDA.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "each test uses a part and stops where it cannot go on; the simulator checks what it is given"
)]

mod control;
mod cupti;
mod driver;
mod machine;
mod memory;
mod table;

pub use cupti::{Seen, Tracer};
pub use driver::{Context, Driver, Event, Graph, Kernel, Stream};
pub use machine::{Library, Machine, say, scenario};
pub use memory::Pinned;
