//! Enter and exit: one activation of a span on one thread.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use tracing_core::Metadata;

use super::capture::Capture;
use super::local::{
    FRAME_AGAIN, FRAME_FOLDED, FRAME_HELD, FRAME_NESTED, FRAME_OTHER, FRAME_OVERLAPS, Frame, Local,
    ThreadShared, Work,
};
use super::node;
use super::sites;
use super::span_state::{Birth, FIRST_STREAMED, OVERLAPS, SHARED, SpanState};
use super::stream::{self, Kind, SpanWords};
use crate::model::PathId;

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

/// A span is entered. `metadata` is asked only where the span is unknown.
#[inline]
pub(super) fn enter(
    capture: &Capture,
    local: &mut Local,
    id: u64,
    metadata: impl FnOnce() -> Option<&'static Metadata<'static>>,
) {
    let Local { shared, work, .. } = local;
    let state = shared.own_state(id);
    if state.id.load(Relaxed) == id {
        if !resume(capture, shared, work, state, id) {
            begin::<true>(capture, shared, work, state, id);
        }
    } else {
        enter_elsewhere(capture, shared, work, id, metadata);
    }
}

#[cold]
fn enter_elsewhere(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
    metadata: impl FnOnce() -> Option<&'static Metadata<'static>>,
) {
    if let Some(found) = work.find(capture, id) {
        let state = found.state();
        return if work.created(state) {
            begin::<true>(capture, shared, work, state, id)
        } else {
            begin::<false>(capture, shared, work, state, id)
        };
    }
    // Created before the layer was there, or beyond the limit of open spans: only its activations can be counted.
    let Some(metadata) = metadata() else { return };
    capture.counters.unknown_spans.fetch_add(1, Relaxed);
    let (site, flags) = work.site(capture, metadata);
    let state = SpanState::free();
    state.open(Birth {
        id,
        seq: work.next_seq(),
        site,
        flags,
        opened: None,
        declared_parent: 0,
        declared_path: PathId::ROOT,
    });
    begin::<true>(capture, shared, work, &state, id);
}

/// Enters a span that this thread has just left and that it had entered several times before, as happens to a task
/// that is polled again: the frame it left behind is still right. Returns whether it is.
#[inline(always)]
fn resume(
    capture: &Capture,
    shared: &ThreadShared,
    work: &Work,
    state: &SpanState,
    id: u64,
) -> bool {
    // Only a frame with nothing around it depends on nothing else.
    let frame = work.frame(shared, 0);
    if frame.id.load(Relaxed) != id || shared.depth.load(Relaxed) != 0 {
        return false;
    }
    let (node, flags) = frame.node_and_flags();
    if flags != FRAME_AGAIN
        || frame.seq.load(Relaxed) != state.seq.load(Relaxed)
        || state.has(SHARED | sites::HELD)
    {
        return false;
    }
    if state.declared_parent.load(Relaxed) != 0 {
        work.tree.node(node).count_detached();
    }
    let number = state.count_again(0);
    frame.activation.store(number, Relaxed);
    frame.child.store(0, Relaxed);
    shared.depth.store(1, Release);
    frame.entered.store(capture.clock.tick(), Relaxed);
    true
}

/// What is around an activation.
#[derive(Clone, Copy)]
struct Around {
    node: u32,
    seq: u64,
    activation: u32,
    held: bool,
}

/// Enters a span. `OWN` says that this thread created it.
#[inline(always)]
fn begin<const OWN: bool>(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    state: &SpanState,
    id: u64,
) {
    let depth = shared.depth.load(Relaxed);
    let around = if depth == 0 {
        outermost(capture, shared, work, state)
    } else {
        let frame = work.frame(shared, depth - 1);
        let (node, flags) = frame.node_and_flags();
        Around {
            node,
            seq: frame.seq.load(Relaxed),
            activation: frame.activation.load(Relaxed),
            held: flags & FRAME_HELD != 0,
        }
    };
    let (site, flags) = state.site_and_flags();
    let mut number = 1;
    let mut frame_flags = 0;
    if !OWN || !state.count_first(flags, around.seq, around.activation) {
        number = if OWN {
            state.count_again(flags)
        } else {
            state.count_elsewhere(around.seq, around.activation)
        };
        if number > 1 {
            if depth > 0
                && let Some(outer) = entered_at(shared, work, depth, id)
            {
                return enter_nested(capture, shared, work, state, OWN, outer);
            }
            frame_flags = again(capture, shared, work, state, flags, around, number);
        }
    }
    if flags & sites::HELD != 0 {
        frame_flags |= FRAME_HELD;
    }
    let child = work
        .tree
        .child(&capture.registry, around.node, site, |node| {
            shared.add_node(node);
        });
    if depth == 0 && around.seq != 0 {
        work.tree.node(child.node()).count_detached();
    }
    state.set_path(child.path);

    work.reserve_frame(depth);
    let frame = work.frame(shared, depth);
    frame.id.store(id, Relaxed);
    frame.seq.store(state.seq.load(Relaxed), Relaxed);
    frame.child.store(0, Relaxed);
    frame.set_node_and_flags(child.node_and_flags | u64::from(frame_flags));
    frame.set_path(child.path);
    frame.activation.store(number, Relaxed);
    shared.depth.store(depth + 1, Release);
    // The clock comes last, so that the work above is not the span's.
    let now = capture.clock.tick();
    frame.entered.store(now, Relaxed);
    if number == 1 {
        state.first_start.store(now, Relaxed);
    }
}

