//! How recordings end: in time, with what had ended, and again.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tracing_cortex::CortexGuard;
use tracing_subscriber::prelude::*;

use crate::capture::{builder, on_thread, record, record_with};
use crate::degrading::assert_threads;
use crate::gpu::{Driver, Machine, Stream, say};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("in flight", in_flight),
    ("last moments", last_moments),
    ("open call", open_call),
    ("dropped", dropped),
    ("exits", exits),
    ("panics", panics),
    ("fork", forks),
    ("lost", lost),
    ("goes on", goes_on),
    ("captured", captured),
];

#[test]
fn work_that_goes_on_delays_no_end_and_is_counted() {
    Machine::new().run("in flight");
}

fn in_flight() {
    let begun = Instant::now();
    let deadline = Duration::from_secs(4);
    let recorded = record_with(builder().exit_deadline(deadline), |driver, _| {
        let streams = [driver.stream().unwrap(), driver.stream().unwrap()];
        tracing::info_span!("work").in_scope(|| {
            driver
                .launch(driver.kernel("short", 1_000), streams[0])
                .unwrap();
            driver
                .launch(driver.kernel("endless", 600_000_000_000), streams[0])
                .unwrap();
            driver
                .launch(driver.kernel("other", 1_000), streams[1])
                .unwrap();
        });
    });
    assert!(begun.elapsed() < deadline, "{:?}", begun.elapsed());
    let gpu = recorded.gpu();
    assert_eq!(
        (gpu.unfinished, gpu.unattributed, gpu.dropped_records),
        (1, 0, 0)
    );
    assert_eq!(recorded.kernels(), [("other", "work"), ("short", "work")]);
    assert_eq!(recorded.site("work").own.launches, 3);
}

#[test]
fn work_of_the_last_moments_is_waited_for() {
    Machine::new().run("last moments");
}

fn last_moments() {
    let recorded = record(|driver| {
        let kernel = driver.kernel("last", 200_000_000);
        tracing::info_span!("work").in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
    });
    recorded.assert_whole();
    assert_eq!(recorded.kernels(), [("last", "work")]);
}

#[test]
fn a_call_that_has_not_returned_in_the_end_has_no_end() {
    Machine::new().run("open call");
}

fn open_call() {
    let recorded = record_with(
        builder().exit_deadline(Duration::from_secs(2)),
        |driver, guard| {
            driver
                .launch(driver.kernel("endless", 600_000_000_000), Stream::DEFAULT)
                .unwrap();
            on_thread("waits", move || {
                driver.context(0).unwrap();
                tracing::info_span!("wait").in_scope(|| driver.synchronize().unwrap());
            });
            while driver.count("cuCtxSynchronize") == 0 {
                std::thread::yield_now();
            }
            guard.flush(Duration::from_secs(1)).unwrap();
        },
    );
    let waits: Vec<_> = recorded
        .calls
        .iter()
        .filter(|call| !call.api.starts_work())
        .collect();
    assert_eq!((waits.len(), waits[0].end), (1, None));
    assert_eq!(waits[0].caller.as_ref().unwrap().site.name, "wait");
}

#[test]
fn a_guard_that_is_dropped_leaves_the_report_with_the_work_of_the_last_moments() {
    report_of("dropped", true);
}

#[test]
fn a_program_that_exits_leaves_the_report() {
    report_of("exits", true);
}

#[test]
fn a_program_that_panics_leaves_the_report() {
    report_of("panics", false);
}

fn report_of(scenario: &str, success: bool) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let machine = Machine::new().variable("REPORT", json.to_str().unwrap());
    let (succeeded, out, err) = machine.run_to_end(scenario);
    assert_eq!(succeeded, success, "{out}\n{err}");
    let report = std::fs::read_to_string(json).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let device = &report["gpu"]["devices"][0];
    assert_eq!(device["kernels"], 1, "{report:#}");
    assert_eq!(report["gpu"]["notices"].as_array().unwrap().len(), 0);
    assert_eq!(report["gpu"]["unfinished"], 0);
}

