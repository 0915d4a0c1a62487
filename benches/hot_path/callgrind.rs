//! Instructions per span of the thread that opens it, for when time is too noisy or needs an explanation.

use std::process::{Command, ExitCode};

use crate::case::{Case, Measurement};
use crate::system::System;
use crate::valgrind;
use crate::workload::Scenario;

const SCENARIOS: [Scenario; 3] = [Scenario::Flat, Scenario::Nested, Scenario::Polled];
const SYSTEMS: [System; 4] = [
    System::Empty,
    System::CortexStats,
    System::CortexTrees,
    System::CortexChromeRoomy,
];

/// Two lengths, whose difference is free of what happens once. Both fill the chunks of the loop evenly.
const SHORT: u64 = 3_000;
const LONG: u64 = 9_000;

/// Prints a table, or one line if valgrind is not there.
pub(crate) fn run() -> ExitCode {
    if !valgrind::is_there() {
        return ExitCode::SUCCESS;
    }
    println!(
        "{:<4} {:<20} {:>17} {:>8} {:>8}",
        "", "system", "instructions/span", "+ empty", "dropped"
    );
    for scenario in SCENARIOS {
        let mut baseline = None;
        for system in SYSTEMS {
            let case = Case { scenario, system };
            let (short, _) = count(case, SHORT);
            let (long, measurement) = count(case, LONG);
            let per_span = (long - short) as f64 / (LONG - SHORT) as f64;
            let baseline = *baseline.get_or_insert(per_span);
            println!(
                "{:<4} {:<20} {:>17.1} {:>+8.1} {:>8}",
                scenario.id(),
                system.id(),
                per_span,
                per_span - baseline,
                measurement
                    .dropped
                    .map_or("-".to_owned(), |spans| spans.to_string()),
            );
        }
    }
    ExitCode::SUCCESS
}

/// Returns the instructions of the measured loop, which is on the first thread.
fn count(case: Case, spans: u64) -> (u64, Measurement) {
    let (scenario, system) = (case.scenario.id(), case.system.id());
    let spans = spans.to_string();
    let arguments = ["--case", scenario, system, "--spans", &spans];
    let command = Command::new("valgrind");
    let (instructions, printed) = valgrind::count(command, "*workload*measured*", &arguments);
    (instructions, serde_json::from_slice(&printed).unwrap())
}
