//! Where and when it was measured.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use serde::Serialize;

use crate::cpu;

/// Where and when it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: Option<String>,
    rustc: Option<String>,
    load_before: Option<String>,
    load_after: Option<String>,
}

impl Machine {
    pub(crate) fn before() -> Machine {
        Machine {
            cores: thread::available_parallelism().map_or(0, usize::from),
            processor: processor(),
            rustc: rustc(),
            load_before: cpu::load_average(),
            load_after: None,
        }
    }

    pub(crate) fn after(mut self) -> Machine {
        self.load_after = cpu::load_average();
        self
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown =
            |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        write!(
            f,
            "{} cores, {}, {}, load average {} before and {} after",
            self.cores,
            or_unknown(&self.processor),
            or_unknown(&self.rustc),
            or_unknown(&self.load_before),
            or_unknown(&self.load_after),
        )
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn rustc() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Returns the folder that cargo builds into: it gives a benchmark `tmp` in there.
pub(crate) fn target_folder() -> PathBuf {
    let mut folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    folder.pop();
    folder
}
