//! Runs everything, and tells it: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::args::{Child, Settings};
use crate::cases;
use crate::children::{Help, ask};
use crate::facts::Facts;
use crate::overhead::{Measured, Mode};
use crate::ranges;
use crate::verdict::Done;

/// Processes per way of recording, in turn.
const ROUNDS: usize = 5;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The day, in UTC.
    pub date: String,
    /// On the simulator: none of it says anything about a GPU.
    pub simulated: bool,
    pub facts: Option<Facts>,
    pub cases: Vec<Done>,
    pub overhead: Vec<Cost>,
    /// What a run answers that is not told where the toolkit's libraries are.
    pub without_help: Option<String>,
    /// What a run under another profiler answers; `None` without one.
    pub under_ncu: Option<String>,
    pub problems: Vec<String>,
    pub skipped: Vec<String>,
}

/// What a launch costs with one way of recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    pub recording: String,
    /// The best batch of all processes.
    pub min_ns: f64,
    /// The median of the processes' medians.
    pub median_ns: f64,
    pub launches: u64,
}

/// Runs everything that is asked for, prints the table and writes the files.
pub fn make(settings: &Settings) -> ExitCode {
    let report = run(settings);
    let table = report.table();
    println!("\n{table}");
    let json = serde_json::to_string_pretty(&report).map_err(Into::into);
    let written = json.and_then(|json| -> Result<()> {
        fs::create_dir_all(&settings.out)?;
        fs::write(settings.out.join("gpu-check.json"), json)?;
        Ok(fs::write(settings.out.join("gpu-check.md"), table)?)
    });
    if let Err(why) = written {
        eprintln!(
            "gpu-check: {} cannot be written: {why}",
            settings.out.display()
        );
        return ExitCode::FAILURE;
    }
    println!(
        "{} has gpu-check.json and gpu-check.md",
        settings.out.display()
    );
    for skipped in &report.skipped {
        println!("!!! SKIPPED {skipped}");
    }
    for problem in &report.problems {
        println!("FAILED {problem}");
    }
    let passed = report
        .cases
        .iter()
        .filter(|case| case.problems.is_empty() && case.skipped.is_none())
        .count();
    println!(
        "{passed} passed, {} failed, {} skipped",
        report.problems.len(),
        report.skipped.len()
    );
    match report.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run(settings: &Settings) -> Report {
    let mut report = Report {
        date: date(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        ),
        simulated: settings.simulated,
        ..Report::default()
    };
    match ask::<Facts>(Child::Facts, settings, Help::Folders, &[]) {
        Ok(facts) => report.facts = Some(facts),
        Err(why) => report.fails("facts", &why.to_string()),
    }
    for case in cases::ALL {
        if !settings.only.is_empty() && !settings.only.contains(&case.name) {
            continue;
        }
        println!("{}: {}", case.name, case.what);
        report.take(
            case.name,
            ask(Child::Case(case), settings, Help::Folders, &[]),
        );
    }
    if settings.only.is_empty() || settings.only.contains(&ranges::NAME) {
        report.take(
            ranges::NAME,
            ask(Child::Ranges, settings, Help::Folders, &[]),
        );
    }
    if settings.overhead {
        println!("overhead: {ROUNDS} processes each, in turn");
        if let Err(why) = report.measure_overhead(settings) {
            report.fails("overhead", &why.to_string());
        }
    }
    if settings.only.is_empty() {
        match ask::<Value>(Child::Notices, settings, Help::None, &[]) {
            Ok(answer) => report.without_help = Some(answer.to_string()),
            Err(why) => report.fails("without help", &why.to_string()),
        }
        report.run_under_ncu(settings);
    }
    report
}

impl Report {
    fn take(&mut self, name: &str, answer: Result<Done>) {
        match answer {
            Ok(done) => {
                for problem in &done.problems {
                    self.problems.push(format!("{name}: {problem}"));
                }
                if let Some(why) = &done.skipped {
                    self.skipped.push(format!("{name}: {why}"));
                }
                self.cases.push(done);
            }
            Err(why) => self.fails(name, &why.to_string()),
        }
    }

    fn fails(&mut self, what: &str, why: &str) {
        // The simulator does not have all of the driver.
        if self.simulated && why.contains("Missing symbol") {
            self.skipped
                .push(format!("{what}: the simulator cannot do it: {why}"));
        } else {
            self.problems.push(format!("{what}: {why}"));
        }
    }

    fn measure_overhead(&mut self, settings: &Settings) -> Result<()> {
        let mut measured: Vec<Vec<Measured>> = Mode::ALL.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (mode, of_mode) in Mode::ALL.iter().zip(&mut measured) {
                of_mode.push(ask(Child::Overhead(*mode), settings, Help::Folders, &[])?);
            }
        }
        for (mode, of_mode) in Mode::ALL.iter().zip(&measured) {
            for one in of_mode {
                for notice in &one.notices {
                    self.problems
                        .push(format!("overhead, {}: not in use: {notice}", mode.name()));
                }
                if one.recorded.is_some_and(|recorded| recorded < one.launches) {
                    self.problems.push(format!(
                        "overhead, {}: {:?} of {} launches recorded",
                        mode.name(),
                        one.recorded,
                        one.launches
                    ));
                }
            }
            self.overhead.push(Cost::of(mode.what(), of_mode));
        }
        Ok(())
    }

    /// A profiler that has CUPTI for itself: the program must run on, and say what is not measured.
    fn run_under_ncu(&mut self, settings: &Settings) {
        let there = std::process::Command::new("ncu").arg("--version").output();
        if !there.is_ok_and(|output| output.status.success()) {
            self.skipped
                .push("a run under ncu: there is no ncu".to_owned());
            return;
        }
        let ncu = ["ncu", "--clock-control", "none", "--launch-count", "1"];
        match ask::<Value>(Child::Notices, settings, Help::Folders, &ncu) {
            Err(why) => self.fails("under ncu", &why.to_string()),
            Ok(answer) => {
                let recorded = answer["kernels"].as_u64() == Some(3);
                let told = answer["notices"]
                    .as_array()
                    .is_some_and(|notices| !notices.is_empty());
                if !recorded && !told {
                    self.fails("under ncu", "kernels are missing and nothing says why");
                }
                self.under_ncu = Some(answer.to_string());
            }
        }
    }

    /// Returns the report as Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let unknown = "unknown".to_owned();
        let facts = self.facts.clone().unwrap_or_default();
        let cupti = self.cases.iter().find_map(|case| case.cupti.as_ref());
        let compiled = self
            .cases
            .iter()
            .map(|case| &case.compiled_by)
            .find(|by| !by.is_empty());
        if self.simulated {
            text += "**Simulated: this says nothing about a GPU.**\n\n";
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {} (compute capability {}), driver {}, CUDA {}, CUPTI {}; kernels by {}.\n",
            self.date,
            if facts.device.is_empty() {
                &unknown
            } else {
                &facts.device
            },
            facts.compute_capability,
            facts.driver.as_ref().unwrap_or(&unknown),
            facts.cuda,
            cupti.map_or(unknown.clone(), |cupti| {
                let version = cupti
                    .version
                    .map_or(unknown.clone(), |version| version.to_string());
                format!("{version} at `{}`", cupti.path)
            }),
            compiled.unwrap_or(&unknown),
        );
        if !self.cases.is_empty() {
            text += "| a span with | kernels | bytes copied | CUDA events by hand | tracing-cortex | difference | worst span | as it must be |\n\
                     |---|---|---|---|---|---|---|---|\n";
            for case in &self.cases {
                text += &row(case);
            }
        }
        if !self.overhead.is_empty() {
            text += "\n| recording | a launch costs its thread, at best | median | ratio of medians |\n|---|---|---|---|\n";
            let base = self.overhead[0].median_ns;
            for cost in &self.overhead {
                let _ = writeln!(
                    text,
                    "| {} | {:.0} ns | {:.0} ns | {:.2} x |",
                    cost.recording,
                    cost.min_ns,
                    cost.median_ns,
                    cost.median_ns / base
                );
            }
        }
        if let Some(facts) = &self.facts {
            let (cost, answer) = (facts.event_record_ns, &facts.event_query_without_context);
            let _ = writeln!(
                text,
                "\n`cuEventRecord` costs {cost:.0} ns; `cuEventQuery` without a context: {answer}."
            );
        }
        for (how, answer) in [
            (
                "Without being told where the libraries are",
                &self.without_help,
            ),
            ("Under ncu", &self.under_ncu),
        ] {
            if let Some(answer) = answer {
                let _ = writeln!(text, "{how}: `{answer}`");
            }
        }
        text
    }
}

