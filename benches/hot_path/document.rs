//! The JSON file of a benchmark.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::machine::{Machine, target_folder};

#[derive(Debug, Serialize)]
struct Document<'a, F, B> {
    schema: &'static str,
    rounds: usize,
    machine: &'a Machine,
    figures: &'a [F],
    bars: &'a [B],
}

/// Writes `target/bench/<name>.json` and returns its path.
pub(crate) fn write(
    name: &str,
    machine: &Machine,
    rounds: usize,
    figures: &[impl Serialize],
    bars: &[impl Serialize],
) -> io::Result<PathBuf> {
    let document = Document {
        schema: "tracing-cortex-bench/1",
        rounds,
        machine,
        figures,
        bars,
    };
    let folder = target_folder().join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join(name).with_extension("json");
    fs::write(&path, serde_json::to_string_pretty(&document)?)?;
    Ok(path)
}
