//! What happens to a span besides enter and exit, and events.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing_core::field::Visit;
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Metadata};

use super::capture::Capture;
use super::context;
use super::found::Found;
use super::frame::{FRAME_ADOPTED, FRAME_ERROR, Frame};
use super::local::{self, Local, ThreadShared, Work};
use super::node::Node;
use super::place::{self, Identity};
use super::sampling::TREE;
use super::sites::{ASYNC, HELD, KEEP_FIELDS, PLAIN, SEMANTIC_FIELDS, TREE_FIELDS};
use super::span_state::{
    Birth, CARRIES, ERROR, FIELDS, FIRST_STREAMED, INLINE, REPORTS, SHARED, SpanState,
};
use super::stream::{EventPlace, Kind, SpanWords, site_marks};
use super::visit::{self, Read};
use crate::model::Level;
use crate::model::{FOLLOWS_FROM_INDEX, QUERY_EVENTS};
use crate::model::{FieldWriter, PathId, Value};

/// The most that all fields of one span may take, encoded. Recording fields late has no other bound.
const MAX_SPAN_FIELD_BYTES: usize = 64 * 1024;

/// What the program declared around a new span.
#[derive(Debug, Clone, Copy)]
pub(super) enum Declared {
    /// Whatever is entered on this thread.
    Contextual,
    /// Nothing.
    Root,
    /// This span, by the subscriber's id.
    Parent(u64),
}

impl Declared {
    #[inline]
    fn of(attributes: &Attributes<'_>) -> Declared {
        if attributes.is_contextual() {
            Declared::Contextual
        } else {
            attributes
                .parent()
                .map_or(Declared::Root, |parent| Declared::Parent(parent.into_u64()))
        }
    }
}

#[inline]
pub(super) fn new_span(capture: &Capture, attributes: &Attributes<'_>, id: &Id) {
    let id = id.into_u64();
    let fields_are_left = local::with(capture, |local| {
        let (metadata, declared) = (attributes.metadata(), Declared::of(attributes));
        let flags = open(capture, local, metadata, declared, id);
        if flags & (KEEP_FIELDS | TREE_FIELDS) == 0 {
            return false;
        }
        let state = local.shared.own_state(id);
        if flags & SEMANTIC_FIELDS != 0 || state.id.load(Relaxed) != id {
            return true;
        }
        let wanted = flags & KEEP_FIELDS != 0 || may_be_in_tree(state, flags);
        wanted && !record_simple(capture, state, attributes)
    });
    if fields_are_left == Some(true) {
        record_fields(capture, id, true, |visitor| attributes.record(visitor));
    }
}

/// Records the fields of a new span if that runs none of the program's code; returns whether it has.
#[inline]
fn record_simple(capture: &Capture, state: &SpanState, attributes: &Attributes<'_>) -> bool {
    let max = capture.registry.limits.max_field_bytes;
    state.write_inline(|words| visit::read_simple(words, max, |visitor| attributes.record(visitor)))
}

/// Takes a span in; returns the flags of its site and its tree, 0 if the span is not tracked.
#[inline]
pub(super) fn open(
    capture: &Capture,
    local: &mut Local,
    metadata: &'static Metadata<'static>,
    declared: Declared,
    id: u64,
) -> u32 {
    let Local { shared, work, .. } = local;
    let (site, flags) = work.site(capture, metadata);
    let depth = shared.depth.load(Relaxed);
    let (declared_parent, declared_path, tree) = match declared {
        Declared::Contextual if depth > 0 => {
            let frame = work.frame(shared, depth - 1);
            let tree = frame.node_and_flags().1 & TREE;
            (frame.seq.load(Relaxed), frame.path(), tree)
        }
        Declared::Contextual | Declared::Root => (0, PathId::ROOT, 0),
        Declared::Parent(parent) => place_of(capture, shared, work, parent),
    };
    let flags = flags | tree;
    let seq = work.next_seq();
    let opened = (flags & PLAIN == 0).then(|| capture.clock.tick());
    // Put together where it is used, because the rare uses would have it on the stack in every case.
    let birth = || Birth {
        id,
        seq,
        site,
        flags,
        opened,
        declared_parent,
        declared_path,
    };
    let state = shared.own_state(id);
    let taken = state.taken_by();
    if taken == 0 {
        state.open(birth());
    } else if !open_rare(capture, state, taken == id, birth()) {
        return 0;
    }
    if capture.streams.ids {
        place::opened(capture, shared, work, id, declared);
    }
    flags
}

