//! What the threads of one capture share, and how it ends.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::collector::{self, OwnedSample};
#[cfg(feature = "cuda")]
use super::gpu::GpuStage;
use super::guard::{FinishError, FlushError, SinkFailure, SinkFailureKind, Summary};
use super::lock;
use super::outlets::{self, Outlet, Turn};
use crate::aggregate::{Aggregator, Context};
use crate::capture::process::is_forked_child;
use crate::capture::suppress_on_this_thread;
use crate::capture::{Batch, Capture, Cost, Drain, InFlight, Outlets};
use crate::diagnose::{Thresholds, diagnose};
use crate::join::{Join, Trees};
use crate::model::{Export, Failure, GpuDeviceStats, GpuNotice, Nanos, Process, Profile};
use crate::resources::{Observed, Sampler};

/// One capture: its threads, its sinks, its end.
pub(super) struct Session {
    pub(super) capture: Arc<Capture>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    /// Those that want spans or events.
    streaming: Vec<Arc<Outlet>>,
    in_flight: InFlight,
    join: Mutex<Join>,
    trees: Mutex<Forest>,
    #[cfg(feature = "cuda")]
    pub(super) gpu: Option<GpuStage>,
    pub(super) aggregator: Mutex<Aggregator>,
    pub(super) samples: Arc<Mutex<VecDeque<OwnedSample>>>,
    pub(super) sampler: Option<Sampler>,
    /// Windows are closed by whoever asks for readings, and by nobody else.
    pub(super) windows_on_demand: AtomicBool,
    pub(super) process: Process,
    pub(super) cost: Cost,
    pub(super) thresholds: Thresholds,
    pub(super) deadline: Duration,
    /// Where traces of devices were to go.
    kineto: Option<PathBuf>,
    pub(super) collector: Mutex<Option<JoinHandle<()>>>,
    control: Mutex<Control>,
    changed: Condvar,
    outcome: OnceLock<Result<Summary, FinishError>>,
}

/// The trees, and what was lost when they were last looked at.
#[derive(Debug, Default)]
struct Forest {
    trees: Trees,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Control {
    stopping: bool,
    collector_ended: bool,
    finishing: bool,
    /// Somebody delivers, or has delivered, what was open in the end.
    unfinished_claimed: bool,
    /// The thread that took over from a collector that hangs is done.
    rest_delivered: bool,
    flushes_asked: u64,
    flushes_done: u64,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) capture: Arc<Capture>,
    #[cfg(feature = "cuda")]
    pub(super) gpu: Option<GpuStage>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    pub(super) samples: Arc<Mutex<VecDeque<OwnedSample>>>,
    pub(super) sampler: Option<Sampler>,
    pub(super) process: Process,
    pub(super) cost: Cost,
    pub(super) thresholds: Thresholds,
    pub(super) deadline: Duration,
    pub(super) kineto: Option<PathBuf>,
}

impl Session {
    pub(super) fn start(parts: Parts) -> std::io::Result<Arc<Session>> {
        let streams = |outlet: &&Arc<Outlet>| outlet.wants.spans || outlet.wants.events;
        let session = Arc::new(Session {
            capture: parts.capture,
            streaming: parts.outlets.iter().filter(streams).cloned().collect(),
            in_flight: InFlight::default(),
            join: Mutex::default(),
            trees: Mutex::default(),
            #[cfg(feature = "cuda")]
            gpu: parts.gpu,
            outlets: parts.outlets,
            aggregator: Mutex::default(),
            samples: parts.samples,
            sampler: parts.sampler,
            windows_on_demand: AtomicBool::new(false),
            process: parts.process,
            cost: parts.cost,
            thresholds: parts.thresholds,
            deadline: parts.deadline,
            kineto: parts.kineto,
            collector: Mutex::default(),
            control: Mutex::default(),
            changed: Condvar::new(),
            outcome: OnceLock::new(),
        });
        let of_collector = Arc::clone(&session);
        let collector = std::thread::Builder::new()
            .name("cortex-collect".to_owned())
            .spawn(move || {
                collector::run(&of_collector);
                of_collector.collector_ended();
            })?;
        *lock(&session.collector) = Some(collector);
        Ok(session)
    }

    /// Empties the rings into the sinks; returns whether there was anything.
    pub(super) fn drain(&self, drain: &mut Drain) -> bool {
        drain.run(&self.capture, &self.in_flight, &mut Streaming(self))
    }

