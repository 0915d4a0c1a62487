//! Two captures in one process never mix.

use std::time::Duration;

use tracing_cortex::{CortexLayer, ManualClock};
use tracing_subscriber::prelude::*;

use crate::support::{Memory, site};

#[test]
fn two_layers_in_one_registry_see_the_same_and_end_apart() {
    let clocks = [ManualClock::new(), ManualClock::new()];
    let memories = [Memory::default(), Memory::default()];
    let build = |which: usize| {
        CortexLayer::builder()
            .no_resources()
            .manual_clock(&clocks[which])
            .sink(memories[which].clone())
            .build()
            .unwrap()
    };
    let ((first, first_guard), (second, second_guard)) = (build(0), build(1));
    let subscriber = tracing_subscriber::registry().with(first).with(second);
    tracing::subscriber::with_default(subscriber, || {
        let work = || {
            let _outer = tracing::info_span!("outer").entered();
            tracing::info_span!("inner").in_scope(|| {
                clocks[0].advance(Duration::from_nanos(1));
                clocks[1].advance(Duration::from_nanos(100));
            });
        };
        work();
        second_guard.reset();
        work();
        let _across = tracing::info_span!("across").entered();
        let summary = first_guard.finish().unwrap();
        assert_eq!(site(summary.profile(), "inner").stats.calls, 2);
        assert_eq!(site(summary.profile(), "inner").stats.busy.0, 2);
        work();
    });
    let summary = second_guard.finish().unwrap();
    let profile = summary.profile();
    assert_eq!(site(profile, "inner").stats.calls, 2);
    assert_eq!(site(profile, "inner").stats.busy.0, 200);
    assert_eq!(site(profile, "outer").stats.self_time.0, 0);
    assert_eq!(
        [memories[0].count("inner"), memories[1].count("inner")],
        [2, 3]
    );
}

#[test]
fn layers_in_two_registries_see_their_own_spans_even_when_these_interleave() {
    let clock = ManualClock::new();
    let step = || clock.advance(Duration::from_nanos(10));
    let build = || {
        let builder = CortexLayer::builder().no_resources();
        builder.manual_clock(&clock).build().unwrap()
    };
    let ((first, first_guard), (second, second_guard)) = (build(), build());
    let first = tracing::Dispatch::new(tracing_subscriber::registry().with(first));
    let second = tracing::Dispatch::new(tracing_subscriber::registry().with(second));
    for _ in 0..1_000 {
        tracing::dispatcher::with_default(&first, || {
            // The registries hand out the same ids.
            let _outer = tracing::info_span!("outer_of_first").entered();
            step();
            tracing::dispatcher::with_default(&second, || {
                let _other = tracing::info_span!("outer_of_second").entered();
                step();
                tracing::dispatcher::with_default(&first, || {
                    tracing::info_span!("inner_of_first").in_scope(step);
                });
            });
        });
    }
    let first = first_guard.finish().unwrap();
    let second = second_guard.finish().unwrap();
    let (first, second) = (first.profile(), second.profile());
    assert_eq!((first.sites.len(), second.sites.len()), (2, 1));
    let outer = &site(first, "outer_of_first").stats;
    assert_eq!(
        (outer.calls, outer.busy.0, outer.self_time.0),
        (1_000, 30_000, 20_000)
    );
    assert_eq!(site(first, "inner_of_first").stats.self_time.0, 10_000);
    let other = &site(second, "outer_of_second").stats;
    assert_eq!(
        (other.calls, other.busy.0, other.self_time.0),
        (1_000, 20_000, 20_000)
    );
    for profile in [first, second] {
        assert_eq!(
            profile.losses.unbalanced_exits + profile.losses.unknown_spans,
            0
        );
    }
}
