//! The event stream: how records are encoded for the ring, and decoded for the sinks.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::capture::Capture;
use super::local::{SEQ_BITS, ThreadShared, Work};
use super::lock;
use super::ring::Room;
use super::span_state::{FIELDS, OVERLAPS, SpanState};
use crate::model::{EventRecord, Fields, Level, Site, SpanKind, SpanRecord, Thread};
use crate::model::{SiteId, SpanSeq, TickScale};

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
pub(super) const OVERLAPPING: u8 = 1;
/// Ran on the thread that created the span, whichever thread streamed it.
const BY_CREATOR: u8 = 1 << 1;
const WITH_FIELDS: u8 = 1 << 2;
/// In three words; see [`SpanWords::compact`].
const COMPACT: u8 = 1 << 3;

/// A span record before encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpanWords {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) site: SiteId,
    pub(super) seq: u64,
    pub(super) parent: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    /// For `Async`: busy ticks and activations.
    pub(super) life: Option<(u64, u32)>,
}

impl SpanWords {
    #[inline]
    fn words(&self, flags: u8, words: usize) -> [u64; SPAN_WORDS] {
        let header = header(self.kind, flags, words, self.site);
        [header, self.seq, self.parent, self.start, self.end]
    }

    /// Returns a form that fits nearly all records without fields. Each cache line of a ring travels to the collector's
    /// core and back, which costs a producer at full speed more than everything else it does for the stream.
    ///
    /// Where the full form has its length, the header has how far back the parent's sequence number is, 0 for none.
    /// The lower half of the second word is the sequence number within the thread, the upper half the length in ticks.
    #[inline]
    fn compact(&self, thread: u32) -> Option<[u64; COMPACT_WORDS]> {
        let seq = self.seq.wrapping_sub(u64::from(thread) << SEQ_BITS);
        let length = self.end.wrapping_sub(self.start);
        let back = match self.parent {
            0 => 0,
            parent => self.seq.wrapping_sub(parent),
        };
        if (seq | length) >> 32 != 0 || back > 0xFFFF {
            return None;
        }
        let header = header(self.kind, self.flags | COMPACT, back as usize, self.site);
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

/// Header, sequence number, parent, start, end.
const SPAN_WORDS: usize = 5;
const COMPACT_WORDS: usize = 3;
/// Header, sequence number of the span, tick, level.
const EVENT_WORDS: usize = 4;

/// One word: kind, flags, words in all, site.
fn header(kind: Kind, flags: u8, words: usize, site: SiteId) -> u64 {
    kind as u64 | u64::from(flags) << 8 | (words as u64 & 0xFFFF) << 16 | u64::from(site.0) << 32
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
        let overlaps = u8::from(state.has(OVERLAPS)) * OVERLAPPING;
        let words = SpanWords {
            kind,
            flags: BY_CREATOR | overlaps,
            site: state.site(),
            seq: state.seq.load(Relaxed),
            parent: state.first_parent.load(Relaxed),
            start: state.first_start.load(Relaxed),
            end,
            life: None,
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
        if span.kind != Kind::Poll && (state.has(FIELDS) || span.life.is_some()) {
            self.emit_large(capture, shared, state, span);
        } else {
            self.emit_bare(capture, shared, span);
        }
    }

    /// Streams a span record that has neither fields nor a life.
    #[inline]
    fn emit_bare(&mut self, capture: &Capture, shared: &ThreadShared, span: &SpanWords) {
        if self.producer.fits(COMPACT_WORDS)
            && let Some(ring) = &shared.ring
            && let Some(words) = span.compact(shared.thread.index)
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

    #[inline(never)]
    fn emit_large(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        state: &SpanState,
        span: &SpanWords,
    ) {
        let fields = lock(&state.extra);
        let fields = if state.has(FIELDS) {
            fields.as_slice()
        } else {
            &[]
        };
        let life_words = if span.life.is_some() { 2 } else { 0 };
        let words = SPAN_WORDS + life_words + field_words(fields);
        if !self.producer.fits(words) && !self.make_room(capture, shared, words) {
            return drop_span(capture, shared);
        }
        let Some(ring) = &shared.ring else { return };
        let flags = span.flags | (u8::from(!fields.is_empty()) * WITH_FIELDS);
        self.producer.put_first(ring, span.words(flags, words));
        if let Some((busy, activations)) = span.life {
            self.producer.put(ring, SPAN_WORDS, busy);
            self.producer
                .put(ring, SPAN_WORDS + 1, u64::from(activations));
        }
        if !fields.is_empty() {
            self.put_fields(shared, SPAN_WORDS + life_words, fields);
        }
        self.producer.publish(ring, words);
    }

    /// Streams an event.
    pub(super) fn emit_event(
        &mut self,
        capture: &Capture,
        shared: &ThreadShared,
        site: SiteId,
        span: u64,
        level: Level,
        fields: &[u8],
    ) {
        let Some(ring) = &shared.ring else {
            capture.counters.dropped_events.fetch_add(1, Relaxed);
            return;
        };
        let words = EVENT_WORDS + field_words(fields);
        if !self.producer.fits(words) && !self.make_room(capture, shared, words) {
            ring.dropped_events
                .store(ring.dropped_events.load(Relaxed) + 1, Relaxed);
            return;
        }
        let flags = u8::from(!fields.is_empty()) * WITH_FIELDS;
        let producer = &mut self.producer;
        producer.put(ring, 0, header(Kind::Event, flags, words, site));
        producer.put(ring, 1, span);
        producer.put(ring, 2, capture.clock.tick());
        producer.put(ring, 3, level as u64);
        if !fields.is_empty() {
            self.put_fields(shared, EVENT_WORDS, fields);
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

fn field_words(fields: &[u8]) -> usize {
    if fields.is_empty() {
        0
    } else {
        1 + fields.len().div_ceil(8)
    }
}

/// The consumer's side: empties rings and decodes what was in them.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    chunk: Arc<Chunk>,
    sites: Vec<Arc<Site>>,
}

/// What was taken out of one ring.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    thread: Option<Arc<ThreadShared>>,
    /// How many outlets it was handed to, or is being handed to.
    claimed: AtomicUsize,
}

/// The chunk that is being handed on, so that another thread can go on with it if an outlet never returns.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Option<Arc<Chunk>>>);

/// Decoded records of one thread.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    pub(crate) spans: Vec<SpanRecord<'a>>,
    pub(crate) events: Vec<EventRecord<'a>>,
}

/// Records are handed on in portions of this many, so that decoded ones stay in the processor's cache.
const BATCH: usize = 512;

impl Drain {
    /// Takes everything out of all rings and hands it to each outlet in turn; returns whether there was anything.
    pub(crate) fn run(
        &mut self,
        capture: &Capture,
        in_flight: &InFlight,
        outlets: usize,
        mut deliver: impl FnMut(usize, &Batch<'_>),
    ) -> bool {
        let threads = capture.threads();
        let mut any = false;
        for shared in &threads {
            let Some(ring) = &shared.ring else { continue };
            if ring.is_drained() {
                continue;
            }
            any = true;
            if Arc::get_mut(&mut self.chunk).is_none() {
                // Another thread goes on with the last one.
                self.chunk = Arc::default();
            }
            let Some(chunk) = Arc::get_mut(&mut self.chunk) else {
                continue;
            };
            chunk.bytes.clear();
            {
                let _only_consumer = lock(&capture.draining);
                ring.drain(&mut chunk.bytes);
            }
            chunk.thread = Some(Arc::clone(shared));
            *chunk.claimed.get_mut() = 0;
            capture.registry.extend_sites(&mut self.sites);
            *lock(&in_flight.0) = Some(Arc::clone(&self.chunk));
            self.chunk
                .hand_on(capture, &self.sites, &threads, outlets, &mut deliver);
            *lock(&in_flight.0) = None;
        }
        any
    }
}

impl InFlight {
    /// Hands what is under way to the outlets that it has not reached yet.
    pub(crate) fn resume(
        &self,
        capture: &Capture,
        outlets: usize,
        mut deliver: impl FnMut(usize, &Batch<'_>),
    ) {
        let chunk = lock(&self.0).clone();
        if let Some(chunk) = chunk {
            let (sites, threads) = (capture.registry.sites(), capture.threads());
            chunk.hand_on(capture, &sites, &threads, outlets, &mut deliver);
        }
    }
}

impl Chunk {
    /// Hands everything to one outlet before the next, so that those before one that hangs have all of it. Decoding
    /// again for each costs less than keeping what was decoded.
    fn hand_on(
        &self,
        capture: &Capture,
        sites: &[Arc<Site>],
        threads: &[Arc<ThreadShared>],
        outlets: usize,
        deliver: &mut impl FnMut(usize, &Batch<'_>),
    ) {
        let Some(shared) = &self.thread else { return };
        let decoder = Decoder {
            sites,
            threads,
            shared,
            scale: capture.clock.scale(),
        };
        loop {
            let outlet = self.claimed.fetch_add(1, Relaxed);
            if outlet >= outlets {
                return;
            }
            decoder.batches(&self.bytes, |batch| deliver(outlet, batch));
        }
    }
}

struct Decoder<'a> {
    sites: &'a [Arc<Site>],
    threads: &'a [Arc<ThreadShared>],
    shared: &'a ThreadShared,
    scale: TickScale,
}

fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(index * 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

impl<'a> Decoder<'a> {
    fn batches(&self, mut rest: &'a [u8], mut deliver: impl FnMut(&Batch<'a>)) {
        while !rest.is_empty() {
            let mut batch = Batch {
                spans: Vec::with_capacity(BATCH),
                events: Vec::new(),
            };
            while batch.spans.len() < BATCH && batch.events.len() < BATCH {
                match self.record(rest, &mut batch) {
                    Some(after) => rest = after,
                    None => rest = &[],
                }
                if rest.is_empty() {
                    break;
                }
            }
            deliver(&batch);
        }
    }

    /// Decodes the record at the start of `bytes`; returns the bytes behind it.
    fn record(&self, bytes: &'a [u8], batch: &mut Batch<'a>) -> Option<&'a [u8]> {
        let header = word(bytes, 0)?;
        let flags = (header >> 8) as u8;
        let words = match flags & COMPACT {
            0 => usize::from((header >> 16) as u16),
            _ => COMPACT_WORDS,
        };
        let (record, rest) = bytes.split_at_checked(words.max(1) * 8)?;
        let site = self.sites.get((header >> 32) as usize)?;
        if header as u8 == Kind::Event as u8 {
            batch.events.push(self.event(record, flags, site)?);
        } else {
            batch
                .spans
                .push(self.span(record, header as u8, flags, site)?);
        }
        Some(rest)
    }

    fn span(
        &self,
        record: &'a [u8],
        kind: u8,
        flags: u8,
        site: &'a Site,
    ) -> Option<SpanRecord<'a>> {
        let mut fields_at = SPAN_WORDS;
        let kind = if kind == Kind::Async as u8 {
            fields_at += 2;
            SpanKind::Async {
                busy: self.scale.length(word(record, 5)?),
                activations: u32::try_from(word(record, 6)?).unwrap_or(u32::MAX),
            }
        } else if kind == Kind::Poll as u8 {
            SpanKind::Poll
        } else if kind == Kind::Call as u8 {
            SpanKind::Call
        } else {
            SpanKind::Whole
        };
        let fields = fields(record, flags, fields_at, site)?;
        let [seq, parent, start, end] = self.span_words(record, flags)?;
        Some(SpanRecord {
            span: SpanSeq(seq),
            parent: (parent != 0).then_some(SpanSeq(parent)),
            kind,
            site,
            name: dynamic_name(site, fields),
            thread: self.thread(seq, flags),
            start: self.scale.at(start),
            end: self.scale.at(end),
            fields,
            unfinished: false,
            overlapping: flags & OVERLAPPING != 0,
        })
    }

    /// Returns sequence number, parent, start and end.
    fn span_words(&self, record: &[u8], flags: u8) -> Option<[u64; 4]> {
        if flags & COMPACT == 0 {
            return Some([
                word(record, 1)?,
                word(record, 2)?,
                word(record, 3)?,
                word(record, 4)?,
            ]);
        }
        let both = word(record, 1)?;
        let first = u64::from(self.shared.thread.index) << SEQ_BITS;
        let seq = first + (both & 0xFFFF_FFFF);
        let parent = match (word(record, 0)? >> 16) & 0xFFFF {
            0 => 0,
            back => seq.saturating_sub(back),
        };
        let start = word(record, 2)?;
        Some([seq, parent, start, start.saturating_add(both >> 32)])
    }

    fn event(&self, record: &'a [u8], flags: u8, site: &'a Site) -> Option<EventRecord<'a>> {
        let span = word(record, 1)?;
        let level = [
            Level::Trace,
            Level::Debug,
            Level::Info,
            Level::Warn,
            Level::Error,
        ];
        Some(EventRecord {
            span: (span != 0).then_some(SpanSeq(span)),
            site,
            thread: &self.shared.thread,
            at: self.scale.at(word(record, 2)?),
            level: *level.get(word(record, 3)? as usize)?,
            fields: fields(record, flags, EVENT_WORDS, site)?,
        })
    }

    fn thread(&self, seq: u64, flags: u8) -> &'a Thread {
        let creator = (seq >> SEQ_BITS) as u32;
        if flags & BY_CREATOR != 0 && creator != self.shared.thread.index {
            // A creator that is no longer listed has ended long ago; its lane ends with it.
            if let Some(shared) = self
                .threads
                .iter()
                .find(|shared| shared.thread.index == creator)
            {
                return &shared.thread;
            }
        }
        &self.shared.thread
    }
}

/// Returns `otel.name` where the program set it.
pub(super) fn dynamic_name<'a>(site: &Site, fields: Fields<'a>) -> Option<&'a str> {
    if fields.is_empty() || !site.fields.contains(&"otel.name") {
        return None;
    }
    match fields.get("otel.name")? {
        crate::model::Value::Str { text, .. } => Some(text),
        _ => None,
    }
}

fn fields<'a>(record: &'a [u8], flags: u8, at: usize, site: &'a Site) -> Option<Fields<'a>> {
    if flags & WITH_FIELDS == 0 {
        return Some(Fields::empty());
    }
    let length = usize::try_from(word(record, at)?).ok()?;
    let bytes = record.get((at + 1) * 8..)?.get(..length)?;
    Some(Fields::new(site, bytes))
}
