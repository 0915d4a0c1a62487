//! The event stream: how records are encoded for the ring.

use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::identity::{AddedWords, OWN_ID, OWN_NUMBER, of_span};
use super::local::{SEQ_BITS, ThreadShared, Work};
use super::place::Identity;
use super::ring::Room;
use super::span_state::{FIELDS, INLINE, OVERLAPS, SpanState};
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
}

/// Overlaps its neighbours on the thread without nesting.
pub(super) const OVERLAPPING: u16 = 1;
/// Ran on the thread that created the span, whichever thread streamed it.
pub(super) const BY_CREATOR: u16 = 1 << 1;
pub(super) const WITH_FIELDS: u16 = 1 << 2;
/// In three words; see [`SpanWords::compact`].
pub(super) const COMPACT: u16 = 1 << 3;
// The flags above these four say which words `identity` has added.

/// A span record before encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpanWords {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) site: SiteId,
    pub(super) seq: u64,
    pub(super) parent: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    /// For `Async`: busy ticks and activations.
    pub(super) life: Option<(u64, u32)>,
    /// What its ids are made of, unless the flags say it all or no sink wants ids.
    pub(super) identity: Option<Identity>,
}

/// What is around an event.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EventPlace {
    /// The span's sequence number, 0 for none.
    pub(super) span: u64,
    /// The operation's number; its id if it is `adopted`.
    pub(super) number: u64,
    pub(super) adopted: bool,
}

impl SpanWords {
    #[inline]
    fn words(&self, flags: u16, words: usize) -> [u64; SPAN_WORDS] {
        let header = header(self.kind, flags, words, self.site);
        [header, self.seq, self.parent, self.start, self.end]
    }

