//! Enter: an activation begins.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use tracing_core::Metadata;

use super::capture::Capture;
use super::cpu_time;
use super::frame::{FRAME_AGAIN, FRAME_HELD, FRAME_NESTED, FRAME_PLACE};
use super::local::{Local, ThreadShared, Work};
use super::marks;
use super::place;
use super::sampling::{self, TREE};
use super::sites;
use super::span_state::{Birth, FIRST_STREAMED, SHARED, SpanState};
use super::stream::Kind;
use crate::model::PathId;

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
    let state = SpanState::unused();
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
    if flags & !TREE != FRAME_AGAIN
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
    /// Of the frame; where there is none, the bits of the tree that the span was created in.
    flags: u32,
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
    let (site, flags) = state.site_and_flags();
    let around = if depth == 0 {
        outermost(capture, shared, work, state, flags)
    } else {
        let frame = work.frame(shared, depth - 1);
        let (node, flags) = frame.node_and_flags();
        Around {
            node,
            seq: frame.seq.load(Relaxed),
            activation: frame.activation.load(Relaxed),
            flags,
        }
    };
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
    if capture.streams.trees {
        let held = frame_flags & FRAME_HELD != 0;
        frame_flags |= tree_of(
            capture,
            shared,
            work,
            state,
            flags,
            around,
            depth,
            number,
            held,
            child.node(),
        );
    }

    work.reserve_frame(depth);
    if capture.has_rich_frames {
        if capture.streams.ids {
            frame_flags |= place::entered(
                capture,
                shared,
                work,
                state,
                flags,
                around.flags,
                depth,
                number,
            );
        }
        if capture.marks.is_some() {
            frame_flags |= marks::entered(capture, shared, work, site);
        }
        if capture.streams.cpu {
            frame_flags |= cpu_time::entered(capture, shared, work, Some(child.node()));
        }
    }
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

/// Returns the bits of the sampled tree that an activation is in.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a part of `begin`, which has them at hand"
)]
fn tree_of(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    flags: u32,
    around: Around,
    depth: usize,
    number: u32,
    held: bool,
    node: u32,
) -> u32 {
    let is_root = depth == 0 && around.seq == 0 && (number == 1 || held);
    if is_root {
        if work.tree.idle_grant == capture.sampling.granted() {
            return 0;
        }
        return capture.sample_root(shared, work, state, node, number == 1);
    }
    if (around.flags | flags) & TREE == 0 || (number > 1 && !held) {
        return around.flags & TREE;
    }
    sampling::join_tree(capture, state, around.flags & TREE, number == 1)
}

/// Nothing is entered on this thread: the declared parent is around the span.
#[inline(always)]
fn outermost(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
    flags: u32,
) -> Around {
    let path = state.declared_path();
    Around {
        node: work
            .tree
            .at_path(&capture.registry, path, |node| shared.add_node(node)),
        seq: state.declared_parent.load(Relaxed),
        activation: 0,
        flags: flags & TREE,
    }
}

/// Returns the innermost frame of a span that this thread has entered already.
#[inline]
pub(super) fn entered_at(
    shared: &ThreadShared,
    work: &Work,
    depth: usize,
    id: u64,
) -> Option<usize> {
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
    let kept = frame.node_and_flags().1 & (FRAME_HELD | FRAME_PLACE | TREE);
    let marked = marks::entered(capture, shared, work, state.site());
    let timed = cpu_time::entered(capture, shared, work, None);
    let frame = work.frame(shared, depth);
    let flags = FRAME_AGAIN | FRAME_NESTED | kept | marked | timed;
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
            || (around.flags & FRAME_HELD != 0
                && around.activation != state.first_parent_activation()))
    {
        become_held(capture, shared, work, state, number);
        held = FRAME_HELD;
    }
    if (capture.streams.spans || flags & TREE != 0) && flags & FIRST_STREAMED == 0 {
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
        if capture.streams.ids {
            let polls = u64::from(number - 2);
            capture.counters.late_calls.fetch_add(polls, Relaxed);
        }
        let forgotten = capture.before_reset(state);
        work.tree
            .node(node)
            .count_held_calls((number - 2).saturating_sub(forgotten));
    }
}

/// Streams the first activation, which was pending until now.
#[cold]
pub(super) fn stream_first(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
) {
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
