//! CUPTI's activity interface: kinds, the program's buffers, and flushing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::mem::take;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::activities::{LARGEST, OVERHEAD, Record, size_of};
use crate::clock::{self, Timestamp};
use crate::driver::device_of;
use crate::knobs::{self, Knob};
use crate::state::lock;

const INVALID_PARAMETER: u32 = 1;
const MAX_LIMIT_REACHED: u32 = 12;
const QUEUE_EMPTY: u32 = 18;
const INVALID_KIND: u32 = 21;
const FORCED: u32 = 1;
/// From this version on a program may refuse a request for a buffer.
const MAY_REFUSE: i64 = 27;

type Requested = unsafe extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
type Completed = unsafe extern "C" fn(usize, u32, *mut u8, usize, usize);

static CALLBACKS: Mutex<Option<(Requested, Completed)>> = Mutex::new(None);
/// A buffer that waits for the next flush.
static HELD: Mutex<Option<Buffer>> = Mutex::new(None);
static NEEDS_BUFFER: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// External correlation ids by kind.
    static EXTERNAL: RefCell<HashMap<u32, Vec<u64>>> = RefCell::default();
}

struct Buffer {
    start: usize,
    size: usize,
    used: usize,
    /// Records that may still go in.
    room: usize,
    completed: Completed,
}

impl Buffer {
    /// Asks the program for one.
    fn request() -> Option<Buffer> {
        let (requested, completed) = (*CALLBACKS.lock().unwrap())?;
        let (mut start, mut size, mut records) = (null_mut(), 0, 0);
        // SAFETY: the program registered it for this.
        unsafe { requested(&mut start, &mut size, &mut records) };
        if start.is_null() {
            let version = knobs::get(Knob::CUPTI_VERSION);
            assert!(
                version >= MAY_REFUSE,
                "fake-gpu: a refused buffer crashes CUPTI {version}"
            );
            return None;
        }
        assert!(
            (start as usize).is_multiple_of(8),
            "fake-gpu: the buffer at {start:?} is not aligned to 8"
        );
        assert!(
            size >= LARGEST,
            "fake-gpu: a buffer of {size} bytes holds no record of {LARGEST}"
        );
        Some(Buffer {
            start: start as usize,
            size,
            used: 0,
            room: if records == 0 { usize::MAX } else { records },
            completed,
        })
    }

    /// False when it is full.
    fn take(&mut self, record: &Record) -> bool {
        let bytes = record.bytes();
        if self.room == 0 || self.used + bytes.len() > self.size {
            return false;
        }
        let place = (self.start + self.used) as *mut u8;
        // SAFETY: the program lent these bytes, and the record fits.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.used += bytes.len();
        self.room -= 1;
        true
    }

    fn complete(self) {
        // SAFETY: the program registered it for this.
        unsafe { (self.completed)(0, 0, self.start as *mut u8, self.size, self.used) }
    }
}

/// Asks for a buffer on the thread that made work, when there is none. No lock may be held.
pub fn supply() {
    if !NEEDS_BUFFER.load(Relaxed) || !NEEDS_BUFFER.swap(false, Relaxed) {
        return;
    }
    let buffer = Buffer::request();
    let mut held = HELD.lock().unwrap();
    let surplus = match &*held {
        Some(_) => buffer,
        None => {
            *held = buffer;
            None
        }
    };
    drop(held);
    if let Some(buffer) = surplus {
        buffer.complete();
    }
}

fn flush(forced: bool) {
    let now = clock::now();
    let mut ready = Vec::new();
    let (wants_overhead, flushes) = {
        let late = knobs::get(Knob::LATE);
        let mut state = lock();
        let mut rest = Vec::new();
        // Its memory stays, because asking for more of it would be a cost of the next launches.
        for mut record in state.records.drain(..) {
            record.flushes += i64::from(record.finished <= now);
            if forced || (record.finished <= now && record.flushes >= late) {
                record.as_of(now);
                ready.push(record);
            } else {
                rest.push(record);
            }
        }
        state.records.append(&mut rest);
        state.flushes += 1;
        (state.wants(OVERHEAD), state.flushes)
    };
    if wants_overhead && !ready.is_empty() {
        ready.push(Record::overhead((now.saturating_sub(1_000), now)));
    }
    match knobs::get(Knob::SHUFFLE) as u64 {
        0 => (),
        seed => shuffle(&mut ready, seed.wrapping_add(flushes)),
    }
    hand_over(&ready, forced);
    let any_kind = lock().kinds != 0;
    let holds = HELD.lock().unwrap().is_some();
    NEEDS_BUFFER.store(any_kind && !holds, Relaxed);
}

fn hand_over(records: &[Record], forced: bool) {
    let mut buffer = HELD.lock().unwrap().take();
    for (number, record) in records.iter().enumerate() {
        let mut done = buffer.as_mut().is_some_and(|buffer| buffer.take(record));
        if !done {
            if let Some(full) = buffer.take() {
                full.complete();
            }
            buffer = Buffer::request();
            done = buffer.as_mut().is_some_and(|buffer| buffer.take(record));
        }
        if !done {
            lock().dropped += (records.len() - number) as u64;
            break;
        }
    }
    match buffer {
        Some(buffer) if buffer.used > 0 || forced => buffer.complete(),
        unused => *HELD.lock().unwrap() = unused,
    }
}

fn shuffle(records: &mut [Record], seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..records.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        records.swap(last, (random % (last as u64 + 1)) as usize);
    }
}

fn failure(knob: Knob) -> Option<u32> {
    Some(knobs::get(knob) as u32).filter(|code| *code != 0)
}

