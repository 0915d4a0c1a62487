//! The thread `cortex-gpu`: asks the driver every now and then for what it has recorded.
//!
//! Apart from the collector, because a driver whose device hangs does not return.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cupti::Recording;
use super::driver::Driver;
use super::ranges::Ranges;
use super::resolver::Resolver;
use super::settings::Cuda;
use crate::capture::Capture;
use crate::model::{GpuActivity, GpuDevice, GpuLostRanges, GpuNotice};

/// Between two questions. Buffers of the driver last for seconds of a busy program; what arrives later than the work of
/// the host is told later.
const PERIOD: Duration = Duration::from_millis(200);

/// What is known of the recording itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct GpuStatus {
    pub(crate) notices: Vec<GpuNotice>,
    pub(crate) devices: Vec<GpuDevice>,
    /// Records that the driver had no buffer for.
    pub(crate) dropped_records: u64,
    /// Work that had not ended when it was asked for the last time.
    pub(crate) unfinished: u64,
    /// Calls of functions that are not known.
    pub(crate) unknown_calls: u64,
    pub(crate) lost_ranges: GpuLostRanges,
}

impl GpuStatus {
    /// Returns what was counted since `before`.
    fn since(&self, before: &GpuStatus) -> GpuStatus {
        let mut status = self.clone();
        status.dropped_records -= before.dropped_records.min(status.dropped_records);
        status.unfinished -= before.unfinished.min(status.unfinished);
        status.unknown_calls -= before.unknown_calls.min(status.unknown_calls);
        status.lost_ranges = status.lost_ranges.since(before.lost_ranges);
        status
    }
}

/// Records what devices do, as far as that can be had.
pub(crate) struct GpuRecorder {
    shared: Arc<Shared>,
    ranges: Option<Arc<Ranges>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    status: GpuStatus,
    /// At the last reset.
    before: GpuStatus,
    arrived: Vec<GpuActivity>,
    asked: u64,
    answered: u64,
    /// A range wants something of the thread.
    woken: bool,
    /// Until when work is waited for, once the recording is to end.
    stop: Option<Instant>,
    ended: bool,
}

/// Work that nobody has taken; 100 MiB of it. A sink that hangs must not let it eat the memory: beyond it, records stay in
/// the driver's buffers, and are dropped and counted there.
const MOST_ARRIVED: usize = 1 << 19;

impl GpuRecorder {
    /// Opens what is there and starts the thread if there is anything to ask. `notices` are there already.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn start(
        settings: Cuda,
        capture: &Arc<Capture>,
        notices: Vec<GpuNotice>,
        on_thread_start: fn(),
    ) -> io::Result<GpuRecorder> {
        let shared = Arc::new(Shared::default());
        let mut state = State::default();
        let mut recording = None;
        let mut ranges = None;
        state.status.notices = notices;
        let driver = Driver::open();
        match &driver {
            Err(why) => {
                let notice = GpuNotice::new(EVERYTHING, why);
                state.status.notices.push(notice);
            }
            Ok(driver) => {
                state.status.devices = driver.devices();
                if settings.cupti {
                    capture.note_gpu_calls(true);
                    match Recording::start(capture) {
                        Ok(started) => recording = Some(started),
                        Err(why) => {
                            capture.note_gpu_calls(false);
                            state.status.notices.push(GpuNotice::new(WORK, why));
                        }
                    }
                } else {
                    let why = "the program left CUPTI to another profiler";
                    state.status.notices.push(GpuNotice::new(WORK, why));
                }
                match driver.events() {
                    Ok(api) => {
                        let thread = Arc::clone(&shared);
                        let wake = move || thread.wake();
                        let clock = capture.clock().clone();
                        let cupti = recording.as_ref().map(Recording::library);
                        ranges = Some(Arc::new(Ranges::new(api, cupti, clock, wake)));
                    }
                    Err(why) => state.status.notices.push(GpuNotice::new(RANGES, why)),
                }
            }
        }
        let has_work = recording.is_some() || ranges.is_some();
        state.ended = !has_work;
        *shared.state() = state;
        let thread = match driver {
            Ok(driver) if has_work => {
                let of_thread = Arc::clone(&shared);
                let (capture, ranges) = (Arc::clone(capture), ranges.clone());
                let thread = std::thread::Builder::new()
                    .name("cortex-gpu".to_owned())
                    .spawn(move || {
                        on_thread_start();
                        let resolver = ranges.map(|ranges| Resolver::new(ranges, capture));
                        of_thread.run(driver, recording, resolver, on_thread_start);
                    })?;
                Some(thread)
            }
            _ => None,
        };
        if let Some(ranges) = &ranges {
            capture.keep_of_gpu(Arc::clone(ranges) as _);
        }
        Ok(GpuRecorder {
            shared,
            ranges,
            thread: Mutex::new(thread),
        })
    }

    /// Takes what has arrived.
    pub(crate) fn take(&self) -> Vec<GpuActivity> {
        std::mem::take(&mut self.shared.state().arrived)
    }

    /// Adds what others could not open.
    pub(crate) fn add_notices(&self, notices: Vec<GpuNotice>) {
        self.shared.state().status.notices.extend(notices);
    }

    pub(crate) fn status(&self) -> GpuStatus {
        let (status, before, stopped) = {
            let state = self.shared.state();
            (
                self.counted(&state),
                state.before.clone(),
                state.stop.is_some(),
            )
        };
        let mut status = status.since(&before);
        if let Some(ranges) = &self.ranges {
            status.notices.extend(ranges.notice());
            if stopped {
                status.unfinished += ranges.under_way();
            }
        }
        status
    }

    fn counted(&self, state: &State) -> GpuStatus {
        let mut status = state.status.clone();
        if let Some(ranges) = &self.ranges {
            status.lost_ranges = ranges.lost();
        }
        status
    }

    /// Counts anew. What is not measured stays known.
    pub(crate) fn reset(&self) {
        let mut state = self.shared.state();
        state.before = self.counted(&state);
    }

    /// Has the driver hand over what it has, and waits for it; returns whether it did in time.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let ticket = {
            let mut state = self.shared.state();
            state.asked += 1;
            state.asked
        };
        self.shared.changed.notify_all();
        self.shared
            .wait(timeout, |state| state.ended || state.answered >= ticket)
    }

    /// Ends the recording and waits for it; returns whether it ended in time.
    ///
    /// Half of the time is for work that goes on. What then goes on still is counted as unfinished.
    pub(crate) fn stop(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout / 2;
        self.shared.state().stop.get_or_insert(until);
        self.shared.changed.notify_all();
        let ended = self.shared.wait(timeout, |state| state.ended);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if ended && let Some(thread) = thread {
            // It has said that it is done.
            let _ = thread.join();
        }
        ended
    }
}

