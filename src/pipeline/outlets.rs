//! The sinks, kept apart from each other: one that fails, panics or hangs does not reach the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::guard::{SinkFailure, SinkFailureKind};
use super::lock;
use crate::capture::{Batch, suppress_on_this_thread};
#[cfg(feature = "cuda")]
use crate::model::GpuBatch;
use crate::model::{Diagnosis, Export, Operation, Profile, Sample};
use crate::sink::{Sink, SinkError, Wants};

/// When a sink is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// At once.
    First,
    /// After the others, so that it can report their failures.
    Last,
}

/// One sink and what is known of it.
pub(super) struct Outlet {
    pub(super) name: String,
    pub(super) wants: Wants,
    turn: Turn,
    state: Mutex<State>,
    /// The first error; streaming ends with it. Apart from the state, so that whoever asks for it never stands in the
    /// way of a batch.
    failure: Mutex<Option<SinkFailureKind>>,
    /// Apart from the state for the same reason.
    export: Mutex<Option<Export>>,
}

/// Locked only by who calls the sink.
struct State {
    sink: Box<dyn Sink>,
    finished: bool,
    next_tick: Option<Instant>,
}

impl Outlet {
    pub(super) fn new(sink: Box<dyn Sink>, turn: Turn) -> Outlet {
        Outlet {
            name: sink.name().to_owned(),
            wants: sink.wants(),
            turn,
            state: Mutex::new(State {
                next_tick: after(sink.tick_period()),
                sink,
                finished: false,
            }),
            failure: Mutex::default(),
            export: Mutex::default(),
        }
    }

    /// Calls the sink unless it has failed before or is hanging in another call.
    fn stream(&self, call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>) {
        let Some(mut state) = self.try_state() else {
            return;
        };
        if !state.finished && !self.has_failed() {
            self.note(attempt(|| call(state.sink.as_mut())));
        }
    }

    fn has_failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    /// Keeps the first failure: it says why, and what follows from it does not.
    fn note(&self, outcome: Option<SinkFailureKind>) {
        let mut failure = lock(&self.failure);
        *failure = failure.take().or(outcome);
    }

    fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn deliver(&self, batch: &Batch<'_>) {
        if self.wants.spans && !batch.spans.is_empty() {
            self.stream(|sink| sink.spans(&batch.spans));
        }
        if self.wants.events && !batch.events.is_empty() {
            self.stream(|sink| sink.events(&batch.events));
        }
    }

    pub(super) fn operations(&self, operations: &[Operation<'_>]) {
        if self.wants.operations && !operations.is_empty() {
            self.stream(|sink| sink.operations(operations));
        }
    }

    #[cfg(feature = "cuda")]
    pub(super) fn gpu(&self, batch: &GpuBatch<'_>) {
        if self.wants.gpu {
            self.stream(|sink| sink.gpu(batch));
        }
    }

    pub(super) fn samples(&self, samples: &[Sample<'_>]) {
        if self.wants.samples && !samples.is_empty() {
            self.stream(|sink| sink.samples(samples));
        }
    }

    pub(super) fn flush(&self) {
        self.stream(Sink::flush);
    }

    /// Asks the sink what became of what it sends elsewhere; only for who calls the sink anyway.
    pub(super) fn note_export(&self) {
        if let Some(state) = self.try_state() {
            self.note_export_of(&state);
        }
    }

    fn note_export_of(&self, state: &State) {
        if let Ok(export) = catch_unwind(AssertUnwindSafe(|| state.sink.export())) {
            *lock(&self.export) = export;
        }
    }

    /// Whether the sink was given spans that have no fate yet.
    pub(super) fn has_pending(&self) -> bool {
        lock(&self.export)
            .as_ref()
            .is_some_and(|export| export.pending > 0)
    }

    /// Returns what became of what the sink sends elsewhere, as far as it was asked.
    pub(super) fn export(&self) -> Option<Export> {
        lock(&self.export).clone()
    }

    /// Whether what the sink was told to flush has arrived, or never will.
    pub(super) fn is_flushed(&self) -> bool {
        self.has_failed()
            || self.try_state().is_none_or(|state| {
                catch_unwind(AssertUnwindSafe(|| state.sink.is_flushed())).unwrap_or(true)
            })
    }

    /// Whether the sink wants the live profile now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.try_state()
            .is_some_and(|state| state.next_tick.is_some_and(|next| next <= now))
    }

    pub(super) fn tick(&self, profile: &Profile) {
        let Some(mut state) = self.try_state() else {
            return;
        };
        if state.finished || self.has_failed() {
            state.next_tick = None;
            return;
        }
        let State {
            sink, next_tick, ..
        } = &mut *state;
        *next_tick = None;
        self.note(attempt(|| {
            *next_tick = after(sink.tick_period());
            sink.tick(profile)
        }));
    }

    /// Says what has gone wrong so far.
    pub(super) fn failure(&self) -> Option<SinkFailure> {
        let kind = lock(&self.failure).clone()?;
        Some(SinkFailure::new(&self.name, kind))
    }

    fn finish(&self, profile: &Profile, diagnosis: &Diagnosis, deadline: Duration) {
        let mut state = lock(&self.state);
        if state.finished {
            return;
        }
        state.finished = true;
        self.note(attempt(|| state.sink.finish(profile, diagnosis, deadline)));
        self.note_export_of(&state);
    }
}

/// Returns the moment that is `period` away; none where that is beyond what the clock can tell.
fn after(period: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(period?)
}

fn attempt(call: impl FnOnce() -> Result<(), SinkError>) -> Option<SinkFailureKind> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(SinkFailureKind::Failed(Arc::new(error))),
        Err(_) => Some(SinkFailureKind::Panicked),
    }
}

/// Finishes the sinks of one turn, each on a thread of its own, and waits until the deadline; returns who failed.
pub(super) fn finish(
    outlets: &[Arc<Outlet>],
    turn: Turn,
    profile: &Arc<Profile>,
    diagnosis: &Arc<Diagnosis>,
    until: Instant,
) -> Vec<SinkFailure> {
    let turn: Vec<_> = outlets
        .iter()
        .filter(|outlet| outlet.turn == turn)
        .collect();
    let total = until.saturating_duration_since(Instant::now());
    let (done, is_done) = std::sync::mpsc::channel();
    let mut waiting = Vec::new();
    for (index, outlet) in turn.iter().enumerate() {
        let done = done.clone();
        let outlet = Arc::clone(outlet);
        let results = (Arc::clone(profile), Arc::clone(diagnosis));
        let work = move || {
            suppress_on_this_thread();
            outlet.finish(&results.0, &results.1, total);
            // Nobody listens any more after the deadline.
            let _ = done.send(index);
        };
        let spawned = std::thread::Builder::new()
            .name("cortex-finish".to_owned())
            .spawn(work);
        match spawned {
            Ok(_) => waiting.push(index),
            // Without threads to spare the sink is finished here; it then may delay the exit.
            Err(_) => turn[index].finish(profile, diagnosis, total),
        }
    }
    while !waiting.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(index) = is_done.recv_timeout(left) else {
            break;
        };
        waiting.retain(|&other| other != index);
    }
    let late = waiting
        .iter()
        .map(|&index| SinkFailure::new(&turn[index].name, SinkFailureKind::Late(total)));
    late.chain(turn.iter().filter_map(|outlet| outlet.failure()))
        .collect()
}
