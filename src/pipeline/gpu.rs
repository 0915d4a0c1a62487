//! What devices did, on its way from the driver to the statistics and the sinks.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::lock;
use super::session::Session;
use crate::aggregate::GpuContext;
use crate::capture::{Capture, suppress_on_this_thread};
use crate::gpu::{Cuda, GpuRecorder, Nvtx};
use crate::join::{GpuJoin, GpuJoined};
use crate::model::{GpuBatch, GpuCall, GpuCallEnd, GpuNotice, Nanos, PathId, Site, SpanMarks};
use crate::resources::{GpuReadings, ResourceSource};

/// Between two rounds of the join stage, which counts in them how long it waits.
const ROUND: Duration = Duration::from_millis(50);
/// How long a flush waits for the driver.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
/// Between two questions while work at the end of the program is waited for.
const LAST_PAUSE: Duration = Duration::from_millis(5);
/// How long work is waited for that started before the end and of which the driver has told nothing. Calls that are
/// recorded into a graph never have any.
const LAST_WAIT: Duration = Duration::from_millis(50);

/// Opens what tells other tools of the spans, if that was asked for.
pub(super) fn marks(settings: Option<Cuda>) -> (Option<Box<dyn SpanMarks>>, Vec<GpuNotice>) {
    if !settings.is_some_and(|settings| settings.nvtx) {
        return (None, Vec::new());
    }
    match Nvtx::open(None) {
        Ok(Some(nvtx)) => (Some(Box::new(nvtx)), Vec::new()),
        Ok(None) => (None, Vec::new()),
        Err(notice) => (None, vec![notice]),
    }
}

/// Joins and hands on what a recorder has.
pub(super) struct GpuStage {
    recorder: GpuRecorder,
    join: Mutex<GpuJoin>,
    sites: Mutex<HashMap<PathId, Arc<Site>>>,
    next_round: Mutex<Instant>,
    /// What became of a device in the middle.
    lost: OnceLock<GpuNotice>,
}

impl GpuStage {
    /// Starts to record, as far as that can be had. `notices` say what cannot.
    pub(super) fn start(
        settings: Cuda,
        capture: &Arc<Capture>,
        notices: Vec<GpuNotice>,
    ) -> io::Result<GpuStage> {
        Ok(GpuStage {
            recorder: GpuRecorder::start(settings, capture, notices, suppress_on_this_thread)?,
            join: Mutex::default(),
            sites: Mutex::default(),
            next_round: Mutex::new(Instant::now()),
            lost: OnceLock::new(),
        })
    }

    /// Returns what reads the devices at this interval, where there are any.
    pub(super) fn sources(
        &self,
        settings: Cuda,
        interval: Duration,
    ) -> Vec<Box<dyn ResourceSource>> {
        let status = self.recorder.status();
        if !settings.nvml || status.devices.is_empty() {
            return Vec::new();
        }
        let visible: Vec<_> = status
            .devices
            .into_iter()
            .filter_map(|device| Some((device.ordinal, device.uuid?)))
            .collect();
        let visible = (!visible.is_empty()).then_some(visible.as_slice());
        let readings = GpuReadings::open(None, visible, interval);
        self.recorder.add_notices(readings.notices);
        readings.sources
    }

