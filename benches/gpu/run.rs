//! The command line.

use std::env;
use std::process::ExitCode;

use crate::case::System;
use crate::machine::Machine;
use crate::rounds::Round;
use crate::{bars, callgrind, report};

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
    let mut strict = false;
    for argument in arguments {
        match *argument {
            "--bench" => {}
            "--strict" => strict = true,
            _ => {
                println!("unknown argument {argument}: expected --strict or --callgrind");
                return ExitCode::FAILURE;
            }
        }
    }
    let count = match env::var("CORTEX_BENCH_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap(),
        Err(_) => ROUNDS,
    };

    let machine = Machine::before();
    let rounds: Vec<Round> = (0..count).map(Round::run).collect();
    let machine = machine.after();
    let verdicts = bars::judge(&rounds);

    println!("{count} rounds, {machine}");
    report::print_figures(&rounds);
    report::print_bars(&verdicts);
    let path = report::write_json(&machine, &rounds, &verdicts).unwrap();
    println!("\nwritten to {}", path.display());
    if strict && verdicts.iter().any(|verdict| !verdict.met) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
