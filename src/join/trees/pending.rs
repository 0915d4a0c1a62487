//! Operations whose root has not ended.

use std::collections::HashMap;

use super::raw::{Raw, add_activation};
use crate::model::{Activation, Nanos, SpanRecord, TreeKind};

/// The most memory for operations that wait for their root. Beyond it those that have waited longest are given up.
const MAX_BYTES: usize = 16 << 20;

/// Operations by the one around them, and activations by their span.
#[derive(Debug, Default)]
pub(super) struct Pending {
    children: HashMap<u64, Vec<Raw>>,
    polls: HashMap<u64, Polls>,
    bytes: usize,
    strays: u64,
}

/// The activations of an async span that has not ended.
#[derive(Debug)]
struct Polls {
    /// What was around the first of them.
    parent: u64,
    activations: Vec<Activation>,
}

/// What the map takes for each span that is polled.
const POLLS_BYTES: usize = size_of::<Polls>() + 32;

impl Pending {
    pub(super) fn poll(&mut self, record: &SpanRecord<'_>) {
        let activation = Activation::new(record.start, record.end, record.thread.index);
        let (bytes, parent) = (&mut self.bytes, record.parent.map_or(0, |parent| parent.0));
        let polls = self.polls.entry(record.span.0).or_insert_with(|| {
            *bytes += POLLS_BYTES;
            Polls {
                parent,
                activations: Vec::new(),
            }
        });
        let before = polls.activations.len();
        // Threads are read one after the other, so that the first to come need not be the first that was.
        if polls
            .activations
            .first()
            .is_none_or(|first| activation.begin < first.begin)
        {
            polls.parent = parent;
        }
        add_activation(&mut polls.activations, activation);
        *bytes += (polls.activations.len() - before) * size_of::<Activation>();
    }

    /// Gives an async span that has ended its activations.
    pub(super) fn complete(&mut self, mut raw: Raw) -> Raw {
        if raw.kind == TreeKind::Async
            && let Some(polls) = self.polls.remove(&raw.seq)
        {
            self.bytes -= POLLS_BYTES + polls.activations.len() * size_of::<Activation>();
            raw.parent = polls.parent;
            raw.activations = polls.activations;
        }
        raw
    }

    /// Keeps an operation until its root ends; returns the time of what had to be given up for it.
    pub(super) fn add(&mut self, raw: Raw) -> Option<(Nanos, Nanos)> {
        self.bytes += raw.bytes();
        self.children.entry(raw.parent).or_default().push(raw);
        (self.bytes > MAX_BYTES).then(|| self.give_up())
    }

    /// Gives up the older half; returns the time that it was about.
    fn give_up(&mut self) -> (Nanos, Nanos) {
        let mut ends: Vec<Nanos> = self
            .children
            .values()
            .flatten()
            .map(|raw| raw.end)
            .collect();
        let half = ends.len() / 2;
        let (_, &mut limit, _) = ends.select_nth_unstable(half);
        let mut lost = (limit, Nanos::ZERO);
        let (mut freed, mut strays) = (0, 0);
        for children in self.children.values_mut() {
            children.retain(|raw| {
                let stays = raw.end > limit;
                if !stays {
                    lost = (lost.0.min(raw.start), lost.1.max(raw.end));
                    freed += raw.bytes();
                    strays += 1;
                }
                stays
            });
        }
        self.children.retain(|_, children| !children.is_empty());
        self.children.shrink_to_fit();
        self.polls.retain(|_, polls| {
            let stays = polls
                .activations
                .last()
                .is_some_and(|last| last.end > limit);
            if !stays {
                freed += POLLS_BYTES + polls.activations.len() * size_of::<Activation>();
            }
            stays
        });
        self.bytes -= freed;
        self.strays += strays;
        lost
    }

    /// Takes everything out that happened inside a root; returns it behind the root, and whether it is all there is.
    pub(super) fn gather(&mut self, root: Raw, most: usize) -> (Vec<Raw>, bool) {
        let mut spans = vec![root];
        let mut whole = true;
        let mut at = 0;
        while let Some(parent) = spans.get(at) {
            let inside = match parent.kind {
                TreeKind::Call => self.of_call(parent),
                _ => self.children.remove(&parent.seq).unwrap_or_default(),
            };
            for raw in inside {
                self.bytes -= raw.bytes();
                if spans.len() < most {
                    spans.push(raw);
                } else {
                    whole = false;
                }
            }
            at += 1;
        }
        (spans, whole)
    }

    /// Takes what happened inside one call through a held span, whose calls all have the same number: what began on its
    /// thread in its time.
    fn of_call(&mut self, call: &Raw) -> Vec<Raw> {
        let Some(children) = self.children.get_mut(&call.seq) else {
            return Vec::new();
        };
        let (inside, rest): (Vec<Raw>, Vec<Raw>) =
            std::mem::take(children).into_iter().partition(|raw| {
                raw.thread == call.thread && (call.start..=call.end).contains(&raw.start)
            });
        if rest.is_empty() {
            self.children.remove(&call.seq);
        } else {
            *children = rest;
        }
        inside
    }

    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    pub(super) fn reset_counts(&mut self) {
        self.strays = 0;
    }
}