    fn deliver(&self, batch: &Batch<'_>) {
        let mut streaming = Streaming(self);
        for outlet in 0..streaming.count() {
            streaming.deliver(outlet, batch);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        lock(&self.control).stopping
    }

    /// Returns the newest flush that somebody waits for.
    pub(super) fn flush_asked(&self) -> Option<u64> {
        let control = lock(&self.control);
        (control.flushes_asked > control.flushes_done).then_some(control.flushes_asked)
    }

    pub(super) fn flushed(&self, ticket: u64) {
        lock(&self.control).flushes_done = ticket;
        self.changed.notify_all();
    }

    fn collector_ended(&self) {
        lock(&self.control).collector_ended = true;
        self.changed.notify_all();
    }

    /// Waits until `done` holds or the time is over; returns whether it holds.
    ///
    /// `None` is a time beyond what the clock can tell.
    fn wait(&self, until: Option<Instant>, done: impl Fn(&Control) -> bool) -> bool {
        let mut control = lock(&self.control);
        while !done(&control) {
            let left = until.map_or(LONG, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return false;
            }
            control = match self.changed.wait_timeout(control, left) {
                Ok((control, _)) => control,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    pub(super) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        if is_forked_child() || self.capture.is_closed() {
            return Err(FlushError::Ended);
        }
        let until = Instant::now().checked_add(timeout);
        let ticket = {
            let mut control = lock(&self.control);
            control.flushes_asked += 1;
            control.flushes_asked
        };
        self.capture.call_collector();
        if !self.wait(until, |control| control.flushes_done >= ticket) {
            return Err(FlushError::Timeout(timeout));
        }
        let failures: Vec<_> = self.failures();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(FlushError::Sinks(failures))
        }
    }

    fn end_tree_round(&self) {
        let capture = &self.capture;
        let (cut, dropped) = (capture.take_cut(), capture.dropped_records());
        let mut forest = lock(&self.trees);
        let lost = dropped != forest.dropped;
        forest.dropped = dropped;
        forest.trees.end_round(capture.clock().now(), cut, lost);
    }

    /// Returns how many records were put into trees, or wait to be.
    pub(super) fn tree_records(&self) -> u64 {
        lock(&self.trees).trees.taken()
    }

    fn exports(&self) -> Vec<Export> {
        self.outlets
            .iter()
            .filter_map(|outlet| outlet.export())
            .collect()
    }

    fn failures(&self) -> Vec<SinkFailure> {
        self.outlets
            .iter()
            .filter_map(|outlet| outlet.failure())
            .collect()
    }

    pub(super) fn reset(&self) {
        if is_forked_child() {
            return;
        }
        let mut aggregator = lock(&self.aggregator);
        let at = self.capture.clock().now();
        self.capture.reset();
        aggregator.reset(at);
        lock(&self.join).reset();
        lock(&self.trees).trees.reset();
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            gpu.reset();
        }
        if let Some(sampler) = &self.sampler {
            sampler.reset();
        }
    }

    /// Takes readings and closes the windows that have ended; returns whether all sources were read.
    pub(super) fn sample_resources(&self) -> bool {
        if is_forked_child() || self.capture.is_closed() {
            return false;
        }
        if self.capture.clock().is_manual() {
            self.windows_on_demand.store(true, Relaxed);
        }
        collector::look_for_slow(self);
        collector::count_windows(self);
        let sampler = self.sampler.as_ref();
        sampler.is_some_and(|sampler| sampler.sample_now(self.deadline))
    }

    pub(super) fn profile(&self) -> Profile {
        if is_forked_child() {
            return Profile::default();
        }
        let observed = self.sampler.as_ref().map(Sampler::observed);
        self.build_profile(observed.unwrap_or_default(), self.failures())
    }

    fn build_profile(&self, observed: Observed, failures: Vec<SinkFailure>) -> Profile {
        let failed = failures
            .iter()
            .map(|failure| Failure::new(&failure.sink, failure.to_string()));
        let context = Context {
            started: self.capture.clock().anchor(),
            process: self.process.clone(),
            sightings: observed.sightings,
            resources: observed.series,
            failures: observed.failures.into_iter().chain(failed).collect(),
            exports: self.exports(),
            #[cfg(feature = "cuda")]
            gpu: self.gpu.as_ref().map(|gpu| gpu.context(&self.capture)),
            #[cfg(not(feature = "cuda"))]
            gpu: None,
            span_ns: self.cost.span_ns,
            activation_ns: self.cost.activation_ns,
        };
        // Held while the threads are read, so that none of them is taken over in between and counted twice or never.
        let aggregator = lock(&self.aggregator);
        let mut profile = aggregator.profile(&self.capture.snapshot(), context);
        if self.capture.streams().ids {
            let join = lock(&self.join);
            profile.losses.dropped_events += join.dropped_events();
            for row in &mut profile.sites {
                row.examples = join.examples(row.site.id);
            }
        }
        if self.capture.streams().trees {
            lock(&self.trees).trees.fill(&mut profile);
            let losses = &mut profile.losses;
            if !self.capture.streams().spans {
                // Nobody but the trees misses them.
                losses.stray_records += std::mem::take(&mut losses.dropped_spans);
            }
        }
        profile
    }

    /// Ends the capture and delivers the results; the second caller gets what the first got.
    pub(super) fn finish(self: &Arc<Session>) -> Result<Summary, FinishError> {
        if is_forked_child() {
            return Err(FinishError::forked());
        }
        let until = Instant::now() + self.deadline;
        {
            let mut control = lock(&self.control);
            if control.finishing {
                drop(control);
                self.wait(Some(until), |_| self.outcome.get().is_some());
                let known = self.outcome.get().cloned();
                return known.unwrap_or_else(|| Err(FinishError::unfinished(self.deadline)));
            }
            control.finishing = true;
        }
        let outcome = self.finish_once(until);
        let outcome = self.outcome.get_or_init(|| outcome).clone();
        // Under the lock: a second caller has either seen the outcome or is waiting already.
        let _control = lock(&self.control);
        self.changed.notify_all();
        outcome
    }

    /// Ends the capture without delivering anything.
    pub(super) fn discard(&self) {
        {
            let mut control = lock(&self.control);
            control.finishing = true;
            control.unfinished_claimed = true;
            control.stopping = true;
        }
        self.capture.close();
        self.capture.call_collector();
        if let Some(sampler) = &self.sampler {
            sampler.stop(STOP_WAIT);
        }
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            gpu.discard();
        }
        let nothing = Summary::new(Arc::default(), Arc::default());
        let _ = self.outcome.set(Ok(nothing));
    }

