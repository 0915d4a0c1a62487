//! The consumer's side of the event stream: empties rings and decodes what was in them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::capture::Capture;
#[cfg(feature = "cuda")]
use super::gpu_calls;
use super::identity::{self, OWN_ID, OWN_NUMBER};
use super::local::{SEQ_BITS, ThreadShared};
use super::lock;
use super::stream::WITH_FIELDS;
use super::stream::{BY_CREATOR, COMPACT, COMPACT_START, COMPACT_WORDS, EVENT_WORDS, FAILED};
use super::stream::{KIND_BITS, KIND_MASK, Kind, OVERLAPPING, SITE_MASK, SPAN_WORDS, TRACED};
#[cfg(feature = "cuda")]
use crate::model::GpuCallEnd;
use crate::model::{EventRecord, Fields, Level, Site, SpanKind, SpanRecord, Thread};
use crate::model::{SpanId, SpanSeq, TickScale};

/// Empties rings and hands on what was in them.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    sites: Vec<Arc<Site>>,
}

/// What was taken out of one ring.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    thread: Option<Arc<ThreadShared>>,
    /// With it, everything has been handed on that was in any ring at one time.
    ends_round: bool,
    /// How many outlets it was handed to, or is being handed to.
    claimed: AtomicUsize,
}

/// What is between the rings and the outlets; shared, so that another thread can go on with it if an outlet never
/// returns.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    current: Mutex<Option<Arc<Chunk>>>,
    /// Taken out of the rings to make room there.
    backlog: Mutex<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// Memory to use again.
    spare: Vec<Vec<u8>>,
}

/// Decoded records of one thread.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    pub(crate) spans: Vec<SpanRecord<'a>>,
    pub(crate) events: Vec<EventRecord<'a>>,
    /// Of calls into the driver of a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) calls: Vec<GpuCallEnd<'a>>,
}

impl Batch<'_> {
    fn is_full(&self) -> bool {
        #[cfg(feature = "cuda")]
        if self.calls.len() >= BATCH {
            return true;
        }
        self.spans.len() >= BATCH || self.events.len() >= BATCH
    }
}

/// Records are handed on in portions of this many, so that decoded ones stay in the processor's cache.
const BATCH: usize = 512;

/// Who gets what was in the rings.
pub(crate) trait Outlets {
    /// Returns how many there are.
    fn count(&self) -> usize;

    /// Hands a batch to one of them.
    fn deliver(&mut self, outlet: usize, batch: &Batch<'_>);

    /// All batches have been handed on of what was in the rings at one time; returns whether something follows from it.
    /// Calls `between` every now and then if that takes long.
    fn end_round(&mut self, between: &mut dyn FnMut()) -> bool;
}

impl Drain {
    /// Takes everything out of all rings and hands it to each outlet in turn; returns whether anything was handed on.
    pub(crate) fn run(
        &mut self,
        capture: &Capture,
        in_flight: &InFlight,
        outlets: &mut impl Outlets,
    ) -> bool {
        let threads = capture.threads();
        // At full speed a ring is full before what was in it has been handed on.
        let mut make_room = || {
            if capture.is_any_ring_filling(&threads) {
                in_flight.gather(capture, &threads);
            }
        };
        in_flight.gather(capture, &threads);
        let chunks = in_flight.chunks();
        if chunks == 0 {
            return outlets.end_round(&mut make_room);
        }
        for _ in 0..chunks {
            let Some(chunk) = in_flight.begin() else {
                break;
            };
            capture.registry.extend_sites(&mut self.sites);
            chunk.hand_on(capture, &self.sites, &threads, outlets, &mut make_room);
            if chunk.ends_round {
                outlets.end_round(&mut make_room);
            }
            in_flight.end(chunk);
        }
        true
    }
}

impl InFlight {
    /// Empties all rings into the backlog, unless that holds as much as it may.
    fn gather(&self, capture: &Capture, threads: &[Arc<ThreadShared>]) {
        let mut backlog = lock(&self.backlog);
        if backlog.bytes >= capture.registry.limits.max_record_bytes {
            return;
        }
        let _only_consumer = lock(&capture.draining);
        let mut taken: Vec<Chunk> = Vec::new();
        for shared in threads {
            let Some(ring) = &shared.ring else { continue };
            if ring.is_drained() {
                continue;
            }
            let mut bytes = backlog.spare.pop().unwrap_or_default();
            ring.drain(&mut bytes);
            backlog.bytes += bytes.len();
            taken.push(Chunk {
                bytes,
                thread: Some(Arc::clone(shared)),
                ..Chunk::default()
            });
        }
        if let Some(last) = taken.last_mut() {
            last.ends_round = true;
        }
        backlog.chunks.extend(taken.into_iter().map(Arc::new));
    }

