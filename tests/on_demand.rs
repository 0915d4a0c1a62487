//! Readings and windows on a clock that the test moves: the same in every run.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::time::Duration;

use tracing::info_span;
use tracing_cortex::{CortexBuilder, CortexLayer, Finding, ManualClock, Summary, Unit};
use tracing_subscriber::prelude::*;

/// Runs a program for so many virtual seconds, in tenths, and reads after each.
fn virtual_seconds(
    seconds: u64,
    configure: impl FnOnce(CortexBuilder) -> CortexBuilder,
    mut tenth: impl FnMut(u64, &ManualClock),
) -> Summary {
    let clock = ManualClock::new();
    let builder = configure(CortexLayer::builder().manual_clock(&clock));
    let (layer, guard) = builder.build().unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for at in 0..seconds * 10 {
            tenth(at, &clock);
            assert!(guard.sample_resources());
        }
    });
    guard.finish().unwrap()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn finding<'s>(summary: &'s Summary, rule: &str) -> Option<&'s Finding> {
    let mut findings = summary.diagnosis().findings.iter();
    findings.find(|finding| finding.rule == rule)
}

#[test]
fn a_source_of_the_program_gives_the_series_that_rules_look_at() {
    let run = |growth: f64| {
        let mut used = 100e6;
        let configure = |builder: CortexBuilder| {
            builder.gauge("process.rss", Unit::Bytes, move || {
                used += growth;
                Some(used)
            })
        };
        virtual_seconds(60, configure, |_, clock| {
            info_span!("handle").in_scope(|| clock.advance(ms(100)));
        })
    };
    let leaking = run(100e3);
    let resources = &leaking.profile().resources;
    assert_eq!(resources.len(), 1, "the process itself is not read");
    assert_eq!(resources[0].samples, 600);
    let leak = finding(&leaking, "CTX303").unwrap();
    let rate = leak.evidence["growth_per_minute_bytes"];
    assert!((rate / 60e6 - 1.0).abs() < 0.01, "{rate}");
    assert!(finding(&run(1e3), "CTX303").is_none());
    assert_eq!(leaking.diagnosis(), run(100e3).diagnosis());
}

#[test]
fn a_site_that_gets_slower_on_the_virtual_clock_is_found() {
    let run = |slower_us: u64| {
        virtual_seconds(
            30,
            |builder| builder,
            |at, clock| {
                for _ in 0..5 {
                    let length = ms(5) + Duration::from_micros(slower_us * at);
                    info_span!("scan").in_scope(|| clock.advance(length));
                }
                let rest = 100_000 - 5 * (5_000 + slower_us * at);
                clock.advance(Duration::from_micros(rest));
            },
        )
    };
    let slowing = run(40);
    let row = &slowing.profile().sites[0];
    let complete = &row.ended_per_window[..30];
    assert!(complete.iter().all(|&ended| ended == complete[0]));
    assert!(complete[0] > 0);
    let found = finding(&slowing, "CTX605").unwrap();
    assert_eq!(found.site, "scan");
    assert!(finding(&run(0), "CTX605").is_none());
}

#[test]
fn a_stall_every_two_seconds_is_found_and_random_ones_are_not() {
    let run = |is_stall: fn(u64) -> bool| {
        virtual_seconds(
            40,
            |builder| builder,
            |at, clock| {
                for call in 0..10 {
                    let length = if call == 3 && is_stall(at) { 60 } else { 1 };
                    info_span!("handle").in_scope(|| clock.advance(ms(length)));
                }
                let busy = if is_stall(at) { 69 } else { 10 };
                clock.advance(ms(100 - busy));
            },
        )
    };
    let flushing = run(|at| at % 20 == 7);
    let found = finding(&flushing, "CTX604").unwrap();
    assert_eq!(found.site, "handle");
    assert_eq!(found.evidence["interval_ns"], 2e9);
    let random = run(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59 == 3);
    assert!(random.profile().sites[0].slow.is_some());
    assert!(finding(&random, "CTX604").is_none());
}
