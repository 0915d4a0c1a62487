//! The table and the JSON file.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::bars::Verdict;
use crate::case::System;
use crate::document;
use crate::machine::Machine;
use crate::rounds::Round;
use crate::spread::{Spread, median, range};

/// One figure of one system.
#[derive(Debug, Serialize)]
struct Line {
    system: System,
    figure: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// Writes `target/bench/gpu.json` and returns its path.
pub(crate) fn write_json(
    machine: &Machine,
    rounds: &[Round],
    bars: &[Verdict],
) -> io::Result<PathBuf> {
    let mut figures = Vec::new();
    for system in System::ALL {
        let mut line = |figure, unit, spread: Option<Spread>| {
            figures.extend(spread.map(|spread| Line {
                system,
                figure,
                unit,
                spread,
            }));
        };
        line("thread time", "ns", cost(rounds, system));
        line("added to the baseline", "ns", added(rounds, system));
        line("added to quiet", "ns", added_to_quiet(rounds, system));
        line("dropped", "calls", dropped(rounds, system));
    }
    document::write("gpu", machine, rounds.len(), &figures, bars)
}

fn cost(rounds: &[Round], system: System) -> Option<Spread> {
    Spread::over(rounds, |round| Some(round.get(system).cpu_ns))
}

fn added(rounds: &[Round], system: System) -> Option<Spread> {
    let baseline = system.baseline();
    Spread::over(rounds, |round| {
        (system != baseline).then(|| round.added(system, baseline))
    })
}

fn added_to_quiet(rounds: &[Round], system: System) -> Option<Spread> {
    Spread::over(rounds, |round| {
        system
            .is_attributed()
            .then(|| round.added(system, System::Quiet))
    })
}

fn dropped(rounds: &[Round], system: System) -> Option<Spread> {
    Spread::over(rounds, |round| Some(round.get(system).dropped? as f64))
}

/// Prints one row per system.
pub(crate) fn print_figures(rounds: &[Round]) {
    println!(
        "\n  {:<16} {:>8} {:>17} {:>8} {:>17} {:>8} {:>8}  what",
        "system", "ns", "[min..max]", "added", "[min..max]", "+ quiet", "dropped"
    );
    for system in System::ALL {
        println!(
            "  {:<16} {:>8} {:>17} {:>8} {:>17} {:>8} {:>8}  {}",
            system.id(),
            median(cost(rounds, system), 1),
            range(cost(rounds, system), 1),
            median(added(rounds, system), 1),
            range(added(rounds, system), 1),
            median(added_to_quiet(rounds, system), 1),
            median(dropped(rounds, system), 0),
            system.title(),
        );
    }
}

/// Prints every bar with its verdict.
pub(crate) fn print_bars(bars: &[Verdict]) {
    println!("\nbars (speeds by the median round, promises by the worst)");
    for bar in bars {
        println!(
            "  {:<16} {:<24} {:>8} <= {:<5} {:<8} {:<17} {}",
            bar.system.id(),
            bar.figure,
            bar.judged
                .map_or("-".to_owned(), |value| format!("{value:.1}")),
            bar.limit,
            bar.unit,
            range(bar.measured, 1),
            if bar.met { "met" } else { "NOT met" },
        );
    }
}