    fn chunks(&self) -> usize {
        lock(&self.backlog).chunks.len()
    }

    fn begin(&self) -> Option<Arc<Chunk>> {
        let mut backlog = lock(&self.backlog);
        let chunk = backlog.chunks.pop_front()?;
        // Set before the backlog is let go: whoever takes over finds the chunk in one of the two.
        *lock(&self.current) = Some(Arc::clone(&chunk));
        Some(chunk)
    }

    fn end(&self, chunk: Arc<Chunk>) {
        *lock(&self.current) = None;
        let mut backlog = lock(&self.backlog);
        backlog.bytes -= chunk.bytes.len();
        if let Ok(mut chunk) = Arc::try_unwrap(chunk)
            && backlog.spare.len() < SPARE
        {
            chunk.bytes.clear();
            backlog.spare.push(chunk.bytes);
        }
    }

    /// Hands what is under way to the outlets that it has not reached yet.
    pub(crate) fn resume(&self, capture: &Capture, outlets: &mut impl Outlets) {
        let chunk = lock(&self.current).clone();
        if let Some(chunk) = chunk {
            let (sites, threads) = (capture.registry.sites(), capture.threads());
            chunk.hand_on(capture, &sites, &threads, outlets, &mut || ());
        }
    }
}

/// One to hand on, and one to take out meanwhile.
const SPARE: usize = 2;

impl Chunk {
    /// Hands everything to one outlet before the next, so that those before one that hangs have all of it. Decoding
    /// again for each costs less than keeping what was decoded. Calls `between` after each batch.
    fn hand_on(
        &self,
        capture: &Capture,
        sites: &[Arc<Site>],
        threads: &[Arc<ThreadShared>],
        outlets: &mut impl Outlets,
        between: &mut impl FnMut(),
    ) {
        let Some(shared) = &self.thread else { return };
        let decoder = Decoder {
            sites,
            threads,
            shared,
            scale: capture.clock.scale(),
            capture,
        };
        loop {
            let outlet = self.claimed.fetch_add(1, Relaxed);
            if outlet >= outlets.count() {
                return;
            }
            decoder.batches(&self.bytes, |batch| {
                outlets.deliver(outlet, batch);
                between();
            });
        }
    }
}

struct Decoder<'a> {
    sites: &'a [Arc<Site>],
    threads: &'a [Arc<ThreadShared>],
    shared: &'a ThreadShared,
    scale: TickScale,
    capture: &'a Capture,
}

