//! How often the diagnosis is right: plants bottlenecks in small programs and counts who finds them.
//!
//!     cargo run --release -p bottleneck-eval
//!
//! Each case is a program of which variants are drawn from a seed; its twin is the same program without the plant. The
//! trace tier runs them on virtual time, the live tier for real, each in a process of its own.

mod bounds;
mod callsite;
mod case;
mod cases;
mod interpret;
mod live;
mod options;
mod outcome;
mod program;
mod readings;
mod report;
mod rng;
mod scene;
mod score;
#[cfg(test)]
mod tests;
mod trace;
mod virtual_time;
mod world;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::case::{Case, Tier, Variant};
use crate::options::{Command, Evaluate};
use crate::outcome::Outcome;
use crate::report::{Report, TierReport};
use crate::score::Scored;

fn main() -> ExitCode {
    let done = match options::read(std::env::args().skip(1)) {
        Ok(Command::Evaluate(options)) => evaluate(&options),
        Ok(Command::List(options)) => {
            list(&options);
            Ok(())
        }
        Ok(Command::Show(options)) => show(&options),
        Ok(Command::Child {
            case,
            variant,
            report,
        }) => live::child(&case.build(variant).program, &report),
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn evaluate(options: &Evaluate) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut report = Report {
        seed: options.seed,
        variants: options.variants,
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        tiers: Vec::new(),
    };
    for &tier in &options.tiers {
        let cases = options.cases().filter(|case| case.runs_in(tier));
        let variants = cases.flat_map(|case| (0..options.variants).map(move |at| (case, at)));
        let variants: Vec<_> = variants.collect();
        // Programs on real time would disturb each other.
        let jobs = match tier {
            Tier::Trace => report.cores.max(1),
            Tier::Live => 1,
        };
        let verdicts = side_by_side(jobs, variants.len(), |at| {
            let (case, number) = variants[at];
            score(case, number, tier, options).verdict(tier)
        });
        let tier = TierReport::new(tier, verdicts);
        println!("{}\n{}", tier.text(), tier.mistakes());
        report.tiers.push(tier);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

/// Calls `work` for each number below `count`, on so many threads; returns the results in order.
fn side_by_side<T: Send>(jobs: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let one = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, work(at)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, done)| done).collect()
}

fn score(case: &'static Case, number: usize, tier: Tier, options: &Evaluate) -> Scored {
    let variant = |fixed| Variant {
        seed: options.seed,
        number,
        tier,
        fixed,
    };
    let built = case.build(variant(false));
    let mut scored = Scored {
        case,
        variant: number,
        truth: built.truth,
        runs: Vec::new(),
        twins: Vec::new(),
        broken: None,
    };
    let has_twin = scored.truth.primary.is_some();
    let repeats = match tier {
        Tier::Live if has_twin => options.repeats,
        _ => 1,
    };
    for _ in 0..repeats {
        for fixed in [false, true] {
            if fixed && !has_twin {
                continue;
            }
            match run(case, variant(fixed)) {
                Ok(outcome) if fixed => scored.twins.push(outcome),
                Ok(outcome) => scored.runs.push(outcome),
                Err(error) => scored.broken = Some(error.to_string()),
            }
        }
    }
    scored
}

fn run(case: &Case, variant: Variant) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    match variant.tier {
        Tier::Trace => trace::run(&case.build(variant).program),
        Tier::Live => live::run(&options::child_arguments(case, variant)),
    }
}

fn list(options: &Evaluate) {
    for case in options.cases() {
        let half = if case.is_held_out() {
            "held out"
        } else {
            "training"
        };
        println!(
            "{:<8} {:<36} {half}",
            case.rule.unwrap_or("healthy"),
            case.id
        );
    }
}

/// Prints what is found in each variant and its twin.
fn show(options: &Evaluate) -> Result<(), Box<dyn Error + Send + Sync>> {
    for case in options.cases() {
        for &tier in options.tiers.iter().filter(|tier| case.runs_in(**tier)) {
            for number in 0..options.variants {
                for fixed in [false, true] {
                    let variant = Variant {
                        seed: options.seed,
                        number,
                        tier,
                        fixed,
                    };
                    let truth = case.build(variant).truth;
                    if fixed && case.rule.is_none() {
                        continue;
                    }
                    let outcome = run(case, variant)?;
                    println!(
                        "{} #{number}{}: {:.1} ms, expected {:?}",
                        case.id,
                        if fixed { " fixed" } else { "" },
                        outcome.wall_ns / 1e6,
                        truth.primary
                    );
                    for found in &outcome.findings {
                        println!(
                            "    {} {} {:?} saving {:?} gain {:?}..{:?}\n        {}",
                            found.rule,
                            found.site,
                            found.severity,
                            found.saving,
                            found.gain.low,
                            found.gain.bound,
                            found.message
                        );
                    }
                }
            }
        }
    }
    Ok(())
}
