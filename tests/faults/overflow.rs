//! A sink that does not keep up.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tracing_cortex::{
    CortexLayer, Diagnosis, Overflow, Profile, Sink, SinkError, SpanRecord, Wants,
};

use crate::support::{Memory, bars, site, within};

const SPANS: usize = 20_000;

/// Takes its first batch only when it is told to.
struct Gate {
    opens: Option<Receiver<()>>,
}

impl Sink for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.spans = true;
        wants
    }

    fn spans(&mut self, _: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        if let Some(opens) = self.opens.take() {
            opens.recv().map_err(SinkError::other)?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn drop_newest_counts_every_record_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let memory = Memory::default();
    let (open, opens) = channel();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .max_record_bytes(64 << 10)
        .chrome(&trace)
        .sink(memory.clone())
        .sink(Gate { opens: Some(opens) })
        .build()
        .unwrap();
    within(layer, || {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        (0..SPANS).for_each(|_| tracing::info_span!("work").in_scope(|| ()));
                    });
                });
            }
        });
    });
    open.send(()).unwrap();
    let summary = guard.finish().unwrap();
    let profile = summary.profile();
    let dropped = usize::try_from(profile.losses.dropped_spans).unwrap();
    assert!(dropped > 0);
    assert_eq!(memory.count("work") + dropped, 2 * SPANS);
    assert_eq!(bars(&trace, "work").len() + dropped, 2 * SPANS);
    assert_eq!(site(profile, "work").stats.calls, 2 * SPANS as u64);
}

/// Takes longer for a batch than the program takes to fill the buffer.
struct Slow;

impl Sink for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn spans(&mut self, _: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        thread::sleep(Duration::from_millis(2));
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn block_loses_nothing() {
    let memory = Memory::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .overflow(Overflow::Block)
        .max_record_bytes(64 << 10)
        .sink(memory.clone())
        .sink(Slow)
        .build()
        .unwrap();
    within(layer, || {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        for _ in 0..SPANS {
                            tracing::info_span!("work").in_scope(|| tracing::info!("an event"));
                        }
                    });
                });
            }
        });
    });
    let summary = guard.finish().unwrap();
    assert_eq!(summary.profile().losses.dropped_records(), 0);
    assert_eq!(memory.count("work"), 2 * SPANS);
    assert_eq!(
        site(summary.profile(), "work").stats.calls,
        2 * SPANS as u64
    );
}