    /// Delivers what is left after the capture was closed.
    pub(super) fn deliver_rest(&self) {
        // What a sink that hangs has kept from the others.
        self.in_flight.resume(&self.capture, &mut Streaming(self));
        let mut drain = Drain::default();
        while self.drain(&mut drain) {}
        collector::deliver_samples(self);
        let claimed = std::mem::replace(&mut lock(&self.control).unfinished_claimed, true);
        if !claimed {
            self.capture.unfinished(|batch| self.deliver(batch));
        }
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            gpu.finish(self);
        }
        // Operations wait for one round more.
        for _ in 0..2 {
            Streaming(self).end_round(&mut || ());
        }
        // What is known of an exporter that does not come to its end.
        self.outlets.iter().for_each(|outlet| outlet.note_export());
    }

    fn deliver_rest_apart(self: &Arc<Session>, until: Option<Instant>) {
        let session = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("cortex-finish".to_owned())
            .spawn(move || {
                suppress_on_this_thread();
                session.deliver_rest();
                lock(&session.control).rest_delivered = true;
                session.changed.notify_all();
            });
        // Without a thread to spare, what is left is lost rather than the exit delayed.
        if spawned.is_ok() {
            self.wait(until, |control| control.rest_delivered);
        }
    }

    fn finish_once(self: &Arc<Session>, until: Instant) -> Result<Summary, FinishError> {
        if let Some(sampler) = self.sampler.as_ref().filter(|one| !one.is_on_demand()) {
            sampler.sample_now(LAST_SAMPLE_WAIT);
        }
        self.capture.close();
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            gpu.closed(self.capture.clock().now());
        }
        let observed = self.sampler.as_ref().map(Sampler::observed);
        lock(&self.control).stopping = true;
        self.capture.call_collector();
        // Half of the time for the collector, which delivers what is left; the sinks need the other half.
        let ended = self.wait(half_way(until), |control| control.collector_ended);
        if ended && let Some(collector) = lock(&self.collector).take() {
            // It has said that it is done; joining frees its stack before the process goes on.
            let _ = collector.join();
        }
        if !ended {
            // A sink hangs in it. The others still get what is left, from a thread that may hang as well.
            self.deliver_rest_apart(half_way(until));
        }

        let mut failures = self.failures();
        let mut profile = self.build_profile(observed.unwrap_or_default(), failures.clone());
        if let Some(folder) = &self.kineto {
            note_missing_export(&mut profile, folder);
        }
        let diagnosis = Arc::new(diagnose(&profile, &self.thresholds));
        let mut profile = Arc::new(profile);
        // A sink that hangs must leave time for the reports, which take little.
        let reports = until.saturating_duration_since(Instant::now()) / REPORT_SHARE;
        let first = outlets::finish(
            &self.outlets,
            Turn::First,
            &profile,
            &diagnosis,
            until.checked_sub(reports).unwrap_or(until),
        );
        let new: Vec<_> = first
            .into_iter()
            .filter(|failure| failures.iter().all(|known| known.sink != failure.sink))
            .collect();
        if !new.is_empty() {
            let losses = &mut Arc::make_mut(&mut profile).losses;
            let described = new
                .iter()
                .map(|failure| Failure::new(&failure.sink, failure.to_string()));
            losses.failures.extend(described);
        }
        let exports = self.exports();
        if exports != profile.exports {
            Arc::make_mut(&mut profile).exports = exports;
        }
        failures.extend(new);
        let last = outlets::finish(&self.outlets, Turn::Last, &profile, &diagnosis, until);
        failures.extend(last);
        if let Some(sampler) = &self.sampler {
            // A source that hangs must not keep the program from ending.
            sampler.stop(
                until
                    .saturating_duration_since(Instant::now())
                    .min(STOP_WAIT),
            );
        }
        if !ended {
            failures.push(SinkFailure::new(
                "cortex-collect",
                SinkFailureKind::Late(self.deadline / 2),
            ));
        }
        let summary = Summary::new(profile, diagnosis);
        if failures.is_empty() {
            Ok(summary)
        } else {
            Err(FinishError::new(failures, summary))
        }
    }
}

