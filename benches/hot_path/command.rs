//! What the benchmarks' command lines have in common.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::bars::{self, Verdict};
use crate::machine::Machine;
use crate::report;
use crate::rounds::Round;

/// Takes `--bench` and `--strict`; `other` says whether it knows another argument. Returns whether bars that are not met
/// are a failure; `None`, after a word of what is `expected`, where an argument is unknown.
pub(crate) fn is_strict(
    arguments: &[&str],
    expected: &str,
    mut other: impl FnMut(&str) -> bool,
) -> Option<bool> {
    let mut strict = false;
    for argument in arguments {
        match *argument {
            "--bench" => {}
            "--strict" => strict = true,
            argument if other(argument) => {}
            argument => {
                println!("unknown argument {argument}: expected {expected}");
                return None;
            }
        }
    }
    Some(strict)
}

/// Measures so many rounds, or as many as `CORTEX_BENCH_ROUNDS` says, and prints and writes what came of it.
pub(crate) fn measure(rounds: usize, strict: bool, round: impl FnMut(usize) -> Round) -> ExitCode {
    let count = match env::var("CORTEX_BENCH_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap(),
        Err(_) => rounds,
    };
    let machine = Machine::before();
    let rounds: Vec<Round> = (0..count).map(round).collect();
    let machine = machine.after();
    let verdicts: Vec<Verdict> = bars::judge(&rounds);

    println!("{count} rounds, {machine}");
    report::print_figures(&rounds);
    report::print_bars(&verdicts);
    let path: io::Result<PathBuf> = report::write_json(&machine, &rounds, &verdicts);
    println!("\nwritten to {}", path.unwrap().display());
    match strict && verdicts.iter().any(|verdict| !verdict.met) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
