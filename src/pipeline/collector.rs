//! The thread `cortex-collect`: empties the rings and feeds the sinks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lock;
use super::session::Session;
use crate::capture::{Drain, suppress_on_this_thread};
use crate::model::{Nanos, Sample, Unit};

/// Between two looks at the rings when nothing wakes the collector. Half-full rings wake it.
const STREAMING_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks where nothing streams and only windows and ended threads are of interest.
const QUIET_PAUSE: Duration = Duration::from_millis(250);
/// What a killed process may lose at most is a second; flushing twice in it leaves time to write.
const FLUSH_PERIOD: Duration = Duration::from_millis(500);
/// Between two looks at whether what was flushed has arrived.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks at how many operations there were.
const WINDOW_PERIOD: Duration = Duration::from_secs(1);

/// A resource reading on its way to the sinks.
#[derive(Debug)]
pub(super) struct OwnedSample {
    pub(super) series: Arc<str>,
    pub(super) unit: Unit,
    pub(super) at: Nanos,
    pub(super) value: f64,
}

/// Runs until the session asks it to stop.
pub(super) fn run(session: &Session) {
    suppress_on_this_thread();
    let capture = &session.capture;
    capture.set_collector(std::thread::current());
    let pause = if capture.streams_anything() {
        STREAMING_PAUSE
    } else {
        QUIET_PAUSE
    };
    let mut drain = Drain::default();
    let mut next_flush = Instant::now() + FLUSH_PERIOD;
    let mut next_window = Instant::now() + WINDOW_PERIOD;
    let mut unflushed = false;
    while !session.is_stopping() {
        let flush_asked = session.flush_asked();
        #[cfg(feature = "cuda")]
        if let Some(gpu) = session.gpu.as_ref().filter(|_| flush_asked.is_some()) {
            gpu.flush();
        }
        let mut any = session.drain(&mut drain);
        if flush_asked.is_some() {
            // Operations wait for two rounds more.
            session.drain(&mut drain);
            session.drain(&mut drain);
        }
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &session.gpu {
            any |= gpu.end_round(session, flush_asked.is_some());
        }
        any |= deliver_samples(session);
        // An exporter may hold back what it was given until more is known of the trace.
        unflushed |= any || session.outlets.iter().any(|outlet| outlet.has_pending());
        let now = Instant::now();
        if flush_asked.is_some() || (unflushed && now >= next_flush) {
            session.outlets.iter().for_each(|outlet| outlet.flush());
            unflushed = false;
            next_flush = now + FLUSH_PERIOD;
        }
        let waited_for = flush_asked.is_some();
        if let Some(ticket) = flush_asked
            && session.outlets.iter().all(|outlet| outlet.is_flushed())
        {
            session.flushed(ticket);
        }
        session
            .outlets
            .iter()
            .for_each(|outlet| outlet.note_export());
        take_ended(session);
        if now >= next_window {
            count_windows(session);
            next_window = now + WINDOW_PERIOD;
        }
        tick_sinks(session, now);
        if !any {
            let pause = if waited_for { FLUSH_PAUSE } else { pause };
            let wake = if unflushed { next_flush } else { next_window };
            capture.sleep_collector(pause.min(wake.saturating_duration_since(Instant::now())));
        }
    }
    session.deliver_rest();
}

/// Hands resource readings to the sinks; returns whether there were any.
pub(super) fn deliver_samples(session: &Session) -> bool {
    let samples = std::mem::take(&mut *lock(&session.samples));
    let samples: Vec<_> = samples
        .iter()
        .map(|sample| Sample::new(&sample.series, sample.unit, sample.at, sample.value))
        .collect();
    for outlet in &session.outlets {
        outlet.samples(&samples);
    }
    !samples.is_empty()
}

fn take_ended(session: &Session) {
    // Locked first: a profile or a reset in between would find the threads nowhere.
    let mut aggregator = lock(&session.aggregator);
    let ended = session.capture.take_ended();
    if !ended.is_empty() {
        aggregator.take_ended(ended, session.capture.clock().scale());
    }
}

fn count_windows(session: &Session) {
    let mut calls = HashMap::new();
    let mut aggregator = lock(&session.aggregator);
    session.capture.calls(&mut calls);
    aggregator.tick(session.capture.elapsed(), calls);
}

fn tick_sinks(session: &Session, now: Instant) {
    let due: Vec<_> = session
        .outlets
        .iter()
        .filter(|outlet| outlet.is_due(now))
        .collect();
    if !due.is_empty() {
        let profile = session.profile();
        due.iter().for_each(|outlet| outlet.tick(&profile));
    }
}