/// Whether a span with these flags is in a sampled tree, or is a root of which that is not decided yet.
#[inline]
fn may_be_in_tree(state: &SpanState, flags: u32) -> bool {
    flags & TREE != 0 || state.declared_parent.load(Relaxed) == 0
}

/// Takes a span in whose place is taken; returns whether there was another one.
#[cold]
fn open_rare(capture: &Capture, state: &SpanState, same_id: bool, birth: Birth) -> bool {
    if same_id {
        // That span was never closed, as when this happened on a thread that was shutting down.
        state.extra().clear();
        state.clear_elsewhere();
        state.open(birth);
        return true;
    }
    let tracked = capture.spilled.insert(birth).is_some();
    if !tracked {
        capture.counters.untracked_spans.fetch_add(1, Relaxed);
    }
    tracked
}

/// Returns the sequence number, the path and the tree of a span that is not necessarily entered.
#[cold]
fn place_of(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
) -> (u64, PathId, u32) {
    let place = |state: &SpanState| {
        let tree = state.flags() & TREE;
        (state.seq.load(Relaxed), capture.path_of(state), tree)
    };
    let state = shared.own_state(id);
    if state.id.load(Relaxed) == id {
        return place(state);
    }
    // A span that is somebody's parent has not been handed to that thread.
    let found = work.look(capture, id);
    found.map_or((0, PathId::ROOT, 0), |found| place(found.state()))
}

/// Runs `then` on the state of a span, wherever it is.
pub(super) fn with_state<R>(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    id: u64,
    then: impl FnOnce(&mut Work, &SpanState) -> R,
) -> Option<R> {
    let state = shared.own_state(id);
    if state.id.load(Relaxed) == id {
        return Some(then(work, state));
    }
    let found = work.find(capture, id)?;
    Some(then(work, found.state()))
}

pub(super) fn record(capture: &Capture, id: &Id, values: &Record<'_>) {
    let keep = local::with(capture, |local| {
        let Local { shared, work, .. } = local;
        with_state(capture, shared, work, id.into_u64(), |_, state| {
            state.has(KEEP_FIELDS | TREE_FIELDS)
        })
    });
    if keep.flatten() == Some(true) {
        record_fields(capture, id.into_u64(), false, |visitor| {
            values.record(visitor);
        });
    }
}

pub(super) fn follows_from(capture: &Capture, id: &Id, follows: &Id) {
    if !capture.streams.fields {
        return;
    }
    local::with(capture, |local| {
        let Local { shared, work, .. } = local;
        let (seq, ..) = place_of(capture, shared, work, follows.into_u64());
        let link = context::link_to(capture, shared, work, follows.into_u64());
        with_state(capture, shared, work, id.into_u64(), |_, state| {
            let mut bytes = Vec::new();
            let mut writer = FieldWriter::new(&mut bytes, 0);
            writer.write(FOLLOWS_FROM_INDEX, Value::U64(seq));
            if let Some(link) = link {
                writer.write_link(link);
            }
            keep(capture, state, false, Read::default(), &bytes);
        });
    });
}

/// Reads fields with no part of the capture borrowed, because their `Debug` may open spans.
fn record_fields(capture: &Capture, id: u64, new: bool, record: impl FnOnce(&mut dyn Visit)) {
    let max = capture.registry.limits.max_field_bytes;
    visit::read(max, record, |read, bytes| {
        local::with(capture, |local| {
            let Local { shared, work, .. } = local;
            with_state(capture, shared, work, id, |_, state| {
                keep(capture, state, new, read, bytes);
            });
        });
    });
}

