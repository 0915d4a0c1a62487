//! Instructions of the launching thread, for when time is too noisy or needs an explanation.

use std::process::ExitCode;

use crate::case::System;
use crate::valgrind;
use crate::workload::BURST;

/// Two lengths, whose difference is free of what happens once.
const SHORT: u64 = 2;
const LONG: u64 = 6;

/// Instructions per span below which there are none: what a growing histogram adds to one of the two.
const FREE: f64 = 0.5;

/// Prints a table, or one line if valgrind is not there.
pub(crate) fn run() -> ExitCode {
    if !valgrind::is_there() {
        return ExitCode::SUCCESS;
    }
    println!("{:<16} {:>13} {:>8}", "system", "instructions", "added");
    let mut counted: Vec<(System, f64)> = Vec::new();
    let mut met = true;
    for system in System::ALL {
        let more = count(system, LONG) - count(system, SHORT);
        let each = more as f64 / ((LONG - SHORT) * BURST) as f64;
        counted.push((system, each));
        let baseline = counted
            .iter()
            .find(|(other, _)| *other == system.baseline());
        let (_, baseline) = baseline.unwrap();
        let added = each - baseline;
        println!("{:<16} {each:>13.1} {added:>+8.1}", system.id());
        met &= system != System::SpanNoDriver || added.abs() < FREE;
    }
    println!(
        "without a driver a span costs no instruction more: {}",
        if met { "met" } else { "NOT met" }
    );
    if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Returns the instructions of the bursts, which are on the first thread.
fn count(system: System, bursts: u64) -> u64 {
    let machine = system.machine();
    let arguments = ["--case", system.id(), &bursts.to_string()];
    valgrind::count(machine.command("valgrind"), "*Work*burst*", &arguments).0
}
