//! What exporting over OTLP costs, against the layer alone and against tracing-opentelemetry, in one run.
//!
//! `cargo bench --bench otlp --features otlp [-- --strict]` prints tables and writes `target/bench/otlp.json`.
//!
//! | question | measured |
//! |---|---|
//! | What does it cost the program's own thread? | CPU time of the thread inside its bursts of spans, over the layer alone |
//! | What does it cost in all? | CPU time of the process for each span that the receiver got, over tracing-opentelemetry's |
//! | What is lost? | spans of one burst of 200,000 that the receiver did not get |
//!
//! Each measurement is a process of its own that sends to a receiver in another one, whose CPU time is therefore in no
//! figure. A round measures every case once, in an order that rotates; figures are medians over the rounds, and a ratio
//! is taken within its round. `CORTEX_BENCH_ROUNDS` sets their number. With `--strict` a bar that is not met is a failure.
//!
//! The first two questions are asked of spans that come in bursts with pauses, so that nobody has to drop any: the CPU
//! time of a span that is not exported answers nothing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot measure has to stop, and it exists to print"
)]

mod bars;
mod case;
#[path = "../hot_path/command.rs"]
mod command;
mod cortex;
#[path = "../hot_path/cpu.rs"]
#[allow(
    dead_code,
    reason = "the hot path pins its threads and reads its memory"
)]
mod cpu;
#[path = "../hot_path/document.rs"]
mod document;
#[path = "../hot_path/machine.rs"]
mod machine;
mod receiver;
mod report;
mod rounds;
mod shape;
#[path = "../hot_path/spread.rs"]
mod spread;
mod system;

use std::env;
use std::process::ExitCode;

use crate::case::Case;
use crate::receiver::Endpoints;
use crate::rounds::Round;
use crate::shape::Shape;
use crate::system::System;

/// Odd, so that the median is a round that happened; with it the whole takes two minutes on two cores.
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--receiver"] => {
            receiver::run();
            ExitCode::SUCCESS
        }
        ["--case", shape, system, endpoints] => {
            let case = Case {
                shape: Shape::parse(shape).unwrap(),
                system: System::parse(system).unwrap(),
            };
            let endpoints: Endpoints = serde_json::from_str(endpoints).unwrap();
            let measurement = case.run(&endpoints);
            println!("{}", serde_json::to_string(&measurement).unwrap());
            ExitCode::SUCCESS
        }
        _ if arguments.contains(&"--bench") => bench(&arguments),
        // `cargo test --all-targets` runs this too, in a build whose figures would mean nothing.
        _ => {
            println!("nothing to test; measure with: cargo bench --bench otlp --features otlp");
            ExitCode::SUCCESS
        }
    }
}

fn bench(arguments: &[&str]) -> ExitCode {
    match command::is_strict(arguments, "--strict", |_| false) {
        Some(strict) => command::measure(ROUNDS, strict, Round::run),
        None => ExitCode::FAILURE,
    }
}