/// Runs a program with a report, which ends as it likes.
fn reported(end: impl FnOnce(CortexGuard)) {
    let json = std::env::var("REPORT").unwrap();
    let (layer, guard) = builder().report_json(json).build().unwrap();
    let driver = Driver::ready();
    let kernel = driver.kernel("last", 30_000_000);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info_span!("work").in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        end(guard);
    });
}

fn dropped() {
    reported(drop);
}

fn exits() {
    reported(|guard| {
        let _guard = guard;
        std::process::exit(0)
    });
}

fn panics() {
    reported(|_guard| panic!("as it should"));
}

#[test]
fn a_forked_child_records_nothing_and_keeps_nobody_waiting() {
    Machine::new().run("fork");
}

fn forks() {
    let recorded = record_with(builder(), |driver, _| {
        let kernel = driver.kernel("step", 1_000);
        let launch = || {
            tracing::info_span!("work")
                .in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        };
        launch();
        for _ in 0..20 {
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    (0..100).for_each(|_| launch());
                    unsafe { libc_exit(7) };
                }
                ForkResult::Parent { child } => {
                    assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 7))));
                }
            }
        }
        launch();
    });
    recorded.assert_whole();
    assert_eq!(recorded.site("work").own.kernels, 2);
    assert_eq!(recorded.site("work").own.launches, 2);
}

/// As a program does that does not know of the capture: by way of its functions at exit.
unsafe fn libc_exit(status: i32) -> ! {
    unsafe extern "C" {
        fn exit(status: i32) -> !;
    }
    unsafe { exit(status) }
}

#[test]
fn a_device_that_is_lost_in_the_middle_is_said_and_the_program_runs_on() {
    Machine::new().knob("DEVICE_LOST_AFTER", 3).run("lost");
}

fn lost() {
    let recorded = record(|driver| {
        let (short, long) = (
            driver.kernel("short", 1_000),
            driver.kernel("long", 60_000_000_000),
        );
        let launch = |kernel| {
            tracing::info_span!("work").in_scope(|| driver.launch(kernel, Stream::DEFAULT))
        };
        launch(short).unwrap();
        driver.synchronize().unwrap();
        launch(long).unwrap();
        launch(short).unwrap();
        for _ in 0..10 {
            assert_eq!(launch(short), Err(719));
        }
        assert_eq!(driver.synchronize(), Err(719));
    });
    let gpu = recorded.gpu();
    assert_eq!(gpu.notices.len(), 1, "{:?}", gpu.notices);
    let why = &gpu.notices[0].why;
    assert!(why.starts_with("cuLaunchKernel answered 719"), "{why}");
    assert_eq!((gpu.unfinished, gpu.unattributed), (2, 0));
    let own = recorded.site("work").own;
    assert_eq!((own.kernels, own.launches), (1, 13));
}

#[test]
fn a_program_that_goes_on_after_the_end_has_no_callbacks_and_no_threads_left() {
    Machine::new().run("goes on");
}

fn goes_on() {
    let recorded = record(|driver| {
        driver
            .launch(driver.kernel("step", 1_000), Stream::DEFAULT)
            .unwrap();
    });
    recorded.assert_whole();
    let driver = Driver::open();
    let flushes = driver.count("cuptiActivityFlushAll");
    for _ in 0..1_000 {
        driver
            .launch(driver.kernel("later", 1_000), Stream::DEFAULT)
            .unwrap();
    }
    assert_eq!(driver.count("cuptiActivityFlushAll"), flushes);
    assert_eq!(driver.count("cuptiUnsubscribe"), 1);
    assert_threads(&[]);
}

#[test]
fn the_end_breaks_no_graph_that_the_program_is_recording() {
    assert_eq!(Machine::new().run("captured"), ["0"]);
}

fn captured() {
    record(|driver| {
        let stream = driver.stream().unwrap();
        driver.capture(stream, true).unwrap();
        driver.launch(driver.kernel("step", 1_000), stream).unwrap();
    });
    say(&Driver::open().count("capture_broken").to_string());
}
