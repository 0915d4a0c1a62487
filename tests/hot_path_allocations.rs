//! After the first few spans the layer allocates nothing.
#![allow(
    unsafe_code,
    reason = "a global allocator is unsafe to implement; this one only counts"
)]
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tracing::{Dispatch, Span, info_span};
use tracing_cortex::{CortexBuilder, CortexLayer, ManualClock, Overflow};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The collector's thread ends while its locals are gone already.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Empty;

impl Layer<Registry> for Empty {}

/// Counts what this thread allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const WARM_UP: usize = 200;
const SPANS: usize = 1000;

/// Allocations after the warm-up, on a subscriber with the layer.
fn after_warm_up<L: Layer<Registry> + Send + Sync>(layer: L, mut work: impl FnMut()) -> u64 {
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        (0..WARM_UP).for_each(|_| work());
        allocations(|| (0..SPANS).for_each(|_| work()))
    })
}

fn nested() {
    let _outer = info_span!("outer").entered();
    info_span!("first").in_scope(|| ());
    info_span!("second").in_scope(|| info_span!("leaf").in_scope(|| ()));
}

fn with_fields() {
    info_span!("fields", number = 1, text = "text").in_scope(|| ());
}

fn with_events() {
    info_span!("events").in_scope(|| tracing::info!(number = 1, "event"));
}

/// On a clock that stands still, so that no duration is the first of its order of magnitude: that one gets a page.
fn builder() -> CortexBuilder {
    CortexLayer::builder()
        .no_resources()
        .manual_clock(&ManualClock::new())
}

fn statistics(work: impl FnMut()) -> u64 {
    let (layer, guard) = builder().build().unwrap();
    let allocations = after_warm_up(layer, work);
    guard.finish().unwrap();
    allocations
}

fn streaming(work: impl FnMut()) -> u64 {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let builder = builder().chrome(trace.path());
    let (layer, guard) = builder.overflow(Overflow::Block).build().unwrap();
    let allocations = after_warm_up(layer, work);
    guard.finish().unwrap();
    allocations
}

#[test]
fn spans_allocate_nothing_more_than_with_an_empty_layer() {
    for (name, work) in [
        ("nested", nested as fn()),
        ("fields", with_fields),
        ("events", with_events),
    ] {
        let baseline = after_warm_up(Empty, work);
        let with_statistics = statistics(work);
        let with_stream = streaming(work);
        assert!(
            with_statistics <= baseline,
            "{name}: {with_statistics} allocations, {baseline} with an empty layer"
        );
        assert!(
            with_stream <= baseline,
            "{name}, streaming: {with_stream} allocations, {baseline} with an empty layer"
        );
    }
}

#[test]
fn entering_and_leaving_a_span_allocates_nothing() {
    let (layer, guard) = builder().build().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        let spans: Vec<Span> = (0..10).map(|_| info_span!("held")).collect();
        let polls = || spans.iter().for_each(|span| span.in_scope(|| ()));
        (0..WARM_UP).for_each(|_| polls());
        let allocations = allocations(|| (0..SPANS).for_each(|_| polls()));
        assert!(allocations == 0, "{allocations} in {SPANS} rounds");
    });
    guard.finish().unwrap();
}

#[test]
fn allocations_are_seen() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}
