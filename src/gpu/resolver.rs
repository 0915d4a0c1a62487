//! Reads the events of ranges that have ended, on the thread `cortex-gpu`. Never waits for a device.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::event_api::{EventApi, Status};
use super::ranges::{Begun, Ended, Name, OfContext, Ranges};
use super::timeline::{ANCHOR_PERIOD, Timeline};
use crate::capture::Capture;
use crate::model::{GpuActivity, GpuKind, GpuOwner, GpuQueue, GpuSource, Nanos, PathId};

/// Between two looks at work that a device has not done.
const LOOK: Duration = Duration::from_millis(20);

/// Looks in a row that may fail before a context is given up: a second of them.
const MOST_FAILURES: u32 = 50;

/// Turns pairs of events into ranges.
pub(super) struct Resolver {
    ranges: Arc<Ranges>,
    capture: Arc<Capture>,
    contexts: Vec<InContext>,
    names: HashMap<PathId, Arc<str>>,
}

/// What the thread knows of a context.
struct InContext {
    of: Arc<OfContext>,
    /// By stream, in the order in which they ended.
    waiting: HashMap<u32, VecDeque<Ended>>,
    /// Times of the device, which the next anchor places.
    measured: Vec<Measured>,
    timeline: Option<Timeline>,
    /// Looks in a row that failed.
    failures: u32,
}

struct Measured {
    range: Begun,
    begin_ns: u64,
    length: Nanos,
}

impl Resolver {
    /// Must be called on the thread that goes on to use it.
    pub(super) fn new(ranges: Arc<Ranges>, capture: Arc<Capture>) -> Resolver {
        ranges.api.relax_this_thread();
        Resolver {
            ranges,
            capture,
            contexts: Vec::new(),
            names: HashMap::new(),
        }
    }

    /// Returns how long nothing needs to be done, unless something comes.
    pub(super) fn pause(&self) -> Option<Duration> {
        if self.awaits_work() {
            return Some(LOOK);
        }
        match self.ranges.under_way() {
            0 => None,
            _ => Some(Duration::from_nanos(ANCHOR_PERIOD.0)),
        }
    }

    /// Whether ranges have ended that a device is not through with.
    pub(super) fn awaits_work(&self) -> bool {
        self.contexts.iter().any(|known| !known.waiting.is_empty())
    }

    /// Returns the ranges that devices are through with. Those since the last anchor wait for the next one, unless it
    /// is taken `at_once`.
    pub(super) fn poll(&mut self, at_once: bool) -> Vec<GpuActivity> {
        for of in self.ranges.contexts().into_iter().skip(self.contexts.len()) {
            self.contexts.push(InContext::new(of));
        }
        let mut placed = Vec::new();
        let Resolver {
            ranges,
            capture,
            contexts,
            names,
        } = self;
        for known in contexts {
            known.take_ended();
            let nothing_new = known.of.is_lost.load(Relaxed) && known.waiting.is_empty();
            if known.of.under_way() == 0 || nothing_new {
                continue;
            }
            let context = known.of.context;
            let polled = ranges
                .api
                .within(context, || known.poll(ranges, at_once, &mut placed));
            match polled {
                Ok(()) => known.failures = 0,
                Err(status) => known.fail(ranges, status),
            }
        }
        let activities = placed.into_iter();
        activities
            .map(|placed| placed.activity(capture, names))
            .collect()
    }

    /// Gives everything back to the driver. What has not ended stays counted.
    pub(super) fn close(self) {
        for known in self.contexts {
            if let Some(timeline) = known.timeline
                && !known.of.is_lost.load(Relaxed)
            {
                timeline.close(&self.ranges.api);
            }
        }
        self.ranges.close(false);
    }
}

impl InContext {
    fn new(of: Arc<OfContext>) -> InContext {
        InContext {
            of,
            waiting: HashMap::new(),
            measured: Vec::new(),
            timeline: None,
            failures: 0,
        }
    }

    fn take_ended(&mut self) {
        for ended in self.of.take_ended() {
            let stream = self.waiting.entry(ended.range.stream).or_default();
            stream.push_back(ended);
        }
    }

