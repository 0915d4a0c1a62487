//! The thread `cortex-collect`: empties the rings and feeds the sinks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::lock;
use super::session::Session;
use crate::aggregate::Aggregator;
use crate::capture::{Capture, Drain, suppress_on_this_thread};
use crate::model::{Nanos, Sample, Unit};

/// Between two looks at the rings when nothing wakes the collector. Half-full rings wake it.
const STREAMING_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks where nothing streams and only windows and ended threads are of interest.
const QUIET_PAUSE: Duration = Duration::from_millis(250);
/// What a killed process may lose at most is a second; flushing twice in it leaves time to write.
const FLUSH_PERIOD: Duration = Duration::from_millis(500);
/// Between two looks at whether what was flushed has arrived.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// The longest time between two looks at how many operations there were. It is less where windows are shorter.
const WINDOW_PERIOD: Duration = Duration::from_secs(1);
/// Such a look may take this part of the time, with thousands of paths as well.
const WINDOW_COST: u32 = 50;

/// Between two looks at slow operations, where there are any: fine enough to tell a stall once a second from chance, and
/// finer while a run is young, of which short periods are all that there is to see.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
const FIRST_LOOK_PERIOD: Duration = Duration::from_millis(10);
/// So many looks a run has before their period grows.
const LOOKS: u32 = 200;

/// Between two grants of samples.
const GRANT_PERIOD: Duration = Duration::from_millis(50);
/// Records for trees that a second may have on average. One costs some 20 ns where it is made and 300 ns here: at this
/// rate well below one per cent of one core, whatever the program does.
const TREE_RECORDS_PER_SECOND: f64 = 10_000.0;
/// Records that may come at once after a quiet time: five large trees, or thousands of usual ones.
const TREE_RECORDS_AT_ONCE: f64 = 50_000.0;

/// How many records for trees are still allowed.
struct Budget {
    left: f64,
    taken: u64,
    last: Instant,
}

impl Budget {
    fn new(now: Instant) -> Budget {
        Budget {
            left: TREE_RECORDS_AT_ONCE,
            taken: 0,
            last: now,
        }
    }

    /// Lets the threads sample, if it is time for it and records are left.
    fn grant(&mut self, session: &Session, now: Instant) {
        let passed = now.saturating_duration_since(self.last);
        if passed < GRANT_PERIOD {
            return;
        }
        let taken = session.tree_records();
        let allowed = passed.as_secs_f64() * TREE_RECORDS_PER_SECOND;
        self.left = (self.left + allowed).min(TREE_RECORDS_AT_ONCE);
        self.left -= taken.saturating_sub(self.taken) as f64;
        (self.taken, self.last) = (taken, now);
        session.capture.grant_samples(self.left > 0.0);
    }
}

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
    let pause = if capture.streams_more_than_trees() {
        STREAMING_PAUSE
    } else {
        QUIET_PAUSE
    };
    let mut drain = Drain::default();
    let mut next_flush = Instant::now() + FLUSH_PERIOD;
    let mut next_window = Instant::now() + window_period(session, Duration::ZERO);
    let mut next_look = Instant::now() + WINDOW_PERIOD;
    let mut budget = Budget::new(Instant::now());
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
        let on_demand = session.windows_on_demand.load(Relaxed);
        if !on_demand && now >= next_look {
            let watching = look_for_slow(session);
            let period = if watching {
                look_period(session)
            } else {
                WINDOW_PERIOD
            };
            next_look = now + period;
        }
        if now >= next_window {
            next_window = now + WINDOW_PERIOD;
            if !on_demand {
                let watching = count_windows(session);
                next_window = now + window_period(session, now.elapsed());
                if watching {
                    next_look = next_look.min(now + look_period(session));
                }
            }
        }
        tick_sinks(session, now);
        if capture.streams().trees {
            budget.grant(session, now);
        }
        if !any {
            let pause = if waited_for { FLUSH_PAUSE } else { pause };
            let wake = next_window.min(next_look);
            let wake = if unflushed {
                wake.min(next_flush)
            } else {
                wake
            };
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

/// Looks for slow operations that have ended since the last look; returns whether there are paths to look at.
pub(super) fn look_for_slow(session: &Session) -> bool {
    look(&mut lock(&session.aggregator), &session.capture)
}

fn look(aggregator: &mut Aggregator, capture: &Capture) -> bool {
    let watched = aggregator.slow_watched();
    let spread = match watched.is_empty() {
        true => HashMap::new(),
        false => capture.spread(&watched),
    };
    aggregator.look_for_slow(capture.elapsed(), &spread);
    !watched.is_empty()
}

fn look_period(session: &Session) -> Duration {
    let elapsed = Duration::from_nanos(session.capture.elapsed().0);
    (elapsed / LOOKS).clamp(FIRST_LOOK_PERIOD, LOOK_PERIOD)
}

/// `took` is how long the last look at all windows took.
fn window_period(session: &Session, took: Duration) -> Duration {
    let window = Duration::from_nanos(lock(&session.aggregator).window().0);
    window.min(WINDOW_PERIOD).max(took * WINDOW_COST)
}

/// Notes what was done until now in the windows that have ended; returns whether there are paths with slow operations.
pub(super) fn count_windows(session: &Session) -> bool {
    let mut progress = HashMap::new();
    let mut aggregator = lock(&session.aggregator);
    let capture = &session.capture;
    capture.progress(&mut progress);
    let scale = capture.clock().scale();
    let wanted = aggregator.slow_wanted(&progress, scale);
    if !wanted.is_empty() {
        // By the old limits first, or what was slow since the last look would be lost.
        look(&mut aggregator, capture);
        aggregator.set_slow_limits(capture.spread(&wanted), scale);
        look(&mut aggregator, capture);
    }
    aggregator.tick(capture.elapsed(), progress);
    !aggregator.slow_watched().is_empty()
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
