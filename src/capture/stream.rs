//! The event stream: how records are encoded for the ring.

use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::identity::{AddedWords, OWN_ID, OWN_NUMBER, brief};
use super::local::{SEQ_BITS, ThreadShared, Work};
use super::place::Identity;
use super::ring::Room;
use super::sampling::TREE;
use super::span_state::{ERROR, FIELDS, INLINE, Inline, OVERLAPS, SpanState};
use crate::model::{Level, SiteId};

/// What a record is. The numbers are the wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Whole = 1,
    Poll = 2,
    Call = 3,
    Async = 4,
    Event = 5,
    #[cfg(feature = "cuda")]
    GpuBegin = 6,
    #[cfg(feature = "cuda")]
    GpuReturn = 7,
}

/// Overlaps its neighbours on the thread without nesting.
pub(super) const OVERLAPPING: u16 = 1;
/// Ran on the thread that created the span, whichever thread streamed it.
pub(super) const BY_CREATOR: u16 = 1 << 1;
pub(super) const WITH_FIELDS: u16 = 1 << 2;
/// In three words, and those for ids and fields; see [`SpanWords::compact`].
pub(super) const COMPACT: u16 = 1 << 3;
// The flags above these four say which words `identity` has added.

/// In the word with the site: the record is in a sampled tree.
pub(super) const TRACED: u32 = 1 << 31;
/// In the word with the site: an error was recorded.
pub(super) const FAILED: u32 = 1 << 30;
/// What is left of that word for the site.
pub(super) const SITE_MASK: u32 = FAILED - 1;

/// Returns the marks beside the site of a record in the tree with these bits.
#[inline]
pub(super) fn site_marks(tree: u32, failed: bool) -> u32 {
    (u32::from(tree & TREE != 0) * TRACED) | (u32::from(failed) * FAILED)
}

/// A span record before encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpanWords {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    /// [`TRACED`], [`FAILED`]; none where [`Work::emit_span`] streams the record.
    pub(super) site_marks: u32,
    pub(super) site: SiteId,
    pub(super) seq: u64,
    pub(super) parent: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What is around an event.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EventPlace {
    /// The span's sequence number, 0 for none.
    pub(super) span: u64,
    /// The operation's number; its id if it is `adopted`.
    pub(super) number: u64,
    pub(super) adopted: bool,
    /// The tree that the span is in, 0 for none; see [`TREE`].
    pub(super) tree: u32,
}

impl SpanWords {
    /// Returns the record of a span's first activation, which ended at `end`. `site` and `flags` are the state's.
    #[inline(always)]
    fn first(state: &SpanState, site: SiteId, flags: u32, kind: Kind, end: u64) -> SpanWords {
        let overlaps = match flags & OVERLAPS {
            0 => 0,
            _ => OVERLAPPING,
        };
        SpanWords {
            kind,
            flags: BY_CREATOR | overlaps,
            site_marks: 0,
            site,
            seq: state.seq.load(Relaxed),
            parent: state.first_parent.load(Relaxed),
            start: state.first_start.load(Relaxed),
            end,
        }
    }

    #[inline]
    fn header(&self, flags: u16, words: usize) -> u64 {
        header(self.kind, flags, words, self.site) | u64::from(self.site_marks) << 32
    }

    #[inline]
    fn words(&self, flags: u16, words: usize) -> [u64; SPAN_WORDS] {
        let header = self.header(flags, words);
        [header, self.seq, self.parent, self.start, self.end]
    }

    /// Returns a form that fits nearly all records. Each cache line of a ring travels to the collector's
    /// core and back, which costs a producer at full speed more than everything else it does for the stream.
    ///
    /// Where the full form has its length, the header has how far back the parent's sequence number is, 0 for none.
    /// The lower half of the second word is the sequence number within the thread, the upper half the length in ticks.
    /// With fields, the last byte of the third word says how many bytes they take.
    #[inline]
    fn compact(&self, flags: u16, thread: u32, field_bytes: usize) -> Option<[u64; COMPACT_WORDS]> {
        let seq = self.seq.wrapping_sub(u64::from(thread) << SEQ_BITS);
        let length = self.end.wrapping_sub(self.start);
        let back = match self.parent {
            0 => 0,
            parent => self.seq.wrapping_sub(parent),
        };
        if (seq | length) >> 32 != 0 || back > 0xFFFF {
            return None;
        }
        let mut flags = flags | COMPACT;
        let mut start = self.start;
        if field_bytes > 0 {
            if start > COMPACT_START || field_bytes > 0xFF {
                return None;
            }
            flags |= WITH_FIELDS;
            start |= (field_bytes as u64) << COMPACT_START.count_ones();
        }
        let header = self.header(flags, back as usize);
        Some([header, seq | (length << 32), start])
    }
}

