//! What the program's threads and the thread `cortex-gpu` share of explicit ranges: pairs of events, and those that wait
//! to be read.

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::cupti::Cupti;
use super::event_api::{Context, Device, Event, EventApi, Status, Stream};
use crate::clock::Clock;
use crate::model::{GpuLostRanges, GpuNotice, Nanos, PathId, RawCaller};

/// Ranges of one context that can be under way at one time: four times what the queue of a stream holds.
const MOST_PAIRS: usize = 4_096;
/// Ranges that have ended at which the thread is woken, so that their events come back in time.
const ENOUGH: usize = 256;
/// Events of anchors that there are from the start.
const RESERVE: usize = 4;
/// An anchor is asked for again after this time.
const PATIENCE: Nanos = Nanos(10_000_000);

/// All ranges of one capture.
pub(super) struct Ranges {
    pub(super) api: EventApi,
    /// Where it records too: ranges are then on the streams that it knows.
    cupti: Option<Cupti>,
    clock: Clock,
    wake: Box<dyn Fn() + Send + Sync>,
    closed: AtomicBool,
    contexts: Mutex<Vec<Arc<OfContext>>>,
    captured: AtomicU64,
    exhausted: AtomicU64,
    failed: AtomicU64,
    first_failure: OnceLock<Status>,
}

/// The ranges of one context: events of one cannot be recorded in another.
#[derive(Debug)]
pub(super) struct OfContext {
    pub(super) context: Context,
    pub(super) device: Device,
    pub(super) number: u32,
    /// Kept alive by this capture.
    is_held: bool,
    /// Answers nothing any more.
    pub(super) is_lost: AtomicBool,
    /// Ranges that were begun and are not yet told, or given up.
    under_way: AtomicU64,
    /// The time from which on a range that begins needs a new anchor.
    anchor_due: AtomicU64,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    spare: Vec<Pair>,
    made: usize,
    ended: Vec<Ended>,
    /// For the anchors, without which ranges would keep their events for ever.
    reserve: Vec<Event>,
    closed: bool,
}

/// The events at both ends of a range.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) begin: Event,
    pub(super) end: Event,
}

/// A range that goes on.
#[derive(Debug)]
pub(super) struct Open {
    of: Arc<OfContext>,
    stream: Stream,
    range: Begun,
    pair: Pair,
}

/// What is known of a range at its begin.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) name: Name,
    pub(super) stream: u32,
    pub(super) caller: Option<RawCaller>,
    /// The host's time; the device's is later.
    pub(super) at: Nanos,
}

/// What a range is called.
#[derive(Debug)]
pub(super) enum Name {
    /// As the program says.
    Given(Arc<str>),
    /// As the span is that it was begun in.
    OfSpan(Option<PathId>),
}

/// A range whose end is on its stream.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) range: Begun,
    pub(super) pair: Pair,
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranges").finish_non_exhaustive()
    }
}

