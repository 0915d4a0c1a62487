//! The command line.

use std::env;
use std::process::ExitCode;

use crate::case::System;
use crate::rounds::Round;
use crate::{callgrind, command};

/// Odd, so that the median is a round that happened; with it the whole takes half a minute on two cores.
const ROUNDS: usize = 9;

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--case", system, bursts] => {
            let system = System::parse(system).unwrap();
            let measurement = system.run(bursts.parse().unwrap());
            println!("{}", serde_json::to_string(&measurement).unwrap());
            ExitCode::SUCCESS
        }
        _ if arguments.contains(&"--callgrind") => callgrind::run(),
        _ if arguments.contains(&"--bench") => bench(&arguments),
        // `cargo test --all-targets` runs this too, in a build whose figures would mean nothing.
        _ => {
            println!("nothing to test; measure with: cargo bench --bench gpu --features cuda");
            ExitCode::SUCCESS
        }
    }
}

fn bench(arguments: &[&str]) -> ExitCode {
    match command::is_strict(arguments, "--strict or --callgrind", |_| false) {
        Some(strict) => command::measure(ROUNDS, strict, Round::run),
        None => ExitCode::FAILURE,
    }
}
