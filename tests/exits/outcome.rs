//! Runs the child and compares what it left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::child;

/// Longer than any child takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The shape of the trace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Complete.
    Object,
    /// An array without its end.
    Cut,
}

/// What a child leaves behind. Each site stands with the number of its spans.
#[derive(Debug, Clone)]
pub(crate) struct Expected<'a> {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) text: bool,
    pub(crate) json: bool,
    pub(crate) trace: Trace,
    pub(crate) closed: &'a [(&'a str, u64)],
    pub(crate) open: &'a [(&'a str, u64)],
}

pub(crate) struct Child {
    process: std::process::Child,
    folder: TempDir,
    ready: Option<Instant>,
}

impl Child {
    pub(crate) fn start(how: &str) -> Child {
        Child::of(&this_program(), how, "off")
    }

    #[cfg(all(unix, feature = "signals"))]
    pub(crate) fn start_with_signals(how: &str) -> Child {
        Child::of(&this_program(), how, "on")
    }

    pub(crate) fn of(program: &Path, how: &str, signals: &str) -> Child {
        let mut command = Command::new(program);
        command.env("TRACING_CORTEX_SIGNALS", signals);
        Child::spawn(command, how, "report.txt")
    }

    /// Lets the report go to a standard error of the shell's making.
    #[cfg(unix)]
    pub(crate) fn start_with_stderr(how: &str, redirection: &str) -> Child {
        let mut command = Command::new("sh");
        let script = format!("exec \"$0\" {redirection}");
        command.arg("-c").arg(script).arg(this_program());
        Child::spawn(command, how, "stderr")
    }

    fn spawn(mut command: Command, how: &str, report: &str) -> Child {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = command
            .current_dir(folder.path())
            .env(child::VARIABLE, how)
            .env("TRACING_CORTEX_CHROME", "trace.json")
            .env("TRACING_CORTEX_JSON", "report.json")
            .env("TRACING_CORTEX_REPORT", report)
            .stdout(Stdio::piped())
            // The planted panics are of no interest.
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        Child {
            process,
            folder,
            ready: None,
        }
    }

    /// Reads what the child says on its standard output.
    pub(crate) fn line(&mut self) -> String {
        let out = self.process.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("a line");
        line
    }

    pub(crate) fn wait_until_ready(&mut self) {
        assert_eq!(self.line(), "ready\n");
        self.ready = Some(Instant::now());
    }

    /// Sees to it that all that ended before the child was ready ended more than a second ago. That age is what is
    /// promised, so here it is the clock that is waited for.
    #[cfg(unix)]
    pub(crate) fn let_a_second_pass(&self) {
        let ready = self.ready.expect("waited before");
        std::thread::sleep(Duration::from_secs(1).saturating_sub(ready.elapsed()));
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("the child is there");
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.process.try_wait().expect("a child of ours") {
                return status;
            }
            if Instant::now() > until {
                let _ = self.process.kill();
                panic!("the child did not end within {DEADLINE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn ends_as(mut self, expected: &Expected<'_>) {
        let status = self.wait();
        assert_eq!(status.code(), expected.code, "{status}");
        #[cfg(unix)]
        {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(status.signal(), expected.signal, "{status}");
        }
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name));
        let trace = read("trace.json").expect("a trace in every case");
        check_trace(&trace, expected);
        let mut names = vec!["trace.json"];
        if expected.json {
            check_json(&read("report.json").expect("a JSON report"), expected);
            names.push("report.json");
        }
        if expected.text {
            check_text(&read("report.txt").expect("a text report"), expected);
            names.push("report.txt");
        }
        let mut found: Vec<_> = fs::read_dir(self.folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, names, "no more and no less");
    }
}

fn this_program() -> std::path::PathBuf {
    std::env::current_exe().expect("the path of this program")
}

fn check_trace(text: &str, expected: &Expected<'_>) {
    let events = match expected.trace {
        Trace::Object => {
            let object: Value = serde_json::from_str(text).expect("a whole object");
            object["traceEvents"].as_array().expect("a list").clone()
        }
        Trace::Cut => {
            assert!(text.ends_with('\n'), "every flush ends on a whole line");
            serde_json::from_str::<Vec<Value>>(&format!("{text}]"))
                .expect("an array without its end")
        }
    };
    let bars = |name: &str, unfinished: bool| {
        let found = events.iter().filter(|event| {
            let marked = event["args"]["unfinished"] == true;
            event["ph"] == "X" && event["name"] == name && marked == unfinished
        });
        found.count() as u64
    };
    for &(name, spans) in expected.closed {
        assert_eq!((bars(name, false), bars(name, true)), (spans, 0), "{name}");
    }
    for &(name, spans) in expected.open {
        assert_eq!((bars(name, false), bars(name, true)), (0, spans), "{name}");
    }
}

fn check_json(text: &str, expected: &Expected<'_>) {
    let report: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(report["schema"], "tracing-cortex/1");
    let sites = report["sites"].as_array().expect("a list");
    let closed = expected
        .closed
        .iter()
        .map(|&(name, spans)| (name, spans, 0));
    let open = expected
        .open
        .iter()
        .map(|&(name, spans)| (name, spans, spans));
    for (name, spans, open) in closed.chain(open) {
        let site = sites.iter().find(|site| site["name"] == name);
        let site = site.unwrap_or_else(|| panic!("{name} is not in {text}"));
        for counted in ["calls", "spans", "activations"] {
            assert_eq!(site[counted], spans, "{counted} of {name}");
        }
        assert_eq!(site["open"], open, "open of {name}");
    }
    assert_eq!(report["losses"]["dropped_spans"], 0);
    assert_eq!(report["losses"]["failures"], Value::Array(Vec::new()));
}

fn check_text(text: &str, expected: &Expected<'_>) {
    for (name, _) in expected.closed.iter().chain(expected.open) {
        assert!(text.contains(name), "{name} is not in {text}");
    }
}
