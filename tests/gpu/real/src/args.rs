//! What the command line asks for.

use std::path::PathBuf;

use crate::cases::{self, Case};
use crate::overhead::Mode;
use crate::ranges;

pub const USAGE: &str = "\
usage: gpu-check [--only CASE]... [--no-overhead] [--small] [--ptx] [--simulated] [--require] [--out FOLDER]
       gpu-check --list

  --only CASE    these cases alone, and no overhead unless one is called `overhead`
  --no-overhead  leaves out the cost of a launch
  --small        less of everything
  --ptx          takes the kernels from this program instead of having NVRTC compile them
  --simulated    on the simulator of the crate's tests: the table says so, and cases that it cannot run are skipped
  --require      fails where there is no GPU
  --out FOLDER   where gpu-check.json, gpu-check.md and kernels.ptx go; default: gpu-check-out

Exit status: 0 most spans of each case are within 2 % or 2 us and all counts exact, or there is no
GPU; 1 something is not; 2 wrong use.";

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// All if empty.
    pub only: Vec<&'static str>,
    pub overhead: bool,
    pub small: bool,
    /// Leave NVRTC out.
    pub ptx: bool,
    pub simulated: bool,
    pub require: bool,
    pub out: PathBuf,
}

#[derive(Debug, PartialEq)]
pub enum Command {
    Help,
    List,
    All(Settings),
    Child(Child, Settings),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Child {
    Case(&'static Case),
    Overhead(Mode),
    Ranges,
    Facts,
    Notices,
}

impl Child {
    /// The arguments that make a process this child.
    pub fn arguments(self) -> [&'static str; 2] {
        match self {
            Child::Case(case) => ["--child-case", case.name],
            Child::Overhead(mode) => ["--child-overhead", mode.name()],
            Child::Ranges => ["--child", ranges::NAME],
            Child::Facts => ["--child", "facts"],
            Child::Notices => ["--child", "notices"],
        }
    }
}

pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut settings = Settings {
        only: Vec::new(),
        overhead: true,
        small: false,
        ptx: false,
        simulated: false,
        require: false,
        out: PathBuf::from("gpu-check-out"),
    };
    let mut child = None;
    let mut no_overhead = false;
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--no-overhead" => no_overhead = true,
            "--small" => settings.small = true,
            "--ptx" => settings.ptx = true,
            "--simulated" => settings.simulated = true,
            "--require" => settings.require = true,
            "--out" => settings.out = PathBuf::from(value()?),
            "--only" => match value()?.as_str() {
                "overhead" => settings.only.push("overhead"),
                ranges::NAME => settings.only.push(ranges::NAME),
                name => settings.only.push(case(name)?.name),
            },
            "--child-case" => child = Some(Child::Case(case(&value()?)?)),
            "--child-overhead" => {
                let name = value()?;
                let mode = Mode::ALL.iter().find(|mode| mode.name() == name);
                child = Some(Child::Overhead(
                    *mode.ok_or(format!("no mode is called {name}"))?,
                ));
            }
            "--child" => match value()?.as_str() {
                ranges::NAME => child = Some(Child::Ranges),
                "facts" => child = Some(Child::Facts),
                "notices" => child = Some(Child::Notices),
                name => return Err(format!("no child is called {name}")),
            },
            _ => return Err(format!("{argument} is not an option")),
        }
    }
    settings.overhead =
        !no_overhead && (settings.only.is_empty() || settings.only.contains(&"overhead"));
    Ok(match child {
        Some(child) => Command::Child(child, settings),
        None => Command::All(settings),
    })
}

fn case(name: &str) -> Result<&'static Case, String> {
    let found = cases::ALL.iter().find(|case| case.name == name);
    found.ok_or_else(|| format!("no case is called {name}; --list names them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        super::parse(line.split_whitespace().map(str::to_owned))
    }

    fn settings(line: &str) -> Settings {
        match parse(line) {
            Ok(Command::All(settings) | Command::Child(_, settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_is_run_by_default() {
        let all = settings("");
        assert!(all.only.is_empty() && all.overhead && !all.small && !all.require);
    }

    #[test]
    fn single_cases_leave_the_overhead_out_unless_it_is_one_of_them() {
        assert!(!settings("--only graph").overhead);
        assert!(settings("--only graph --only overhead").overhead);
        assert!(!settings("--no-overhead").overhead);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(parse("--only nonsense").unwrap_err().contains("nonsense"));
        assert!(parse("--nonsense").unwrap_err().contains("--nonsense"));
        assert!(parse("--out").unwrap_err().contains("--out"));
    }

    #[test]
    fn a_child_is_found_by_its_own_arguments() {
        let modes = Mode::ALL.iter().map(|mode| Child::Overhead(*mode));
        let cases = cases::ALL.iter().map(Child::Case);
        for child in cases
            .chain(modes)
            .chain([Child::Ranges, Child::Facts, Child::Notices])
        {
            let line = child.arguments().join(" ");
            assert_eq!(parse(&line), Ok(Command::Child(child, settings(""))));
        }
    }
}
