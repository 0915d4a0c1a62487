//! What a span costs, against a layer that does nothing and against the peers, in one run.
//!
//! `cargo bench --bench hot_path [-- [--strict] [S1 S2 S4x1 S4x2 S5 S6 S7]]` prints tables and writes
//! `target/bench/hot_path.json`. Each measurement is a process of its own; a round measures every case once, in an order
//! that rotates; figures are medians over the rounds, and a ratio is taken within its round. `CORTEX_BENCH_ROUNDS` sets
//! their number. A span costs the CPU time of the thread that opens it; wall time is beside it. With `--strict` a bar that
//! is not met is a failure.
//!
//! `cargo bench --bench hot_path -- --callgrind` counts instructions instead, which other load does not change.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot measure has to stop, and it exists to print"
)]

mod bars;
mod callgrind;
mod case;
mod command;
mod cortex;
mod cpu;
mod document;
mod machine;
mod report;
mod rounds;
mod spread;
mod system;
mod valgrind;
mod workload;

use std::env;
use std::process::ExitCode;

use crate::case::Case;
use crate::rounds::Round;
use crate::system::System;
use crate::workload::Scenario;

/// Odd, so that the median is a round that happened; with it the whole takes less than three minutes on two cores.
const ROUNDS: usize = 15;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--case", scenario, system, rest @ ..] => {
            let scenario = Scenario::parse(scenario).unwrap();
            let system = System::parse(system).unwrap();
            let spans = match rest {
                ["--spans", spans] => spans.parse().unwrap(),
                _ => scenario.spans(),
            };
            let measurement = Case { scenario, system }.run(spans);
            println!("{}", serde_json::to_string(&measurement).unwrap());
            ExitCode::SUCCESS
        }
        _ if arguments.contains(&"--callgrind") => callgrind::run(),
        _ if arguments.contains(&"--bench") => bench(&arguments),
        // `cargo test --all-targets` runs this too, in a build whose figures would mean nothing.
        _ => {
            println!("nothing to test; measure with: cargo bench --bench hot_path");
            ExitCode::SUCCESS
        }
    }
}

fn bench(arguments: &[&str]) -> ExitCode {
    let mut scenarios = Vec::new();
    let expected = "--strict, --callgrind or S1 S2 S4x1 S4x2 S5 S6 S7";
    let strict = command::is_strict(arguments, expected, |argument| {
        let scenario = Scenario::parse(argument);
        scenarios.extend(scenario);
        scenario.is_some()
    });
    let Some(strict) = strict else {
        return ExitCode::FAILURE;
    };
    if scenarios.is_empty() {
        scenarios.extend(Scenario::ALL);
    }
    command::measure(ROUNDS, strict, |index| Round::run(index, &scenarios))
}
