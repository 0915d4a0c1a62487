//! What is decided when a trace has ended in this process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::batch::Batch;
use super::super::encode::SpanEncoder;
use super::settings::Rules;
use crate::model::{Nanos, Operation, Profile, SiteId, TraceId};

/// Spans that end after their trace was decided follow it as long as it is among the last of so many.
pub(super) const MAX_DECISIONS: usize = 4096;
/// Callsites with fewer operations have no 99th percentile that means anything.
const MIN_OPERATIONS: u64 = 100;
/// Operations of several threads come in any order; what ended before the outermost span of its trace did comes at most
/// about this much later.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// About what a held trace takes besides its spans.
const HELD_BYTES: usize = 256;

/// Holds the traces that the head left out until it is known whether a rule keeps them.
#[derive(Debug)]
pub(crate) struct Tail {
    rules: Rules,
    /// What is slow, by callsite.
    slow: HashMap<SiteId, Nanos>,
    held: HashMap<TraceId, Held>,
    /// The held traces in the order in which they were first seen.
    by_age: BTreeMap<u64, TraceId>,
    next_age: u64,
    /// Held traces whose outermost span has come, and when it did.
    closed: VecDeque<(TraceId, Instant)>,
    held_bytes: usize,
    held_spans: u64,
    /// Whether a trace is kept.
    decisions: HashMap<TraceId, bool>,
    decided: VecDeque<TraceId>,
    left_out: u64,
}

/// A trace that is not decided.
#[derive(Debug)]
struct Held {
    age: u64,
    bytes: Vec<u8>,
    spans: u64,
    /// A rule applied; what was held is in the batch.
    kept: bool,
    /// Its outermost span has come.
    closed: bool,
}

impl Tail {
    pub(crate) fn new(rules: Rules) -> Tail {
        Tail {
            rules,
            slow: HashMap::new(),
            held: HashMap::new(),
            by_age: BTreeMap::new(),
            next_age: 0,
            closed: VecDeque::new(),
            held_bytes: 0,
            held_spans: 0,
            decisions: HashMap::new(),
            decided: VecDeque::new(),
            left_out: 0,
        }
    }

    /// Returns how many operations wait for a decision.
    pub(crate) fn pending(&self) -> u64 {
        self.held_spans
    }

    /// Returns how many operations were left out so far.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Learns what is slow.
    pub(crate) fn learn(&mut self, profile: &Profile) {
        if !self.rules.slow {
            return;
        }
        self.slow.clear();
        for row in &profile.sites {
            let operations = row.stats.operations();
            if operations.count >= MIN_OPERATIONS {
                self.slow.insert(row.site.id, operations.quantiles.p99);
            }
        }
    }

    /// Takes an operation that the head left out.
    pub(crate) fn take(
        &mut self,
        operation: &Operation<'_>,
        encoder: &mut SpanEncoder,
        batch: &mut Batch,
        now: Instant,
    ) {
        let trace = operation.ids.trace;
        match self.decisions.get(&trace) {
            Some(true) => {
                batch.append(|out| encoder.append(out, operation));
            }
            Some(false) => self.take_late(operation, encoder, batch),
            None => self.hold(operation, encoder, batch, now),
        }
    }

    /// Takes what a device did for a trace that the head left out; follows the trace, and keeps none.
    pub(crate) fn take_child(
        &mut self,
        trace: TraceId,
        append: impl FnOnce(&mut Vec<u8>),
        batch: &mut Batch,
    ) {
        if let Some(&kept) = self.decisions.get(&trace) {
            match kept {
                true => batch.append(append),
                false => self.left_out += 1,
            }
            return;
        }
        let Some(held) = self.held.get_mut(&trace) else {
            // None of the trace's operations has come, and the work of a device comes later than they do.
            self.left_out += 1;
            return;
        };
        if held.kept {
            return batch.append(append);
        }
        let before = held.bytes.capacity();
        append(&mut held.bytes);
        held.spans += 1;
        self.held_spans += 1;
        self.held_bytes += held.bytes.capacity() - before;
        self.make_room();
    }

