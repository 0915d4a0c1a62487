//! Child processes of this program, and what they answer.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::args::{Child, Settings};

/// Begins the line with the answer: libraries write to the same output.
const ANSWER: &str = "gpu-check answers ";
/// Names folders of the toolkit that the loader may not know.
const LIBRARIES: &str = "GPU_CHECK_LIBRARIES";
/// Longer than any child takes.
const PATIENCE: Duration = Duration::from_secs(240);

/// Says what this child has found.
pub fn answer(found: &impl Serialize) -> Result<()> {
    println!("{ANSWER}{}", serde_json::to_string(found)?);
    Ok(())
}

/// Whether a child is told where the toolkit's libraries are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Help {
    None,
    Folders,
}

/// Runs a child and returns its answer; `before` is a program and its arguments that runs it, such as a profiler.
pub fn ask<T: DeserializeOwned>(
    child: Child,
    settings: &Settings,
    help: Help,
    before: &[&str],
) -> Result<T> {
    let this = std::env::current_exe()?;
    let mut command = match before {
        [] => Command::new(&this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&this);
            command
        }
    };
    command
        .args(child.arguments())
        .arg("--out")
        .arg(&settings.out);
    // What the crate finds of CUPTI by itself is asked of a child without this.
    if let Some(folders) = std::env::var_os(LIBRARIES).filter(|_| help == Help::Folders) {
        let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let both: Vec<_> = std::env::split_paths(&before)
            .chain(std::env::split_paths(&folders))
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
        command.env("LD_LIBRARY_PATH", std::env::join_paths(both)?);
    }
    if settings.small {
        command.arg("--small");
    }
    if settings.ptx {
        command.arg("--ptx");
    }
    // The last lines say why it failed.
    command.env_remove("RUST_BACKTRACE");
    let (status, said, complaints) = run(command, &settings.out)?;
    let line = said.lines().find_map(|line| line.strip_prefix(ANSWER));
    match line {
        Some(line) => Ok(serde_json::from_str(line)?),
        None => Err(format!("{status}: {}", last_lines(&complaints)).into()),
    }
}

/// Returns how the child ends and what it writes to its output and to its errors.
fn run(mut command: Command, out: &Path) -> Result<(ExitStatus, String, String)> {
    std::fs::create_dir_all(out)?;
    let log = out.join("child.log");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?);
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let reader = thread::spawn(move || read(output));
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(format!("it does not end within {} s", PATIENCE.as_secs()).into());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let said = reader
        .join()
        .map_err(|_| "the child's output cannot be read")?;
    Ok((status, said, read(File::open(&log)?)))
}

fn read(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was written before a failure is what is wanted.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn last_lines(complaints: &str) -> String {
    let lines: Vec<&str> = complaints
        .lines()
        .filter(|line| !line.contains("RUST_BACKTRACE"))
        .collect();
    match &lines[lines.len().saturating_sub(3)..] {
        [] => "it ends without an answer".to_owned(),
        last => last.join(" / "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_complaints_says_why_a_child_failed() {
        assert_eq!(last_lines(""), "it ends without an answer");
        let panic = "a\nb\nthread 'main' panicked\nno symbol\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(last_lines(panic), "b / thread 'main' panicked / no symbol");
    }
}
