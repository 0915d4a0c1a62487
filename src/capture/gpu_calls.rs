//! Calls into a GPU's driver: noted with the span that the thread is in, on their way through the thread's ring.
//!
//! A call is noted at both of its ends. The work that it starts may be over before it returns, and a call that waits may
//! not return before the capture ends.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::capture::Capture;
use super::drain::word;
use super::frame::{FRAME_ADOPTED, Frame};
use super::identity::{self, AddedWords};
use super::local::{self, Local, ThreadShared, Work};
use super::place::{Identity, Place};
use super::stream::{Kind, header};
use crate::model::{GpuCallEnd, GpuFunction, GpuMemory, RawCaller};
use crate::model::{PathId, SiteId, SpanSeq, Thread, TickScale};

/// The call was made in a span.
const IN_SPAN: u16 = 1;
/// The call took or gave back memory.
const WITH_MEMORY: u16 = 1 << 1;
/// It is known how much.
const WITH_SIZE: u16 = 1 << 2;
// The flags above say which words `identity` has added.

/// Header, correlation and context, tick.
const BEGIN_WORDS: usize = 3;
/// Sequence number and path of the span.
const SPAN_WORDS: usize = 2;
/// Header, correlation and error, tick.
const RETURN_WORDS: usize = 3;
/// Address and size.
const MEMORY_WORDS: usize = 2;

impl Capture {
    /// Notes that a call into the driver begins on this thread, with the span that the thread is in.
    ///
    /// Takes no lock and allocates only on a thread's first call.
    pub(crate) fn gpu_call_begins(&self, function: GpuFunction, correlation: u32, context: u32) {
        let noted = local::with(self, |local| {
            let Local { shared, work, .. } = local;
            let depth = shared.depth.load(Relaxed);
            let top = depth.checked_sub(1).map(|top| work.frame(shared, top));
            let mut words = [0; BEGIN_WORDS + SPAN_WORDS + identity::MOST];
            let mut count = BEGIN_WORDS;
            let mut flags = 0;
            if let Some(frame) = top {
                flags |= IN_SPAN;
                words[3] = frame.seq.load(Relaxed);
                words[4] = u64::from(frame.path().0);
                count += SPAN_WORDS;
                if self.streams.ids {
                    let added = AddedWords::new(&of_frame(frame), words[3], 0);
                    flags |= added.flags;
                    for &word in added.words() {
                        words[count] = word;
                        count += 1;
                    }
                }
            }
            let function = SiteId(u32::from(function.0));
            words[0] = header(Kind::GpuBegin, flags, count, function);
            words[1] = u64::from(correlation) | u64::from(context) << 32;
            // The clock comes last, so that the work above is not the call's.
            words[2] = self.clock.tick();
            work.emit_words(self, shared, words.get(..count).unwrap_or_default())
        });
        self.count_gpu_call(noted);
    }

    /// Notes that a call into the driver returns on this thread.
    pub(crate) fn gpu_call_returns(&self, correlation: u32, error: u32, memory: Option<GpuMemory>) {
        let now = self.clock.tick();
        let noted = local::with(self, |local| {
            let Local { shared, work, .. } = local;
            let mut words = [0; RETURN_WORDS + MEMORY_WORDS];
            let mut count = RETURN_WORDS;
            let mut flags = 0;
            if let Some(memory) = memory {
                flags |= WITH_MEMORY;
                words[3] = memory.address;
                if let Some(bytes) = memory.bytes {
                    flags |= WITH_SIZE;
                    words[4] = bytes;
                }
                count += MEMORY_WORDS;
            }
            words[0] = header(Kind::GpuReturn, flags, count, SiteId::OTHER);
            words[1] = u64::from(correlation) | u64::from(error) << 32;
            words[2] = now;
            work.emit_words(self, shared, words.get(..count).unwrap_or_default())
        });
        self.count_gpu_call(noted);
    }

