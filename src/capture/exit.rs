//! Exit: an activation ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::capture::Capture;
use super::cpu_time;
use super::enter::{entered_at, stream_first};
use super::frame::{FRAME_AGAIN, FRAME_ERROR, FRAME_FOLDED, FRAME_MARKED, FRAME_NESTED};
use super::frame::{FRAME_OTHER, FRAME_OVERLAPS, FRAME_TIMED, Frame};
use super::local::{Local, ThreadShared, Work};
use super::marks;
use super::node;
use super::place::Identity;
use super::sampling::TREE;
use super::sites;
use super::span_state::{FIRST_STREAMED, OVERLAPS, SHARED, SpanState};
use super::stream::{self, Kind, SpanWords};

/// What makes the end of an activation an unusual one.
const RARE: u32 =
    FRAME_NESTED | FRAME_FOLDED | FRAME_OTHER | FRAME_OVERLAPS | FRAME_MARKED | FRAME_TIMED;

/// A span is left.
#[inline]
pub(super) fn exit(capture: &Capture, local: &mut Local, id: u64) {
    // The clock comes first, so that the work below is not the span's.
    let now = capture.clock.tick();
    let Local { shared, work, .. } = local;
    let depth = shared.depth.load(Relaxed);
    if depth == 0 || work.frame(shared, depth - 1).id.load(Relaxed) != id {
        return exit_out_of_order(capture, shared, work, id, now);
    }
    let top = depth - 1;
    let frame = work.frame(shared, top);
    let (node, flags) = frame.node_and_flags();
    let entered = frame.entered.load(Relaxed);
    let state = shared.own_state(id);
    let unusual = flags & RARE != 0
        || state.has(SHARED | sites::HELD)
        || state.id.load(Relaxed) != id
        || now < entered;
    if unusual {
        let left = Left::read(frame, top);
        shared.depth.store(top, Release);
        if flags & FRAME_MARKED != 0 {
            marks::left(capture, work, top);
        }
        if flags & FRAME_TIMED != 0 {
            cpu_time::left(capture, work, top, node, now);
        }
        return end(capture, shared, work, left, now, None);
    }
    let total = now - entered;
    let own = total.saturating_sub(frame.child.load(Relaxed));
    shared.depth.store(top, Release);
    if top > 0 {
        node::add(&work.frame(shared, top - 1).child, total);
    } else {
        node::add(&shared.busy, total);
    }
    work.tree.node(node).record(entered, total, own);
    if flags & FRAME_AGAIN == 0 {
        return state.end_first(now);
    }
    node::add(&state.busy, total);
    if capture.streams.spans || flags & TREE != 0 {
        let left = Left::read(work.frame(shared, top), top);
        emit_activation(capture, shared, work, state, left, now);
    }
}

/// A frame that was taken off the stack.
#[derive(Clone, Copy)]
struct Left {
    id: u64,
    seq: u64,
    entered: u64,
    child: u64,
    node: u32,
    flags: u32,
    /// Set only where a sink wants ids.
    operation: u64,
    /// How many frames are around it.
    around: usize,
}

impl Left {
    #[inline]
    fn read(frame: &Frame, around: usize) -> Left {
        let (node, flags) = frame.node_and_flags();
        Left {
            id: frame.id.load(Relaxed),
            seq: frame.seq.load(Relaxed),
            entered: frame.entered.load(Relaxed),
            child: frame.child.load(Relaxed),
            node,
            flags,
            operation: frame.operation.load(Relaxed),
            around,
        }
    }

    /// Returns the record of the activation.
    #[inline(always)]
    fn words(
        &self,
        shared: &ThreadShared,
        work: &Work,
        state: &SpanState,
        held: bool,
        ended: u64,
    ) -> SpanWords {
        SpanWords {
            kind: if held { Kind::Call } else { Kind::Poll },
            flags: match self.flags & FRAME_OVERLAPS {
                0 => 0,
                _ => stream::OVERLAPPING,
            },
            site_marks: 0,
            site: state.site(),
            seq: self.seq,
            parent: match self.around.checked_sub(1) {
                Some(outer) => work.frame(shared, outer).seq.load(Relaxed),
                None => state.declared_parent.load(Relaxed),
            },
            start: self.entered,
            end: ended,
        }
    }

    /// Returns what the ids are made of if it is a call through a held span.
    fn identity(&self, shared: &ThreadShared, work: &Work, state: &SpanState) -> Identity {
        let outer = self.around.checked_sub(1);
        let outer = outer.map(|at| work.frame(shared, at));
        Identity::of_call(state, self.operation, outer)
    }
}

/// Records an activation, whatever it is, and charges what is around it: with all of it, or with `charge` where an inner
/// frame goes on. `exit` does the same for the usual activation with less work.
fn end(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    left: Left,
    now: u64,
    charge: Option<u64>,
) {
    if now < left.entered {
        capture.counters.clock_steps.fetch_add(1, Relaxed);
    }
    let total = now.saturating_sub(left.entered);
    let nested = left.flags & FRAME_NESTED != 0;
    let charge = match charge {
        Some(charge) => charge,
        None if nested => left.child,
        None => total,
    };
    match left.around.checked_sub(1) {
        Some(outer) => node::add(&work.frame(shared, outer).child, charge),
        None => node::add(&shared.busy, charge),
    }
    if nested {
        return;
    }
    let node = work.tree.node(left.node);
    node.record(left.entered, total, total.saturating_sub(left.child));
    if left.flags & FRAME_FOLDED != 0 {
        node.count_folded(total);
    }
    if left.flags & (FRAME_FOLDED | FRAME_OTHER) != 0 {
        capture.counters.folded_activations.fetch_add(1, Relaxed);
    }
    let ended = left.entered + total;
    let state = shared.own_state(left.id);
    if state.id.load(Relaxed) == left.id {
        if left.flags & FRAME_OVERLAPS != 0 {
            state.set(OVERLAPS);
        }
        end_own(capture, shared, work, state, left, ended);
    } else {
        end_elsewhere(capture, shared, work, left, ended);
    }
}