/// Counts a span record for which there is no room.
#[cold]
fn drop_span(capture: &Capture, shared: &ThreadShared) {
    let counter = match &shared.ring {
        Some(ring) => &ring.dropped_spans,
        // No memory was left for a ring when the thread came.
        None => &capture.counters.dropped_spans,
    };
    counter.fetch_add(1, Relaxed);
}

pub(super) const KIND_BITS: u32 = 4;
pub(super) const KIND_MASK: u8 = (1 << KIND_BITS) - 1;

/// Header, sequence number, parent, start, end.
pub(super) const SPAN_WORDS: usize = 5;
pub(super) const COMPACT_WORDS: usize = 3;
/// The bits of the third word that are the start where a compact record has fields: enough for 200 days of ticks.
pub(super) const COMPACT_START: u64 = u64::MAX >> 8;
/// Header, sequence number of the span, tick, level.
pub(super) const EVENT_WORDS: usize = 4;

/// One word: kind (4 bits), flags (12), words in all (16), site (30), marks (2). Calls into a driver have the number of the
/// function for the last two.
pub(super) fn header(kind: Kind, flags: u16, words: usize, site: SiteId) -> u64 {
    kind as u64
        | u64::from(flags) << KIND_BITS
        | (words as u64 & 0xFFFF) << 16
        | u64::from(site.0) << 32
}

impl Work {
    /// Streams the pending first activation of a span, which ended at `end`.
    #[inline]
    pub(super) fn emit_first(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        kind: Kind,
        end: u64,
    ) {
        let (site, flags) = state.site_and_flags();
        if flags & (TREE | ERROR) != 0 {
            return self.emit_first_marked(capture, shared, state, kind, end);
        }
        if kind == Kind::Poll && !capture.streams.polls {
            return;
        }
        let span = SpanWords::first(state, site, flags, kind, end);
        self.emit_span(capture, shared, state, flags, span);
    }

    /// The same for a span in a sampled tree, or one that failed.
    #[cold]
    fn emit_first_marked(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        kind: Kind,
        end: u64,
    ) {
        let (site, flags) = state.site_and_flags();
        if kind == Kind::Poll && flags & TREE == 0 && !capture.streams.polls {
            return;
        }
        let span = SpanWords {
            site_marks: site_marks(flags, flags & ERROR != 0),
            ..SpanWords::first(state, site, flags, kind, end)
        };
        self.emit_any(capture, shared, state, span, None, None);
    }

    /// Streams a span record without marks; with the span's fields, unless it is one poll of several. `flags` are the
    /// state's.
    #[inline(always)]
    pub(super) fn emit_span(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        flags: u32,
        span: SpanWords,
    ) {
        let brief = brief(capture, state, flags, span.seq, span.parent);
        // No closure: it would not be inlined, and the record would be put together in memory.
        let emitted = match brief {
            Some((ids, None)) => {
                self.emit_compact(shared, state, flags, span, span.flags | ids, &[])
            }
            Some((ids, Some(trace))) => {
                self.emit_compact(shared, state, flags, span, span.flags | ids, &[trace])
            }
            None => false,
        };
        if !emitted {
            self.emit_any(capture, shared, state, span, None, None);
        }
    }

    /// Streams a span record in the compact form; returns whether it has one, and there was room for it in one piece.
    #[inline(always)]
    fn emit_compact(
        &mut self,
        shared: &ThreadShared,
        state: &SpanState,
        state_flags: u32,
        span: SpanWords,
        flags: u16,
        added: &[u64],
    ) -> bool {
        let fields = match state_flags & (FIELDS | INLINE) {
            0 => Inline::EMPTY,
            _ if span.kind == Kind::Poll => Inline::EMPTY,
            INLINE => state.inline(),
            _ => return false,
        };
        let Some(first) = span.compact(flags, shared.thread.index, fields.bytes()) else {
            return false;
        };
        let Some(ring) = &shared.ring else {
            return false;
        };
        let words = COMPACT_WORDS + added.len() + fields.words().len();
        let Some(places) = self.producer.places(ring, words) else {
            return false;
        };
        let mut places = places.iter();
        for (word, place) in first.into_iter().zip(places.by_ref()) {
            place.store(word, Relaxed);
        }
        for (&word, place) in added.iter().zip(places.by_ref()) {
            place.store(word, Relaxed);
        }
        for (word, place) in fields.words().iter().zip(places) {
            place.store(word.load(Relaxed), Relaxed);
        }
        self.producer.publish(ring, words);
        true
    }