    /// Takes what threads noted of their calls.
    pub(super) fn calls(&self, capture: &Capture, calls: &[GpuCallEnd<'_>]) {
        if calls.is_empty() {
            return;
        }
        lock(&self.join).calls(calls, &|path| self.site_of(capture, path));
    }

    fn site_of(&self, capture: &Capture, path: PathId) -> Option<Arc<Site>> {
        let mut sites = lock(&self.sites);
        if let Some(known) = sites.get(&path) {
            return Some(Arc::clone(known));
        }
        let site = capture.site_of(path)?;
        sites.insert(path, Arc::clone(&site));
        Some(site)
    }

    /// Hands on what is complete; returns whether there was anything. Does nothing more often than the join stage counts
    /// on, unless somebody waits.
    pub(super) fn end_round(&self, session: &Session, waited_for: bool) -> bool {
        let now = Instant::now();
        {
            let mut next = lock(&self.next_round);
            if now < *next && !waited_for {
                return false;
            }
            *next = now + ROUND;
        }
        self.hand_on(session, GpuJoin::end_round)
    }

    fn hand_on(&self, session: &Session, end: impl FnOnce(&mut GpuJoin) -> GpuJoined) -> bool {
        let joined = {
            let mut join = lock(&self.join);
            let site_of = |path| self.site_of(&session.capture, path);
            join.activities(self.recorder.take(), &site_of);
            end(&mut join)
        };
        if joined.work.is_empty() && joined.calls.is_empty() {
            return false;
        }
        if let Some(lost) = joined.calls.iter().find_map(|call| lost_by(call)) {
            // The first says it; all later calls fail alike.
            self.lost.get_or_init(|| lost);
        }
        let steps_of = |path| session.capture.steps_of(path);
        lock(&session.aggregator).take_gpu(&joined.work, &joined.calls, &steps_of);
        let batch = GpuBatch::new(&joined.work, &joined.calls);
        for outlet in &session.outlets {
            outlet.gpu(&batch);
        }
        true
    }

    /// Has the driver hand over what it has.
    pub(super) fn flush(&self) {
        self.recorder.flush(FLUSH_WAIT);
    }

    /// Says when the capture was closed. Of work that starts later, nobody notes the calls.
    pub(super) fn closed(&self, at: Nanos) {
        lock(&self.join).close(at);
    }

    /// Ends the recording without waiting for anything.
    pub(super) fn discard(&self) {
        self.recorder.stop(Duration::ZERO);
    }

    /// Ends the recording and hands on what is left; takes a quarter of the session's deadline at most.
    pub(super) fn finish(&self, session: &Session) {
        let until = Instant::now() + session.deadline / 4;
        let left = || until.saturating_duration_since(Instant::now());
        let wait = Instant::now() + LAST_WAIT.min(left());
        self.recorder.flush(left());
        self.hand_on(session, GpuJoin::end_round);
        while lock(&self.join).awaits_work() && Instant::now() < wait {
            std::thread::sleep(LAST_PAUSE);
            self.recorder.flush(left());
            self.hand_on(session, GpuJoin::end_round);
        }
        self.recorder.stop(left());
        self.hand_on(session, GpuJoin::finish);
    }

    pub(super) fn reset(&self) {
        lock(&self.join).reset();
        self.recorder.reset();
    }

    /// Returns what the profile says besides the sums.
    pub(super) fn context(&self, capture: &Capture) -> GpuContext {
        let status = self.recorder.status();
        GpuContext {
            notices: status
                .notices
                .into_iter()
                .chain(self.lost.get().cloned())
                .collect(),
            devices: status.devices,
            dropped_records: status.dropped_records,
            dropped_calls: capture.dropped_gpu_calls(),
            unattributed: lock(&self.join).unattributed(),
            lost_ranges: status.lost_ranges,
            unfinished: status.unfinished,
            unknown_calls: status.unknown_calls,
        }
    }
}

/// Returns what to say where a call found that its context is lost: nothing that the program starts there runs any more.
fn lost_by(call: &GpuCall) -> Option<GpuNotice> {
    let error = call.error.filter(|error| LOST.contains(error))?;
    let function = call.function;
    Some(GpuNotice::new(
        "work on GPUs after an error",
        format!(
            "{function} answered {error}, after which the driver runs nothing more in this process; see what the kernels \
             before it do (compute-sanitizer) and what the kernel's log says of the device (Xid), and start the program \
             again"
        ),
    ))
}

/// `CUresult`s after which every call in the context fails: errors of the device and of kernels that ran on it.
const LOST: [u32; 13] = [
    214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721,
];