/// The end of an activation, for the state of its span.
fn end_own(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    state: &SpanState,
    left: Left,
    ended: u64,
) {
    if left.flags & FRAME_AGAIN != 0 {
        return end_again(capture, shared, work, state, left, ended);
    }
    if state.has(FIRST_STREAMED) {
        // Another thread entered at the same moment, and what it streamed passed for the first.
        if capture.streams.spans || left.flags & TREE != 0 {
            emit_activation(capture, shared, work, state, left, ended);
        }
        return;
    }
    state.end_first(ended);
    if (capture.streams.spans || state.has(TREE)) && state.activations() > 1 {
        // Another thread entered meanwhile and could not stream this one.
        stream_first(capture, shared, work, state);
    }
}

#[cold]
fn end_elsewhere(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    left: Left,
    ended: u64,
) {
    // A state that is gone was closed while entered, or never had one; the activation itself is counted.
    let Some(found) = work.find(capture, left.id) else {
        return;
    };
    let state = found.state();
    if state.seq.load(Relaxed) != left.seq {
        return;
    }
    if work.created(state) {
        // Created on this thread, with no room in its table.
        if left.flags & FRAME_OVERLAPS != 0 {
            state.set(OVERLAPS);
        }
        return end_own(capture, shared, work, state, left, ended);
    }
    if left.flags & FRAME_AGAIN != 0 {
        return end_again(capture, shared, work, state, left, ended);
    }
    state.end_first(ended);
    // Whoever closes the span could not say on which thread this ran.
    state.set(FIRST_STREAMED);
    if capture.streams.spans || left.flags & TREE != 0 {
        emit_activation(capture, shared, work, state, left, ended);
    }
}

#[inline]
fn end_again(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    left: Left,
    ended: u64,
) {
    let length = ended - left.entered;
    let flags = state.flags();
    if flags & SHARED != 0 {
        state.busy.fetch_add(length, Relaxed);
    } else {
        node::add(&state.busy, length);
    }
    if flags & sites::HELD != 0 {
        work.tree.node(left.node).count_held_calls(1);
    }
    if capture.streams.spans || left.flags & TREE != 0 {
        emit_activation(capture, shared, work, state, left, ended);
    }
}

/// Streams an activation that is not the first one, or no longer pending.
fn emit_activation(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    left: Left,
    ended: u64,
) {
    if left.flags & (TREE | FRAME_ERROR) != 0 {
        return emit_marked(capture, shared, work, state, left, ended);
    }
    let flags = state.flags();
    let held = flags & sites::HELD != 0;
    if !held && !capture.streams.polls {
        return;
    }
    let words = left.words(shared, work, state, held, ended);
    if held && capture.streams.ids {
        let call = left.identity(shared, work, state);
        return work.emit_any(capture, shared, state, words, None, Some(call));
    }
    work.emit_span(capture, shared, state, flags, words);
}

/// The same for an activation in a sampled tree, or a call that failed.
#[cold]
fn emit_marked(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    left: Left,
    ended: u64,
) {
    let held = state.has(sites::HELD);
    let mut tree = left.flags & TREE;
    if tree != 0 && !held && !capture.takes_poll(tree) {
        tree = 0;
    }
    if !held && tree == 0 && !capture.streams.polls {
        return;
    }
    if tree != 0 && held && left.around == 0 {
        capture.leave_tree(tree, left.seq);
    }
    let words = SpanWords {
        site_marks: stream::site_marks(tree, left.flags & FRAME_ERROR != 0),
        ..left.words(shared, work, state, held, ended)
    };
    let call = (held && capture.streams.ids).then(|| left.identity(shared, work, state));
    work.emit_any(capture, shared, state, words, None, call);
}

/// The innermost frame is another one: guards dropped in another order, or an exit without an enter.
#[cold]
fn exit_out_of_order(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
    now: u64,
) {
    let depth = shared.depth.load(Relaxed);
    let Some(at) = entered_at(shared, work, depth, id) else {
        capture.counters.unbalanced_exits.fetch_add(1, Relaxed);
        return;
    };
    capture.counters.out_of_order_exits.fetch_add(1, Relaxed);
    let mut left = Left::read(work.frame(shared, at), at);
    // The frame above goes on. What ran in it so far is not this span's own time; and what is around is charged with
    // the time before it only, because it will be charged with the rest when the frame above ends.
    let above = work.frame(shared, at + 1).entered.load(Relaxed);
    // An inner enter of a span that is entered further out has no time of its own, only that of its children.
    let charge = if left.flags & FRAME_NESTED != 0 {
        left.child
    } else {
        above.saturating_sub(left.entered)
    };
    left.child = left.child.saturating_add(now.saturating_sub(above));
    for lower in at..depth - 1 {
        work.frame(shared, lower)
            .copy_from(work.frame(shared, lower + 1));
        work.frame(shared, lower).add_flag(FRAME_OVERLAPS);
    }
    shared.depth.store(depth - 1, Release);
    if left.flags & FRAME_MARKED != 0 {
        marks::left(capture, work, at);
    }
    if left.flags & FRAME_TIMED != 0 {
        cpu_time::left(capture, work, at, left.node, now);
    }
    end(capture, shared, work, left, now, Some(charge));
}