/// Keeps fields; `new` says that no other thread knows the span yet.
fn keep(capture: &Capture, state: &SpanState, new: bool, read: Read, bytes: &[u8]) {
    count_field_losses(capture, read);
    let mut flags = u32::from(read.error) * ERROR;
    if read.gpu.is_something() {
        flags |= REPORTS;
        let (span, path) = (state.seq.load(Relaxed), capture.path_of(state));
        capture.gpu_reports.take(span, path, read.gpu);
    }
    let for_tree = || state.has(TREE_FIELDS) && may_be_in_tree(state, state.flags());
    let wanted = !bytes.is_empty() && (capture.streams.fields || for_tree());
    if wanted && new && state.keep_inline(bytes) {
        flags |= INLINE;
    } else if wanted {
        let mut extra = state.extra();
        if extra.len() + bytes.len() <= MAX_SPAN_FIELD_BYTES {
            extra.extend_from_slice(bytes);
            flags |= FIELDS;
        } else {
            capture.counters.cut_strings.fetch_add(1, Relaxed);
        }
    }
    if new {
        state.set_own(flags);
    } else {
        state.set(flags);
    }
}

fn count_field_losses(capture: &Capture, read: Read) {
    if read.cuts > 0 {
        capture.counters.cut_strings.fetch_add(read.cuts, Relaxed);
    }
    if read.panics > 0 {
        capture
            .counters
            .panicked_fields
            .fetch_add(read.panics, Relaxed);
    }
}

/// A span is closed.
#[inline]
pub(super) fn close(capture: &Capture, local: &mut Local, id: u64) {
    let Local { shared, work, .. } = local;
    let state = shared.own_state(id);
    if state.id.load(Relaxed) == id {
        settle(capture, shared, work, state);
        state.free();
    } else {
        close_elsewhere(capture, shared, work, id);
    }
}

#[cold]
fn close_elsewhere(capture: &Capture, shared: &Arc<ThreadShared>, work: &mut Work, id: u64) {
    let Some(found) = work.find(capture, id) else {
        return;
    };
    settle(capture, shared, work, found.state());
    found.state().free();
    if let Found::Spilled(_) = found {
        capture.spilled.remove(id);
    }
}

/// Records what only the end of a span tells.
#[inline]
fn settle(capture: &Capture, shared: &Arc<ThreadShared>, work: &mut Work, state: &SpanState) {
    let flags = state.flags();
    let usual = flags & (PLAIN | HELD | ERROR | FIRST_STREAMED | SHARED) == PLAIN;
    if usual && state.own_activations() == 1 {
        if (capture.streams.spans || flags & TREE != 0)
            && let Some(end) = state.only_end()
        {
            work.emit_first(capture, shared, state, Kind::Whole, end);
        }
    } else {
        settle_rare(capture, shared, work, state, flags);
        state.clear_elsewhere();
    }
    if flags & (FIELDS | CARRIES | REPORTS | TREE) != 0 {
        settle_more(capture, state, flags);
    }
}

/// Gives up what only some spans have.
#[cold]
fn settle_more(capture: &Capture, state: &SpanState, flags: u32) {
    if flags & TREE != 0 {
        capture.leave_tree(flags, state.seq.load(Relaxed));
    }
    if flags & REPORTS != 0 {
        capture.gpu_reports.forget(state.seq.load(Relaxed));
    }
    if flags & (FIELDS | CARRIES) != 0 {
        state.extra().clear();
        if flags & CARRIES != 0 {
            capture.carried.remove(state.seq.load(Relaxed));
        }
    }
}

