//! Where in which trace a span is; kept only where a sink wants ids.
//!
//! Nothing random is made while a span runs: a trace that begins here is known by the number of its root, an operation
//! by its own number, and ids are made out of both when somebody asks. A number is a span's sequence number; each call
//! through a held span but the first draws one of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::frame::Frame;
use super::frame::{FRAME_ADOPTED, FRAME_CARRIES, FRAME_FOREIGN, FRAME_PLACE, FRAME_UNSAMPLED};
use super::lifecycle::{self, Declared};
use super::local::{ThreadShared, Work};
use super::sites::HELD;
use super::span_state::{ADOPTED, CARRIES, EXPLICIT, FOREIGN, IDS_USED, PARENT_FOREIGN};
use super::span_state::{SpanState, UNSAMPLED};
use crate::model::{Ambient, IdKeys, Ids, SpanId, SpanSeq, TraceId};

/// What is around an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the operation around it, 0 for none; a span id where [`PARENT_FOREIGN`] is set.
    pub(super) parent: u64,
    /// The number of the trace's root; the lower half of the trace id where [`FOREIGN`] is set.
    pub(super) trace: u64,
    /// The upper half of the trace id where [`FOREIGN`] is set.
    pub(super) trace_high: u64,
    /// Of [`PLACE_FLAGS`].
    pub(super) flags: u32,
}

/// The flags of a span's state that say where it is.
pub(super) const PLACE_FLAGS: u32 = FOREIGN | PARENT_FOREIGN | UNSAMPLED | CARRIES;

/// One operation with everything that its ids are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    /// Its number; a span id where [`ADOPTED`] is set.
    pub(super) operation: u64,
    pub(super) place: Place,
    pub(super) adopted: bool,
}

impl Place {
    /// The place of a trace's root.
    pub(super) fn root(operation: u64) -> Place {
        Place {
            parent: 0,
            trace: operation,
            trace_high: 0,
            flags: 0,
        }
    }

    /// The place inside the operation that a frame is in.
    pub(super) fn inside(frame: &Frame) -> Place {
        let (_, frame_flags) = frame.node_and_flags();
        let mut flags = 0;
        for (of_frame, of_state) in [
            (FRAME_FOREIGN, FOREIGN),
            (FRAME_UNSAMPLED, UNSAMPLED),
            (FRAME_ADOPTED, PARENT_FOREIGN),
            (FRAME_CARRIES, CARRIES),
        ] {
            if frame_flags & of_frame != 0 {
                flags |= of_state;
            }
        }
        Place {
            parent: frame.operation.load(Relaxed),
            trace: frame.trace.load(Relaxed),
            trace_high: frame.trace_high.load(Relaxed),
            flags,
        }
    }

    /// Forgets what is around it, but not the trace.
    #[cfg(feature = "cuda")]
    pub(super) fn without_parent(&mut self) {
        self.parent = 0;
        self.flags &= !PARENT_FOREIGN;
    }

    /// The place inside a span that need not be entered.
    pub(super) fn inside_span(state: &SpanState) -> Place {
        let identity = Identity::of(state);
        let mut place = identity.place;
        place.parent = identity.operation;
        place.flags &= !PARENT_FOREIGN;
        if identity.adopted {
            place.flags |= PARENT_FOREIGN;
        }
        place
    }
}

impl Identity {
    /// The identity of a span; of a held one, that of its first call.
    pub(super) fn of(state: &SpanState) -> Identity {
        let adopted = state.has(ADOPTED);
        let operation = match adopted {
            true => state.ambient(),
            false => &state.seq,
        };
        Identity {
            operation: operation.load(Relaxed),
            place: state.place(),
            adopted,
        }
    }

    /// The identity of a call through a held span, which was entered inside `outer`.
    pub(super) fn of_call(state: &SpanState, operation: u64, outer: Option<&Frame>) -> Identity {
        if state.has(ADOPTED) || operation == state.seq.load(Relaxed) {
            return Identity::of(state);
        }
        Identity {
            operation,
            place: match outer {
                Some(outer) => Place::inside(outer),
                None => outermost_call(state, operation),
            },
            adopted: false,
        }
    }

