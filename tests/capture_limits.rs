//! Declared limits, and subscribers that are put together in other ways.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

mod support;

use std::time::Duration;

use support::{Recording, Records, Rig, assert_row, capture_with, check, site};
use tracing::level_filters::LevelFilter;
use tracing::{Span, debug_span, info_span};
use tracing_cortex::{CortexLayer, Overflow};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, reload};

#[test]
fn a_full_buffer_drops_records_counts_them_and_keeps_the_statistics() {
    const SPANS: u64 = 200_000;
    let rig = Rig::new(true, |builder| builder.max_record_bytes(64 << 10));
    rig.run(|| {
        for _ in 0..SPANS {
            info_span!("span").in_scope(|| ());
        }
    });
    let captured = rig.finish();
    assert_eq!(captured.site("span").calls, SPANS);
    let dropped = captured.profile.losses.dropped_spans;
    assert_eq!(captured.records.spans.len() as u64 + dropped, SPANS);
    assert!(dropped > 0, "the buffer was never full");
}

#[test]
fn with_overflow_block_nothing_is_lost() {
    const SPANS: u64 = 50_000;
    let rig = Rig::new(true, |builder| {
        builder.max_record_bytes(64 << 10).overflow(Overflow::Block)
    });
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            rig.spawn(&format!("worker-{worker}"), || {
                for _ in 0..SPANS {
                    info_span!("span").in_scope(|| ());
                }
            })
        })
        .collect();
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    let captured = rig.finish();
    assert_eq!(captured.profile.losses.dropped_spans, 0);
    assert_eq!(captured.records.spans.len() as u64, 3 * SPANS);
}

#[test]
fn spans_beyond_the_limit_of_open_ones_still_count() {
    const OPEN: u64 = 1000;
    let captured = capture_with(
        |builder| builder.max_open_spans(64),
        |rig| {
            rig.run(|| {
                let open: Vec<Span> = (0..OPEN).map(|_| info_span!("open")).collect();
                for span in &open {
                    span.in_scope(|| rig.ms(1));
                }
            });
        },
    );
    assert_row(captured.site("open"), OPEN, OPEN, OPEN, OPEN);
    let untracked = captured.profile.losses.untracked_spans;
    assert!((1..OPEN).contains(&untracked), "{untracked}");
}

#[test]
fn a_million_open_spans_are_counted_and_given_back() {
    const OPEN: u64 = 1_000_000;
    let rig = Rig::new(false, |builder| builder);
    let span = || info_span!("open");
    rig.run(|| {
        let open: Vec<Span> = (0..OPEN).map(|_| span()).collect();
        let live = rig.guard.profile();
        assert_eq!(live.losses.open_spans + live.losses.untracked_spans, OPEN);
        drop(open);
        let live = rig.guard.profile();
        assert_eq!(live.losses.open_spans, 0);
        assert!(
            live.overhead.memory_bytes < 4 << 20,
            "{}",
            live.overhead.memory_bytes
        );
        span().in_scope(|| rig.ms(1));
    });
    assert_eq!(
        rig.finish().site("open").busy,
        Duration::from_millis(1).into()
    );
}

#[test]
fn a_filter_for_this_layer_alone_leaves_out_what_it_says() {
    let clock = tracing_cortex::ManualClock::new();
    let records = Records::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .manual_clock(&clock)
        .sink(Recording::into(&records))
        .build()
        .unwrap();
    let other = filter_fn(|_| true);
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::sink)
                .with_filter(other),
        )
        .with(layer.with_filter(LevelFilter::INFO));
    tracing::subscriber::with_default(subscriber, || {
        let outer = info_span!("outer");
        let hidden = debug_span!("hidden");
        for _ in 0..3 {
            let _outer = outer.enter();
            clock.advance(Duration::from_millis(1));
            let _hidden = hidden.enter();
            clock.advance(Duration::from_millis(2));
            info_span!("inner").in_scope(|| clock.advance(Duration::from_millis(4)));
        }
    });
    let profile = guard.finish().unwrap().profile().clone();
    check(&profile, Some(&records.take()));
    assert!(profile.sites.iter().all(|row| row.site.name != "hidden"));
    // The time in a hidden span belongs to the one around it.
    let outer = site(&profile, "outer");
    assert_eq!(outer.self_time, Duration::from_millis(9).into());
    assert_eq!(support::path(&profile, "outer > inner").calls, 3);
}

fn calls_through<L: Layer<Registry> + Send + Sync>(wrap: impl FnOnce(CortexLayer) -> L) -> u64 {
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    let subscriber = tracing_subscriber::registry().with(wrap(layer));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..5 {
            info_span!("span").in_scope(|| ());
        }
    });
    let profile = guard.finish().unwrap().profile().clone();
    profile.sites.iter().map(|row| row.stats.calls).sum()
}

#[test]
fn the_layer_works_in_an_option_in_a_box_and_in_a_vector() {
    assert_eq!(calls_through(Some), 5);
    assert_eq!(calls_through(|_| None::<CortexLayer>), 0);
    assert_eq!(calls_through(Layer::boxed), 5);
    assert_eq!(calls_through(|layer| vec![layer]), 5);
}

#[test]
fn a_layer_added_while_spans_are_open_counts_what_it_sees_of_them() {
    let clock = tracing_cortex::ManualClock::new();
    let (slot, handle) = reload::Layer::new(None::<CortexLayer>);
    let subscriber = tracing_subscriber::registry().with(slot);
    tracing::subscriber::with_default(subscriber, || {
        let early = info_span!("early");
        let entered = early.enter();
        let (layer, guard) = CortexLayer::builder()
            .no_resources()
            .manual_clock(&clock)
            .build()
            .unwrap();
        handle.reload(Some(layer)).unwrap();
        info_span!("inside").in_scope(|| clock.advance(Duration::from_millis(1)));
        drop(entered);
        early.in_scope(|| clock.advance(Duration::from_millis(2)));
        handle.reload(None).unwrap();
        info_span!("late").in_scope(|| clock.advance(Duration::from_millis(4)));
        let profile = guard.finish().unwrap().profile().clone();
        check(&profile, None);
        assert_row(site(&profile, "early"), 1, 1, 2, 2);
        assert_row(site(&profile, "inside"), 1, 1, 1, 1);
        assert!(profile.sites.iter().all(|row| row.site.name != "late"));
        let losses = &profile.losses;
        assert_eq!((losses.unknown_spans, losses.unbalanced_exits), (1, 1));
    });
}

#[test]
fn after_the_end_of_the_capture_the_layer_does_nothing() {
    let rig = Rig::new(true, |builder| builder);
    let dispatch = rig.dispatch.clone();
    let clock = rig.clock.clone();
    rig.run(|| info_span!("before").in_scope(|| rig.ms(1)));
    let captured = rig.finish();
    tracing::dispatcher::with_default(&dispatch, || {
        info_span!("after").in_scope(|| clock.advance(Duration::from_millis(1)));
    });
    assert_row(captured.site("before"), 1, 1, 1, 1);
    assert_eq!(captured.profile.sites.len(), 1);
}
