//! The consumer's side of the event stream: empties rings and decodes what was in them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::capture::Capture;
use super::local::{SEQ_BITS, ThreadShared};
use super::lock;
use super::stream::{BY_CREATOR, COMPACT, COMPACT_WORDS, EVENT_WORDS, Kind, OVERLAPPING};
use super::stream::{SPAN_WORDS, WITH_FIELDS};
use crate::model::{EventRecord, Fields, Level, Site, SpanKind, SpanRecord, Thread};
use crate::model::{SpanSeq, TickScale, Value};

/// Empties rings and hands on what was in them.
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
            ids: None,
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
        Value::Str { text, .. } => Some(text),
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