    /// Makes the ids.
    pub(super) fn ids(self, keys: IdKeys) -> Ids {
        let Place {
            parent,
            trace,
            trace_high,
            flags,
        } = self.place;
        let foreign = flags & FOREIGN != 0;
        let trace = match foreign {
            true => TraceId(u128::from(trace_high) << 64 | u128::from(trace)),
            false => keys.trace(SpanSeq(trace)),
        };
        let span = match self.adopted {
            true => SpanId(self.operation),
            false => keys.span(SpanSeq(self.operation)),
        };
        let parent_foreign = flags & PARENT_FOREIGN != 0;
        let parent = match parent {
            0 => None,
            id if parent_foreign => Some(SpanId(id)),
            number => Some(keys.span(SpanSeq(number))),
        };
        let mut ids = Ids::root(trace, span);
        ids.parent = parent;
        ids.parent_is_remote = parent_foreign && parent.is_some() && !self.adopted;
        ids.sampled = flags & UNSAMPLED == 0;
        ids.adopted = self.adopted;
        ids.remote_trace = foreign;
        ids
    }
}

/// A call with nothing around it is where its span was declared; where that is nowhere, it begins a trace.
fn outermost_call(state: &SpanState, operation: u64) -> Place {
    let place = state.place();
    if place.parent == 0 && place.flags & FOREIGN == 0 {
        Place::root(operation)
    } else {
        place
    }
}

/// Notes where a new span was declared.
#[inline(always)]
pub(super) fn opened(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
    declared: Declared,
) {
    let state = shared.own_state(id);
    let depth = shared.depth.load(Relaxed);
    if !capture.adopts() && matches!(declared, Declared::Contextual) && state.id.load(Relaxed) == id
    {
        let Some(outer) = depth.checked_sub(1) else {
            let seq = state.seq.load(Relaxed);
            return state.put(0, seq);
        };
        let frame = work.frame(shared, outer);
        if frame.node_and_flags().1 & FRAME_PLACE == 0 {
            return state.put(frame.operation.load(Relaxed), frame.trace.load(Relaxed));
        }
    }
    opened_anywhere(capture, shared, work, id, declared);
}

/// The same for a span whose place is not that of the innermost frame, or is not made of two numbers.
#[inline(never)]
fn opened_anywhere(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
    declared: Declared,
) {
    let depth = shared.depth.load(Relaxed);
    let around = match declared {
        Declared::Contextual if depth > 0 => Some(Place::inside(work.frame(shared, depth - 1))),
        Declared::Contextual | Declared::Root => None,
        Declared::Parent(parent) => {
            lifecycle::with_state(capture, shared, work, parent, |_, state| {
                // From now on the parent cannot move to another trace.
                state.set(IDS_USED);
                Place::inside_span(state)
            })
        }
    };
    let carried = match (around, declared) {
        (Some(place), Declared::Contextual) if place.flags & CARRIES != 0 => {
            super::context::carried_around(capture, shared, work, depth)
        }
        (Some(place), Declared::Parent(parent)) if place.flags & CARRIES != 0 => {
            super::context::carried_by(capture, shared, work, parent)
        }
        _ => None,
    };
    let ambient = capture.ambient().map_or(0, |ambient| ambient.span.0);
    lifecycle::with_state(capture, shared, work, id, |_, state| {
        let seq = state.seq.load(Relaxed);
        state.move_to(around.unwrap_or(Place::root(seq)));
        state.ambient().store(ambient, Relaxed);
        if !matches!(declared, Declared::Contextual) {
            state.set(EXPLICIT);
        }
        if let Some(carried) = carried {
            capture.carried.insert(seq, carried);
        }
    });
}

