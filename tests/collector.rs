//! Between the rings and the sinks: nothing is lost, doubled or waited for without end.

#![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tracing::info_span;
use tracing_cortex::{
    CortexGuard, CortexLayer, Diagnosis, ManualClock, Overflow, Profile, Sink, SinkError,
    SinkFailureKind, SpanRecord, Wants,
};
use tracing_subscriber::prelude::*;

const SPANS: Wants = {
    let mut wants = Wants::PROFILE;
    wants.spans = true;
    wants
};

/// Collects sequence numbers, and takes its time for each batch.
#[derive(Clone, Default)]
struct Collected {
    spans: Arc<Mutex<Vec<u64>>>,
    pause: Duration,
}

impl Sink for Collected {
    fn name(&self) -> &str {
        "collected"
    }

    fn wants(&self) -> Wants {
        SPANS
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        thread::sleep(self.pause);
        let mut spans = self.spans.lock().unwrap();
        spans.extend(batch.iter().map(|record| record.span.0));
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Collected {
    /// Returns how many records came, and of how many spans.
    fn counts(&self) -> (usize, usize) {
        let mut spans = self.spans.lock().unwrap().clone();
        let records = spans.len();
        spans.sort_unstable();
        spans.dedup();
        (records, spans.len())
    }
}

/// Hangs in `spans` until it is let go.
#[derive(Clone, Default)]
struct Hanging {
    entered: Arc<AtomicBool>,
    release: Arc<AtomicBool>,
}

impl Sink for Hanging {
    fn name(&self) -> &str {
        "hanging"
    }

    fn wants(&self) -> Wants {
        SPANS
    }

    fn spans(&mut self, _: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        self.entered.store(true, SeqCst);
        while !self.release.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn reading_the_profile_takes_no_record_from_a_sink() {
    const SPANS: usize = 200_000;
    let sink = Collected::default();
    let (layer, guard) = CortexLayer::builder()
        .sink(sink.clone())
        .overflow(Overflow::Block)
        .no_resources()
        .max_record_bytes(64 * 1024)
        .build()
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let _ = guard.profile();
                }
            });
        }
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..SPANS {
                info_span!("work").in_scope(|| ());
            }
        });
        done.store(true, SeqCst);
    });
    guard.finish().unwrap();
    assert_eq!(sink.counts(), (SPANS, SPANS));
}

fn finish_in_time(guard: CortexGuard, hanging: &Hanging) {
    let before = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let watchdog = thread::spawn({
        let (done, release) = (Arc::clone(&done), Arc::clone(&hanging.release));
        move || {
            let late = Instant::now() + Duration::from_secs(20);
            while !done.load(SeqCst) && Instant::now() < late {
                thread::sleep(Duration::from_millis(5));
            }
            release.store(true, SeqCst);
        }
    });
    let error = guard.finish().unwrap_err();
    let took = before.elapsed();
    done.store(true, SeqCst);
    watchdog.join().unwrap();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    let late = error.failures().iter().any(|failure| {
        failure.sink == "hanging" && matches!(failure.kind, SinkFailureKind::Late(_))
    });
    assert!(late, "{error}");
}

#[test]
fn a_sink_that_hangs_in_the_last_batch_does_not_delay_the_end() {
    let hanging = Hanging::default();
    let healthy = Collected::default();
    let (layer, guard) = CortexLayer::builder()
        .sink(hanging.clone())
        .sink(healthy.clone())
        .no_resources()
        .exit_deadline(Duration::from_secs(2))
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        // Open until after the end, so that only the end delivers it.
        let _open = info_span!("open").entered();
        finish_in_time(guard, &hanging);
    });
}

#[test]
fn a_sink_that_hangs_while_streaming_takes_nothing_from_the_others() {
    let hanging = Hanging::default();
    let healthy = Collected::default();
    let (layer, guard) = CortexLayer::builder()
        .sink(healthy.clone())
        .sink(hanging.clone())
        .no_resources()
        .exit_deadline(Duration::from_secs(2))
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("first").in_scope(|| ());
        while !hanging.entered.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..1000 {
            info_span!("later").in_scope(|| ());
        }
        let _open = info_span!("open").entered();
        finish_in_time(guard, &hanging);
    });
    assert_eq!(healthy.counts(), (1002, 1002));
}

/// The end takes over from a collector that is slow, not stuck; the two must not read the same records.
#[test]
fn a_slow_collector_and_the_end_deliver_each_record_once() {
    let slow = Collected {
        pause: Duration::from_millis(20),
        ..Collected::default()
    };
    let (layer, guard) = CortexLayer::builder()
        .sink(slow.clone())
        .no_resources()
        .exit_deadline(Duration::from_millis(300))
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..20_000 {
            info_span!("work").in_scope(|| ());
        }
    });
    // Late or not, what came must have come once.
    let _ = guard.finish();
    thread::sleep(Duration::from_secs(1));
    let (records, spans) = slow.counts();
    assert_eq!(records, spans);
    assert!(spans > 0);
}

/// On a machine with a coarse clock a span may begin at the tick at which another one in its place ended.
#[test]
fn an_activation_that_goes_on_is_delivered_once_though_the_clock_stands_still() {
    let sink = Collected::default();
    let (layer, guard) = CortexLayer::builder()
        .sink(sink.clone())
        .no_resources()
        .manual_clock(&ManualClock::new())
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("before").in_scope(|| ());
        let _open = info_span!("open").entered();
        guard.finish().unwrap();
    });
    assert_eq!(sink.counts(), (2, 2));
}

/// A thread that ends is either still with the capture or already taken over, never both or neither.
#[test]
fn calls_never_go_back_while_threads_end() {
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let ended = AtomicU64::new(0);
    let calls = |profile: &Profile| profile.sites.first().map_or(0, |site| site.stats.calls);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for _ in 0..400 {
                let dispatch = dispatch.clone();
                let thread = thread::spawn(move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        info_span!("work").in_scope(|| ());
                    });
                });
                thread.join().unwrap();
                ended.fetch_add(1, SeqCst);
                // Makes the collector look at once for threads that have ended.
                guard.flush(Duration::from_secs(10)).unwrap();
            }
        });
        while !worker.is_finished() {
            let least = ended.load(SeqCst);
            let seen = calls(&guard.profile());
            assert!(seen >= least, "{seen} of at least {least}");
            assert!(seen <= 400);
        }
    });
    assert_eq!(calls(&guard.profile()), 400);
}

/// What ended threads did before a reset must not come back after it.
#[test]
fn a_reset_forgets_threads_that_are_being_taken_over() {
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    for _ in 0..200 {
        let dispatch = dispatch.clone();
        let thread = thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                info_span!("work").in_scope(|| ());
            });
        });
        thread.join().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| guard.flush(Duration::from_secs(10)));
            scope.spawn(|| guard.reset());
        });
        guard.flush(Duration::from_secs(10)).unwrap();
        let profile = guard.profile();
        assert!(profile.sites.is_empty(), "{:?}", profile.sites[0].stats);
    }
}

#[test]
fn a_flush_may_wait_for_ever() {
    let (_layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    guard.flush(Duration::MAX).unwrap();
}

struct Never;

impl Sink for Never {
    fn name(&self) -> &str {
        "never"
    }

    fn wants(&self) -> Wants {
        Wants::PROFILE
    }

    fn tick_period(&self) -> Option<Duration> {
        Some(Duration::MAX)
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn a_tick_period_may_be_for_ever() {
    let (_layer, guard) = CortexLayer::builder()
        .no_resources()
        .sink(Never)
        .build()
        .unwrap();
    guard.finish().unwrap();
}
