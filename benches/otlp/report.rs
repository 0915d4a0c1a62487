//! The tables and the JSON file.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::bars::Verdict;
use crate::case::{Case, Measurement};
use crate::document;
use crate::machine::Machine;
use crate::rounds::{Round, cases, systems};
use crate::shape::Shape;
use crate::spread::{Spread, median, range};
use crate::system::System;

type Read = fn(&Measurement) -> Option<f64>;

const FIGURES: &[(&str, &str, Read)] = &[
    ("thread time per span", "ns", |m| Some(m.span_ns())),
    ("wall per span", "ns", |m| Some(m.wall_ns)),
    ("CPU per exported span", "ns", |m| m.process_span_ns()),
    ("CPU", "ms", |m| m.process_cpu_ms),
    ("finish", "ms", |m| Some(m.finish_ms)),
    ("opened", "spans", |m| Some(m.opened as f64)),
    ("exported", "spans", |m| {
        m.exported.map(|spans| spans as f64)
    }),
    ("lost", "spans", |m| m.lost()),
];

/// One figure of one case.
#[derive(Debug, Serialize)]
struct Line {
    shape: Shape,
    system: System,
    figure: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// Writes `target/bench/otlp.json` and returns its path.
pub(crate) fn write_json(
    machine: &Machine,
    rounds: &[Round],
    bars: &[Verdict],
) -> io::Result<PathBuf> {
    let mut figures = Vec::new();
    for case in cases() {
        for &(figure, unit, read) in FIGURES {
            figures.extend(figure_of(rounds, case, read).map(|spread| Line {
                shape: case.shape,
                system: case.system,
                figure,
                unit,
                spread,
            }));
        }
    }
    document::write("otlp", machine, rounds.len(), &figures, bars)
}

fn figure_of(rounds: &[Round], case: Case, read: Read) -> Option<Spread> {
    Spread::over(rounds, |round| {
        round.get(case.shape, case.system).and_then(read)
    })
}

/// Returns a figure over that of the layer alone.
fn over_layer(rounds: &[Round], case: Case) -> Option<Spread> {
    Spread::over(rounds, |round| {
        let own = round.get(case.shape, case.system)?;
        Some(own.span_ns() / round.get(case.shape, System::Cortex)?.span_ns())
    })
}

/// Returns the CPU time of the process that a span adds to the program's own.
fn added(rounds: &[Round], case: Case) -> Option<Spread> {
    Spread::over(rounds, |round| {
        let own = round.get(case.shape, case.system)?.process_span_ns()?;
        Some(own - round.get(case.shape, System::Empty)?.process_span_ns()?)
    })
}

/// Prints one table per shape.
pub(crate) fn print_figures(rounds: &[Round]) {
    for shape in Shape::ALL {
        println!("\n{}: {}", shape.id(), shape.title());
        println!(
            "  {:<14} {:>10} {:>17} {:>9} {:>13} {:>17} {:>8} {:>10} {:>8} {:>10}",
            "system",
            "thread ns",
            "[min..max]",
            "x cortex",
            "CPU ns/span",
            "[min..max]",
            "+ empty",
            "exported",
            "lost",
            "finish ms"
        );
        for &system in systems(shape) {
            let case = Case { shape, system };
            let of = |read| figure_of(rounds, case, read);
            let thread = of(|m| Some(m.span_ns()));
            let process = of(|m| m.process_span_ns());
            println!(
                "  {:<14} {:>10} {:>17} {:>9} {:>13} {:>17} {:>8} {:>10} {:>8} {:>10}",
                system.id(),
                median(thread, 1),
                range(thread, 1),
                median(over_layer(rounds, case), 2),
                median(process, 0),
                range(process, 0),
                median(added(rounds, case), 0),
                median(of(|m| m.exported.map(|spans| spans as f64)), 0),
                median(of(|m| m.lost()), 0),
                median(of(|m| Some(m.finish_ms)), 0),
            );
        }
    }
}

/// Prints every bar with its verdict.
pub(crate) fn print_bars(bars: &[Verdict]) {
    println!("\nbars (speeds by the median round, promises by the worst)");
    for bar in bars {
        let digits = if bar.unit == "spans" { 0 } else { 3 };
        println!(
            "  {:<13} {:<12} {:<36} {:>9} <= {:<5} {:<6} {:<17} {}",
            bar.shape.id(),
            bar.system.id(),
            bar.figure,
            bar.judged
                .map_or("-".to_owned(), |value| format!("{value:.digits$}")),
            format!("{:.*}", digits.min(2), bar.limit),
            bar.unit,
            range(bar.measured, digits),
            match bar.judged {
                Some(_) if bar.met => "met",
                Some(_) => "NOT met",
                None => "not measured",
            },
        );
    }
}
