//! CPU time of activations, as `ProfilingLevel::Detailed` measures it.
#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::time::{Duration, Instant};

use tracing::info_span;
use tracing_cortex::{CortexGuard, CortexLayer, CpuTime, ManualClock, ProfilingLevel};
use tracing_subscriber::prelude::*;

const fn ms(length: u64) -> Duration {
    Duration::from_millis(length)
}

/// Runs on a clock of its own at `Detailed`.
fn measured(program: impl FnOnce(&ManualClock, &CortexGuard)) -> CortexGuard {
    let clock = ManualClock::new();
    let (layer, guard) = CortexLayer::builder()
        .manual_clock(&clock)
        .level(ProfilingLevel::Detailed)
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        program(&clock, &guard);
    });
    guard
}

fn cpu_of(guard: &CortexGuard, site: &str) -> CpuTime {
    let profile = guard.profile();
    let row = profile.sites.iter().find(|row| row.site.name == site);
    row.unwrap().stats.cpu.unwrap()
}

fn numbers(cpu: CpuTime) -> (u64, u64, u64) {
    let to_ms = |length: tracing_cortex::Nanos| length.0 / 1_000_000;
    (cpu.activations, to_ms(cpu.self_time), to_ms(cpu.self_cpu))
}

#[test]
fn each_span_has_its_own_part_of_the_time_and_of_the_cpu_time() {
    let guard = measured(|clock, _| {
        info_span!("outer").in_scope(|| {
            clock.work(ms(2));
            info_span!("waits").in_scope(|| {
                clock.work(ms(1));
                clock.advance(ms(9));
            });
            clock.advance(ms(3));
            info_span!("computes").in_scope(|| clock.work(ms(5)));
        });
    });
    assert_eq!(numbers(cpu_of(&guard, "outer")), (1, 5, 2));
    assert_eq!(numbers(cpu_of(&guard, "waits")), (1, 10, 1));
    assert_eq!(numbers(cpu_of(&guard, "computes")), (1, 5, 5));
    assert_eq!(cpu_of(&guard, "waits").share(), 0.1);
}

#[test]
fn polls_are_measured_each() {
    let guard = measured(|clock, _| {
        let task = info_span!("task");
        for _ in 0..3 {
            task.in_scope(|| clock.work(ms(1)));
            clock.work(ms(10));
        }
    });
    assert_eq!(numbers(cpu_of(&guard, "task")), (3, 3, 3));
}

/// Of short spans one in 16 is measured; what is not is a part of what is around it.
#[test]
fn short_spans_are_measured_once_in_a_while() {
    let guard = measured(|clock, _| {
        info_span!("outer").in_scope(|| {
            for _ in 0..160 {
                info_span!("short").in_scope(|| clock.work(Duration::from_micros(10)));
            }
        });
    });
    assert_eq!(cpu_of(&guard, "short").activations, 10);
    assert_eq!(cpu_of(&guard, "short").self_cpu.0, 100_000);
    assert_eq!(cpu_of(&guard, "outer").self_time.0, 1_500_000);
    assert_eq!(cpu_of(&guard, "outer").self_cpu.0, 1_500_000);
}

#[test]
fn guards_dropped_in_another_order_count_nothing_twice() {
    let guard = measured(|clock, _| {
        let first = info_span!("first").entered();
        clock.work(ms(1));
        let second = info_span!("second").entered();
        clock.work(ms(2));
        drop(first);
        clock.work(ms(4));
        drop(second);
    });
    assert_eq!(numbers(cpu_of(&guard, "second")), (1, 6, 6));
    let profile = guard.profile();
    let first = profile.sites.iter().find(|row| row.site.name == "first");
    assert_eq!(first.unwrap().stats.cpu, None);
}

#[test]
fn after_a_reset_only_what_is_entered_anew_is_measured() {
    let guard = measured(|clock, guard| {
        let outer = info_span!("outer").entered();
        clock.work(ms(1));
        guard.reset();
        info_span!("inner").in_scope(|| clock.work(ms(2)));
        drop(outer);
        info_span!("outer").in_scope(|| clock.work(ms(4)));
    });
    assert_eq!(numbers(cpu_of(&guard, "inner")), (1, 2, 2));
    assert_eq!(cpu_of(&guard, "outer").self_cpu.0, 4_000_000);
}

#[test]
fn the_other_levels_measure_none() {
    let (layer, guard) = CortexLayer::builder().build().unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("work").in_scope(|| ());
    });
    assert_eq!(guard.profile().sites[0].stats.cpu, None);
}

/// The kernel's clock: sleeping takes none, computing takes what this test saw it take.
#[cfg(target_os = "linux")]
#[test]
fn a_real_thread_that_sleeps_uses_none_and_one_that_computes_does() {
    let (layer, guard) = CortexLayer::builder()
        .level(ProfilingLevel::Detailed)
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("sleeps").in_scope(|| std::thread::sleep(ms(20)));
        info_span!("computes").in_scope(|| {
            let begin = Instant::now();
            while begin.elapsed() < ms(20) {
                std::hint::spin_loop();
            }
        });
    });
    let sleeps = cpu_of(&guard, "sleeps");
    assert!(sleeps.share() < 0.3, "{sleeps:?}");
    // Other programs may have had the core for a part of it.
    let computes = cpu_of(&guard, "computes");
    assert!(computes.share() > 2.0 * sleeps.share(), "{computes:?}");
    assert!(computes.self_time.0 >= 20_000_000, "{computes:?}");
}
