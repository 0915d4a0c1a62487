//! Finding the state of a span that is not in the thread's own table.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::local::{ThreadShared, Work};
use super::span_state::{SHARED, SpanState};

/// The state of a span that this thread did not create, or that did not fit into its table.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// In the table of the thread that created it.
    Table(Arc<ThreadShared>, usize),
    /// Behind a lock, but used without.
    Spilled(Arc<SpanState>),
}

impl Found {
    pub(super) fn state(&self) -> &SpanState {
        match self {
            Found::Table(thread, index) => &thread.own[*index],
            Found::Spilled(state) => state,
        }
    }
}

/// How many spans of other threads a thread remembers the place of.
const FOUND: usize = 64;

impl Work {
    /// Finds the state of a span that is not in the thread's own table, to write to it.
    pub(super) fn find(&mut self, capture: &Capture, id: u64) -> Option<Found> {
        let found = self.look(capture, id)?;
        let state = found.state();
        // Asked each time: where the subscriber uses ids again, a place that is remembered may hold another span by now.
        if !self.created(state) && !state.has(SHARED) {
            state.set(SHARED);
        }
        Some(found)
    }

    /// Finds the state of a span that is not in the thread's own table, to read it only.
    pub(super) fn look(&mut self, capture: &Capture, id: u64) -> Option<Found> {
        let place = id as usize % FOUND;
        if let Some(found) = self.found.get(place)
            && found.state().id.load(Relaxed) == id
        {
            return Some(found.clone());
        }
        let found = capture.find(id)?;
        if self.found.is_empty() {
            self.found = vec![found.clone(); FOUND];
        }
        self.found[place] = found.clone();
        Some(found)
    }
}