    /// Takes an operation of a trace that was left out.
    fn take_late(
        &mut self,
        operation: &Operation<'_>,
        encoder: &mut SpanEncoder,
        batch: &mut Batch,
    ) {
        let mut span = Vec::new();
        let failed = encoder.append(&mut span, operation);
        if self.applies(operation, failed) {
            batch.push(&span);
            self.decisions.insert(operation.ids.trace, true);
        } else {
            self.left_out += 1;
        }
    }

    fn hold(
        &mut self,
        operation: &Operation<'_>,
        encoder: &mut SpanEncoder,
        batch: &mut Batch,
        now: Instant,
    ) {
        let trace = operation.ids.trace;
        let held = self.held.entry(trace).or_insert_with(|| {
            let age = self.next_age;
            self.next_age += 1;
            self.by_age.insert(age, trace);
            self.held_bytes += HELD_BYTES;
            Held {
                age,
                bytes: Vec::new(),
                spans: 0,
                kept: false,
                closed: false,
            }
        });
        let is_outermost = operation.ids.parent.is_none() || operation.ids.parent_is_remote;
        if is_outermost && !held.closed {
            held.closed = true;
            self.closed.push_back((trace, now));
        }
        if held.kept {
            batch.append(|out| encoder.append(out, operation));
        } else {
            let before = held.bytes.capacity();
            let failed = encoder.append(&mut held.bytes, operation);
            held.spans += 1;
            self.held_spans += 1;
            self.held_bytes += held.bytes.capacity() - before;
            if self.applies(operation, failed) {
                self.keep(trace, batch);
            }
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.held_bytes > self.rules.max_tail_bytes {
            // Of those that are closed hardly anything more is to come.
            let closed = self.closed.pop_front().map(|(trace, _)| trace);
            let Some(trace) = closed.or_else(|| self.by_age.values().next().copied()) else {
                break;
            };
            self.decide(trace);
        }
    }

    /// Decides the traces whose outermost span came long enough ago.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(&(trace, since)) = self.closed.front()
            && now.saturating_duration_since(since) >= GRACE
        {
            self.closed.pop_front();
            self.decide(trace);
        }
    }

    fn applies(&self, operation: &Operation<'_>, failed: bool) -> bool {
        let took = operation.end.saturating_sub(operation.start);
        let is_slow = || {
            let slow = self.slow.get(&operation.site.id);
            slow.is_some_and(|&p99| took > p99)
        };
        let misses_target = || {
            let name = operation.display_name();
            let mut targets = self.rules.targets.iter();
            targets.any(|(span, target)| span == name && took > *target)
        };
        (self.rules.errors && failed) || is_slow() || misses_target()
    }

    /// Hands over what is held of a trace, and from now on all that comes.
    fn keep(&mut self, trace: TraceId, batch: &mut Batch) {
        if let Some(held) = self.held.get_mut(&trace) {
            held.kept = true;
            self.held_spans -= held.spans;
            self.held_bytes -= held.bytes.capacity();
            held.spans = 0;
            batch.push_all(&std::mem::take(&mut held.bytes));
        }
    }

    /// Ends the wait for a trace: no rule applied to it, or it was handed over before.
    fn decide(&mut self, trace: TraceId) {
        let Some(held) = self.held.remove(&trace) else {
            return;
        };
        self.by_age.remove(&held.age);
        self.held_spans -= held.spans;
        self.held_bytes -= held.bytes.capacity() + HELD_BYTES;
        self.left_out += held.spans;
        if self.decided.len() == MAX_DECISIONS
            && let Some(oldest) = self.decided.pop_front()
        {
            self.decisions.remove(&oldest);
        }
        self.decided.push_back(trace);
        self.decisions.insert(trace, held.kept);
    }

    /// Decides all traces by what is known.
    pub(crate) fn finish(&mut self) {
        self.closed.clear();
        while let Some(&trace) = self.by_age.values().next() {
            self.decide(trace);
        }
    }
}