/// Notes which operation an activation belongs to, and returns the flags of its frame that say more about it. `frame_at`
/// is that frame, `outer` the flags of the one around it, `flags` those of the state.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "all of it is at hand, in registers"
)]
pub(super) fn entered(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    flags: u32,
    outer: u32,
    frame_at: usize,
    number: u32,
) -> u32 {
    const RARE: u32 = PLACE_FLAGS | HELD | EXPLICIT | IDS_USED | ADOPTED;
    if number == 1 && flags & RARE == 0 && outer & FRAME_PLACE == 0 && !capture.adopts() {
        let frame = work.frame(shared, frame_at);
        let seq = state.seq.load(Relaxed);
        let Some(outer) = frame_at.checked_sub(1) else {
            frame.put(seq, state.numbers().1);
            return 0;
        };
        let outer = work.frame(shared, outer);
        let trace = outer.trace.load(Relaxed);
        state.put(outer.operation.load(Relaxed), trace);
        frame.put(seq, trace);
        return 0;
    }
    entered_anywhere(capture, shared, work, state, frame_at, number)
}

#[inline(never)]
fn entered_anywhere(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    frame_at: usize,
    number: u32,
) -> u32 {
    let seq = state.seq.load(Relaxed);
    let flags = state.flags();
    let first = number == 1;
    let (operation, place) = if !first && flags & HELD == 0 {
        (seq, state.place())
    } else {
        let operation = if first { seq } else { work.next_seq() };
        // Who named the parent, or has told the ids to somebody, does not want the span to be elsewhere.
        let settled = first && flags & (EXPLICIT | IDS_USED) != 0;
        let place = match frame_at.checked_sub(1) {
            Some(outer) if !settled => {
                let place = Place::inside(work.frame(shared, outer));
                if first {
                    state.move_to(place);
                }
                place
            }
            _ if first => state.place(),
            _ => outermost_call(state, operation),
        };
        (operation, place)
    };
    let frame = work.frame(shared, frame_at);
    if first && let Some(ambient) = capture.ambient() {
        adopt(state, ambient);
    }
    if state.has(ADOPTED) {
        return enter_adopted(state, frame);
    }
    frame.put(operation, place.trace);
    frame.put_rest(place)
}

/// Takes over the ids that another layer has made for a span. Where the context of the thread is what it was when the
/// span was created, that layer does not know the span.
#[cold]
fn adopt(state: &SpanState, ambient: Ambient) {
    if state.ambient().load(Relaxed) == ambient.span.0 {
        return;
    }
    state.ambient().store(ambient.span.0, Relaxed);
    let mut place = state.place();
    place.trace = ambient.trace.0 as u64;
    place.trace_high = (ambient.trace.0 >> 64) as u64;
    place.flags |= FOREIGN;
    place.flags &= !UNSAMPLED;
    if !ambient.sampled {
        place.flags |= UNSAMPLED;
    }
    state.move_to(place);
    state.set(ADOPTED);
}

#[cold]
fn enter_adopted(state: &SpanState, frame: &Frame) -> u32 {
    let place = state.place();
    frame.put(state.ambient().load(Relaxed), place.trace);
    frame.put_rest(place) | FRAME_ADOPTED
}

impl Frame {
    #[inline]
    fn put(&self, operation: u64, trace: u64) {
        self.operation.store(operation, Relaxed);
        self.trace.store(trace, Relaxed);
    }

    /// Notes the rest of a place, and returns the flags that go with it.
    pub(super) fn put_rest(&self, place: Place) -> u32 {
        if place.flags == 0 {
            return 0;
        }
        self.trace_high.store(place.trace_high, Relaxed);
        let mut flags = 0;
        for (of_state, of_frame) in [
            (FOREIGN, FRAME_FOREIGN),
            (UNSAMPLED, FRAME_UNSAMPLED),
            (CARRIES, FRAME_CARRIES),
        ] {
            if place.flags & of_state != 0 {
                flags |= of_frame;
            }
        }
        flags
    }
}
