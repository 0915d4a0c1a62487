//! One operation as it waits for its tree, and a tree as it is kept.

use crate::model::is_semantic;
use crate::model::{
    Activation, Nanos, SiteId, SpanKind, SpanRecord, TreeField, TreeKind, TreeValue,
};

/// The most activations of one async span that are told apart.
pub(super) const MAX_ACTIVATIONS: usize = 32;
/// The most fields of one operation.
const MAX_FIELDS: usize = 16;

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) seq: u64,
    /// 0 for a root.
    pub(super) parent: u64,
    pub(super) kind: TreeKind,
    pub(super) site: SiteId,
    pub(super) thread: u32,
    pub(super) start: Nanos,
    pub(super) end: Nanos,
    pub(super) busy: Nanos,
    pub(super) activation_count: u32,
    pub(super) activations: Vec<Activation>,
    pub(super) failed: bool,
    pub(super) unfinished: bool,
    pub(super) fields: Vec<TreeField>,
}

impl Raw {
    pub(super) fn of(record: &SpanRecord<'_>) -> Raw {
        let length = record.end.saturating_sub(record.start);
        let (kind, busy, activation_count) = match record.kind {
            SpanKind::Whole | SpanKind::Poll => (TreeKind::Plain, length, 1),
            SpanKind::Call => (TreeKind::Call, length, 1),
            SpanKind::Async { busy, activations } => (TreeKind::Async, busy, activations),
        };
        let mut fields: Vec<TreeField> = Vec::new();
        for (name, value) in record.fields.iter().filter(|(name, _)| is_semantic(name)) {
            let value = TreeValue::of(value);
            match fields.iter().position(|field| field.name == name) {
                // What was recorded later counts.
                Some(at) => fields[at].value = value,
                None if fields.len() < MAX_FIELDS => fields.push(TreeField { name, value }),
                None => {}
            }
        }
        Raw {
            seq: record.span.0,
            parent: record.parent.map_or(0, |parent| parent.0),
            kind,
            site: record.site.id,
            thread: record.thread.index,
            start: record.start,
            end: record.end,
            busy,
            activation_count,
            activations: Vec::new(),
            failed: record.failed,
            unfinished: record.unfinished,
            fields,
        }
    }

    /// Returns the memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let texts: usize = self
            .fields
            .iter()
            .map(|field| field.value.heap_bytes())
            .sum();
        size_of::<Raw>()
            + self.fields.len() * size_of::<TreeField>()
            + self.activations.len() * size_of::<Activation>()
            + texts
    }
}

/// Adds an activation; where there are too many, the two with the least time between them become one.
pub(super) fn add_activation(activations: &mut Vec<Activation>, activation: Activation) {
    let at = activations.partition_point(|known| known.begin <= activation.begin);
    activations.insert(at, activation);
    if activations.len() <= MAX_ACTIVATIONS {
        return;
    }
    let gaps = activations.windows(2).enumerate();
    let closest = gaps.min_by_key(|(_, pair)| pair[1].begin.saturating_sub(pair[0].end));
    if let Some((first, _)) = closest {
        let second = activations.remove(first + 1);
        activations[first].end = activations[first].end.max(second.end);
    }
}

/// The operations of one root, the root first.
#[derive(Debug)]
pub(super) struct RawTree {
    pub(super) spans: Vec<Raw>,
    pub(super) truncated: bool,
    pub(super) wall: Nanos,
    pub(super) bytes: usize,
}

impl RawTree {
    pub(super) fn new(spans: Vec<Raw>, truncated: bool) -> RawTree {
        let wall = spans
            .first()
            .map_or(Nanos::ZERO, |root| root.end.saturating_sub(root.start));
        RawTree {
            wall,
            bytes: size_of::<RawTree>() + spans.iter().map(Raw::bytes).sum::<usize>(),
            spans,
            truncated,
        }
    }
}
