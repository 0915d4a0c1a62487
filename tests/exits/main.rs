//! What is left behind for each way in which a process can end.
//!
//! Every test runs this program once more as a child with a `main` of its own, which the usual harness has not: hence
//! the small one at the end.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops where it cannot go on"
)]

mod abort;
mod child;
mod outcome;

use std::process::ExitCode;

use outcome::{Child, Expected, Trace};

/// The child's spans that are closed before it ends.
const CLOSED: [(&str, u64); 2] = [("job", 10), ("outer", 1)];
/// The child's spans that are open when it ends in the middle of something.
const OPEN: [(&str, u64); 2] = [("open_on_worker", 2), ("open_on_main", 1)];

const COMPLETE: Expected = Expected {
    code: Some(0),
    signal: None,
    text: true,
    json: true,
    trace: Trace::Object,
    closed: &CLOSED,
    open: &[],
};

fn dropping_the_guard_leaves_everything() {
    Child::start("drop").ends_as(&COMPLETE);
}

fn finish_leaves_everything() {
    Child::start("finish").ends_as(&COMPLETE);
}

fn returning_from_main_with_a_leaked_guard_leaves_everything() {
    Child::start("leaked").ends_as(&COMPLETE);
}

fn returning_from_main_with_the_guard_in_a_static_leaves_everything() {
    Child::start("static").ends_as(&COMPLETE);
}

fn process_exit_leaves_everything_and_marks_what_is_open_on_any_thread() {
    Child::start("exit").ends_as(&Expected {
        code: Some(7),
        open: &OPEN,
        ..COMPLETE
    });
}

fn a_panic_that_unwinds_main_leaves_everything() {
    let closed = [CLOSED[0], CLOSED[1], ("open_on_main", 1)];
    Child::start("panic").ends_as(&Expected {
        code: Some(101),
        closed: &closed,
        open: &[("open_on_worker", 2)],
        ..COMPLETE
    });
}

fn a_panic_of_another_thread_costs_nothing() {
    let closed = [CLOSED[0], CLOSED[1], ("doomed", 1), ("after", 1)];
    Child::start("worker-panic").ends_as(&Expected {
        closed: &closed,
        ..COMPLETE
    });
}

fn a_panic_that_aborts_leaves_everything() {
    Child::of(&abort::build(), "panic", "off").ends_as(&Expected {
        code: None,
        signal: Some(6),
        open: &OPEN,
        ..COMPLETE
    });
}

#[cfg(all(unix, feature = "signals"))]
fn handled_signals_leave_everything_and_keep_their_status() {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        let mut child = Child::start_with_signals("signal");
        child.wait_until_ready();
        child.signal(signal);
        child.ends_as(&Expected {
            code: None,
            signal: Some(signal as i32),
            open: &OPEN,
            ..COMPLETE
        });
    }
}

/// What is left where the process has no say: the trace as it was flushed last.
#[cfg(unix)]
const CUT: Expected = Expected {
    code: None,
    text: false,
    json: false,
    trace: Trace::Cut,
    ..COMPLETE
};

#[cfg(unix)]
fn signals_that_nobody_handles_leave_a_trace_at_most_a_second_old() {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        let mut child = Child::start("busy");
        child.wait_until_ready();
        child.let_a_second_pass();
        child.signal(signal);
        child.ends_as(&Expected {
            signal: Some(signal as i32),
            ..CUT
        });
    }
}

#[cfg(unix)]
fn sigkill_leaves_a_trace_at_most_a_second_old() {
    let mut child = Child::start("busy");
    child.wait_until_ready();
    child.let_a_second_pass();
    child.signal(nix::sys::signal::Signal::SIGKILL);
    child.ends_as(&Expected {
        signal: Some(9),
        ..CUT
    });
}

#[cfg(unix)]
fn a_closed_stderr_costs_only_the_report_on_it() {
    Child::start_with_stderr("drop", "2>&-").ends_as(&Expected {
        text: false,
        ..COMPLETE
    });
}

#[cfg(target_os = "linux")]
fn a_full_device_as_stderr_costs_only_the_report_on_it_and_finish_names_it() {
    Child::start_with_stderr("drop", "2>/dev/full").ends_as(&Expected {
        text: false,
        ..COMPLETE
    });
    let mut child = Child::start_with_stderr("finish-error", "2>/dev/full");
    assert_eq!(child.line(), "report_text\n");
    child.ends_as(&Expected {
        text: false,
        ..COMPLETE
    });
}

macro_rules! tests {
    ($($(#[$attribute:meta])* $test:ident),* $(,)?) => {
        &[$($(#[$attribute])* (stringify!($test), $test as fn()),)*]
    };
}

const TESTS: &[(&str, fn())] = tests![
    dropping_the_guard_leaves_everything,
    finish_leaves_everything,
    returning_from_main_with_a_leaked_guard_leaves_everything,
    returning_from_main_with_the_guard_in_a_static_leaves_everything,
    process_exit_leaves_everything_and_marks_what_is_open_on_any_thread,
    a_panic_that_unwinds_main_leaves_everything,
    a_panic_of_another_thread_costs_nothing,
    a_panic_that_aborts_leaves_everything,
    #[cfg(all(unix, feature = "signals"))]
    handled_signals_leave_everything_and_keep_their_status,
    #[cfg(unix)]
    signals_that_nobody_handles_leave_a_trace_at_most_a_second_old,
    #[cfg(unix)]
    sigkill_leaves_a_trace_at_most_a_second_old,
    #[cfg(unix)]
    a_closed_stderr_costs_only_the_report_on_it,
    #[cfg(target_os = "linux")]
    a_full_device_as_stderr_costs_only_the_report_on_it_and_finish_names_it,
];

#[expect(clippy::print_stdout, reason = "this is what a test harness is for")]
fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Ok(how) = std::env::var(child::VARIABLE) {
        child::run(&how)?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let listing = arguments.iter().any(|argument| argument == "--list");
    let mut filters = arguments.clone();
    // Options of the usual harness that take a value, which is no filter.
    for option in ["--test-threads", "--skip", "--format", "--color"] {
        if let Some(at) = filters.iter().position(|argument| argument == option) {
            filters.drain(at..filters.len().min(at + 2));
        }
    }
    filters.retain(|argument| !argument.starts_with('-'));
    let mut failed = 0;
    for (name, test) in TESTS {
        if !filters.is_empty() && filters.iter().all(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        if listing {
            println!("{name}: test");
            continue;
        }
        let passed = std::panic::catch_unwind(test).is_ok();
        failed += u32::from(!passed);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
