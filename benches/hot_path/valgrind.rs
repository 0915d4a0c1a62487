//! Instructions of one thread, counted by callgrind.

use std::fs;
use std::process::{Command, Stdio};

/// Whether valgrind is there; says so if it is not.
pub(crate) fn is_there() -> bool {
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!("skipped: valgrind is not installed");
    }
    found
}

/// Runs this program with `arguments` under `valgrind`, a command for it. Returns the instructions of its first thread
/// inside functions that match `within`, and what it printed.
pub(crate) fn count(mut valgrind: Command, within: &str, arguments: &[&str]) -> (u64, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts");
    let output = valgrind
        .args(["--tool=callgrind", "--quiet", "--separate-threads=yes"])
        .arg(format!("--toggle-collect={within}"))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "valgrind ended with {}",
        output.status
    );
    // Threads are numbered in the order of their start.
    let text = fs::read_to_string(folder.path().join("counts-01")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals:"))
        .unwrap();
    (line.trim().parse().unwrap(), output.stdout)
}
