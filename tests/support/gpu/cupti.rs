//! The smallest profiler: it hears every driver call and keeps every record.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::Mutex;

use libloading::os::unix::{Library, Symbol};

const BUFFER_WORDS: usize = 512;
static CALLS: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
static RECORDS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// One callback.
#[derive(Clone, Debug)]
pub struct Seen {
    pub domain: u32,
    pub cbid: u32,
    pub is_exit: bool,
    pub function: String,
    pub correlation: u32,
    /// The address of what the subscriber may store between enter and exit.
    pub scratch: usize,
    /// The first 64-bit word of the parameters, if there are any.
    pub first_param: Option<u64>,
    pub result: u32,
}

type Requested = unsafe extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
type Completed = unsafe extern "C" fn(usize, u32, *mut u8, usize, usize);
type Callback = unsafe extern "C" fn(*mut c_void, u32, u32, *const u8);

pub struct Tracer {
    library: Library,
    subscriber: usize,
}

impl Tracer {
    /// Subscribes to both domains and enables these kinds of activity; or says what CUPTI answers instead.
    pub fn start(kinds: &[u32]) -> Result<Tracer, u32> {
        let library = unsafe { Library::new("libcupti.so.13") }.unwrap();
        let mut tracer = Tracer {
            library,
            subscriber: 0,
        };
        let subscribe: Symbol<unsafe extern "C" fn(*mut usize, Callback, *mut c_void) -> u32> =
            tracer.get("cuptiSubscribe");
        super::driver::check(unsafe { subscribe(&mut tracer.subscriber, heard, null_mut()) })?;
        let register: Symbol<unsafe extern "C" fn(Requested, Completed) -> u32> =
            tracer.get("cuptiActivityRegisterCallbacks");
        super::driver::check(unsafe { register(requested, completed) })?;
        let domain: Symbol<unsafe extern "C" fn(u32, usize, u32) -> u32> =
            tracer.get("cuptiEnableDomain");
        for number in [1, 2] {
            super::driver::check(unsafe { domain(1, tracer.subscriber, number) })?;
        }
        let enable: Symbol<unsafe extern "C" fn(u32) -> u32> = tracer.get("cuptiActivityEnable");
        for kind in kinds {
            super::driver::check(unsafe { enable(*kind) })?;
        }
        Ok(tracer)
    }

    pub fn get<T>(&self, symbol: &str) -> Symbol<T> {
        unsafe { self.library.get(symbol.as_bytes()) }.unwrap()
    }

    pub fn flush(&self, forced: bool) {
        let flush: Symbol<unsafe extern "C" fn(u32) -> u32> = self.get("cuptiActivityFlushAll");
        assert_eq!(unsafe { flush(u32::from(forced)) }, 0);
    }

    /// The callbacks since the last question.
    pub fn calls(&self) -> Vec<Seen> {
        std::mem::take(&mut CALLS.lock().unwrap())
    }

    /// Flushes, and returns the records since the last question.
    pub fn records(&self) -> Vec<Vec<u8>> {
        self.flush(false);
        std::mem::take(&mut RECORDS.lock().unwrap())
    }

    /// The same, and those of work that has not ended.
    pub fn all_records(&self) -> Vec<Vec<u8>> {
        self.flush(true);
        std::mem::take(&mut RECORDS.lock().unwrap())
    }
}

unsafe extern "C" fn heard(_user: *mut c_void, domain: u32, cbid: u32, data: *const u8) {
    let pointer = |at: usize| unsafe { data.add(at).cast::<*const u8>().read() };
    let seen = unsafe {
        Seen {
            domain,
            cbid,
            is_exit: data.cast::<u32>().read() == 1,
            function: CStr::from_ptr(pointer(8).cast::<c_char>())
                .to_string_lossy()
                .into_owned(),
            correlation: data.add(64).cast::<u32>().read(),
            scratch: pointer(56) as usize,
            // cuCtxSynchronize has none, and the runtime's are not simulated.
            first_param: (domain == 1 && cbid != 17).then(|| pointer(16).cast::<u64>().read()),
            result: pointer(24).cast::<u32>().read(),
        }
    };
    CALLS.lock().unwrap().push(seen);
}

unsafe extern "C" fn requested(start: *mut *mut u8, size: *mut usize, records: *mut usize) {
    let buffer: &'static mut [u64] = Box::leak(vec![0; BUFFER_WORDS].into_boxed_slice());
    unsafe {
        start.write(buffer.as_mut_ptr().cast());
        size.write(8 * BUFFER_WORDS);
        records.write(0);
    }
}

unsafe extern "C" fn completed(
    _context: usize,
    _stream: u32,
    start: *mut u8,
    _size: usize,
    valid: usize,
) {
    let library = unsafe { Library::new("libcupti.so.13") }.unwrap();
    let next: Symbol<unsafe extern "C" fn(*mut u8, usize, *mut *mut u8) -> u32> =
        unsafe { library.get(b"cuptiActivityGetNextRecord") }.unwrap();
    let mut record = null_mut();
    let mut starts = Vec::new();
    while unsafe { next(start, valid, &mut record) } == 0 {
        starts.push(record as usize - start as usize);
    }
    let bytes = unsafe { std::slice::from_raw_parts(start, valid) };
    let ends = starts.iter().skip(1).copied().chain([valid]);
    let mut records = RECORDS.lock().unwrap();
    records.extend(
        starts
            .iter()
            .zip(ends)
            .map(|(start, end)| bytes[*start..end].to_vec()),
    );
    drop(unsafe {
        Box::from_raw(std::ptr::slice_from_raw_parts_mut(
            start.cast::<u64>(),
            BUFFER_WORDS,
        ))
    });
}