/// Nothing is entered on this thread: the declared parent is around the span.
#[inline(always)]
fn outermost(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
) -> Around {
    let path = state.declared_path();
    Around {
        node: work
            .tree
            .at_path(&capture.registry, path, |node| shared.add_node(node)),
        seq: state.declared_parent.load(Relaxed),
        activation: 0,
        held: false,
    }
}

/// Returns the innermost frame of a span that this thread has entered already.
#[inline]
fn entered_at(shared: &ThreadShared, work: &Work, depth: usize, id: u64) -> Option<usize> {
    (0..depth)
        .rev()
        .find(|&at| work.frame(shared, at).id.load(Relaxed) == id)
}

/// A span is entered inside itself, which is no activation: its time is the outer frame's, and what is entered inside
/// belongs to the node that is on top already.
#[cold]
fn enter_nested(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    own: bool,
    outer: usize,
) {
    capture.counters.nested_enters.fetch_add(1, Relaxed);
    state.uncount(own);
    let depth = shared.depth.load(Relaxed);
    work.reserve_frame(depth);
    let around = work.frame(shared, depth - 1);
    let (node, path) = (around.node(), around.path());
    let frame = work.frame(shared, depth);
    frame.copy_from(work.frame(shared, outer));
    frame.set_path(path);
    frame.child.store(0, Relaxed);
    let held = frame.node_and_flags().1 & FRAME_HELD;
    let flags = FRAME_AGAIN | FRAME_NESTED | held;
    frame.set_node_and_flags(u64::from(node) << 32 | u64::from(flags));
    shared.depth.store(depth + 1, Release);
    frame.entered.store(capture.clock.tick(), Relaxed);
}

/// A span is entered once more: is it async, or held?
#[inline]
fn again(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    flags: u32,
    around: Around,
    number: u32,
) -> u32 {
    if number == 2 {
        state.busy.store(0, Relaxed);
    }
    let mut held = 0;
    if flags & sites::HELD == 0
        && (around.seq != state.first_parent.load(Relaxed)
            || (around.held && around.activation != state.first_parent_activation()))
    {
        become_held(capture, shared, work, state, number);
        held = FRAME_HELD;
    }
    if capture.streams.spans && flags & FIRST_STREAMED == 0 {
        stream_first(capture, shared, work, state);
    }
    FRAME_AGAIN | held
}

/// The span turns out to be held: what looked like polls so far were calls.
#[cold]
fn become_held(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    number: u32,
) {
    state.set(sites::HELD);
    if number > 2
        && let Some(path) = state.path()
    {
        let node = work
            .tree
            .at_path(&capture.registry, path, |node| shared.add_node(node));
        let forgotten = capture.before_reset(state);
        work.tree
            .node(node)
            .count_held_calls((number - 2).saturating_sub(forgotten));
    }
}

/// Streams the first activation, which was pending until now.
#[cold]
fn stream_first(capture: &Capture, shared: &ThreadShared, work: &mut Work, state: &SpanState) {
    // While another thread is still in it, that thread will stream it when it leaves.
    let Some(end) = state.first_end() else { return };
    if state.set(FIRST_STREAMED) {
        return;
    }
    let kind = if state.has(sites::HELD) {
        Kind::Call
    } else {
        Kind::Poll
    };
    work.emit_first(capture, shared, state, kind, end);
}

/// What makes the end of an activation an unusual one.
const RARE: u32 = FRAME_NESTED | FRAME_FOLDED | FRAME_OTHER | FRAME_OVERLAPS;

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
    if capture.streams.spans {
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
            around,
        }
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
        if capture.streams.spans {
            emit_activation(capture, shared, work, state, left, ended);
        }
        return;
    }
    state.end_first(ended);
    if capture.streams.spans && state.activations() > 1 {
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
    if capture.streams.spans {
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
    if capture.streams.spans {
        emit_activation(capture, shared, work, state, left, ended);
    }
}

fn emit_activation(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    left: Left,
    ended: u64,
) {
    let parent = match left.around.checked_sub(1) {
        Some(outer) => work.frame(shared, outer).seq.load(Relaxed),
        None => state.declared_parent.load(Relaxed),
    };
    let held = state.has(sites::HELD);
    let words = SpanWords {
        kind: if held { Kind::Call } else { Kind::Poll },
        flags: if left.flags & FRAME_OVERLAPS != 0 {
            stream::OVERLAPPING
        } else {
            0
        },
        site: state.site(),
        seq: left.seq,
        parent,
        start: left.entered,
        end: ended,
        life: None,
    };
    work.emit_span(capture, shared, state, &words);
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
    end(capture, shared, work, left, now, Some(charge));
}
