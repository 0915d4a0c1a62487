//! Counters of what is rare and must not be lost in silence.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::Losses;

/// Counters of rare happenings, which any thread may add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) dropped_spans: AtomicU64,
    pub(super) dropped_events: AtomicU64,
    pub(super) dropped_gpu_calls: AtomicU64,
    pub(super) cut_strings: AtomicU64,
    pub(super) panicked_fields: AtomicU64,
    pub(super) folded_activations: AtomicU64,
    pub(super) untracked_spans: AtomicU64,
    pub(super) unknown_spans: AtomicU64,
    pub(super) unbalanced_exits: AtomicU64,
    pub(super) out_of_order_exits: AtomicU64,
    pub(super) nested_enters: AtomicU64,
    pub(super) late_latencies: AtomicU64,
    pub(super) late_calls: AtomicU64,
    pub(super) clock_steps: AtomicU64,
    pub(super) teardown: AtomicU64,
}

impl Counters {
    fn all(&self) -> [&AtomicU64; 15] {
        [
            &self.dropped_spans,
            &self.dropped_events,
            &self.dropped_gpu_calls,
            &self.cut_strings,
            &self.panicked_fields,
            &self.folded_activations,
            &self.untracked_spans,
            &self.unknown_spans,
            &self.unbalanced_exits,
            &self.out_of_order_exits,
            &self.nested_enters,
            &self.late_latencies,
            &self.late_calls,
            &self.clock_steps,
            &self.teardown,
        ]
    }

    pub(super) fn reset(&self) {
        for counter in self.all() {
            counter.store(0, Relaxed);
        }
    }

    pub(super) fn to_losses(&self) -> Losses {
        Losses {
            dropped_spans: self.dropped_spans.load(Relaxed),
            dropped_events: self.dropped_events.load(Relaxed),
            cut_strings: self.cut_strings.load(Relaxed),
            panicked_fields: self.panicked_fields.load(Relaxed),
            folded_activations: self.folded_activations.load(Relaxed),
            untracked_spans: self.untracked_spans.load(Relaxed),
            unknown_spans: self.unknown_spans.load(Relaxed),
            unbalanced_exits: self.unbalanced_exits.load(Relaxed),
            out_of_order_exits: self.out_of_order_exits.load(Relaxed),
            nested_enters: self.nested_enters.load(Relaxed),
            late_latencies: self.late_latencies.load(Relaxed),
            late_calls: self.late_calls.load(Relaxed),
            clock_steps: self.clock_steps.load(Relaxed),
            teardown: self.teardown.load(Relaxed),
            ..Losses::default()
        }
    }
}
