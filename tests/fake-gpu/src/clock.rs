//! The host's clock, the devices' clocks, and waiting.
//!
//! With a CUPTI timestamp callback the host's clock is what that returns. A clock that does not run by itself is moved
//! by whoever waits: by the hook of `fakeOnWait`, or directly when it is the library's own manual clock.

use std::mem::transmute;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread;
use std::time::{Duration, Instant};

use crate::knobs::{self, Knob};

pub type Timestamp = unsafe extern "C" fn() -> u64;
pub type OnWait = unsafe extern "C" fn(u64);

/// Longer than a clock that runs can stand still.
const PATIENCE: Duration = Duration::from_secs(5);
const CLOCK_MONOTONIC: i32 = 1;

static TIMESTAMP: AtomicUsize = AtomicUsize::new(0);
static ON_WAIT: AtomicUsize = AtomicUsize::new(0);
static IS_MANUAL: AtomicBool = AtomicBool::new(false);
static MANUAL: AtomicU64 = AtomicU64::new(0);

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

pub fn set_timestamp(callback: Option<Timestamp>) {
    TIMESTAMP.store(callback.map_or(0, |callback| callback as usize), Release);
}

/// The host's time in ns. Runs a callback of the program, so no lock may be held.
pub fn now() -> u64 {
    match TIMESTAMP.load(Acquire) {
        0 if IS_MANUAL.load(Relaxed) => MANUAL.load(Relaxed),
        0 => monotonic(),
        // SAFETY: only `set_timestamp` stores here.
        callback => unsafe { transmute::<usize, Timestamp>(callback)() },
    }
}

fn monotonic() -> u64 {
    let mut time = Timespec {
        seconds: 0,
        nanos: 0,
    };
    // SAFETY: the struct is that of a 64-bit Linux.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanos as u64
}

/// What the device's clock shows when the host's shows `host`.
pub fn of_device(device: usize, host: u64) -> u64 {
    let drift =
        i128::from(host) * i128::from(knobs::get_of(Knob::GPU_DRIFT_PPM, device)) / 1_000_000;
    let offset = i128::from(knobs::get_of(Knob::GPU_OFFSET_NS, device));
    (i128::from(host) + drift + offset).max(0) as u64
}

/// A host time as records have it. CUPTI puts all devices on one clock: the program's when it was told, else its own, for
/// which that of device 0 stands.
pub fn of_record(host: u64) -> u64 {
    match TIMESTAMP.load(Acquire) {
        0 => of_device(0, host),
        _ => host,
    }
}

/// Returns when the host's clock has reached `until`.
pub fn wait_until(until: u64) {
    let mut last = now();
    let mut moved = Instant::now();
    while last < until {
        match ON_WAIT.load(Acquire) {
            0 if TIMESTAMP.load(Acquire) == 0 && IS_MANUAL.load(Relaxed) => {
                MANUAL.fetch_max(until, Relaxed);
            }
            0 => thread::sleep(Duration::from_nanos((until - last).min(1_000_000))),
            // SAFETY: only `fakeOnWait` stores here.
            hook => unsafe { transmute::<usize, OnWait>(hook)(until) },
        }
        let time = now();
        if time != last {
            (last, moved) = (time, Instant::now());
        }
        assert!(
            moved.elapsed() < PATIENCE,
            "fake-gpu: waits for {until}, and the clock stands at {last}: set fakeOnWait"
        );
    }
}

exported! {
    fn fakeClockManual(start_ns: u64) -> () {
        MANUAL.store(start_ns, Relaxed);
        IS_MANUAL.store(true, Relaxed);
    }

    fn fakeClockAdvance(ns: u64) -> () {
        MANUAL.fetch_add(ns, Relaxed);
    }

    fn fakeClockSet(ns: u64) -> () {
        MANUAL.store(ns, Relaxed);
    }

    fn fakeNow() -> u64 {
        now()
    }

    fn fakeOnWait(hook: Option<OnWait>) -> () {
        ON_WAIT.store(hook.map_or(0, |hook| hook as usize), Release);
    }
}
