//! The tables and the JSON file.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::bars::Verdict;
use crate::case::{Case, Measurement};
use crate::document;
use crate::machine::Machine;
use crate::rounds::{Round, cases};
use crate::spread::{Spread, median, range};
use crate::system::System;
use crate::workload::Scenario;

/// One figure of one case.
#[derive(Debug, Serialize)]
struct Line {
    scenario: Scenario,
    system: System,
    figure: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

type Read = fn(&Measurement) -> Option<f64>;

const FIGURES: &[(&str, &str, Read)] = &[
    ("per span", "ns", |m| Some(m.span_ns())),
    ("wall per span", "ns", |m| Some(m.wall_ns)),
    ("best wall per span", "ns", |m| Some(m.best_ns)),
    ("total wall", "ms", |m| Some(m.total_wall_ms)),
    ("total CPU", "ms", |m| m.total_cpu_ms),
    ("peak RSS", "MiB", |m| m.peak_rss_mib),
    ("opened", "spans", |m| Some(m.opened as f64)),
    ("dropped", "records", |m| {
        m.dropped.map(|spans| spans as f64)
    }),
    ("written", "spans", |m| m.written.map(|spans| spans as f64)),
    ("trace", "MiB", |m| m.trace_mib),
    ("pinned", "bool", |m| Some(f64::from(u8::from(m.pinned)))),
];

/// Writes `target/bench/hot_path.json` and returns its path.
pub(crate) fn write_json(
    machine: &Machine,
    rounds: &[Round],
    bars: &[Verdict],
) -> io::Result<PathBuf> {
    let mut figures = Vec::new();
    for case in cases() {
        let Case { scenario, system } = case;
        let mut line = |figure, unit, spread: Option<Spread>| {
            figures.extend(spread.map(|spread| Line {
                scenario,
                system,
                figure,
                unit,
                spread,
            }));
        };
        for (figure, unit, read) in FIGURES {
            line(figure, unit, figure_of(rounds, case, *read));
        }
        line("per span, x empty", "ratio", over_baseline(rounds, case));
        line(
            "per span, added to empty",
            "ns",
            added_to_baseline(rounds, case, Measurement::span_ns),
        );
        line(
            "wall per span, added to empty",
            "ns",
            added_to_baseline(rounds, case, |m| m.wall_ns),
        );
    }
    document::write("hot_path", machine, rounds.len(), &figures, bars)
}

fn figure_of(rounds: &[Round], case: Case, read: Read) -> Option<Spread> {
    Spread::over(rounds, |round| {
        round.get(case.scenario, case.system).and_then(read)
    })
}

fn over_baseline(rounds: &[Round], case: Case) -> Option<Spread> {
    Spread::over(rounds, |round| {
        let own = round.get(case.scenario, case.system)?;
        Some(own.span_ns() / round.get(case.scenario, System::Empty)?.span_ns())
    })
}

fn added_to_baseline(
    rounds: &[Round],
    case: Case,
    cost: fn(&Measurement) -> f64,
) -> Option<Spread> {
    Spread::over(rounds, |round| {
        let own = cost(round.get(case.scenario, case.system)?);
        Some(own - cost(round.get(case.scenario, System::Empty)?))
    })
}

/// Prints one table per scenario that ran.
pub(crate) fn print_figures(rounds: &[Round]) {
    for scenario in Scenario::ALL {
        let systems: Vec<System> = cases()
            .filter(|case| case.scenario == scenario)
            .map(|case| case.system)
            .filter(|system| {
                rounds
                    .iter()
                    .any(|round| round.get(scenario, *system).is_some())
            })
            .collect();
        if systems.is_empty() {
            continue;
        }
        println!("\n{}: {}", scenario.id(), scenario.title());
        if scenario == Scenario::Bulk {
            print_bulk(rounds, &systems);
        } else {
            print_per_span(rounds, scenario, &systems);
        }
        let pinned = rounds.iter().all(|round| {
            systems
                .iter()
                .all(|system| round.get(scenario, *system).is_none_or(|m| m.pinned))
        });
        if matches!(scenario, Scenario::OneThread | Scenario::TwoThreads) && !pinned {
            println!("  not pinned: the threads may have shared a processor");
        }
    }
}

fn print_per_span(rounds: &[Round], scenario: Scenario, systems: &[System]) {
    println!(
        "  {:<20} {:>9} {:>19} {:>8} {:>8} {:>9} {:>15} {:>8} {:>8} {:>9}",
        "system",
        "ns",
        "[min..max]",
        "wall ns",
        "best ns",
        "x empty",
        "[min..max]",
        "+ ns",
        "+ wall",
        "drop/span"
    );
    for &system in systems {
        let case = Case { scenario, system };
        let of = |read| figure_of(rounds, case, read);
        let cost = of(|m| Some(m.span_ns()));
        let ratio = over_baseline(rounds, case);
        println!(
            "  {:<20} {:>9} {:>19} {:>8} {:>8} {:>9} {:>15} {:>8} {:>8} {:>9}",
            system.id(),
            median(cost, 1),
            range(cost, 1),
            median(of(|m| Some(m.wall_ns)), 1),
            median(of(|m| Some(m.best_ns)), 1),
            median(ratio, 2),
            range(ratio, 2),
            median(added_to_baseline(rounds, case, Measurement::span_ns), 1),
            median(added_to_baseline(rounds, case, |m| m.wall_ns), 1),
            median(of(|m| Some(m.dropped? as f64 / m.opened as f64)), 3),
        );
    }
}

fn print_bulk(rounds: &[Round], systems: &[System]) {
    println!(
        "  {:<20} {:>9} {:>17} {:>8} {:>8} {:>9} {:>9} {:>10}",
        "system", "wall ms", "[min..max]", "CPU ms", "RSS MiB", "written", "dropped", "trace MiB"
    );
    for &system in systems {
        let case = Case {
            scenario: Scenario::Bulk,
            system,
        };
        let of = |read| figure_of(rounds, case, read);
        let wall = of(|m| Some(m.total_wall_ms));
        println!(
            "  {:<20} {:>9} {:>17} {:>8} {:>8} {:>9} {:>9} {:>10}",
            system.id(),
            median(wall, 0),
            range(wall, 0),
            median(of(|m| m.total_cpu_ms), 0),
            median(of(|m| m.peak_rss_mib), 1),
            median(of(|m| m.written.map(|spans| spans as f64)), 0),
            median(of(|m| m.dropped.map(|spans| spans as f64)), 0),
            median(of(|m| m.trace_mib), 1),
        );
    }
}

/// Prints every bar with its verdict.
pub(crate) fn print_bars(bars: &[Verdict]) {
    println!("\nbars (speeds by the median round, promises by the worst)");
    for bar in bars {
        let digits = match bar.unit {
            "ratio" => 3,
            "spans" => 0,
            _ => 1,
        };
        println!(
            "  {:<4} {:<20} {:<40} {:>9} <= {:<6} {:<6} {:<17} {}",
            bar.scenario.id(),
            bar.system.id(),
            bar.figure,
            bar.judged
                .map_or("-".to_owned(), |value| format!("{value:.digits$}")),
            bar.limit,
            bar.unit,
            range(bar.measured, digits),
            if bar.met { "met" } else { "NOT met" },
        );
    }
}
