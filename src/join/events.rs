//! Events that wait for the end of the operation that they happened in.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::known::Known;
use crate::model::{EventRecord, Fields, Level, Nanos, OperationEvent, SiteId, SpanId};

/// The most events of one operation. OpenTelemetry has the same default (`OTEL_SPAN_EVENT_COUNT_LIMIT`).
const MAX_PER_OPERATION: usize = 128;
/// The most memory for all of them. Beyond it the operations lose theirs that have waited longest.
const MAX_BYTES: usize = 16 << 20;

/// Events by operation.
#[derive(Debug, Default)]
pub(super) struct Events {
    by_operation: HashMap<u64, KeptEvents, BuildHasherDefault<IdHasher>>,
    /// The operations in the order of their first event, some of which are gone already.
    order: VecDeque<u64>,
    bytes: usize,
    dropped: u64,
}

/// The events of one operation.
#[derive(Debug, Default)]
pub(super) struct KeptEvents {
    events: Vec<Kept>,
    /// How many were too many.
    pub(super) dropped: u32,
}

#[derive(Debug)]
struct Kept {
    site: SiteId,
    at: Nanos,
    level: Level,
    fields: Box<[u8]>,
}

impl Kept {
    fn bytes(&self) -> usize {
        size_of::<Kept>() + self.fields.len()
    }
}

impl KeptEvents {
    fn bytes(&self) -> usize {
        self.events.iter().map(Kept::bytes).sum()
    }

    pub(super) fn views<'a>(
        &'a self,
        known: &'a Known,
    ) -> impl Iterator<Item = OperationEvent<'a>> {
        self.events.iter().filter_map(|event| {
            let site = known.get_site(event.site)?;
            Some(OperationEvent {
                site,
                at: event.at,
                level: event.level,
                fields: Fields::new(site, &event.fields),
            })
        })
    }
}

impl Events {
    pub(super) fn keep(&mut self, operation: SpanId, record: &EventRecord<'_>) {
        let of_one = self.by_operation.entry(operation.0).or_default();
        if of_one.events.len() >= MAX_PER_OPERATION {
            of_one.dropped = of_one.dropped.saturating_add(1);
            self.dropped += 1;
            return;
        }
        if of_one.events.is_empty() {
            self.order.push_back(operation.0);
        }
        let event = Kept {
            site: record.site.id,
            at: record.at,
            level: record.level,
            fields: record.fields.bytes().into(),
        };
        self.bytes += event.bytes();
        of_one.events.push(event);
        while self.bytes > MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            // Its operation ended without a record, or goes on for very long.
            let lost = self.remove(oldest);
            self.dropped += lost.events.len() as u64;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_operation.is_empty()
    }

    /// Takes the events of an operation that has ended, by time.
    #[inline]
    pub(super) fn take(&mut self, operation: SpanId) -> KeptEvents {
        let mut taken = self.remove(operation.0);
        taken.events.sort_by_key(|event| event.at);
        taken
    }

    fn remove(&mut self, operation: u64) -> KeptEvents {
        let removed = self.by_operation.remove(&operation).unwrap_or_default();
        self.bytes -= removed.bytes();
        // The order keeps operations that are gone; not more of them than there are others.
        if self.order.len() > 2 * self.by_operation.len() + 1024 {
            let left = &self.by_operation;
            self.order.retain(|operation| left.contains_key(operation));
        }
        removed
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Span ids are well mixed already.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