impl Ranges {
    pub(super) fn new(
        api: EventApi,
        cupti: Option<Cupti>,
        clock: Clock,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Ranges {
        Ranges {
            api,
            cupti,
            clock,
            wake: Box::new(wake),
            closed: AtomicBool::new(false),
            contexts: Mutex::default(),
            captured: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_failure: OnceLock::new(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Puts the begin of a range on a stream, of the thread's context where none is given; `None` if that cannot be,
    /// which is counted.
    pub(super) fn begin(
        &self,
        context: Option<Context>,
        stream: Stream,
        caller: Option<RawCaller>,
    ) -> Option<Open> {
        let context = match context {
            Some(context) => Ok(context),
            None => self
                .api
                .current()
                .and_then(|current| current.ok_or(Status::NO_CONTEXT)),
        };
        let begun = context.and_then(|context| {
            let begin = || self.begin_within(context, stream, caller);
            self.api.within(context, begin)
        });
        begun.unwrap_or_else(|status| {
            self.fail(None, status, 1);
            None
        })
    }

    fn begin_within(
        &self,
        context: Context,
        stream: Stream,
        caller: Option<RawCaller>,
    ) -> Result<Option<Open>, Status> {
        let of = self.of(context)?;
        if of.is_lost.load(Relaxed) {
            self.failed.fetch_add(1, Relaxed);
            return Ok(None);
        }
        // An event that is recorded now would become a part of the graph.
        if self.api.is_capturing(stream)? {
            self.captured.fetch_add(1, Relaxed);
            return Ok(None);
        }
        let Some(pair) = self.pair(&of)? else {
            self.exhausted.fetch_add(1, Relaxed);
            return Ok(None);
        };
        let cupti = self.cupti.as_ref();
        let number = cupti
            .and_then(|cupti| cupti.stream_number(context, stream))
            .unwrap_or_else(|| self.api.stream_number(stream));
        let at = self.now();
        of.under_way.fetch_add(1, SeqCst);
        if at.0 >= of.anchor_due.load(Relaxed) {
            of.anchor_due.store(at.saturating_add(PATIENCE).0, Relaxed);
            (self.wake)();
        }
        if let Err(status) = self.api.record(&pair.begin, stream) {
            of.pool().spare.push(pair);
            of.done(1);
            self.fail(Some(&of), status, 1);
            return Ok(None);
        }
        let name = Name::OfSpan(caller.map(|caller| caller.path));
        Ok(Some(Open {
            of,
            stream,
            range: Begun {
                name,
                stream: number,
                caller,
                at,
            },
            pair,
        }))
    }

    /// Puts the end of a range on its stream.
    pub(super) fn end(&self, open: Open, name: Option<Arc<str>>) {
        if self.is_closed() {
            // It stays counted as unfinished, and its events as lent.
            return;
        }
        let Open {
            of,
            stream,
            mut range,
            pair,
        } = open;
        if of.is_lost.load(Relaxed) {
            of.done(1);
            self.failed.fetch_add(1, Relaxed);
            return;
        }
        let recorded = self.api.within(of.context, || {
            if self.api.is_capturing(stream)? {
                return Ok(false);
            }
            self.api.record(&pair.end, stream)?;
            Ok(true)
        });
        match recorded {
            Ok(true) => {}
            Ok(false) => {
                self.captured.fetch_add(1, Relaxed);
                of.pool().spare.push(pair);
                of.done(1);
                return;
            }
            Err(status) => {
                of.pool().spare.push(pair);
                of.done(1);
                self.fail(Some(&of), status, 1);
                return;
            }
        }
        if let Some(name) = name {
            range.name = Name::Given(name);
        }
        let mut pool = of.pool();
        if pool.closed {
            return;
        }
        pool.ended.push(Ended { range, pair });
        let waiting = pool.ended.len();
        drop(pool);
        if waiting == ENOUGH {
            (self.wake)();
        }
    }

    /// Returns what belongs to a context, which is the current one.
    fn of(&self, context: Context) -> Result<Arc<OfContext>, Status> {
        let mut contexts = self.lock_contexts();
        if let Some(known) = contexts.iter().find(|of| of.context == context) {
            return Ok(Arc::clone(known));
        }
        let device = self.api.device()?;
        let next = u32::try_from(contexts.len() + 1).unwrap_or(u32::MAX);
        let mut pool = Pool::default();
        let is_held = self.api.relaxed(|| {
            for _ in 0..RESERVE {
                pool.reserve.push(self.api.create_event()?);
            }
            Ok(self.api.hold(context, device))
        })?;
        let cupti = self.cupti.as_ref();
        let number = cupti
            .and_then(|cupti| cupti.context_number(context))
            .or_else(|| self.api.context_number(context));
        let of = Arc::new(OfContext {
            context,
            device,
            number: number.unwrap_or(next),
            is_held,
            is_lost: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            anchor_due: AtomicU64::new(0),
            pool: Mutex::new(pool),
        });
        contexts.push(Arc::clone(&of));
        Ok(of)
    }

    fn pair(&self, of: &OfContext) -> Result<Option<Pair>, Status> {
        {
            let mut pool = of.pool();
            if let Some(pair) = pool.spare.pop() {
                return Ok(Some(pair));
            }
            if pool.made == MOST_PAIRS || pool.closed {
                return Ok(None);
            }
            pool.made += 1;
        }
        let made = self.api.relaxed(|| {
            let begin = self.api.create_event()?;
            match self.api.create_event() {
                Ok(end) => Ok(Pair { begin, end }),
                Err(status) => {
                    self.api.destroy_event(begin);
                    Err(status)
                }
            }
        });
        match made {
            Ok(pair) => Ok(Some(pair)),
            Err(status) => {
                of.pool().made -= 1;
                match status {
                    Status::OUT_OF_MEMORY => Ok(None),
                    status => Err(status),
                }
            }
        }
    }

    /// Counts ranges that the driver did not let be measured.
    pub(super) fn fail(&self, of: Option<&OfContext>, status: Status, ranges: u64) {
        self.failed.fetch_add(ranges, Relaxed);
        let _ = self.first_failure.set(status);
        if let Some(of) = of
            && status.is_final()
        {
            of.is_lost.store(true, Relaxed);
        }
    }

    fn lock_contexts(&self) -> MutexGuard<'_, Vec<Arc<OfContext>>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the contexts that ranges were begun in.
    pub(super) fn contexts(&self) -> Vec<Arc<OfContext>> {
        self.lock_contexts().clone()
    }

    /// Ends everything: later ranges are none. Gives the events back, where the driver is not `stuck`.
    pub(super) fn close(&self, stuck: bool) {
        self.closed.store(true, SeqCst);
        if stuck {
            return;
        }
        for of in self.contexts() {
            let (spare, reserve) = {
                let mut pool = of.pool();
                pool.closed = true;
                let spare = std::mem::take(&mut pool.spare);
                (spare, std::mem::take(&mut pool.reserve))
            };
            if of.is_lost.load(Relaxed) {
                continue;
            }
            let pairs = spare.into_iter().flat_map(|pair| [pair.begin, pair.end]);
            for event in pairs.chain(reserve) {
                self.api.destroy_event(event);
            }
            if of.is_held {
                self.api.release(of.device);
            }
        }
    }

    /// Returns how many ranges were begun and have not been told of.
    pub(super) fn under_way(&self) -> u64 {
        let contexts = self.lock_contexts();
        contexts.iter().map(|of| of.under_way()).sum()
    }

    /// Returns how many were not measured, by the cause.
    pub(super) fn lost(&self) -> GpuLostRanges {
        GpuLostRanges {
            captured: self.captured.load(Relaxed),
            exhausted: self.exhausted.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// Says why ranges were not measured, if the driver failed.
    pub(super) fn notice(&self) -> Option<GpuNotice> {
        let status = *self.first_failure.get()?;
        let Status(code) = status;
        let helps = match status {
            Status::NO_CONTEXT => "the thread was in no context, or in one that is gone",
            status if status.is_final() => "the device or its context is lost",
            _ => {
                "the stream must be one of the context, and both must live until the range has ended"
            }
        };
        let why = format!("the driver answered {code}: {helps}");
        Some(GpuNotice::new("some explicit ranges", why))
    }
}

impl OfContext {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the ranges that have ended.
    pub(super) fn take_ended(&self) -> Vec<Ended> {
        std::mem::take(&mut self.pool().ended)
    }

    /// Takes the events that are for anchors.
    pub(super) fn take_reserve(&self) -> Vec<Event> {
        std::mem::take(&mut self.pool().reserve)
    }

    /// Takes events back.
    pub(super) fn give_back(&self, pairs: Vec<Pair>) {
        if !pairs.is_empty() {
            self.pool().spare.extend(pairs);
        }
    }

    /// Counts ranges as told, or given up.
    pub(super) fn done(&self, ranges: u64) {
        self.under_way.fetch_sub(ranges, SeqCst);
    }

    pub(super) fn under_way(&self) -> u64 {
        self.under_way.load(SeqCst)
    }

    /// Says from when on a range that begins needs a new anchor.
    pub(super) fn set_anchor_due(&self, at: Nanos) {
        self.anchor_due.store(at.0, Relaxed);
    }
}