    fn poll(
        &mut self,
        ranges: &Ranges,
        at_once: bool,
        placed: &mut Vec<Placed>,
    ) -> Result<(), Status> {
        let api = &ranges.api;
        if self.timeline.is_none() {
            self.timeline = Some(Timeline::new(api, self.of.take_reserve())?);
        }
        let Some(timeline) = &mut self.timeline else {
            return Ok(());
        };
        let now = ranges.now();
        let due = timeline
            .newest()
            .map_or(Nanos::ZERO, |newest| newest.saturating_add(ANCHOR_PERIOD));
        if now >= due {
            timeline.anchor(api, || ranges.now())?;
        }
        self.measure(ranges)?;
        let Some(timeline) = &mut self.timeline else {
            return Ok(());
        };
        let uncovered = |measured: &Measured| !timeline.covers(measured.begin_ns);
        if at_once && self.measured.iter().any(uncovered) {
            timeline.anchor(api, || ranges.now())?;
        }
        if let Some(newest) = timeline.newest() {
            self.of.set_anchor_due(newest.saturating_add(ANCHOR_PERIOD));
        }
        let before = placed.len();
        for measured in std::mem::take(&mut self.measured) {
            let is_due = at_once || timeline.covers(measured.begin_ns);
            match timeline.place(measured.begin_ns).filter(|_| is_due) {
                Some(start) => placed.push(Placed::new(&self.of, measured, start)),
                None => self.measured.push(measured),
            }
        }
        self.of.done((placed.len() - before) as u64);
        Ok(())
    }

    /// Reads the events that were passed, and gives them back.
    fn measure(&mut self, ranges: &Ranges) -> Result<(), Status> {
        let Some(timeline) = &self.timeline else {
            return Ok(());
        };
        // Without an anchor, the device's times would be relative to nothing.
        if timeline.newest().is_none() {
            return Ok(());
        }
        let mut free = Vec::new();
        let mut failed = Ok(());
        'streams: for stream in self.waiting.values_mut() {
            while let Some(first) = stream.front() {
                let measured = match measure(&ranges.api, timeline, first) {
                    Ok(Some(measured)) => Ok(measured),
                    Ok(None) => break,
                    Err(status) => Err(status),
                };
                let Some(first) = stream.pop_front() else {
                    break;
                };
                free.push(first.pair);
                match measured {
                    Ok((begin_ns, length)) => self.measured.push(Measured {
                        range: first.range,
                        begin_ns,
                        length,
                    }),
                    Err(status) => {
                        self.of.done(1);
                        ranges.fail(Some(&self.of), status, 1);
                        if status.is_final() {
                            failed = Err(status);
                            break 'streams;
                        }
                    }
                }
            }
        }
        self.waiting.retain(|_, stream| !stream.is_empty());
        self.of.give_back(free);
        failed
    }

    /// After an error that is not one range's. A context that is lost has no ranges any more.
    fn fail(&mut self, ranges: &Ranges, status: Status) {
        self.failures += 1;
        let mut given_up = 0;
        if status.is_final() || self.failures == MOST_FAILURES {
            self.of.is_lost.store(true, Relaxed);
            let waiting: usize = self.waiting.values().map(VecDeque::len).sum();
            given_up = (waiting + self.measured.len()) as u64;
            self.waiting.clear();
            self.measured.clear();
        }
        ranges.fail(Some(&self.of), status, given_up);
        self.of.done(given_up);
    }
}

/// Returns when a range began, on the device's clock, and its length; `None` while it goes on.
fn measure(
    api: &EventApi,
    timeline: &Timeline,
    ended: &Ended,
) -> Result<Option<(u64, Nanos)>, Status> {
    let pair = &ended.pair;
    if !api.is_passed(&pair.end)? {
        return Ok(None);
    }
    let length = api.elapsed_ns(&pair.begin, &pair.end)?;
    let begin_ns = timeline.device_ns(api, &pair.begin, ended.range.at)?;
    let length = Nanos(u64::try_from(length).unwrap_or(0));
    Ok(begin_ns.map(|begin_ns| (begin_ns, length)))
}

/// A range on the capture's clock.
struct Placed {
    name: Name,
    queue: GpuQueue,
    start: Nanos,
    end: Nanos,
    owner: GpuOwner,
}

impl Placed {
    fn new(of: &OfContext, measured: Measured, start: Nanos) -> Placed {
        let range = measured.range;
        Placed {
            name: range.name,
            queue: GpuQueue::new(of.device.ordinal(), of.number, range.stream),
            start,
            // The length is the device's own, so that it does not depend on how well the clocks are known.
            end: start.saturating_add(measured.length),
            owner: GpuOwner::Known(range.caller),
        }
    }

    fn activity(self, capture: &Capture, names: &mut HashMap<PathId, Arc<str>>) -> GpuActivity {
        let name = match self.name {
            Name::Given(name) => name,
            Name::OfSpan(None) => Arc::from(OUTSIDE),
            Name::OfSpan(Some(path)) => {
                let made = || {
                    let site = capture.site_of(path);
                    Arc::from(site.map_or(OUTSIDE, |site| site.name))
                };
                Arc::clone(names.entry(path).or_insert_with(made))
            }
        };
        GpuActivity {
            kind: GpuKind::Range { name },
            queue: self.queue,
            start: self.start,
            end: self.end,
            graph: None,
            owner: self.owner,
            source: GpuSource::Events,
        }
    }
}

/// The name of a range that was begun in no span.
const OUTSIDE: &str = "range";