/// Those who get what the threads streamed: the join stage first, then the sinks.
struct Streaming<'a>(&'a Session);

impl Outlets for Streaming<'_> {
    fn count(&self) -> usize {
        1 + self.0.streaming.len()
    }

    fn deliver(&mut self, outlet: usize, batch: &Batch<'_>) {
        #[cfg(feature = "cuda")]
        if outlet == 0
            && let Some(gpu) = &self.0.gpu
        {
            gpu.calls(&self.0.capture, &batch.calls);
        }
        match outlet.checked_sub(1) {
            Some(sink) => self.0.streaming[sink].deliver(batch),
            None => {
                let streams = self.0.capture.streams();
                if streams.ids {
                    lock(&self.0.join).take(&batch.spans, &batch.events);
                }
                if streams.trees {
                    lock(&self.0.trees).trees.take(&batch.spans, &batch.events);
                }
            }
        }
    }

    fn end_round(&mut self, between: &mut dyn FnMut()) -> bool {
        if self.0.capture.streams().trees {
            self.0.end_tree_round();
        }
        if !self.0.capture.streams().ids {
            return false;
        }
        // Not under the lock, which whoever takes over from a sink that hangs needs.
        let finished = lock(&self.0.join).end_round();
        finished.deliver(|operations| {
            for outlet in &self.0.outlets {
                outlet.operations(operations);
            }
            between();
        });
        !finished.is_empty()
    }
}

/// Says in the reports that no device did what the Kineto export could show.
fn note_missing_export(profile: &mut Profile, folder: &Path) {
    let gpu = profile.gpu.get_or_insert_default();
    let did_work = |row: &GpuDeviceStats| {
        let totals = &row.totals;
        // Of graphs whose nodes were not recorded, only the busy time is known.
        totals.kernels + totals.copies + totals.sets > 0
            || totals.ranges == 0 && totals.busy > Nanos::ZERO
    };
    if !gpu.devices.iter().any(did_work) {
        let why = format!(
            "no kernel and no copy of a device was recorded, so there is no file in {}",
            folder.display()
        );
        gpu.notices.push(GpuNotice::new("the Kineto export", why));
    }
}

/// How long a wait without an end sleeps before it looks again.
const LONG: Duration = Duration::from_secs(3600);

fn half_way(until: Instant) -> Option<Instant> {
    let now = Instant::now();
    Some(now + until.saturating_duration_since(now) / 2)
}

/// The reports have this part of the time that is left when the other sinks are finished.
const REPORT_SHARE: u32 = 4;

/// How long the end waits for the last readings.
const LAST_SAMPLE_WAIT: Duration = Duration::from_millis(200);

/// How long the end waits for the sampler, which has nothing left to deliver.
const STOP_WAIT: Duration = Duration::from_millis(100);
