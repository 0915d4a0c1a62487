//! The handle of the thread `cortex-sample`, and what the two sides share.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ResourceSource;
use super::rounds::{Rounds, Store};
use crate::clock::Clock;
use crate::model::{Failure, Sample, Series, SiteId, ThreadSightings, ThreadTop};

/// Adds what each thread is doing now.
pub(crate) type ReadTops = dyn FnMut(&mut Vec<ThreadTop>) + Send;

/// Counts the spans of each callsite that are open now.
pub(crate) type CountOpen = dyn FnMut(&mut HashMap<SiteId, u64>) + Send;

/// Takes the readings of one source.
pub(crate) type Deliver = dyn FnMut(&[Sample<'_>]) + Send;

/// What a [`Sampler`] needs.
pub(crate) struct SamplerSettings {
    /// Between two readings of every source; at least 10 ms. `None`: they are read, and threads looked at, only when asked.
    pub(crate) interval: Option<Duration>,
    pub(crate) sources: Vec<Box<dyn ResourceSource>>,
    /// Gives the readings their times.
    pub(crate) clock: Clock,
    /// Called without a lock.
    pub(crate) tops: Box<ReadTops>,
    /// Called without a lock.
    pub(crate) open: Box<CountOpen>,
    /// Called without a lock, by rising time.
    pub(crate) deliver: Box<Deliver>,
    /// Called first on the new thread.
    pub(crate) on_thread_start: Box<dyn FnOnce() + Send>,
}

/// What the sampler has seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) series: Vec<Series>,
    pub(crate) sightings: ThreadSightings,
    /// Sources that failed, once each.
    pub(crate) failures: Vec<Failure>,
}

/// Owns the thread `cortex-sample`. Dropping it lets the thread end without waiting for it.
///
/// In a forked child there is no such thread: there everything returns at once and nothing was observed.
#[derive(Debug)]
pub(crate) struct Sampler {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
    on_demand: bool,
}

impl Sampler {
    /// Starts the thread; the first readings are taken at once, unless they are taken only when asked.
    ///
    /// # Errors
    ///
    /// If the system gives no more threads.
    pub(crate) fn start(settings: SamplerSettings) -> io::Result<Sampler> {
        let on_demand = settings.interval.is_none();
        let shared = Arc::new(Shared {
            control: Mutex::default(),
            to_sampler: Condvar::new(),
            from_sampler: Condvar::new(),
            store: Mutex::new(Store::start()),
        });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("cortex-sample".to_owned())
            .spawn(move || {
                // Dropped after the sources, so that whoever waits for the end finds them gone.
                let _end = End(Arc::clone(&of_thread));
                // What panics in here was given by the pipeline; a joined thread has nobody to tell.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| {
                    Rounds::run(&of_thread, settings);
                }));
            })?;
        Ok(Sampler {
            shared,
            thread: Mutex::new(Some(thread)),
            pid: process::id(),
            on_demand,
        })
    }

    /// Returns what was seen so far.
    pub(crate) fn observed(&self) -> Observed {
        if self.is_in_child() {
            return Observed::default();
        }
        self.shared.store().observed()
    }

    /// Whether sources are read only by [`Sampler::sample_now`].
    pub(crate) fn is_on_demand(&self) -> bool {
        self.on_demand
    }

    /// Has all sources read once more and waits for it; returns whether it happened within `limit`.
    pub(crate) fn sample_now(&self, limit: Duration) -> bool {
        if self.is_in_child() {
            return false;
        }
        let mut control = self.shared.control();
        control.asked += 1;
        let ticket = control.asked;
        self.shared.to_sampler.notify_all();
        let control = self
            .shared
            .wait_until(control, limit, |control| control.answered >= ticket);
        let answered = control.answered >= ticket;
        let busy_with = control.asking.clone().filter(|_| !answered);
        drop(control);
        self.report_slow(busy_with, limit);
        answered
    }

    /// Forgets all readings and counts CPU time from now on. Failures stay, since they are reported only once.
    pub(crate) fn reset(&self) {
        if !self.is_in_child() {
            self.shared.store().reset();
        }
    }

    /// Ends the thread and joins it; returns whether that was done within `deadline`.
    pub(crate) fn stop(&self, deadline: Duration) -> bool {
        if self.is_in_child() {
            // The handle's thread does not exist here, so it must be neither joined nor detached.
            mem::forget(self.thread().take());
            return true;
        }
        let mut control = self.shared.control();
        control.stop = true;
        self.shared.to_sampler.notify_all();
        let control = self.shared.wait_until(control, deadline, |_| false);
        let ended = control.ended;
        let busy_with = control.asking.clone().filter(|_| !ended);
        drop(control);
        self.report_slow(busy_with, deadline);
        if ended && let Some(thread) = self.thread().take() {
            // It cannot have panicked: its closure catches everything.
            let _ = thread.join();
        }
        ended
    }

    fn report_slow(&self, source: Option<String>, waited: Duration) {
        if let Some(name) = source {
            self.shared.store().note_slow(name, waited);
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a child that was forked after the start. Locks that the thread held are held forever here.
    fn is_in_child(&self) -> bool {
        process::id() != self.pid
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if self.is_in_child() {
            mem::forget(self.thread().take());
        } else {
            self.shared.control().stop = true;
            self.shared.to_sampler.notify_all();
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    control: Mutex<Control>,
    to_sampler: Condvar,
    from_sampler: Condvar,
    /// Never held while foreign code runs.
    store: Mutex<Store>,
}

/// What the sampler is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Continue,
    /// Take this round now.
    Sample(u64),
    Stop,
}

#[derive(Debug, Default)]
struct Control {
    stop: bool,
    ended: bool,
    /// Rounds that were asked for, and how many of them were done.
    asked: u64,
    answered: u64,
    /// The source that is being asked now.
    asking: Option<String>,
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the sampler rest until `until` at the latest.
    pub(super) fn rest(&self, until: Instant) -> Order {
        let control = self.control();
        let rest = until.saturating_duration_since(Instant::now());
        let waiting = |control: &mut Control| !control.stop && control.asked == control.answered;
        let control = self
            .to_sampler
            .wait_timeout_while(control, rest, waiting)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if control.stop {
            Order::Stop
        } else if control.asked > control.answered {
            Order::Sample(control.asked)
        } else {
            Order::Continue
        }
    }

    /// Tells whoever asked for the round `ticket` that it was done.
    pub(super) fn answer(&self, ticket: u64) {
        self.control().answered = ticket;
        self.from_sampler.notify_all();
    }

    /// Notes which source is being asked; returns whether the sampler shall go on.
    pub(super) fn asking(&self, source: Option<String>) -> bool {
        let mut control = self.control();
        control.asking = source;
        !control.stop
    }

    /// Waits for the sampler until `done`, until it has ended, or for `limit`.
    fn wait_until<'a>(
        &self,
        control: MutexGuard<'a, Control>,
        limit: Duration,
        done: impl Fn(&Control) -> bool,
    ) -> MutexGuard<'a, Control> {
        let waiting = |control: &mut Control| !control.ended && !done(control);
        let waited = self
            .from_sampler
            .wait_timeout_while(control, limit, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Says that the thread has ended, also when it unwinds.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.control().ended = true;
        self.0.from_sampler.notify_all();
    }
}