    /// Streams a span record in whatever form it needs. `life` is for `Async`: busy ticks and activations; `call` says
    /// what the ids of a call through a held span are made of.
    #[inline(never)]
    pub(super) fn emit_any(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        span: SpanWords,
        life: Option<(u64, u32)>,
        call: Option<Identity>,
    ) {
        let mut added = AddedWords::default();
        if capture.streams.ids {
            let identity = call.unwrap_or_else(|| Identity::of(state));
            added = AddedWords::new(&identity, span.seq, span.parent);
        }
        let flags = span.flags | added.flags;
        let all_flags = state.flags();
        if life.is_none() && self.emit_compact(shared, state, all_flags, span, flags, added.words())
        {
            return;
        }
        let fields = match span.kind {
            Kind::Poll => Vec::new(),
            _ => state.fields(),
        };
        let life_at = SPAN_WORDS + added.words().len();
        let fields_at = life_at + if life.is_some() { 2 } else { 0 };
        let words = fields_at + field_words(fields.len());
        if !self.producer.fits(words) && !self.make_room(capture, shared, words) {
            return drop_span(capture, shared);
        }
        let Some(ring) = &shared.ring else { return };
        let with_fields = u16::from(!fields.is_empty()) * WITH_FIELDS;
        let first = span.words(flags | with_fields, words);
        for (offset, word) in first.into_iter().enumerate() {
            self.producer.put(ring, offset, word);
        }
        for (offset, &word) in added.words().iter().enumerate() {
            self.producer.put(ring, SPAN_WORDS + offset, word);
        }
        if let Some((busy, activations)) = life {
            self.producer.put(ring, life_at, busy);
            self.producer.put(ring, life_at + 1, u64::from(activations));
        }
        if !fields.is_empty() {
            self.put_fields(shared, fields_at, &fields);
        }
        self.producer.publish(ring, words);
    }

    /// Streams an event.
    pub(super) fn emit_event(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        site: SiteId,
        around: EventPlace,
        level: Level,
        fields: &[u8],
    ) {
        let Some(ring) = &shared.ring else {
            if !capture.streams.events {
                return drop_span(capture, shared);
            }
            capture.counters.dropped_events.fetch_add(1, Relaxed);
            return;
        };
        // The number of the operation, where it is not that of the span.
        let of_call = around.number != around.span;
        let fields_at = EVENT_WORDS + usize::from(of_call);
        let words = fields_at + field_words(fields.len());
        if !self.producer.fits(words) && !self.make_room(capture, shared, words) {
            if !capture.streams.events {
                // Only its tree misses it.
                return drop_span(capture, shared);
            }
            ring.dropped_events
                .store(ring.dropped_events.load(Relaxed) + 1, Relaxed);
            return;
        }
        let with_fields = u16::from(!fields.is_empty()) * WITH_FIELDS;
        let marks = u64::from(site_marks(around.tree, false)) << 32;
        let flags =
            with_fields | (u16::from(of_call) * OWN_NUMBER) | (u16::from(around.adopted) * OWN_ID);
        let producer = &mut self.producer;
        producer.put(ring, 0, header(Kind::Event, flags, words, site) | marks);
        producer.put(ring, 1, around.span);
        producer.put(ring, 2, capture.clock.tick());
        producer.put(ring, 3, level as u64);
        if of_call {
            producer.put(ring, EVENT_WORDS, around.number);
        }
        if !fields.is_empty() {
            self.put_fields(shared, fields_at, fields);
        }
        self.producer.publish(ring, words);
    }

    fn put_fields(&self, shared: &ThreadShared, offset: usize, fields: &[u8]) {
        let Some(ring) = &shared.ring else { return };
        self.producer.put(ring, offset, fields.len() as u64);
        for (index, chunk) in fields.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.producer
                .put(ring, offset + 1 + index, u64::from_le_bytes(word));
        }
    }

    /// Looks for room, or waits for it where the user chose that; returns whether there is.
    #[cold]
    pub(super) fn make_room(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        words: usize,
    ) -> bool {
        let Some(ring) = &shared.ring else {
            return false;
        };
        // A record that large would never fit; the length field ends at 16 bits as well.
        if words > ring.capacity() || words > 0xFFFF {
            return false;
        }
        loop {
            match self.producer.refresh(ring, words) {
                Room::Free => return true,
                Room::HalfFull => {
                    capture.wake_collector();
                    return true;
                }
                Room::Full => {
                    capture.wake_collector();
                    if !capture.wait_for_room() {
                        return false;
                    }
                }
            }
        }
    }
}

fn field_words(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => 1 + bytes.div_ceil(8),
    }
}
