//! Instructions per span of the thread that opens it, for when time is too noisy or needs an explanation.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::case::{Case, Measurement};
use crate::system::System;
use crate::workload::Scenario;

const SCENARIOS: [Scenario; 3] = [Scenario::Flat, Scenario::Nested, Scenario::Polled];
const SYSTEMS: [System; 3] = [
    System::Empty,
    System::CortexStats,
    System::CortexChromeRoomy,
];

/// Two lengths, whose difference is free of what happens once. Both fill the chunks of the loop evenly.
const SHORT: u64 = 3_000;
const LONG: u64 = 9_000;

/// Prints a table, or one line if valgrind is not there.
pub(crate) fn run() -> ExitCode {
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!("skipped: valgrind is not installed");
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

/// Returns the instructions of the measured loop on its own thread.
fn count(case: Case, spans: u64) -> (u64, Measurement) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--quiet",
            "--separate-threads=yes",
            "--toggle-collect=*workload*measured*",
        ])
        .arg(format!(
            "--callgrind-out-file={}",
            folder.path().join("counts").display()
        ))
        .arg(std::env::current_exe().unwrap())
        .args(["--case", case.scenario.id(), case.system.id()])
        .args(["--spans", &spans.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "valgrind ended with {}",
        output.status
    );
    let measurement = serde_json::from_slice(&output.stdout).unwrap();
    // Threads are numbered in the order of their start; the measured loop is on the first.
    (totals(&folder.path().join("counts-01")), measurement)
}

fn totals(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals:"))
        .unwrap();
    line.trim().parse().unwrap()
}