exported! {
    fn cuptiGetVersion(version: *mut u32) -> u32 {
        if let Some(code) = failure(Knob::CUPTI_VERSION_ERROR) {
            return code;
        }
        version.write(knobs::get(Knob::CUPTI_VERSION) as u32);
        0
    }

    fn cuptiGetResultString(result: u32, text: *mut *const c_char) -> u32 {
        let name = match result {
            0 => "CUPTI_SUCCESS\0",
            1 => "CUPTI_ERROR_INVALID_PARAMETER\0",
            12 => "CUPTI_ERROR_MAX_LIMIT_REACHED\0",
            15 => "CUPTI_ERROR_NOT_INITIALIZED\0",
            18 => "CUPTI_ERROR_QUEUE_EMPTY\0",
            21 => "CUPTI_ERROR_INVALID_KIND\0",
            35 => "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES\0",
            39 => "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED\0",
            _ => "CUPTI_ERROR_UNKNOWN\0",
        };
        text.write(name.as_ptr().cast());
        0
    }

    fn cuptiGetLastError() -> u32 {
        0
    }

    fn cuptiGetTimestamp(timestamp: *mut u64) -> u32 {
        timestamp.write(clock::of_record(clock::now()));
        0
    }

    fn cuptiGetDeviceId(context: usize, device: *mut u32) -> u32 {
        match device_of(context) {
            Ok(index) => {
                device.write(index as u32);
                0
            }
            Err(_) => INVALID_PARAMETER,
        }
    }

    fn cuptiGetStreamId(_context: usize, stream: usize, id: *mut u32) -> u32 {
        match lock().stream(stream) {
            Ok(index) => {
                id.write(crate::streams::id_of(index));
                0
            }
            Err(_) => INVALID_PARAMETER,
        }
    }

    fn cuptiGetStreamIdEx(context: usize, stream: usize, per_thread: u8, id: *mut u32) -> u32 {
        let stream = if stream == 0 && per_thread != 0 { 2 } else { stream };
        cuptiGetStreamId(context, stream, id)
    }

    fn cuptiSetThreadIdType(_kind: u32) -> u32 {
        0
    }

    fn cuptiActivitySetAttribute(_attribute: u32, size: *mut usize, value: *mut c_void) -> u32 {
        if size.is_null() || value.is_null() { INVALID_PARAMETER } else { 0 }
    }

    fn cuptiActivityRegisterTimestampCallback(callback: Option<Timestamp>) -> u32 {
        clock::set_timestamp(callback);
        0
    }

    fn cuptiActivityRegisterCallbacks(requested: Option<Requested>, completed: Option<Completed>) -> u32 {
        let (Some(requested), Some(completed)) = (requested, completed) else {
            return INVALID_PARAMETER;
        };
        *CALLBACKS.lock().unwrap() = Some((requested, completed));
        NEEDS_BUFFER.store(lock().kinds != 0, Relaxed);
        0
    }

    fn cuptiActivityEnable(kind: u32) -> u32 {
        if let Some(code) = failure(Knob::CUPTI_ENABLE) {
            return code;
        }
        if size_of(kind).is_none() {
            return INVALID_KIND;
        }
        lock().kinds |= 1 << kind;
        NEEDS_BUFFER.store(HELD.lock().unwrap().is_none(), Relaxed);
        0
    }

    fn cuptiActivityDisable(kind: u32) -> u32 {
        if size_of(kind).is_none() {
            return INVALID_KIND;
        }
        let mut state = lock();
        state.kinds &= !(1 << kind);
        if state.kinds == 0 {
            NEEDS_BUFFER.store(false, Relaxed);
        }
        0
    }

    fn cuptiActivityFlushPeriod(_milliseconds: u32) -> u32 {
        0
    }

    fn cuptiActivityFlushAll(flag: u32) -> u32 {
        if let Some(code) = failure(Knob::CUPTI_FLUSH) {
            return code;
        }
        flush(flag & FORCED != 0);
        0
    }

    fn cuptiActivityGetNextRecord(buffer: *mut u8, valid: usize, record: *mut *mut u8) -> u32 {
        if buffer.is_null() || record.is_null() {
            return INVALID_PARAMETER;
        }
        let next = match *record {
            last if last.is_null() => buffer,
            last => match size_of(last.cast::<u32>().read()) {
                Some(size) => last.add(size),
                None => return INVALID_KIND,
            },
        };
        if next as usize >= buffer as usize + valid {
            return MAX_LIMIT_REACHED;
        }
        record.write(next);
        0
    }

    fn cuptiActivityGetNumDroppedRecords(_context: usize, _stream: u32, dropped: *mut usize) -> u32 {
        dropped.write(take(&mut lock().dropped) as usize);
        0
    }

    fn cuptiActivityPushExternalCorrelationId(kind: u32, id: u64) -> u32 {
        EXTERNAL.with_borrow_mut(|ids| ids.entry(kind).or_default().push(id));
        0
    }

    fn cuptiActivityPopExternalCorrelationId(kind: u32, last: *mut u64) -> u32 {
        match EXTERNAL.with_borrow_mut(|ids| ids.get_mut(&kind).and_then(Vec::pop)) {
            Some(id) => {
                if !last.is_null() {
                    last.write(id);
                }
                0
            }
            None => QUEUE_EMPTY,
        }
    }

    fn cuptiFinalize() -> u32 {
        panic!("fake-gpu: cuptiFinalize is called, which is safe in no profiler that runs on");
    }
}