pub(super) fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(index * 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

impl<'a> Decoder<'a> {
    fn batches(&self, mut rest: &'a [u8], mut deliver: impl FnMut(&Batch<'a>)) {
        while !rest.is_empty() {
            let mut batch = Batch {
                spans: Vec::with_capacity(BATCH),
                events: Vec::new(),
                #[cfg(feature = "cuda")]
                calls: Vec::new(),
            };
            while !batch.is_full() {
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
        let (kind, flags) = (header as u8 & KIND_MASK, header as u16 >> KIND_BITS);
        let words = match flags & COMPACT {
            0 => usize::from((header >> 16) as u16),
            _ => COMPACT_WORDS + self.added_words(flags) + compact_fields(bytes, flags).div_ceil(8),
        };
        let (record, rest) = bytes.split_at_checked(words.max(1) * 8)?;
        #[cfg(feature = "cuda")]
        if kind == Kind::GpuBegin as u8 || kind == Kind::GpuReturn as u8 {
            let thread = &self.shared.thread;
            let call = gpu_calls::read(self.capture, self.scale, thread, record, kind, flags)?;
            batch.calls.push(call);
            return Some(rest);
        }
        let marks = (header >> 32) as u32;
        let site = self.sites.get((marks & SITE_MASK) as usize)?;
        if kind == Kind::Event as u8 {
            let mut event = self.event(record, flags, site)?;
            event.traced = marks & TRACED != 0;
            batch.events.push(event);
        } else {
            let mut span = self.span(record, kind, flags, site)?;
            span.traced = marks & TRACED != 0;
            span.failed = marks & FAILED != 0;
            batch.spans.push(span);
        }
        Some(rest)
    }

    fn span(
        &self,
        record: &'a [u8],
        kind: u8,
        flags: u16,
        site: &'a Site,
    ) -> Option<SpanRecord<'a>> {
        let added_at = match flags & COMPACT {
            0 => SPAN_WORDS,
            _ => COMPACT_WORDS,
        };
        let mut fields_at = added_at + self.added_words(flags);
        let kind = if kind == Kind::Async as u8 {
            let life_at = fields_at;
            fields_at += 2;
            SpanKind::Async {
                busy: self.scale.length(word(record, life_at)?),
                activations: u32::try_from(word(record, life_at + 1)?).unwrap_or(u32::MAX),
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
        let ids = match self.capture.streams.ids {
            true => {
                let added = |at| word(record, added_at + at);
                let identity = identity::read(flags, seq, parent, added)?;
                Some(self.capture.ids(identity))
            }
            false => None,
        };
        Some(SpanRecord {
            span: SpanSeq(seq),
            parent: (parent != 0).then_some(SpanSeq(parent)),
            kind,
            site,
            name: fields.otel_name(),
            thread: self.thread(seq, flags),
            start: self.scale.at(start),
            end: self.scale.at(end),
            fields,
            unfinished: false,
            ids,
            overlapping: flags & OVERLAPPING != 0,
            traced: false,
            failed: false,
        })
    }

    fn added_words(&self, flags: u16) -> usize {
        match self.capture.streams.ids {
            true => identity::count(flags),
            false => 0,
        }
    }

    /// Returns sequence number, parent, start and end.
    fn span_words(&self, record: &[u8], flags: u16) -> Option<[u64; 4]> {
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
        let start = match flags & WITH_FIELDS {
            0 => word(record, 2)?,
            _ => word(record, 2)? & COMPACT_START,
        };
        Some([seq, parent, start, start.saturating_add(both >> 32)])
    }

    fn event(&self, record: &'a [u8], flags: u16, site: &'a Site) -> Option<EventRecord<'a>> {
        let span = word(record, 1)?;
        let level = [
            Level::Trace,
            Level::Debug,
            Level::Info,
            Level::Warn,
            Level::Error,
        ];
        let of_call = flags & OWN_NUMBER != 0;
        let number = match of_call {
            true => word(record, EVENT_WORDS)?,
            false => span,
        };
        let operation = match self.capture.streams.ids && number != 0 {
            false => None,
            true if flags & OWN_ID != 0 => Some(SpanId(number)),
            true => Some(self.capture.id_keys.span(SpanSeq(number))),
        };
        let fields_at = EVENT_WORDS + usize::from(of_call);
        Some(EventRecord {
            span: (span != 0).then_some(SpanSeq(span)),
            operation,
            site,
            thread: &self.shared.thread,
            at: self.scale.at(word(record, 2)?),
            level: *level.get(word(record, 3)? as usize)?,
            fields: fields(record, flags, fields_at, site)?,
            traced: false,
        })
    }

    fn thread(&self, seq: u64, flags: u16) -> &'a Thread {
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

/// Returns how many bytes of fields a compact record has.
fn compact_fields(record: &[u8], flags: u16) -> usize {
    match flags & WITH_FIELDS {
        0 => 0,
        _ => word(record, 2).map_or(0, |start| (start >> COMPACT_START.count_ones()) as usize),
    }
}

fn fields<'a>(record: &'a [u8], flags: u16, at: usize, site: &'a Site) -> Option<Fields<'a>> {
    if flags & WITH_FIELDS == 0 {
        return Some(Fields::empty());
    }
    let (at, length) = match flags & COMPACT {
        0 => (at + 1, usize::try_from(word(record, at)?).ok()?),
        _ => (at, compact_fields(record, flags)),
    };
    let bytes = record.get(at * 8..)?.get(..length)?;
    Some(Fields::new(site, bytes))
}