    /// Returns a form that fits nearly all records without fields. Each cache line of a ring travels to the collector's
    /// core and back, which costs a producer at full speed more than everything else it does for the stream.
    ///
    /// Where the full form has its length, the header has how far back the parent's sequence number is, 0 for none.
    /// The lower half of the second word is the sequence number within the thread, the upper half the length in ticks.
    #[inline]
    fn compact(&self, flags: u16, thread: u32) -> Option<[u64; COMPACT_WORDS]> {
        let seq = self.seq.wrapping_sub(u64::from(thread) << SEQ_BITS);
        let length = self.end.wrapping_sub(self.start);
        let back = match self.parent {
            0 => 0,
            parent => self.seq.wrapping_sub(parent),
        };
        if (seq | length) >> 32 != 0 || back > 0xFFFF {
            return None;
        }
        let header = header(self.kind, flags | COMPACT, back as usize, self.site);
        Some([header, seq | (length << 32), self.start])
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
/// Header, sequence number of the span, tick, level.
pub(super) const EVENT_WORDS: usize = 4;

/// One word: kind (4 bits), flags (12), words in all (16), site (32).
fn header(kind: Kind, flags: u16, words: usize, site: SiteId) -> u64 {
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
        let overlaps = u16::from(state.has(OVERLAPS)) * OVERLAPPING;
        let parent = state.first_parent.load(Relaxed);
        let (ids, identity) = of_span(capture, state, parent);
        let words = SpanWords {
            kind,
            flags: BY_CREATOR | overlaps | ids,
            site: state.site(),
            seq: state.seq.load(Relaxed),
            parent,
            start: state.first_start.load(Relaxed),
            end,
            life: None,
            identity,
        };
        self.emit_span(capture, shared, state, &words);
    }

    /// Streams a span record; with the span's fields, unless it is one poll of several.
    #[inline]
    pub(super) fn emit_span(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        span: &SpanWords,
    ) {
        if span.kind == Kind::Poll && !capture.streams.polls {
            return;
        }
        if span.kind != Kind::Poll && (state.has(FIELDS | INLINE) || span.life.is_some()) {
            self.emit_large(capture, shared, state, span);
            return;
        }
        match &span.identity {
            None => self.emit_bare(capture, shared, span),
            Some(identity) => self.emit_identified(capture, shared, span, identity),
        }
    }

    /// Streams a span record that has neither fields nor a life.
    #[inline]
    fn emit_bare(&mut self, capture: &Capture, shared: &ThreadShared, span: &SpanWords) {
        if self.producer.fits(COMPACT_WORDS)
            && let Some(ring) = &shared.ring
            && let Some(words) = span.compact(span.flags, shared.thread.index)
        {
            self.producer.put_first(ring, words);
            return self.producer.publish(ring, COMPACT_WORDS);
        }
        self.emit_bare_rare(capture, shared, span);
    }

    #[inline(never)]
    fn emit_bare_rare(&mut self, capture: &Capture, shared: &ThreadShared, span: &SpanWords) {
        if !self.producer.fits(SPAN_WORDS) && !self.make_room(capture, shared, SPAN_WORDS) {
            return drop_span(capture, shared);
        }
        let Some(ring) = &shared.ring else { return };
        self.producer
            .put_first(ring, span.words(span.flags, SPAN_WORDS));
        self.producer.publish(ring, SPAN_WORDS);
    }

    /// The same with the words that ids are made of.
    #[inline(never)]
    fn emit_identified(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        span: &SpanWords,
        identity: &Identity,
    ) {
        let added = AddedWords::new(identity, span.seq, span.parent);
        let most = SPAN_WORDS + added.words().len();
        if !self.producer.fits(most) && !self.make_room(capture, shared, most) {
            return drop_span(capture, shared);
        }
        let Some(ring) = &shared.ring else { return };
        let flags = span.flags | added.flags;
        let first = match span.compact(flags, shared.thread.index) {
            Some(words) => {
                self.producer.put_first(ring, words);
                COMPACT_WORDS
            }
            None => {
                self.producer.put_first(ring, span.words(flags, most));
                SPAN_WORDS
            }
        };
        for (offset, &word) in added.words().iter().enumerate() {
            self.producer.put(ring, first + offset, word);
        }
        self.producer.publish(ring, first + added.words().len());
    }

    #[inline(never)]
    fn emit_large(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        span: &SpanWords,
    ) {
        let inline = state.inline();
        let all = match inline {
            Some(_) => Vec::new(),
            None => state.fields(),
        };
        let fields_len = inline.map_or(all.len(), |inline| inline.bytes());
        let added = match &span.identity {
            Some(identity) => AddedWords::new(identity, span.seq, span.parent),
            None => AddedWords::default(),
        };
        let life_at = SPAN_WORDS + added.words().len();
        let fields_at = life_at + if span.life.is_some() { 2 } else { 0 };
        let words = fields_at + field_words(fields_len);
        if !self.producer.fits(words) && !self.make_room(capture, shared, words) {
            return drop_span(capture, shared);
        }
        let Some(ring) = &shared.ring else { return };
        let with_fields = u16::from(fields_len > 0) * WITH_FIELDS;
        let flags = span.flags | added.flags | with_fields;
        self.producer.put_first(ring, span.words(flags, words));
        for (offset, &word) in added.words().iter().enumerate() {
            self.producer.put(ring, SPAN_WORDS + offset, word);
        }
        if let Some((busy, activations)) = span.life {
            self.producer.put(ring, life_at, busy);
            self.producer.put(ring, life_at + 1, u64::from(activations));
        }
        match inline {
            Some(inline) => {
                self.producer.put(ring, fields_at, inline.bytes() as u64);
                for (index, word) in inline.words().enumerate() {
                    self.producer.put(ring, fields_at + 1 + index, word);
                }
            }
            None if fields_len > 0 => self.put_fields(shared, fields_at, &all),
            None => {}
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
            capture.counters.dropped_events.fetch_add(1, Relaxed);
            return;
        };
        // The number of the operation, where it is not that of the span.
        let of_call = around.number != around.span;
        let fields_at = EVENT_WORDS + usize::from(of_call);
        let words = fields_at + field_words(fields.len());
        if !self.producer.fits(words) && !self.make_room(capture, shared, words) {
            ring.dropped_events
                .store(ring.dropped_events.load(Relaxed) + 1, Relaxed);
            return;
        }
        let with_fields = u16::from(!fields.is_empty()) * WITH_FIELDS;
        let flags =
            with_fields | (u16::from(of_call) * OWN_NUMBER) | (u16::from(around.adopted) * OWN_ID);
        let producer = &mut self.producer;
        producer.put(ring, 0, header(Kind::Event, flags, words, site));
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
    fn make_room(&mut self, capture: &Capture, shared: &ThreadShared, words: usize) -> bool {
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
