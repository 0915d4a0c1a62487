//! The command line.

use std::path::PathBuf;

use crate::case::{Case, Tier, Variant};
use crate::cases;

const USAGE: &str = "\
bottleneck-eval [--tier trace|live] [--filter TEXT] [--seed N] [--variants N] [--repeats N] [--json PATH]
                [--list | --show]

    --tier      one tier only; both by default
    --filter    cases whose name or rule contains the text
    --seed      from which variants are drawn; 1 by default
    --variants  of each case; 3 by default
    --repeats   runs of each program on real time, to know how far they are apart; 3 by default
    --json      writes all numbers to a file
    --list      names the cases
    --show      prints what is found in each variant";

pub struct Evaluate {
    pub tiers: Vec<Tier>,
    pub filter: Option<String>,
    pub seed: u64,
    pub variants: usize,
    pub repeats: usize,
    pub json: Option<PathBuf>,
}

pub enum Command {
    Evaluate(Evaluate),
    List(Evaluate),
    Show(Evaluate),
    /// Runs one program for the live tier.
    Child {
        case: &'static Case,
        variant: Variant,
        report: PathBuf,
    },
}

impl Evaluate {
    pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let matches = |case: &&Case| match &self.filter {
            Some(text) => case.id.contains(text) || case.rule.unwrap_or("healthy").contains(text),
            None => true,
        };
        cases::all().into_iter().filter(matches)
    }
}

pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Evaluate {
        tiers: vec![Tier::Trace, Tier::Live],
        filter: None,
        seed: 1,
        variants: 3,
        repeats: 3,
        json: None,
    };
    let (mut list, mut show) = (false, false);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or(format!("{argument} takes a value\n\n{USAGE}"))
        };
        match argument.as_str() {
            "--tier" => {
                options.tiers = match value()?.as_str() {
                    "trace" => vec![Tier::Trace],
                    "live" => vec![Tier::Live],
                    other => return Err(format!("no tier {other:?}\n\n{USAGE}")),
                }
            }
            "--filter" => options.filter = Some(value()?),
            "--seed" => options.seed = number(&value()?)?,
            "--variants" => options.variants = number(&value()?)? as usize,
            "--repeats" => options.repeats = number(&value()?)?.max(1) as usize,
            "--json" => options.json = Some(value()?.into()),
            "--list" => list = true,
            "--show" => show = true,
            "--child" => return child(arguments),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(match (list, show) {
        (true, _) => Command::List(options),
        (_, true) => Command::Show(options),
        _ => Command::Evaluate(options),
    })
}

/// What leads a child to a variant, after the path of its report.
pub fn child_arguments(case: &Case, variant: Variant) -> Vec<String> {
    vec![
        case.id.to_owned(),
        variant.seed.to_string(),
        variant.number.to_string(),
        variant.fixed.to_string(),
    ]
}

fn child(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let arguments: Vec<_> = arguments.collect();
    let [report, case, seed, variant, fixed] = &arguments[..] else {
        return Err(USAGE.to_owned());
    };
    let found = cases::all().into_iter().find(|known| known.id == case);
    Ok(Command::Child {
        case: found.ok_or_else(|| format!("no case {case:?}"))?,
        variant: Variant {
            seed: number(seed)?,
            number: number(variant)? as usize,
            tier: Tier::Live,
            fixed: fixed == "true",
        },
        report: report.into(),
    })
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
