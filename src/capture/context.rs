//! What travels to other processes: telling a span's context, and giving a span one that came from elsewhere.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use super::capture::Capture;
use super::frame::{FRAME_ADOPTED, Frame};
use super::lifecycle::with_state;
use super::local::{self, Local, ThreadShared, Work};
use super::lock;
use super::place::{Identity, PLACE_FLAGS, Place};
use super::span_state::{ADOPTED, CARRIES, EXPLICIT, FIELDS, FOREIGN, IDS_USED, PARENT_FOREIGN};
use super::span_state::{SpanState, UNSAMPLED};
use crate::model::{FieldWriter, Link, TraceContext};

/// The `tracestate` and the baggage of open spans, by sequence number. Most spans have none.
#[derive(Debug, Default)]
pub(super) struct CarriedTable {
    spans: Mutex<HashMap<u64, Arc<TraceContext>>>,
}

impl CarriedTable {
    pub(super) fn insert(&self, seq: u64, context: Arc<TraceContext>) {
        lock(&self.spans).insert(seq, context);
    }

    pub(super) fn get(&self, seq: u64) -> Option<Arc<TraceContext>> {
        lock(&self.spans).get(&seq).cloned()
    }

    pub(super) fn remove(&self, seq: u64) {
        lock(&self.spans).remove(&seq);
    }
}

/// Returns what the innermost of the spans that carry something carries, of the outermost `depth` on this thread.
pub(super) fn carried_around(
    capture: &Capture,
    shared: &ThreadShared,
    work: &Work,
    depth: usize,
) -> Option<Arc<TraceContext>> {
    let frames = (0..depth).rev().map(|at| work.frame(shared, at));
    let mut carried = frames.map(|frame| capture.carried.get(frame.seq.load(Relaxed)));
    carried.find_map(|found| found)
}

/// Returns what a span that need not be entered carries.
pub(super) fn carried_by(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
) -> Option<Arc<TraceContext>> {
    with_state(capture, shared, work, id, |_, state| {
        capture.carried.get(state.seq.load(Relaxed))
    })?
}

/// Returns the ids to link a span with.
pub(super) fn link_to(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
) -> Option<Link> {
    if !capture.streams.ids {
        return None;
    }
    with_state(capture, shared, work, id, |_, state| {
        state.set(IDS_USED);
        let ids = capture.ids(Identity::of(state));
        Link::new(ids.trace, ids.span)
    })
}

impl Capture {
    /// Returns the context of a span, for whoever is to continue its trace: inside a held span, that of the call.
    pub(crate) fn context(&self, id: u64) -> Option<TraceContext> {
        if !self.streams.ids {
            return None;
        }
        local::with(self, |local| {
            let Local { shared, work, .. } = local;
            let depth = shared.depth.load(Relaxed);
            let at = (0..depth)
                .rev()
                .find(|&at| work.frame(shared, at).id.load(Relaxed) == id);
            let (identity, seq) = with_state(self, shared, work, id, |work, state| {
                state.set(IDS_USED);
                let outer = at.and_then(|at| at.checked_sub(1));
                let outer = outer.map(|outer| work.frame(shared, outer));
                let identity = match at {
                    Some(at) => {
                        let operation = work.frame(shared, at).operation.load(Relaxed);
                        Identity::of_call(state, operation, outer)
                    }
                    None => Identity::of(state),
                };
                (identity, state.seq.load(Relaxed))
            })?;
            let ids = self.ids(identity);
            let context = TraceContext::new(ids.trace, ids.span, ids.sampled);
            if identity.place.flags & CARRIES == 0 {
                return Some(context);
            }
            let carried = self.carried.get(seq).or_else(|| {
                let depth = at.unwrap_or(0);
                carried_around(self, shared, work, depth)
            });
            Some(match carried {
                Some(carried) => context.carrying(&carried),
                None => context,
            })
        })?
    }