/// A capture that never began, because something else of it could not be had.
impl Drop for GpuRecorder {
    fn drop(&mut self) {
        self.shared.state().stop.get_or_insert_with(Instant::now);
        self.shared.changed.notify_all();
    }
}

const EVERYTHING: &str = "everything about GPUs";
const WORK: &str = "kernels, copies and waits on GPUs";
const LATER_WORK: &str = "later work on GPUs";
const RANGES: &str = "explicit ranges on GPUs";

/// Where there is nothing to look at.
const LONG: Duration = Duration::from_secs(3_600);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.state();
        while !done(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// Has the thread look for ranges.
    fn wake(&self) {
        self.state().woken = true;
        self.changed.notify_all();
    }

    fn run(
        &self,
        driver: Driver,
        mut recording: Option<Recording>,
        mut resolver: Option<Resolver>,
        on_thread_start: fn(),
    ) {
        let mut next_flush = Instant::now() + PERIOD;
        loop {
            let until_flush = next_flush.saturating_duration_since(Instant::now());
            let pause = recording.is_some().then_some(until_flush);
            let look = resolver.as_ref().and_then(Resolver::pause);
            let pause = pause.into_iter().chain(look).min();
            self.wait(pause.unwrap_or(LONG), |state| {
                state.stop.is_some() || state.woken || state.asked > state.answered
            });
            let (stop, asked, at_once) = {
                let mut state = self.state();
                state.woken = false;
                let at_once = state.stop.is_some() || state.asked > state.answered;
                (state.stop, state.asked, at_once)
            };
            // Without the lock: the driver takes its time.
            if let Some(until) = stop {
                if let Some(resolver) = &mut resolver {
                    // What is there must not be lost where the device hangs.
                    let arrived = resolver.poll(true);
                    self.state().arrived.extend(arrived);
                }
                let awaited = resolver.as_ref().is_some_and(Resolver::awaits_work);
                if recording.is_some() || awaited {
                    wait_for_work(driver, until, on_thread_start);
                }
            }
            if let Some(recording) = &mut recording
                && (at_once || Instant::now() >= next_flush)
            {
                next_flush = Instant::now() + PERIOD;
                self.flush_recording(recording, stop.is_some());
            }
            let ranges = resolver.as_mut().map(|resolver| resolver.poll(at_once));
            if stop.is_some()
                && let Some(resolver) = resolver.take()
            {
                resolver.close();
            }
            let mut state = self.state();
            state.arrived.extend(ranges.into_iter().flatten());
            state.answered = asked;
            state.ended = stop.is_some();
            self.changed.notify_all();
            if stop.is_some() {
                return;
            }
        }
    }

    fn flush_recording(&self, recording: &mut Recording, stop: bool) {
        let flushed = recording.flush();
        let is_full = self.state().arrived.len() >= MOST_ARRIVED;
        let mut arrived = match is_full {
            true => Vec::new(),
            false => recording.take(),
        };
        if stop {
            arrived.extend(recording.stop());
        }
        let mut state = self.state();
        state.arrived.extend(arrived);
        let status = &mut state.status;
        status.dropped_records = recording.dropped();
        status.unfinished = recording.unfinished();
        status.unknown_calls = recording.unknown_calls();
        if let Err(why) = flushed
            && !status
                .notices
                .iter()
                .any(|notice| notice.what == LATER_WORK)
        {
            status.notices.push(GpuNotice::new(LATER_WORK, why));
        }
    }
}

/// Waits until the devices are done, as long as there is time.
///
/// On a thread of its own, because the wait for a device that hangs has no end. The thread is left behind then.
fn wait_for_work(driver: Driver, until: Instant, on_thread_start: fn()) {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return;
    }
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("cortex-gpu-wait".to_owned())
        .spawn(move || {
            on_thread_start();
            driver.synchronize();
            // Nobody listens who has waited long enough.
            let _ = done.send(());
        });
    if let Ok(thread) = thread
        && is_done.recv_timeout(left).is_ok()
    {
        let _ = thread.join();
    }
}
