//! The program whose end is observed: spans on three threads, settings from the environment, one way to end.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::error::Error;
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing_cortex::CortexGuard;

/// Names the way to end; set by the test that starts this program.
pub(crate) const VARIABLE: &str = "CORTEX_EXIT";

static KEPT: OnceLock<CortexGuard> = OnceLock::new();

/// Runs and ends the way that `how` says.
pub(crate) fn run(how: &str) -> Result<(), Box<dyn Error>> {
    let guard = tracing_cortex::init()?;
    work();
    match how {
        "drop" => drop(guard),
        "finish" => {
            guard.finish()?;
        }
        "finish-error" => {
            let error = guard.finish().err().ok_or("no output failed")?;
            for failure in error.failures() {
                writeln!(std::io::stdout(), "{}", failure.sink)?;
            }
        }
        "leaked" => {
            Box::leak(Box::new(guard));
        }
        "static" => {
            KEPT.set(guard).map_err(|_| "set before")?;
        }
        "exit" => inside_spans(|| std::process::exit(7)),
        "panic" => inside_spans(|| panic!("a planted panic")),
        "worker-panic" => {
            let worker = thread::spawn(|| {
                let _doomed = tracing::info_span!("doomed").entered();
                panic!("a planted panic");
            });
            worker.join().err().ok_or("the worker did not panic")?;
            tracing::info_span!("after").in_scope(|| ());
        }
        "signal" => inside_spans(|| {
            ready();
            loop {
                thread::park();
            }
        }),
        "busy" => inside_spans(|| {
            ready();
            loop {
                tracing::info_span!("late")
                    .in_scope(|| thread::park_timeout(Duration::from_millis(1)));
            }
        }),
        other => return Err(format!("there is no end called {other:?}").into()),
    }
    Ok(())
}

/// Five jobs on each of two threads, inside of nothing, and one outer span on this one. All are closed.
fn work() {
    let worker = || (0..5).for_each(|_| tracing::info_span!("job").in_scope(|| ()));
    let _outer = tracing::info_span!("outer").entered();
    let workers = [thread::spawn(worker), thread::spawn(worker)];
    for worker in workers {
        worker.join().expect("jobs do not panic");
    }
}

/// Runs `end` inside a span, while two other threads are inside spans too.
fn inside_spans(end: impl FnOnce()) {
    let (entered, has_entered) = channel();
    for _ in 0..2 {
        let entered: Sender<()> = entered.clone();
        thread::spawn(move || {
            let _open = tracing::info_span!("open_on_worker").entered();
            let _ = entered.send(());
            loop {
                thread::park();
            }
        });
    }
    for _ in 0..2 {
        has_entered.recv().expect("both threads get there");
    }
    // Never entered, kept alive elsewhere: open when the process ends.
    let idle = Arc::new(tracing::info_span!("open_and_idle"));
    std::mem::forget(Arc::clone(&idle));
    let _open = tracing::info_span!("open_on_main").entered();
    end();
}

fn ready() {
    let mut out = std::io::stdout();
    writeln!(out, "ready")
        .and_then(|()| out.flush())
        .expect("the test reads this");
}