/// The end of a span that is not plain, or whose site is not known to be.
#[cold]
fn settle_rare(
    capture: &Capture,
    shared: &Arc<ThreadShared>,
    work: &mut Work,
    state: &SpanState,
    flags: u32,
) {
    let activations = state.activations();
    let pending = state
        .first_end()
        .filter(|_| (capture.streams.spans || flags & TREE != 0) && flags & FIRST_STREAMED == 0);
    // That another thread closes it says nothing: a subscriber keeps a span open as long as its children are.
    let handed_over = flags & FIRST_STREAMED != 0;
    let plain = activations == 1 && !handed_over && flags & (ASYNC | HELD) == 0;
    if plain && flags & ERROR == 0 {
        if let Some(end) = pending {
            work.emit_first(capture, shared, state, Kind::Whole, end);
        }
        if flags & PLAIN == 0 {
            capture.registry.count_plain(state.site());
        }
        return;
    }
    let node = node_of(capture, shared, work, state);
    let before_reset = capture.take_before_reset(state);
    if activations == 0 {
        node.count_unentered();
    } else if flags & HELD == 0 {
        match activations.saturating_sub(before_reset).checked_sub(1) {
            Some(polls) => node.count_polls(polls),
            None => node.count_unentered(),
        }
    }
    if flags & ERROR != 0 {
        node.count_error();
    }
    let kind = match flags {
        _ if plain => Kind::Whole,
        _ if flags & HELD != 0 => Kind::Call,
        _ => Kind::Poll,
    };
    if let Some(end) = pending {
        work.emit_first(capture, shared, state, kind, end);
    }
    if kind != Kind::Poll {
        return;
    }
    let known = if activations > 1 { ASYNC } else { 0 };
    if flags & ASYNC == 0 {
        capture.registry.learn(state.site(), known);
    }
    let (mut opened, exact) = state.opened();
    let now = capture.clock.tick();
    if !exact {
        capture.counters.late_latencies.fetch_add(1, Relaxed);
        opened = if activations == 0 { now } else { opened };
    }
    let busy = state.busy_total();
    let latency = now.saturating_sub(opened);
    node.record_latency(opened, latency, latency.saturating_sub(busy));
    if capture.streams.spans || flags & TREE != 0 {
        let parent = state.declared_parent.load(Relaxed);
        let seq = state.seq.load(Relaxed);
        let words = SpanWords {
            kind: Kind::Async,
            flags: 0,
            site_marks: site_marks(flags, flags & ERROR != 0),
            site: state.site(),
            seq,
            parent,
            start: opened,
            end: now.max(opened),
        };
        let life = Some((busy, activations));
        work.emit_any(capture, shared, state, words, life, None);
    }
}

/// Returns the node of a span's latest activation; of the place where it was declared if there was none.
fn node_of(
    capture: &Capture,
    shared: &ThreadShared,
    work: &mut Work,
    state: &SpanState,
) -> Arc<Node> {
    let add = |node: &_| shared.add_node(node);
    let registry = &capture.registry;
    let index = match state.path() {
        Some(path) => work.tree.at_path(registry, path, add),
        None => {
            let around = work.tree.at_path(registry, state.declared_path(), add);
            work.tree.child(registry, around, state.site(), add).node()
        }
    };
    Arc::clone(work.tree.node(index))
}

/// An event happens.
#[inline]
pub(super) fn event(capture: &Capture, event: &Event<'_>) {
    let failed = *event.metadata().level() == tracing_core::Level::ERROR;
    let for_tree = capture.streams.trees && event.metadata().target() == QUERY_EVENTS;
    if for_tree && !capture.streams.events {
        return query_event(capture, event, failed);
    }
    if !capture.streams.events {
        if failed {
            local::with(capture, |local| {
                mark_failed(capture, local, event);
            });
        }
        return;
    }
    let max = capture.registry.limits.max_field_bytes;
    let record = |visitor: &mut dyn Visit| event.record(visitor);
    visit::read(max, record, |read, bytes| {
        local::with(capture, |local| {
            count_field_losses(capture, read);
            let mut around = if failed {
                mark_failed(capture, local, event)
            } else {
                around(capture, local, event)
            };
            if !for_tree || !capture.takes_record(around.tree) {
                around.tree = 0;
            }
            let Local { shared, work, .. } = local;
            let (site, _) = work.site(capture, event.metadata());
            let level = level(event.metadata());
            bytes.truncate(MAX_SPAN_FIELD_BYTES);
            work.emit_event(capture, shared, site, around, level, bytes);
        });
    });
}

