//! What a record says about ids: the numbers that they are made of, as few words as possible.

use super::capture::Capture;
use super::place::{Identity, PLACE_FLAGS, Place};
use super::span_state::{ADOPTED, FOREIGN, PARENT_FOREIGN, SpanState, UNSAMPLED};

/// A word with the number of the operation, because it is not the span's.
pub(super) const OWN_NUMBER: u16 = 1 << 4;
/// A word with the number (or id) of the operation around it, because it is not the parent's.
pub(super) const PARENT_NUMBER: u16 = 1 << 5;
/// The root of the trace is this operation: no word.
pub(super) const TRACE_IS_OWN: u16 = 1 << 6;
/// The root of the trace is the operation around this one: no word.
pub(super) const TRACE_IS_PARENT: u16 = 1 << 7;
/// The words for the trace are the two halves of its id.
pub(super) const TRACE_FOREIGN: u16 = 1 << 8;
/// The word for the operation around it is a span id.
pub(super) const PARENT_ID: u16 = 1 << 9;
pub(super) const NOT_SAMPLED: u16 = 1 << 10;
/// The word with the number of the operation is a span id.
pub(super) const OWN_ID: u16 = 1 << 11;

pub(super) const MOST: usize = 4;

/// Returns what nearly all records need to say of a span's ids, which is that of the span `seq` under the span `parent`:
/// flags, and the number of the trace's root unless that is one of the two. `flags` are the state's.
#[inline(always)]
pub(super) fn brief(
    capture: &Capture,
    state: &SpanState,
    flags: u32,
    seq: u64,
    parent: u64,
) -> Option<(u16, Option<u64>)> {
    if !capture.streams.ids {
        return Some((0, None));
    }
    let (around, trace) = state.numbers();
    if flags & (PLACE_FLAGS | ADOPTED) != 0 || around != parent {
        return None;
    }
    Some(if trace == seq {
        (TRACE_IS_OWN, None)
    } else if trace == parent {
        (TRACE_IS_PARENT, None)
    } else {
        (0, Some(trace))
    })
}

/// The words that an identity adds to a record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AddedWords {
    pub(super) flags: u16,
    words: [u64; MOST],
    count: usize,
}

impl AddedWords {
    /// Puts into words what the record of the span `seq` under the span `parent` does not say already.
    pub(super) fn new(identity: &Identity, seq: u64, parent: u64) -> AddedWords {
        let mut added = AddedWords::default();
        let place = &identity.place;
        if identity.adopted {
            added.add(OWN_NUMBER | OWN_ID, identity.operation);
        } else if identity.operation != seq {
            added.add(OWN_NUMBER, identity.operation);
        }
        if place.flags & PARENT_FOREIGN != 0 {
            added.add(PARENT_NUMBER | PARENT_ID, place.parent);
        } else if place.parent != parent {
            added.add(PARENT_NUMBER, place.parent);
        }
        if place.flags & FOREIGN != 0 {
            added.add(TRACE_FOREIGN, place.trace);
            added.add(0, place.trace_high);
        } else if place.trace == identity.operation {
            added.flags |= TRACE_IS_OWN;
        } else if place.trace == place.parent && place.flags & PARENT_FOREIGN == 0 {
            added.flags |= TRACE_IS_PARENT;
        } else {
            added.add(0, place.trace);
        }
        if place.flags & UNSAMPLED != 0 {
            added.flags |= NOT_SAMPLED;
        }
        added
    }

    #[inline]
    fn add(&mut self, flags: u16, word: u64) {
        self.flags |= flags;
        if let Some(place) = self.words.get_mut(self.count) {
            *place = word;
            self.count += 1;
        }
    }

    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        self.words.get(..self.count).unwrap_or_default()
    }
}

/// Returns how many words a record with these flags has for its ids.
pub(super) fn count(flags: u16) -> usize {
    let trace = match flags {
        _ if flags & TRACE_FOREIGN != 0 => 2,
        _ if flags & (TRACE_IS_OWN | TRACE_IS_PARENT) != 0 => 0,
        _ => 1,
    };
    usize::from(flags & OWN_NUMBER != 0) + usize::from(flags & PARENT_NUMBER != 0) + trace
}

/// Reads the identity of the record of the span `seq` under the span `parent` out of its words.
pub(super) fn read(
    flags: u16,
    seq: u64,
    parent: u64,
    word: impl Fn(usize) -> Option<u64>,
) -> Option<Identity> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        word(at - 1)
    };
    let own = match flags & OWN_NUMBER {
        0 => seq,
        _ => next()?,
    };
    let parent = match flags & PARENT_NUMBER {
        0 => parent,
        _ => next()?,
    };
    let mut place = Place {
        parent,
        trace: 0,
        trace_high: 0,
        flags: 0,
    };
    if flags & TRACE_FOREIGN != 0 {
        place.flags |= FOREIGN;
        place.trace = next()?;
        place.trace_high = next()?;
    } else {
        place.trace = match flags {
            _ if flags & TRACE_IS_OWN != 0 => own,
            _ if flags & TRACE_IS_PARENT != 0 => parent,
            _ => next()?,
        };
    }
    if flags & PARENT_ID != 0 {
        place.flags |= PARENT_FOREIGN;
    }
    if flags & NOT_SAMPLED != 0 {
        place.flags |= UNSAMPLED;
    }
    let adopted = flags & OWN_ID != 0;
    let identity = Identity {
        operation: own,
        place,
        adopted,
    };
    Some(identity)
}
