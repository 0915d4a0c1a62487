//! Several captures in one process, and several stretches of one.

use std::time::{Duration, Instant};

use tracing_cortex::{CortexGuard, CortexLayer, GpuProfile, ManualClock};
use tracing_subscriber::prelude::*;

use crate::capture::{Seen, builder, gpu_of, record, record_with, span_of};
use crate::gpu::{Driver, Machine, Stream};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("at once", at_once),
    ("one after the other", one_after_the_other),
    ("clocks", clocks),
    ("reset", reset),
    ("not begun", not_begun),
];

fn finished(guard: CortexGuard) -> GpuProfile {
    guard.finish().unwrap().profile().gpu.clone().unwrap()
}

fn launch_within(layer: CortexLayer, driver: Driver, times: usize) {
    let kernel = driver.kernel("step", 1_000);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..times {
            tracing::info_span!("work")
                .in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
        }
    });
}

#[test]
fn of_two_captures_at_once_the_second_says_why_it_has_no_work() {
    Machine::new().run("at once");
}

fn at_once() {
    let (first, first_guard) = builder().build().unwrap();
    let (second, second_guard) = builder().build().unwrap();
    let driver = Driver::ready();
    launch_within(first, driver, 3);
    launch_within(second, driver, 5);
    let second = finished(second_guard);
    assert_eq!(second.notices.len(), 1);
    let notice = &second.notices[0];
    assert_eq!(notice.what, "kernels, copies and waits on GPUs");
    assert!(notice.why.contains("another CortexLayer"), "{}", notice.why);
    assert_eq!(
        (second.devices.len(), second.devices[0].totals.kernels),
        (1, 0)
    );
    let first = finished(first_guard);
    assert_eq!(first.notices, []);
    // The second layer's spans are none of the first.
    assert_eq!(
        (first.devices[0].totals.kernels, first.outside.kernels),
        (8, 5)
    );
    assert_eq!(driver.count("cuptiSubscribe"), 1);
}

#[test]
fn captures_one_after_the_other_have_their_own_work_each() {
    Machine::new().run("one after the other");
}

fn one_after_the_other() {
    for times in 1..=5 {
        let seen = Seen::default();
        let (layer, guard) = builder().sink(seen.clone()).build().unwrap();
        let driver = Driver::ready();
        launch_within(layer, driver, times);
        let from = Instant::now();
        let profile = guard.finish().unwrap().profile().clone();
        assert!(from.elapsed() < Duration::from_secs(3));
        let gpu = profile.gpu.as_ref().unwrap();
        assert_eq!(gpu.notices, []);
        assert_eq!(gpu_of(&profile, "work").own.kernels, times as u64);
        assert_eq!((gpu.unattributed, gpu.unfinished), (0, 0));
        assert_eq!(driver.count("cuptiUnsubscribe"), times as u64);
        // Between two captures.
        driver
            .launch(driver.kernel("between", 1_000), Stream::DEFAULT)
            .unwrap();
        driver.synchronize().unwrap();
        // On the capture's clock.
        for work in seen.work() {
            assert_eq!(span_of(&work), "work");
            let waited = work
                .start
                .0
                .checked_sub(work.call.as_ref().unwrap().start.0);
            assert!(waited.unwrap() < 1_000_000_000, "{work:?}");
        }
    }
}

#[test]
fn each_capture_has_its_own_clock() {
    Machine::new().run("clocks");
}

fn clocks() {
    let driver = Driver::ready();
    for manual in [true, false, true, false] {
        let clock = ManualClock::new();
        clock.set(Duration::from_secs(1_000_000));
        let seen = Seen::default();
        let with_clock = match manual {
            true => builder().manual_clock(&clock),
            false => builder(),
        };
        let (layer, guard) = with_clock.sink(seen.clone()).build().unwrap();
        launch_within(layer, driver, 3);
        if manual {
            clock.advance(Duration::from_secs(5));
        } else {
            driver.synchronize().unwrap();
        }
        guard.finish().unwrap();
        let work = seen.work();
        assert_eq!(work.len(), 3);
        for work in work {
            assert!(work.start.0 < 5_000_000_000, "{manual} {work:?}");
            assert_eq!(work.length().0, 1_000);
        }
    }
}

#[test]
fn a_reset_begins_anew_also_for_what_the_driver_tells_later() {
    Machine::new().knob("LATE", 3).run("reset");
}

fn reset() {
    let recorded = record_with(builder(), |driver, guard| {
        let kernel = driver.kernel("step", 1_000);
        let launch = |times| {
            for _ in 0..times {
                tracing::info_span!("work")
                    .in_scope(|| driver.launch(kernel, Stream::DEFAULT).unwrap());
            }
            driver.synchronize().unwrap();
        };
        launch(7);
        guard.reset();
        launch(2);
    });
    recorded.assert_whole();
    let own = recorded.site("work").own;
    assert_eq!((own.kernels, own.launches), (2, 2));
    let device = &recorded.gpu().devices[0].totals;
    assert_eq!((device.kernels, device.syncs), (2, 1));
    assert_eq!(recorded.gpu().kernels[0].runs, 2);
    assert_eq!(recorded.work.len(), 9, "what streams goes on");
}

#[test]
fn a_capture_that_does_not_begin_leaves_cupti_to_the_next() {
    Machine::new().run("not begun");
}

fn not_begun() {
    // The subscriber is set already, so that the program's second `init` is refused and its capture discarded.
    tracing_subscriber::registry().init();
    unsafe { std::env::set_var("TRACING_CORTEX_CUDA", "auto") };
    tracing_cortex::init().unwrap_err();
    let driver = Driver::ready();
    let until = Instant::now() + Duration::from_secs(10);
    while driver.count("cuptiUnsubscribe") == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let recorded = record(|driver| {
        driver
            .launch(driver.kernel("step", 1_000), Stream::DEFAULT)
            .unwrap();
    });
    recorded.assert_whole();
    assert_eq!(recorded.gpu().outside.kernels, 1);
}