/// An event that says how long a query took, where only trees want events.
#[cold]
fn query_event(capture: &Capture, event: &Event<'_>, failed: bool) {
    let place = local::with(capture, |local| match failed {
        true => mark_failed(capture, local, event),
        false => around(capture, local, event),
    });
    let Some(around) = place.filter(|place| capture.takes_record(place.tree)) else {
        return;
    };
    let max = capture.registry.limits.max_field_bytes;
    let record = |visitor: &mut dyn Visit| event.record(visitor);
    visit::read(max, record, |_, bytes| {
        local::with(capture, |local| {
            let Local { shared, work, .. } = local;
            let (site, _) = work.site(capture, event.metadata());
            let level = level(event.metadata());
            bytes.truncate(MAX_SPAN_FIELD_BYTES);
            work.emit_event(capture, shared, site, around, level, bytes);
        });
    });
}

fn level(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing_core::Level::ERROR => Level::Error,
        tracing_core::Level::WARN => Level::Warn,
        tracing_core::Level::INFO => Level::Info,
        tracing_core::Level::DEBUG => Level::Debug,
        tracing_core::Level::TRACE => Level::Trace,
    }
}

/// Returns what is around an event.
fn around(capture: &Capture, local: &mut Local, event: &Event<'_>) -> EventPlace {
    let Local { shared, work, .. } = local;
    if let Some(parent) = event.parent() {
        let id = parent.into_u64();
        let place = with_state(capture, shared, work, id, |_, state| {
            let identity = Identity::of(state);
            EventPlace {
                span: state.seq.load(Relaxed),
                number: identity.operation,
                adopted: identity.adopted,
                tree: state.flags() & TREE,
            }
        });
        return place.unwrap_or_default();
    }
    match shared.depth.load(Relaxed).checked_sub(1) {
        Some(top) if event.is_contextual() => inside(capture, work.frame(shared, top)),
        _ => EventPlace::default(),
    }
}

fn inside(capture: &Capture, frame: &Frame) -> EventPlace {
    let span = frame.seq.load(Relaxed);
    let flags = frame.node_and_flags().1;
    EventPlace {
        span,
        number: match capture.streams.ids {
            true => frame.operation.load(Relaxed),
            false => span,
        },
        adopted: flags & FRAME_ADOPTED != 0,
        tree: flags & TREE,
    }
}

/// Notes that the operation around an event failed; returns what is around it.
fn mark_failed(capture: &Capture, local: &mut Local, event: &Event<'_>) -> EventPlace {
    let around = around(capture, local, event);
    let Local { shared, work, .. } = local;
    let depth = shared.depth.load(Relaxed);
    let Some(top) = (0..depth)
        .rev()
        .find(|&at| work.frame(shared, at).seq.load(Relaxed) == around.span)
    else {
        if let Some(parent) = event.parent() {
            with_state(capture, shared, work, parent.into_u64(), |_, state| {
                state.set(ERROR);
            });
        }
        return around;
    };
    let id = work.frame(shared, top).id.load(Relaxed);
    with_state(capture, shared, work, id, |work, state| {
        let frame = work.frame(shared, top);
        if !state.has(HELD) {
            state.set(ERROR);
        } else if frame.node_and_flags().1 & FRAME_ERROR == 0 {
            frame.add_flag(FRAME_ERROR);
            work.tree.node(frame.node()).count_error();
        }
    });
    around
}
