//! Threads that end early, and clocks that step back.

use std::thread;
use std::time::Duration;

use tracing_cortex::{CortexLayer, ManualClock, SpanKind};

use crate::support::{Memory, bars, site, within};

/// Runs `work` on a new thread that ends, under the same subscriber.
fn on_a_thread_that_ends<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    thread::scope(|scope| {
        let run = || tracing::dispatcher::with_default(&dispatch, work);
        scope.spawn(run).join().unwrap()
    })
}

#[test]
fn a_span_outlives_the_thread_that_created_it() {
    let clock = ManualClock::new();
    let memory = Memory::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .manual_clock(&clock)
        .sink(memory.clone())
        .build()
        .unwrap();
    within(layer, || {
        let (never_entered, entered_there) = on_a_thread_that_ends(|| {
            let entered_there = tracing::info_span!("entered_there");
            entered_there.in_scope(|| clock.advance(Duration::from_nanos(10)));
            (tracing::info_span!("never_entered"), entered_there)
        });
        // The collector has every chance to forget the thread.
        guard.flush(Duration::from_secs(30)).unwrap();
        clock.advance(Duration::from_nanos(100));
        entered_there.in_scope(|| clock.advance(Duration::from_nanos(5)));
        drop((never_entered, entered_there));
    });
    let summary = guard.finish().unwrap();
    let profile = summary.profile();
    let stats = &site(profile, "entered_there").stats;
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 2));
    assert_eq!(stats.busy.0, 15);
    assert_eq!(stats.latency.as_ref().unwrap().max.0, 115);
    assert_eq!(stats.idle.unwrap().0, 100);
    let stats = &site(profile, "never_entered").stats;
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 0));
    assert_eq!((stats.open, profile.losses.open_spans), (0, 0));
    assert_eq!(
        profile.losses.unknown_spans + profile.losses.unbalanced_exits,
        0
    );
    let kinds: Vec<_> = memory
        .spans()
        .iter()
        .filter(|span| span.name == "entered_there")
        .map(|span| span.kind)
        .collect();
    let life = SpanKind::Async {
        busy: tracing_cortex::Nanos(15),
        activations: 2,
    };
    assert_eq!(kinds, [SpanKind::Poll, SpanKind::Poll, life]);
}

#[test]
fn a_thread_that_ends_inside_a_span_leaves_it_open_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let memory = Memory::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .chrome(&trace)
        .sink(memory.clone())
        .build()
        .unwrap();
    within(layer, || {
        on_a_thread_that_ends(|| {
            std::mem::forget(tracing::info_span!("around").entered());
            std::mem::forget(tracing::info_span!("abandoned").entered());
            tracing::info_span!("closed").in_scope(|| ());
        });
        guard.flush(Duration::from_secs(30)).unwrap();
    });
    let summary = guard.finish().unwrap();
    assert_eq!(summary.profile().losses.open_spans, 2);
    for (name, open) in [("around", 1), ("abandoned", 1), ("closed", 0)] {
        let stats = &site(summary.profile(), name).stats;
        assert_eq!((stats.calls, stats.open), (1, open), "{name}");
        let seen: Vec<_> = memory
            .spans()
            .into_iter()
            .filter(|span| span.name == name)
            .collect();
        assert_eq!((seen.len(), seen[0].unfinished), (1, open == 1), "{name}");
        assert_eq!(bars(&trace, name).len(), 1);
    }
}

#[test]
fn a_clock_that_steps_back_gives_zero_and_is_counted() {
    let clock = ManualClock::new();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let (layer, guard) = CortexLayer::builder()
        .manual_clock(&clock)
        .chrome(&trace)
        .build()
        .unwrap();
    clock.set(Duration::from_secs(10));
    within(layer, || {
        let _outer = tracing::info_span!("outer").entered();
        clock.advance(Duration::from_secs(1));
        tracing::info_span!("stepped").in_scope(|| clock.set(Duration::from_secs(5)));
        tracing::info_span!("steady").in_scope(|| clock.advance(Duration::from_secs(1)));
        // Closed before it was opened.
        let idle = tracing::info_span!("idle");
        clock.set(Duration::from_secs(2));
        drop(idle);
        tracing::info!("an event");
    });
    clock.set(Duration::from_secs(1));
    let summary = guard.finish().unwrap();
    let profile = summary.profile();
    assert_eq!(profile.losses.clock_steps, 2, "outer and stepped");
    for (name, busy) in [("outer", 0), ("stepped", 0), ("steady", 1_000_000_000)] {
        let stats = &site(profile, name).stats;
        assert_eq!((stats.calls, stats.busy.0), (1, busy), "{name}");
    }
    assert_eq!(site(profile, "outer").stats.self_time.0, 0);
    assert_eq!(site(profile, "idle").stats.calls, 1);
    for name in ["outer", "stepped", "steady"] {
        assert!(
            bars(&trace, name)[0]["dur"].as_f64().unwrap() >= 0.0,
            "{name}"
        );
    }
}