    /// Puts a span under one of another process.
    pub(crate) fn set_remote_parent(
        &self,
        id: u64,
        context: &TraceContext,
    ) -> Result<(), SetParentError> {
        if !self.streams.ids {
            return Err(SetParentError::NoIds);
        }
        let done = local::with(self, |local| {
            let Local { shared, work, .. } = local;
            with_state(self, shared, work, id, |work, state| {
                if state.has(ADOPTED) {
                    return Err(SetParentError::Adopted);
                }
                let entered = match state.activations() {
                    0 => None,
                    1 => Some(lone_frame(shared, work, state, id)?),
                    _ => return Err(SetParentError::TooLate),
                };
                if state.has(IDS_USED) {
                    return Err(SetParentError::TooLate);
                }
                self.move_under(state, context);
                if let Some(frame) = entered {
                    let place = state.place();
                    frame.trace.store(place.trace, Relaxed);
                    frame.add_flag(frame.put_rest(place));
                }
                Ok(())
            })
        });
        done.flatten().unwrap_or(Err(SetParentError::Unknown))
    }

    fn move_under(&self, state: &SpanState, context: &TraceContext) {
        let trace = context.trace_id().0;
        let mut flags = FOREIGN | PARENT_FOREIGN;
        if !context.sampled() {
            flags |= UNSAMPLED;
        }
        let seq = state.seq.load(Relaxed);
        if context.trace_state().is_some() || context.baggage().is_some() {
            flags |= CARRIES;
            self.carried.insert(seq, Arc::new(context.clone()));
        }
        if let Some(trace_state) = context.trace_state() {
            let mut extra = state.extra();
            FieldWriter::new(&mut extra, 0).write_trace_state(trace_state);
            state.set(FIELDS);
        }
        state.move_to(Place {
            parent: context.span_id().0,
            trace: trace as u64,
            trace_high: (trace >> 64) as u64,
            flags: flags & PLACE_FLAGS,
        });
        state.set(EXPLICIT);
    }

    /// Links a span with one of this or another process.
    pub(crate) fn add_link(&self, id: u64, context: &TraceContext) -> Result<(), SetParentError> {
        if !self.streams.ids {
            return Err(SetParentError::NoIds);
        }
        let done = local::with(self, |local| {
            let Local { shared, work, .. } = local;
            with_state(self, shared, work, id, |_, state| {
                let mut extra = state.extra();
                let link = Link::new(context.trace_id(), context.span_id());
                FieldWriter::new(&mut extra, 0).write_link(link);
                state.set(FIELDS);
            })
        });
        done.flatten().ok_or(SetParentError::Unknown)
    }
}

/// Returns the frame of a span that is in its first activation on this thread, where nothing has been created since it
/// was: only then does nobody know where it is.
fn lone_frame<'a>(
    shared: &'a ThreadShared,
    work: &'a Work,
    state: &SpanState,
    id: u64,
) -> Result<&'a Frame, SetParentError> {
    let top = shared.depth.load(Relaxed).checked_sub(1);
    let frame = top.map(|top| work.frame(shared, top));
    let alone = work.last_seq() == state.seq.load(Relaxed);
    frame
        .filter(|frame| alone && frame.id.load(Relaxed) == id)
        .filter(|frame| frame.node_and_flags().1 & FRAME_ADOPTED == 0)
        .ok_or(SetParentError::TooLate)
}

/// Why a span did not get the parent or the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetParentError {
    /// No `CortexLayer` records the span: it is disabled, or the subscriber has no such layer.
    NoLayer,
    /// No output of the layer needs ids.
    NoIds,
    /// The layer does not know the span: the capture has ended, or the span lies beyond a limit.
    Unknown,
    /// The span has children already, its context was told to somebody, or it was entered and left.
    TooLate,
    /// Another tracing layer made the span's ids; set the parent there.
    Adopted,
}

impl fmt::Display for SetParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetParentError::NoLayer => {
                "no CortexLayer records this span; add one to the subscriber, or enable the span's level"
            }
            SetParentError::NoIds => "nothing needs trace ids; add an output such as otlp(..)",
            SetParentError::Unknown => {
                "the layer does not know this span; the capture has ended, or raise max_open_spans"
            }
            SetParentError::TooLate => {
                "the span's place in a trace is known to others already; set the parent before it is entered or has \
                 children"
            }
            SetParentError::Adopted => {
                "another tracing layer made the ids of this span; set the parent through that layer"
            }
        })
    }
}

impl Error for SetParentError {}
