//! Device time on the capture's clock, over an hour.

use std::sync::OnceLock;
use std::time::Duration;

use tracing_cortex::{GpuWork, ManualClock};

use crate::capture::{Recorded, builder, record_with};
use crate::gpu::{Driver, Machine, Stream};

pub(crate) const SCENARIOS: crate::Scenarios = &[
    ("own clock", own_clock),
    ("told clock", told_clock),
    ("long kernel", long_kernel),
    ("real clock", real_clock),
];

/// The clock of the capture and, in the same time, the simulated host's.
static CLOCK: OnceLock<ManualClock> = OnceLock::new();

/// Where the simulated host's clock stands when the capture's begins, if CUPTI was not told of it.
const HOST_AHEAD: u64 = 7_000_000_000;

const SECOND: u64 = 1_000_000_000;
const MINUTES: u64 = 60;
const KERNEL: u64 = 250_000;
/// From a launch to the earliest start of its work.
const LATENCY: u64 = 2_000;
const TOLERANCE: u64 = 10_000;

/// The machine's library for CUPTI, whose clock is 200 ppm too fast at first, and cannot be told another.
fn drifting() -> Machine {
    Machine::new()
        .knob("GPU_OFFSET_NS", 123_456_789_000)
        .knob("GPU_DRIFT_PPM", 200)
}

#[test]
fn an_hour_of_drift_is_made_up_for_where_cupti_has_a_clock_of_its_own() {
    drifting()
        .without_symbol_anywhere("cuptiActivityRegisterTimestampCallback")
        .run("own clock");
}

#[test]
fn an_hour_of_drift_is_none_where_cupti_is_told_the_clock() {
    drifting().run("told clock");
}

fn own_clock() {
    let mut at = Vec::new();
    let recorded = hour(|driver, minute, second| {
        // The drift wanders from one end to the other and back within a minute.
        let turn = (60 * minute + second) as f64 / 61.0 * std::f64::consts::TAU;
        bend(driver, (200.0 * turn.cos()) as i64);
        at.push(now());
    });
    check(&recorded, &at);
}

fn told_clock() {
    let mut at = Vec::new();
    let recorded = hour(|_, _, _| at.push(now()));
    check(&recorded, &at);
}

fn now() -> u64 {
    // The manual clock begins at zero with the capture, and so does the capture's time.
    let driver = Driver::open();
    let host = driver.now();
    host - HOST_BEGAN.get().copied().unwrap_or(0)
}

static HOST_BEGAN: OnceLock<u64> = OnceLock::new();

fn pass(by: u64) {
    CLOCK.get().unwrap().advance(Duration::from_nanos(by));
    // Without effect where CUPTI was told the capture's clock.
    Driver::open().advance(by);
}

/// A waiting call waits by moving the clocks.
unsafe extern "C" fn pass_until(host: u64) {
    let left = host.saturating_sub(Driver::open().now());
    pass(left);
}

/// Changes how CUPTI's own clock drifts from now on, without a step.
fn bend(driver: Driver, ppm: i64) {
    static STATE: OnceLock<std::sync::Mutex<(i64, i64)>> = OnceLock::new();
    let state = STATE.get_or_init(|| std::sync::Mutex::new((200, 123_456_789_000)));
    let mut state = state.lock().unwrap();
    let (before, offset) = *state;
    let drifted = i128::from(driver.now()) * i128::from(before - ppm) / 1_000_000;
    let offset = offset + i64::try_from(drifted).unwrap();
    driver.set("GPU_DRIFT_PPM", ppm);
    driver.set("GPU_OFFSET_NS", offset);
    *state = (ppm, offset);
}

/// Launches a kernel every second of an hour; the driver is asked for its records every second, as in real time.
fn hour(mut before_launch: impl FnMut(Driver, u64, u64)) -> Recorded {
    let clock = CLOCK.get_or_init(ManualClock::new);
    let driver = Driver::open();
    driver.manual_clock(HOST_AHEAD);
    driver.on_wait(pass_until);
    record_with(builder().manual_clock(clock), |driver, guard| {
        HOST_BEGAN.set(driver.now()).unwrap();
        let kernel = driver.kernel("step", KERNEL);
        for minute in 0..MINUTES {
            for second in 0..60 {
                before_launch(driver, minute, second);
                driver.launch(kernel, Stream::DEFAULT).unwrap();
                pass(SECOND / 2);
                guard.flush(Duration::from_secs(20)).unwrap();
                pass(SECOND / 2);
            }
        }
    })
}

fn check(recorded: &Recorded, launched: &[u64]) {
    recorded.assert_whole();
    let mut work: Vec<&GpuWork> = recorded.work.iter().collect();
    work.sort_by_key(|work| work.start);
    assert_eq!(work.len(), launched.len());
    for (work, at) in work.iter().zip(launched) {
        let start = at + LATENCY;
        let off = [
            work.start.0.abs_diff(start),
            work.end.0.abs_diff(start + KERNEL),
        ];
        assert!(off.iter().all(|off| *off < TOLERANCE), "{off:?} ns at {at}");
    }
}

#[test]
fn both_ends_of_a_long_kernel_are_placed_by_the_clocks_of_their_time() {
    drifting()
        .without_symbol_anywhere("cuptiActivityRegisterTimestampCallback")
        .run("long kernel");
}

fn long_kernel() {
    let clock = CLOCK.get_or_init(ManualClock::new);
    Driver::open().manual_clock(HOST_AHEAD);
    Driver::open().on_wait(pass_until);
    let recorded = record_with(builder().manual_clock(clock), |driver, guard| {
        HOST_BEGAN.set(driver.now()).unwrap();
        driver
            .launch(driver.kernel("long", 100 * SECOND), Stream::DEFAULT)
            .unwrap();
        for half in 0..202_i64 {
            if half % 20 == 0 {
                bend(driver, 200 - 2 * half);
            }
            pass(SECOND / 2);
            guard.flush(Duration::from_secs(20)).unwrap();
        }
    });
    recorded.assert_whole();
    let work = &recorded.work[0];
    // The simulator reckons by the drift of the launch, so that only the start is known.
    assert!(
        work.start.0.abs_diff(LATENCY) < TOLERANCE,
        "{:?}",
        work.start
    );
}

#[test]
fn work_lies_between_its_launch_and_the_end_of_the_wait_for_it_on_either_clock() {
    let own = drifting().without_symbol_anywhere("cuptiActivityRegisterTimestampCallback");
    for machine in [own, drifting()] {
        machine.run("real clock");
    }
}

fn real_clock() {
    let recorded = record_with(builder(), |driver, _| {
        let kernel = driver.kernel("step", 2_000_000);
        for _ in 0..200 {
            driver.launch(kernel, Stream::DEFAULT).unwrap();
            driver.synchronize().unwrap();
        }
    });
    recorded.assert_whole();
    let mut waits = recorded.calls.iter().filter(|call| !call.api.starts_work());
    let mut work: Vec<&GpuWork> = recorded.work.iter().collect();
    work.sort_by_key(|work| work.start);
    for work in work {
        let (call, wait) = (work.call.as_ref().unwrap(), waits.next().unwrap());
        let begin = call.start.0 - TOLERANCE.min(call.start.0);
        assert!(begin <= work.start.0, "{work:?}");
        assert!(
            work.end.0 <= wait.end.unwrap().0 + TOLERANCE,
            "{work:?} {wait:?}"
        );
        assert!(work.length().0.abs_diff(2_000_000) < 5_000);
    }
}
