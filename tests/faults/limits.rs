//! Programs beyond the declared limits: what does not fit is folded or counted, and memory stays bounded.

use std::time::Duration;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Metadata, Subscriber};
use tracing_cortex::{CortexLayer, ManualClock};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::{Extensions, LookupSpan, SpanData};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::support::{Memory, json, site, within};
use crate::values::{new_site, span_of};

/// Hands out ids and nothing else. The registry looks through all entered spans at every enter, which takes minutes
/// where 100,000 of them are nested.
#[derive(Default)]
struct Counting {
    last: AtomicU64,
}

impl Subscriber for Counting {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.last.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn try_close(&self, _: Id) -> bool {
        true
    }
}

/// The data of a span of [`Counting`], which has none.
enum NoData {}

impl<'a> SpanData<'a> for NoData {
    fn id(&self) -> Id {
        match *self {}
    }

    fn metadata(&self) -> &'static Metadata<'static> {
        match *self {}
    }

    fn parent(&self) -> Option<&Id> {
        match *self {}
    }

    fn extensions(&self) -> Extensions<'_> {
        match *self {}
    }

    fn extensions_mut(&self) -> tracing_subscriber::registry::ExtensionsMut<'_> {
        match *self {}
    }
}

impl<'a> LookupSpan<'a> for Counting {
    type Data = NoData;

    fn span_data(&'a self, _: &Id) -> Option<NoData> {
        None
    }
}

#[test]
fn recursion_100_000_deep_folds_with_exact_counts() {
    const DEPTH: u64 = 100_000;
    let clock = ManualClock::new();
    let memory = Memory::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .manual_clock(&clock)
        .max_record_bytes(64 << 20)
        .overflow(tracing_cortex::Overflow::Block)
        .sink(memory.clone())
        .build()
        .unwrap();
    tracing::subscriber::with_default(Counting::default().with(layer), || {
        let mut entered = Vec::new();
        for _ in 0..DEPTH {
            entered.push(tracing::info_span!("recurse").entered());
            clock.advance(Duration::from_nanos(10));
        }
        // Innermost first; a vector would drop the outermost first.
        while entered.pop().is_some() {}
    });
    let summary = guard.finish().unwrap();
    let profile = summary.profile();
    let stats = &site(profile, "recurse").stats;
    assert_eq!((stats.calls, stats.activations), (DEPTH, DEPTH));
    assert_eq!(stats.busy.0, 10 * DEPTH, "counted once, not at every level");
    assert_eq!(stats.self_time.0, 10 * DEPTH);
    assert_eq!(profile.losses.folded_activations, DEPTH - 128);
    assert_eq!(profile.paths.len(), 128);
    assert_eq!(memory.count("recurse") as u64, DEPTH);
    assert!(stats.latency.is_none(), "deep is not async");
}

#[test]
fn a_million_spans_open_at_once_are_tracked_up_to_the_limit() {
    const OPEN: u64 = 1_000_000;
    // The documentation says about 50 MiB of a full table.
    const MEMORY: u64 = 64 << 20;
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    let tracked = within(layer, || {
        let spans: Vec<_> = (0..OPEN).map(|_| tracing::info_span!("task")).collect();
        let profile = guard.profile();
        let tracked = profile.losses.open_spans;
        assert_eq!(tracked + profile.losses.untracked_spans, OPEN);
        assert!(
            profile.overhead.memory_bytes < MEMORY,
            "{}",
            profile.overhead.memory_bytes
        );
        assert_eq!(site(&profile, "task").stats.open, tracked);
        // Untracked ones still count when they are entered.
        spans[OPEN as usize - 1].in_scope(|| ());
        let profile = guard.profile();
        assert_eq!(site(&profile, "task").stats.activations, 1);
        tracked
    });
    assert!((1 << 18..=(1 << 18) + 128).contains(&tracked), "{tracked}");
    let profile = guard.finish().unwrap().profile().clone();
    assert_eq!(profile.losses.open_spans, 0);
    assert_eq!(site(&profile, "task").stats.calls, tracked + 1);
    assert!(
        profile.overhead.memory_bytes < 4 << 20,
        "{}",
        profile.overhead.memory_bytes
    );
}

#[test]
fn ten_thousand_sites_are_told_apart() {
    const SITES: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .report_json(&report)
        .report_text(folder.path().join("report.txt"))
        .chrome(folder.path().join("trace.json"))
        .overflow(tracing_cortex::Overflow::Block)
        // Without optimisation, 20,000 histograms take their time.
        .exit_deadline(Duration::from_secs(60))
        .build()
        .unwrap();
    within(layer, || {
        for number in 0..SITES {
            let name = Box::leak(format!("site {number}").into_boxed_str());
            span_of(new_site(name)).in_scope(|| ());
        }
    });
    let summary = guard.finish().unwrap();
    let sites = &summary.profile().sites;
    assert_eq!(sites.len(), SITES);
    assert!(sites.iter().all(|row| row.stats.calls == 1));
    assert_eq!(summary.profile().losses.folded_activations, 0);
    assert_eq!(json(&report)["sites"].as_array().unwrap().len(), SITES);
}

#[test]
fn sites_beyond_the_nodes_of_the_call_tree_count_as_other() {
    let builder = CortexLayer::builder().no_resources().max_tree_nodes(100);
    let (layer, guard) = builder.build().unwrap();
    within(layer, || {
        for number in 0..1_000 {
            let name = Box::leak(format!("site {number}").into_boxed_str());
            span_of(new_site(name)).in_scope(|| ());
        }
    });
    let summary = guard.finish().unwrap();
    let profile = summary.profile();
    let calls: u64 = profile.paths.iter().map(|path| path.stats.calls).sum();
    assert_eq!(calls, 1_000);
    assert_eq!(site(profile, "(other)").stats.calls, 900);
    assert_eq!(profile.losses.folded_activations, 900);
}
