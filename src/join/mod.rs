//! Puts together what belongs to one operation, out of records that come thread by thread.
//!
//! An event may lie in the buffer of one thread while the end of its span lies in that of another. All buffers are
//! emptied in rounds; whatever happened before a span ended was written before that end was, so it is in the same round
//! or in the next. Operations therefore wait for one round more. So do the trees of sampled roots, in `trees`.

mod events;
mod examples;
#[cfg(any(feature = "cuda", test))]
mod gpu;
mod known;
mod trees;

use std::ops::Range;
use std::sync::Arc;

use self::events::{Events, KeptEvents};
use self::examples::Examples;
#[cfg(feature = "cuda")]
pub(crate) use self::gpu::{GpuJoin, GpuJoined};
use self::known::{Known, note_site, note_thread};
pub(crate) use self::trees::Trees;
use crate::model::{EventRecord, Example, Fields, Ids, Nanos, Operation, OperationEvent, SiteId};
use crate::model::{SpanKind, SpanRecord, SpanSeq};

/// Operations are handed on in portions of this many, so that they stay in the processor's cache.
const PORTION: usize = 512;

/// Joins records; fed by one thread at a time.
#[derive(Debug, Default)]
pub(crate) struct Join {
    /// Of this round.
    arriving: Round,
    /// Of the round before.
    waiting: Round,
    events: Events,
    examples: Examples,
    known: Arc<Known>,
}

/// What arrived in one round.
#[derive(Debug, Default)]
struct Round {
    operations: Vec<Kept>,
    /// The fields of all of them.
    bytes: Vec<u8>,
}

/// An operation without what is borrowed.
#[derive(Debug)]
struct Kept {
    ids: Ids,
    span: SpanSeq,
    site: SiteId,
    /// [`Thread::index`](crate::Thread::index).
    thread: u32,
    named: bool,
    start: Nanos,
    end: Nanos,
    busy: Nanos,
    activations: u32,
    /// Where its fields end; they begin where those of the one before end.
    fields_end: usize,
    unfinished: bool,
}

impl Join {
    /// Takes the records of one thread.
    pub(crate) fn take(&mut self, spans: &[SpanRecord<'_>], events: &[EventRecord<'_>]) {
        for record in events {
            if let Some(operation) = record.operation {
                note_site(&mut self.known, record.site);
                self.events.keep(operation, record);
            }
        }
        for record in spans {
            let Some(ids) = record.ids else { continue };
            let (busy, activations) = match record.kind {
                // A part of an operation whose own record will come.
                SpanKind::Poll => continue,
                SpanKind::Async { busy, activations } => (busy, activations),
                SpanKind::Whole | SpanKind::Call => (record.end.saturating_sub(record.start), 1),
            };
            note_site(&mut self.known, record.site);
            note_thread(&mut self.known, record.thread);
            self.examples
                .offer(record.site.id, &ids, record.start, record.end);
            let round = &mut self.arriving;
            round.bytes.extend_from_slice(record.fields.bytes());
            round.operations.push(Kept {
                ids,
                span: record.span,
                site: record.site.id,
                thread: record.thread.index,
                named: record.name.is_some(),
                start: record.start,
                end: record.end,
                busy,
                activations,
                fields_end: round.bytes.len(),
                unfinished: record.unfinished,
            });
        }
    }

    /// Ends a round: returns what arrived in the one before.
    pub(crate) fn end_round(&mut self) -> Finished {
        let round = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.arriving));
        let events = match self.events.is_empty() {
            true => Vec::new(),
            false => round
                .operations
                .iter()
                .map(|operation| self.events.take(operation.ids.span))
                .collect(),
        };
        Finished {
            round,
            events,
            known: Arc::clone(&self.known),
        }
    }

    /// Returns the slowest operations of a site, the slowest first.
    pub(crate) fn examples(&self, site: SiteId) -> Vec<Example> {
        self.examples.of(site)
    }

    /// Forgets the examples, as after a reset.
    pub(crate) fn reset(&mut self) {
        self.examples = Examples::default();
    }

    /// Returns how many events were given up because there were too many.
    pub(crate) fn dropped_events(&self) -> u64 {
        self.events.dropped()
    }
}

/// Operations of one round, with everything that belongs to them.
#[derive(Debug)]
pub(crate) struct Finished {
    round: Round,
    /// As many as operations, or none at all.
    events: Vec<KeptEvents>,
    known: Arc<Known>,
}

impl Finished {
    pub(crate) fn is_empty(&self) -> bool {
        self.round.operations.is_empty()
    }

    /// Hands the operations on, a portion at a time.
    pub(crate) fn deliver(&self, mut deliver: impl FnMut(&[Operation<'_>])) {
        let none = KeptEvents::default();
        let mut fields_from = 0;
        for (index, portion) in self.round.operations.chunks(PORTION).enumerate() {
            let kept = |at| self.events.get(index * PORTION + at).unwrap_or(&none);
            let events: Vec<Vec<OperationEvent<'_>>> = (0..portion.len())
                .map(|at| kept(at).views(&self.known).collect())
                .collect();
            let mut operations = Vec::with_capacity(portion.len());
            for (at, (operation, events)) in portion.iter().zip(&events).enumerate() {
                let fields = fields_from..operation.fields_end;
                fields_from = operation.fields_end;
                operations.extend(self.view(operation, fields, events, kept(at).dropped));
            }
            deliver(&operations);
        }
    }

    fn view<'a>(
        &'a self,
        operation: &Kept,
        fields: Range<usize>,
        events: &'a [OperationEvent<'a>],
        dropped_events: u32,
    ) -> Option<Operation<'a>> {
        let site = self.known.get_site(operation.site)?;
        let fields = Fields::new(site, self.round.bytes.get(fields).unwrap_or_default());
        Some(Operation {
            ids: operation.ids,
            span: operation.span,
            site,
            name: fields.otel_name().filter(|_| operation.named),
            thread: self.known.get_thread(operation.thread)?,
            start: operation.start,
            end: operation.end,
            busy: operation.busy,
            activations: operation.activations,
            fields,
            events,
            dropped_events,
            unfinished: operation.unfinished,
        })
    }
}
