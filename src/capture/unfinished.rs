//! What is still open when the capture ends, as records for the sinks.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::capture::Capture;
use super::drain::Batch;
use super::found::Found;
use super::frame::{FRAME_OVERLAPS, Frame};
use super::local::ThreadShared;
use super::place::Identity;
use super::sampling::TREE;
use super::sites::{ASYNC, HELD};
use super::span_state::{ERROR, FIRST_STREAMED, OVERLAPS, SpanState};
use crate::model::{Fields, FrameCount, Ids, Nanos, Site, SpanKind, SpanRecord, SpanSeq, Thread};

/// An open span, read from its state.
struct Open<'a> {
    state: &'a SpanState,
    site: &'a Site,
    thread: &'a Thread,
    ids: Option<Ids>,
    fields: Vec<u8>,
}

/// What is read from the state of a span that is entered.
#[derive(Default)]
struct OwnPart {
    fields: Vec<u8>,
    ids: Option<Ids>,
    /// The span around it where nothing else is entered on the thread.
    declared_parent: Option<SpanSeq>,
    failed: bool,
}

impl Capture {
    /// Hands on every activation that goes on and every span that is open, as if it ended now.
    pub(crate) fn unfinished(&self, mut deliver: impl FnMut(&Batch<'_>)) {
        let sites = self.registry.sites();
        let threads = self.threads();
        let now = self.clock.now();
        let going_on = first_activations(&threads);
        for shared in &threads {
            self.entered(shared, &sites, now, &mut deliver);
            for state in &shared.own {
                self.open_span(state, shared, &sites, now, &going_on, &mut deliver);
            }
        }
        // The thread that created a spilled span is no longer known where it has ended; any other will do, because
        // the record is about the span and not about a thread.
        let Some(fallback) = threads.first() else {
            return;
        };
        self.spilled.for_each(|state| {
            self.open_span(state, fallback, &sites, now, &going_on, &mut deliver)
        });
    }

    /// Hands on the activations that go on, on one thread.
    fn entered(
        &self,
        shared: &ThreadShared,
        sites: &[Arc<Site>],
        now: Nanos,
        deliver: &mut impl FnMut(&Batch<'_>),
    ) {
        let table = self.registry.path_table();
        let depth = shared.depth.load(Acquire);
        let frames: Vec<_> = (0..depth).map_while(|at| shared.shared_frame(at)).collect();
        let own: Vec<_> = frames
            .iter()
            .enumerate()
            .map(|(at, frame)| self.own_part(shared, frame, at.checked_sub(1).map(|at| frames[at])))
            .collect();
        let mut batch = Batch::default();
        let mut parent = own.first().and_then(|own| own.declared_parent);
        for (frame, own) in frames.iter().zip(&own) {
            let path = frame.path().0 as usize;
            let site = table
                .nodes
                .get(path)
                .and_then(|&(_, site)| sites.get(site.0 as usize));
            let Some(site) = site else { break };
            let span = SpanSeq(frame.seq.load(Relaxed));
            let kind = match frame.count() {
                FrameCount::Span => SpanKind::Whole,
                FrameCount::Call => SpanKind::Call,
                FrameCount::Poll => SpanKind::Poll,
                FrameCount::Nothing => continue,
            };
            let start = self.clock.scale().at(frame.entered.load(Relaxed));
            let fields = match kind {
                SpanKind::Poll => Fields::empty(),
                _ => Fields::new(site, &own.fields),
            };
            batch.spans.push(SpanRecord {
                span,
                parent,
                kind,
                site,
                name: fields.otel_name(),
                thread: &shared.thread,
                start,
                end: now.max(start),
                fields,
                unfinished: true,
                ids: own.ids,
                overlapping: frame.node_and_flags().1 & FRAME_OVERLAPS != 0,
                traced: frame.node_and_flags().1 & TREE != 0,
                failed: own.failed,
            });
            parent = Some(span);
        }
        deliver(&batch);
    }

    /// Returns the fields and the ids of a span that is entered; none where nothing is known of the span.
    fn own_part(&self, shared: &ThreadShared, frame: &Frame, outer: Option<&Frame>) -> OwnPart {
        let id = frame.id.load(Relaxed);
        let in_table = shared.own_state(id);
        let found = match in_table.id.load(Relaxed) == id {
            true => None,
            false => self.find(id),
        };
        let state = found.as_ref().map_or(in_table, Found::state);
        if state.seq.load(Relaxed) != frame.seq.load(Relaxed) {
            return OwnPart::default();
        }
        let identity = || match frame.count() {
            FrameCount::Call => {
                let operation = frame.operation.load(Relaxed);
                Identity::of_call(state, operation, outer)
            }
            _ => Identity::of(state),
        };
        OwnPart {
            fields: state.fields(),
            ids: self.streams.ids.then(|| self.ids(identity())),
            declared_parent: sequence(state.declared_parent.load(Relaxed)),
            failed: state.has(ERROR),
        }
    }

    /// A span that is open, entered or not.
    fn open_span(
        &self,
        state: &SpanState,
        shared: &ThreadShared,
        sites: &[Arc<Site>],
        now: Nanos,
        going_on: &HashSet<u64>,
        deliver: &mut impl FnMut(&Batch<'_>),
    ) {
        if state.id.load(Relaxed) == 0 {
            return;
        }
        let Some(site) = sites.get(state.site().0 as usize) else {
            return;
        };
        let fields = state.fields();
        let open = Open {
            state,
            site,
            thread: &shared.thread,
            ids: (self.streams.ids).then(|| self.ids(Identity::of(state))),
            fields,
        };
        let mut batch = Batch::default();
        let scale = self.clock.scale();
        let activations = state.activations();
        // Where the clock stands still or steps back, the end of an earlier span in this place looks like its own.
        let first_end = state
            .first_end()
            .filter(|_| !going_on.contains(&state.seq.load(Relaxed)));
        let held = state.has(HELD);
        // A span that was entered once and left is as good as done: code often keeps spans longer than it needs them.
        let once = activations == 1 && !state.has(ASYNC | FIRST_STREAMED);
        if let Some(first_end) = first_end
            && !state.has(FIRST_STREAMED)
        {
            let kind = match held {
                true => SpanKind::Call,
                false if once => SpanKind::Whole,
                false => SpanKind::Poll,
            };
            let start = scale.at(state.first_start.load(Relaxed));
            let mut record = open.record(kind, start, scale.at(first_end));
            record.overlapping = state.has(OVERLAPS);
            record.parent = sequence(state.first_parent.load(Relaxed));
            batch.spans.push(record);
        }
        // The life of a span in its first activation is that activation, which is there already.
        if !held && !once && activations > 0 {
            let kind = SpanKind::Async {
                busy: scale.length(state.busy_total()),
                activations,
            };
            let start = scale.at(state.opened().0);
            let mut record = open.record(kind, start, now.max(start));
            record.unfinished = true;
            batch.spans.push(record);
        }
        deliver(&batch);
    }
}

/// Returns the spans that are in their first activation, as far as other threads can see.
fn first_activations(threads: &[Arc<ThreadShared>]) -> HashSet<u64> {
    let mut going_on = HashSet::new();
    for shared in threads {
        let depth = shared.depth.load(Acquire);
        let frames = (0..depth).map_while(|at| shared.shared_frame(at));
        let first = frames.filter(|frame| frame.count() == FrameCount::Span);
        going_on.extend(first.map(|frame| frame.seq.load(Relaxed)));
    }
    going_on
}

fn sequence(seq: u64) -> Option<SpanSeq> {
    (seq != 0).then_some(SpanSeq(seq))
}

impl Open<'_> {
    fn record(&self, kind: SpanKind, start: Nanos, end: Nanos) -> SpanRecord<'_> {
        let fields = Fields::new(self.site, &self.fields);
        SpanRecord {
            span: SpanSeq(self.state.seq.load(Relaxed)),
            parent: sequence(self.state.declared_parent.load(Relaxed)),
            kind,
            site: self.site,
            name: fields.otel_name(),
            thread: self.thread,
            start,
            end,
            fields,
            unfinished: false,
            ids: self.ids,
            overlapping: false,
            traced: self.state.has(TREE),
            failed: self.state.has(ERROR),
        }
    }
}
