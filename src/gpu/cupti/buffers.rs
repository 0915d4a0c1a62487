//! The buffers in which CUPTI hands over what it recorded.
#![expect(
    unsafe_code,
    reason = "CUPTI is lent memory by address and gives it back by address"
)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::library::{Cupti, text_at};
use super::names::Names;
use super::records::{self, Record};
use crate::capture::process::is_forked_child;
use crate::clock::Clock;

/// Half a million words would be the 4 MiB that others use; a quarter of it is 8,000 kernels, and a program that starts
/// few holds less for nothing.
const WORDS: usize = 1 << 17;
/// Buffers that lie ready for the next request.
const SPARE: usize = 4;
/// 64 MiB that wait for the library to be done with them. Beyond it the library drops records, and counts them.
const MOST_LENT: usize = 64;
/// Records that nobody has taken; a collector that hangs must not let them eat the memory.
const MOST_RECORDS: usize = 1 << 19;
/// The first version that survives not being given a buffer (CUDA 12.9).
const MAY_REFUSE: u32 = 27;

/// What all buffers of the process share; the library's callbacks are given nothing else.
static BUFFERS: Buffers = Buffers {
    library: OnceLock::new(),
    spare: Mutex::new(Vec::new()),
    lent: AtomicUsize::new(0),
    arrived: Mutex::new(Arrived {
        records: Vec::new(),
        names: None,
    }),
    dropped: AtomicU64::new(0),
};

/// The clock on which the library is told the time. The first capture's, for the life of the process: the library puts the
/// devices' clocks in its place, for which it should run evenly. Only a clock that counts something else takes its place,
/// as those of tests do. A clock that was told once is never freed, because the library may be reading it.
static CLOCK: AtomicPtr<Clock> = AtomicPtr::new(std::ptr::null_mut());

struct Buffers {
    library: OnceLock<Cupti>,
    spare: Mutex<Vec<Box<[u64]>>>,
    lent: AtomicUsize,
    arrived: Mutex<Arrived>,
    dropped: AtomicU64,
}

struct Arrived {
    records: Vec<Record>,
    names: Option<Names>,
}

/// Says which library lends and which clock it is to use, and returns the clock that it uses already.
pub(super) fn prepare(library: Cupti, clock: &Clock) -> &'static Clock {
    BUFFERS.library.get_or_init(|| library);
    match told() {
        Some(told) if told.counts_with(clock) => told,
        _ => {
            let clock: &'static Clock = Box::leak(Box::new(clock.clone()));
            CLOCK.store(std::ptr::from_ref(clock).cast_mut(), Release);
            clock
        }
    }
}

fn told() -> Option<&'static Clock> {
    // SAFETY: only `prepare` stores here, addresses of clocks that live forever.
    unsafe { CLOCK.load(Acquire).as_ref() }
}

/// Takes the records that have arrived, in no order.
pub(super) fn take() -> Vec<Record> {
    std::mem::take(&mut lock(&BUFFERS.arrived).records)
}

/// Returns how many records were dropped here since the last time, because nobody took them.
pub(super) fn take_dropped() -> u64 {
    BUFFERS.dropped.swap(0, Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time, where the library asks for it: Unix nanoseconds by the capture's clock. Never 0, which stands for unknown.
pub(super) extern "C" fn now() -> u64 {
    told().map_or(1, |clock| clock.anchor().unix_ns_at(clock.now()))
}

/// The library wants a buffer.
pub(super) extern "C" fn requested(
    buffer: *mut *mut u8,
    bytes: *mut usize,
    most_records: *mut usize,
) {
    let memory = catch_unwind(|| {
        let version = BUFFERS.library.get().and_then(Cupti::version);
        let may_refuse = version.is_some_and(|version| version >= MAY_REFUSE);
        if BUFFERS.lent.load(Relaxed) >= MOST_LENT && may_refuse {
            return None;
        }
        BUFFERS.lent.fetch_add(1, Relaxed);
        let spare = match is_forked_child() {
            // A thread that is not here may have held the lock.
            true => None,
            false => lock(&BUFFERS.spare).pop(),
        };
        Some(spare.unwrap_or_else(|| vec![0; WORDS].into_boxed_slice()))
    });
    let address = match memory.ok().flatten() {
        Some(memory) => Box::into_raw(memory).cast::<u8>(),
        None => std::ptr::null_mut(),
    };
    // SAFETY: the library passes addresses of three variables of its own.
    unsafe {
        *buffer = address;
        *bytes = if address.is_null() { 0 } else { WORDS * 8 };
        // As many as fit.
        *most_records = 0;
    }
}

/// The library gives a buffer back.
pub(super) extern "C" fn completed(
    _context: *mut c_void,
    _stream: u32,
    buffer: *mut u8,
    _bytes: usize,
    valid_bytes: usize,
) {
    if buffer.is_null() {
        return;
    }
    let in_child = is_forked_child();
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(library) = BUFFERS.library.get().filter(|_| !in_child) {
            // SAFETY: these are the buffer and the length that the library has just handed back.
            unsafe { read(library, buffer, valid_bytes) };
        }
    }));
    BUFFERS.lent.fetch_sub(1, Relaxed);
    let memory = std::ptr::slice_from_raw_parts_mut(buffer.cast::<u64>(), WORDS);
    // SAFETY: every buffer that the library has is a box of that length, from `requested`, and is given back once.
    let memory = unsafe { Box::from_raw(memory) };
    if in_child {
        return;
    }
    let mut spare = lock(&BUFFERS.spare);
    if spare.len() < SPARE {
        spare.push(memory);
    }
}

/// # Safety
///
/// `buffer` and `valid_bytes` must be what the library has handed back.
unsafe fn read(library: &Cupti, buffer: *mut u8, valid_bytes: usize) {
    let mut arrived = lock(&BUFFERS.arrived);
    let Arrived { records, names } = &mut *arrived;
    let names = names.get_or_insert_with(Names::default);
    let mut each = |kind: u32, bytes: &[u8]| {
        if records.len() >= MOST_RECORDS {
            BUFFERS.dropped.fetch_add(1, Relaxed);
            return;
        }
        // SAFETY: a kernel's record has the address of its name, which the library keeps while the buffer is read.
        let name = |address| names.of(unsafe { text_at(address) });
        records.extend(records::read(kind, bytes, name));
    };
    // SAFETY: as the caller says.
    unsafe { library.for_each_record(buffer, valid_bytes, records::bytes_of, &mut each) };
}