    /// Returns the span that this thread is in.
    pub(crate) fn current(&self) -> Option<RawCaller> {
        local::with(self, |local| {
            let Local { shared, work, .. } = local;
            let top = shared.depth.load(Relaxed).checked_sub(1)?;
            let frame = work.frame(shared, top);
            let identity = self.streams.ids.then(|| of_frame(frame));
            Some(RawCaller {
                span: SpanSeq(frame.seq.load(Relaxed)),
                path: frame.path(),
                ids: identity.map(|identity| self.ids(identity)),
            })
        })?
    }

    /// Keeps what devices are measured with besides; only the first call has an effect.
    pub(crate) fn keep_of_gpu(&self, kept: Arc<dyn Any + Send + Sync>) {
        let _ = self.of_gpu.set(kept);
    }

    /// Returns what [`Capture::keep_of_gpu`] was given.
    pub(crate) fn of_gpu<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.of_gpu.get()?).downcast().ok()
    }

    /// Returns how many ends of calls were not noted for lack of room, since the start or the last reset.
    pub(crate) fn dropped_gpu_calls(&self) -> u64 {
        self.counters.dropped_gpu_calls.load(Relaxed)
    }

    /// `None` where nothing is to be noted: after the end, and on the crate's own threads.
    fn count_gpu_call(&self, noted: Option<bool>) {
        if noted == Some(false) {
            self.counters.dropped_gpu_calls.fetch_add(1, Relaxed);
        }
    }
}

/// The operation that a frame is an activation of. Of what is around it, nothing is said.
fn of_frame(frame: &Frame) -> Identity {
    let adopted = frame.node_and_flags().1 & FRAME_ADOPTED != 0;
    let mut place = Place::inside(frame);
    place.without_parent();
    Identity {
        operation: frame.operation.load(Relaxed),
        place,
        adopted,
    }
}

impl Work {
    /// Streams a record that is encoded already; returns whether there was room.
    fn emit_words(&mut self, capture: &Capture, shared: &ThreadShared, words: &[u64]) -> bool {
        if !self.producer.fits(words.len()) && !self.make_room(capture, shared, words.len()) {
            return false;
        }
        let Some(ring) = &shared.ring else {
            return false;
        };
        for (offset, &word) in words.iter().enumerate() {
            self.producer.put(ring, offset, word);
        }
        self.producer.publish(ring, words.len());
        true
    }
}

/// Decodes one record.
pub(super) fn read<'a>(
    capture: &Capture,
    scale: TickScale,
    thread: &'a Thread,
    record: &[u8],
    kind: u8,
    flags: u16,
) -> Option<GpuCallEnd<'a>> {
    let both = word(record, 1)?;
    let (correlation, other) = (both as u32, (both >> 32) as u32);
    let at = scale.at(word(record, 2)?);
    if kind == Kind::GpuReturn as u8 {
        let bytes = match flags & WITH_SIZE {
            0 => None,
            _ => Some(word(record, RETURN_WORDS + 1)?),
        };
        let memory = match flags & WITH_MEMORY {
            0 => None,
            _ => Some(GpuMemory::new(word(record, RETURN_WORDS)?, bytes)),
        };
        return Some(GpuCallEnd::Return {
            correlation,
            at,
            error: other,
            memory,
        });
    }
    let caller = match flags & IN_SPAN {
        0 => None,
        _ => Some(read_caller(capture, record, flags)?),
    };
    Some(GpuCallEnd::Begin {
        correlation,
        function: GpuFunction((word(record, 0)? >> 32) as u16),
        context: other,
        thread,
        at,
        caller,
    })
}

fn read_caller(capture: &Capture, record: &[u8], flags: u16) -> Option<RawCaller> {
    let seq = word(record, BEGIN_WORDS)?;
    let path = PathId(u32::try_from(word(record, BEGIN_WORDS + 1)?).ok()?);
    let ids = match capture.streams.ids {
        false => None,
        true => {
            let added = |at| word(record, BEGIN_WORDS + SPAN_WORDS + at);
            Some(capture.ids(identity::read(flags, seq, 0, added)?))
        }
    };
    Some(RawCaller {
        span: SpanSeq(seq),
        path,
        ids,
    })
}
