//! What attributing GPU work costs the thread that launches it, on simulated GPUs, in one run.
//!
//! `cargo bench --bench gpu --features cuda [-- --strict]` prints a table and writes `target/bench/gpu.json`.
//!
//! | question | measured |
//! |---|---|
//! | What does a launch cost more? | CPU time of the launching thread per launch inside a span, less that of the layer without GPUs |
//! | How much of it is ours? | the same, less that of a subscriber to CUPTI that does nothing |
//! | What does it cost where there is no GPU? | CPU time of a span with `Cuda::auto()` and no driver, less that of a span without |
//!
//! Each measurement is a process of its own on a machine whose driver and CUPTI are the simulator of the tests. A round
//! measures every system once, in an order that rotates; figures are medians over the rounds, and a difference is taken
//! within its round. `CORTEX_BENCH_ROUNDS` sets their number. With `--strict` a bar that is not met is a failure.
//!
//! `cargo bench --bench gpu --features cuda -- --callgrind` counts instructions instead, which other load does not change.
//!
//! Launches come in bursts with pauses, so that nothing is dropped: a call that is not recorded costs less.
#![cfg_attr(
    target_os = "linux",
    allow(
        clippy::unwrap_used,
        clippy::print_stdout,
        unsafe_code,
        clippy::undocumented_unsafe_blocks,
        reason = "a benchmark that cannot measure has to stop, and it exists to print; the simulator is a C library"
    )
)]

#[cfg(target_os = "linux")]
mod bars;
#[cfg(target_os = "linux")]
mod callgrind;
#[cfg(target_os = "linux")]
mod case;
#[cfg(target_os = "linux")]
#[path = "../hot_path/command.rs"]
mod command;
#[cfg(target_os = "linux")]
#[path = "../hot_path/cpu.rs"]
#[allow(
    dead_code,
    reason = "the hot path reads its memory and the time of its process"
)]
mod cpu;
#[cfg(target_os = "linux")]
#[path = "../hot_path/document.rs"]
mod document;
#[cfg(target_os = "linux")]
#[path = "../../tests/support/gpu/mod.rs"]
mod gpu;
#[cfg(target_os = "linux")]
#[path = "../hot_path/machine.rs"]
mod machine;
#[cfg(target_os = "linux")]
mod quiet;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod rounds;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
#[path = "../hot_path/spread.rs"]
mod spread;
#[cfg(target_os = "linux")]
#[path = "../hot_path/valgrind.rs"]
mod valgrind;
#[cfg(target_os = "linux")]
mod workload;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

/// The simulator is a Linux library.
#[cfg(not(target_os = "linux"))]
fn main() {}