impl Cost {
    fn of(recording: &str, measured: &[Measured]) -> Cost {
        let medians = measured
            .iter()
            .map(|one| median(&one.ns))
            .collect::<Vec<f64>>();
        Cost {
            recording: recording.to_owned(),
            min_ns: measured
                .iter()
                .flat_map(|one| &one.ns)
                .copied()
                .fold(f64::MAX, f64::min),
            median_ns: median(&medians),
            launches: measured.iter().map(|one| one.launches).sum(),
        }
    }
}

fn row(case: &Done) -> String {
    if let Some(why) = &case.skipped {
        return format!("| {} | | | | | | | skipped: {why} |\n", case.what);
    }
    let mean = |values: &[f64]| match values.len() {
        0 => "-".to_owned(),
        count => time(values.iter().sum::<f64>() / count as f64),
    };
    let verdict = match case.problems.is_empty() {
        true => "yes".to_owned(),
        false => format!("**no**: {}", case.problems[0]),
    };
    let spans = case.by_hand_ns.len().max(1) as u64;
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {verdict} |\n",
        case.what,
        case.kernels / spans,
        (case.to_device_bytes + case.to_host_bytes) / spans,
        mean(&case.by_hand_ns),
        mean(&case.ours_ns),
        case.difference()
            .map_or("-".to_owned(), |share| format!("{:+.2} %", share * 100.0)),
        time(case.worst_ns()),
    )
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        ns => format!("{:.3} ms", ns / 1e6),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Returns the day of a Unix time.
fn date(unix_s: u64) -> String {
    // Counted from 1 March of year 0, so that leap days are at the end of a year.
    let days = unix_s / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Done {
        let mut case = Done::new("graph", "a graph");
        case.ours_ns = vec![1_000_000.0, 1_010_000.0];
        case.by_hand_ns = vec![1_000_000.0, 1_000_000.0];
        case.kernels = 20;
        case.to_device_bytes = 64;
        case
    }

    #[test]
    fn a_row_tells_one_span() {
        let wanted = "| a graph | 10 | 32 | 1.000 ms | 1.005 ms | +0.50 % | 10.00 us | yes |\n";
        assert_eq!(row(&case()), wanted);
    }

    #[test]
    fn a_row_says_what_is_wrong_or_why_it_is_empty() {
        let mut wrong = case();
        wrong.problems = vec!["3 calls dropped".to_owned()];
        assert!(row(&wrong).ends_with("| **no**: 3 calls dropped |\n"));
        let mut skipped = Done::new("cublas", "products");
        skipped.skipped = Some("there is no libcublas".to_owned());
        assert_eq!(
            row(&skipped).matches('|').count(),
            row(&case()).matches('|').count()
        );
        assert!(row(&skipped).contains("there is no libcublas"));
    }

    #[test]
    fn every_row_has_the_columns_of_its_head() {
        let cost = |recording: &str, median_ns| Cost {
            recording: recording.to_owned(),
            min_ns: 900.0,
            median_ns,
            launches: 1,
        };
        let report = Report {
            cases: vec![case()],
            overhead: vec![cost("spans alone", 1_000.0), cost("CUPTI", 1_500.0)],
            ..Report::default()
        };
        let table = report.table();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
        let columns: Vec<usize> = rows.iter().map(|row| row.matches('|').count()).collect();
        assert_eq!(columns, [9, 9, 9, 5, 5, 5, 5]);
        assert!(
            table.contains("| CUPTI | 900 ns | 1500 ns | 1.50 x |"),
            "{table}"
        );
    }

    #[test]
    fn a_simulated_report_says_so_first() {
        let report = Report {
            simulated: true,
            ..Report::default()
        };
        assert!(report.table().starts_with("**Simulated"));
        assert!(!Report::default().table().contains("imulated"));
    }

    #[test]
    fn costs_are_the_best_batch_and_the_median_of_medians() {
        let measured = |ns: &[f64]| Measured {
            launches: 10,
            ns: ns.to_vec(),
            recorded: None,
            notices: Vec::new(),
        };
        let cost = Cost::of(
            "",
            &[
                measured(&[5.0, 3.0, 9.0]),
                measured(&[2.0, 8.0, 8.0]),
                measured(&[6.0, 6.0, 7.0]),
            ],
        );
        assert_eq!((cost.min_ns, cost.median_ns, cost.launches), (2.0, 6.0, 30));
    }

    #[test]
    fn days_are_told_by_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_798_761_599), "2026-12-31");
        assert_eq!(date(1_798_761_600), "2027-01-01");
    }

    #[test]
    fn only_the_simulator_may_lack_a_part_of_the_driver() {
        let why = "Missing symbol cuStreamBeginCapture_v2";
        let mut simulated = Report {
            simulated: true,
            ..Report::default()
        };
        simulated.fails("graph", why);
        assert_eq!((simulated.skipped.len(), simulated.problems.len()), (1, 0));
        let mut real = Report::default();
        real.fails("graph", why);
        assert_eq!((real.skipped.len(), real.problems.len()), (0, 1));
    }
}
