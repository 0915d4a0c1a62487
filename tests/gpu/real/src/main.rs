//! Compares what tracing-cortex says of a real GPU with events that are timed by hand, and prints a table.
//!
//! `tests/gpu/run` builds and runs it. Every case and every measurement is a child process of its own, so that each
//! begins with a fresh driver and one that fails leaves the others alone.

mod args;
mod cases;
mod children;
mod facts;
mod gpu;
mod kernels;
mod machine;
mod observed;
mod overhead;
mod ranges;
mod report;
mod run_case;
mod verdict;

use std::process::ExitCode;

use args::{Child, Command};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(why) => {
            eprintln!("gpu-check: {why}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => {
            println!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Command::List => {
            for case in cases::ALL {
                println!("{:16} {}", case.name, case.what);
            }
            println!(
                "{:16} ranges that the program marks, without CUPTI",
                ranges::NAME
            );
            return ExitCode::SUCCESS;
        }
        Command::Child(child, settings) => match child {
            Child::Case(case) => {
                run_case::run(case, &settings).and_then(|done| children::answer(&done))
            }
            Child::Overhead(mode) => {
                overhead::run(mode, &settings).and_then(|done| children::answer(&done))
            }
            Child::Ranges => ranges::run(&settings).and_then(|done| children::answer(&done)),
            Child::Facts => facts::find(&settings).and_then(|done| children::answer(&done)),
            Child::Notices => run_case::notices(&settings).and_then(|done| children::answer(&done)),
        },
        Command::All(settings) => {
            return match machine::devices() {
                Ok(_) => report::make(&settings),
                Err(why) => {
                    println!("!!! SKIPPED the check on a real GPU: {why}");
                    println!(
                        "!!! Nothing was measured. Carry target/gpu-check to a machine with an NVIDIA GPU."
                    );
                    ExitCode::from(u8::from(settings.require))
                }
            };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("gpu-check: {why}");
            ExitCode::FAILURE
        }
    }
}
