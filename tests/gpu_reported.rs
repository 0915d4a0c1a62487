//! Device times that a program measures itself and says in fields of its spans; on machines without any device.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use tracing::field::Empty;
use tracing::info_span;
use tracing_cortex::{CortexGuard, CortexLayer, GpuSource, GpuStats, Profile};
use tracing_subscriber::prelude::*;

fn record(program: impl FnOnce(&CortexGuard)) -> Profile {
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        program(&guard);
    });
    guard.finish().unwrap().profile().clone()
}

fn of_site(profile: &Profile, name: &str) -> GpuStats {
    let mut rows = profile.sites.iter();
    let row = rows.find(|row| row.site.name == name).unwrap();
    row.stats.gpu.as_deref().cloned().unwrap_or_default()
}

/// Ranges and their time: own, and in all.
fn times(stats: &GpuStats) -> [(u64, u64); 2] {
    [&stats.own, &stats.total].map(|totals| (totals.ranges, totals.range_time.0))
}

#[test]
fn a_reported_time_is_the_spans_and_that_of_the_spans_around_it() {
    let profile = record(|_| {
        let pass = |time: u64| info_span!("pass", gpu.time_ns = time).in_scope(|| ());
        let frame = info_span!("frame").entered();
        pass(1_000);
        pass(2_000);
        drop(frame);
        pass(4_000);
    });
    assert_eq!(times(&of_site(&profile, "pass")), [(3, 7_000); 2]);
    assert_eq!(times(&of_site(&profile, "frame")), [(0, 0), (2, 3_000)]);
    let mut rows = profile.paths.iter();
    let below = rows.find(|row| row.depth == 1).unwrap();
    let stats = below.stats.gpu.as_deref().unwrap();
    assert_eq!(times(stats), [(2, 3_000); 2]);
    let total = of_site(&profile, "frame").total;
    assert_eq!(total.sources, [GpuSource::Reported]);
    assert_eq!(total.busy.0, 0, "nobody knows when it was");
}

#[test]
fn a_site_that_is_around_itself_has_the_time_once() {
    let profile = record(|_| {
        let pass = || info_span!("pass", gpu.time_ns = Empty);
        let outer = pass().entered();
        let inner = pass().entered();
        inner.record("gpu.time_ns", 5_u64);
        drop(inner);
        outer.record("gpu.time_ns", 7_u64);
    });
    assert_eq!(times(&of_site(&profile, "pass")), [(2, 12); 2]);
}

#[test]
fn each_value_counts_and_the_device_may_be_known_before() {
    let profile = record(|_| {
        let pass = info_span!("pass", gpu.device = 1, gpu.time_ns = Empty);
        pass.in_scope(|| ());
        // After the span was left, on another thread.
        std::thread::scope(|scope| {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let pass = &pass;
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    pass.record("gpu.time_ns", 10_i64);
                    pass.record("gpu.time_ns", 20_u64);
                });
            });
        });
        info_span!("other", gpu.time_ns = 30_u64).in_scope(|| ());
    });
    assert_eq!(times(&of_site(&profile, "pass"))[0], (2, 30));
    let devices = &profile.gpu.as_ref().unwrap().devices;
    let rows: Vec<_> = devices
        .iter()
        .map(|row| (row.device.ordinal, row.totals.range_time.0))
        .collect();
    // Of the other, no device is known.
    assert_eq!(rows, [(1, 30)]);
}

#[test]
fn what_is_no_time_is_not_counted() {
    let profile = record(|_| {
        info_span!("pass", gpu.time_ns = -5, gpu.device = 0).in_scope(|| ());
        info_span!("pass", gpu.time_ns = "long").in_scope(|| ());
        info_span!("pass", gpu.time_ns = 1.5).in_scope(|| ());
        info_span!("pass", gpu.device = 3).in_scope(|| ());
        // An event is no work.
        info_span!("pass").in_scope(|| tracing::info!(gpu.time_ns = 5, "done"));
    });
    assert_eq!(profile.gpu, None);
}

#[test]
fn a_reset_forgets_what_was_reported_but_not_the_device_of_an_open_span() {
    let profile = record(|guard| {
        let pass = info_span!("pass", gpu.device = 2, gpu.time_ns = 100);
        pass.in_scope(|| ());
        assert!(guard.profile().gpu.is_some());
        guard.reset();
        assert!(guard.profile().gpu.is_none());
        pass.in_scope(|| pass.record("gpu.time_ns", 7));
    });
    assert_eq!(times(&of_site(&profile, "pass")), [(1, 7); 2]);
    let gpu = profile.gpu.unwrap();
    assert_eq!(gpu.devices[0].device.ordinal, 2);
}
