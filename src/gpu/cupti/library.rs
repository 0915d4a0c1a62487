//! CUPTI's functions, looked up in the library at run time.
//!
//! Not through the bindings of a version: those of one version name functions that the library of another does not have.
#![expect(
    unsafe_code,
    reason = "the library is a C library; every function pointer is called through the signature of `cupti.h`"
)]

use std::ffi::{CStr, OsString, c_char, c_void};
use std::path::PathBuf;
use std::ptr;

use libloading::Library;

use super::super::event_api::{Context, Stream};
use super::super::symbols::{Symbols, open_first, open_loaded};

/// `CUptiResult`: 0 is success.
pub(super) type Status = u32;

/// `CUpti_CallbackFunc`.
pub(super) type Callback =
    extern "C" fn(user: *mut c_void, domain: u32, callback: u32, data: *const c_void);
/// `CUpti_BuffersCallbackRequestFunc`.
pub(super) type BufferRequested =
    extern "C" fn(buffer: *mut *mut u8, bytes: *mut usize, most_records: *mut usize);
/// `CUpti_BuffersCallbackCompleteFunc`.
pub(super) type BufferCompleted = extern "C" fn(
    context: *mut c_void,
    stream: u32,
    buffer: *mut u8,
    bytes: usize,
    valid_bytes: usize,
);
/// `CUpti_TimestampCallbackFunc`.
pub(super) type ReadClock = extern "C" fn() -> u64;

/// `CUPTI_CB_DOMAIN_DRIVER_API`.
const DRIVER: u32 = 1;
/// `CUPTI_ACTIVITY_FLAG_FLUSH_FORCED`.
const FORCED: u32 = 1;

/// The functions of one loaded library, which is never unloaded.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Cupti {
    get_version: unsafe extern "C" fn(*mut u32) -> Status,
    subscribe: unsafe extern "C" fn(*mut *mut c_void, Callback, *mut c_void) -> Status,
    unsubscribe: unsafe extern "C" fn(*mut c_void) -> Status,
    enable_callback: unsafe extern "C" fn(u32, *mut c_void, u32, u32) -> Status,
    activity_enable: unsafe extern "C" fn(u32) -> Status,
    activity_disable: unsafe extern "C" fn(u32) -> Status,
    register_buffers: unsafe extern "C" fn(BufferRequested, BufferCompleted) -> Status,
    flush_all: unsafe extern "C" fn(u32) -> Status,
    next_record: unsafe extern "C" fn(*mut u8, usize, *mut *mut u8) -> Status,
    dropped_records: unsafe extern "C" fn(*mut c_void, u32, *mut usize) -> Status,
    get_timestamp: unsafe extern "C" fn(*mut u64) -> Status,
    /// Absent before CUDA 11.
    register_clock: Option<unsafe extern "C" fn(ReadClock) -> Status>,
    stream_id: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, u8, *mut u32) -> Status>,
    context_id: Option<unsafe extern "C" fn(*mut c_void, *mut u32) -> Status>,
    result_string: Option<unsafe extern "C" fn(Status, *mut *const c_char) -> Status>,
}

/// A subscription of this process, until it is given back.
#[derive(Debug)]
pub(super) struct Subscription(*mut c_void);

// SAFETY: the handle is an opaque name of the subscription; CUPTI's functions may be called with it from any thread.
unsafe impl Send for Subscription {}
// SAFETY: as above.
unsafe impl Sync for Subscription {}

impl Cupti {
    /// Opens the library: one that the program has loaded already, `TRACING_CORTEX_CUPTI`, the loader's, the toolkit's.
    pub(super) fn open() -> Result<Cupti, String> {
        let library = match std::env::var_os("TRACING_CORTEX_CUPTI") {
            Some(path) => open_first(&[path])?,
            None => match open_loaded(&NAMES.map(OsString::from)) {
                Some(library) => library,
                None => open_first(&candidates())?,
            },
        };
        let cupti = Cupti::from_library(&library);
        // Never unloaded: the driver keeps pointers into it.
        std::mem::forget(library);
        cupti
    }

    fn from_library(library: &Library) -> Result<Cupti, String> {
        let symbols = Symbols::new(library);
        // SAFETY: each symbol is looked up under its name and given the signature that `cupti_*.h` declares for it; the
        // signatures have not changed from CUDA 11.0 to 13.4.
        unsafe {
            Ok(Cupti {
                get_version: symbols.get(c"cuptiGetVersion")?,
                subscribe: symbols.get(c"cuptiSubscribe")?,
                unsubscribe: symbols.get(c"cuptiUnsubscribe")?,
                enable_callback: symbols.get(c"cuptiEnableCallback")?,
                activity_enable: symbols.get(c"cuptiActivityEnable")?,
                activity_disable: symbols.get(c"cuptiActivityDisable")?,
                register_buffers: symbols.get(c"cuptiActivityRegisterCallbacks")?,
                flush_all: symbols.get(c"cuptiActivityFlushAll")?,
                next_record: symbols.get(c"cuptiActivityGetNextRecord")?,
                dropped_records: symbols.get(c"cuptiActivityGetNumDroppedRecords")?,
                get_timestamp: symbols.get(c"cuptiGetTimestamp")?,
                register_clock: symbols.get(c"cuptiActivityRegisterTimestampCallback").ok(),
                stream_id: symbols.get(c"cuptiGetStreamIdEx").ok(),
                context_id: symbols.get(c"cuptiGetContextId").ok(),
                result_string: symbols.get(c"cuptiGetResultString").ok(),
            })
        }
    }

    pub(super) fn version(&self) -> Option<u32> {
        let mut version = 0;
        // SAFETY: the pointer is to a number of ours.
        let status = unsafe { (self.get_version)(&raw mut version) };
        (status == 0).then_some(version)
    }

    /// Has `callback` called with `user` for what is enabled; `user` must stay valid for good.
    pub(super) fn subscribe<T: Sync>(
        &self,
        callback: Callback,
        user: &'static T,
    ) -> Result<Subscription, Status> {
        let mut handle = ptr::null_mut();
        let user = ptr::from_ref(user).cast_mut().cast();
        // SAFETY: `user` lives forever and the callback treats it as shared.
        done(unsafe { (self.subscribe)(&raw mut handle, callback, user) })?;
        Ok(Subscription(handle))
    }

    pub(super) fn unsubscribe(&self, subscription: &Subscription) -> Result<(), Status> {
        // SAFETY: the handle is of `subscribe`.
        done(unsafe { (self.unsubscribe)(subscription.0) })
    }

    /// Has the callback called for a function of the driver.
    pub(super) fn enable_callback(
        &self,
        subscription: &Subscription,
        callback: u32,
    ) -> Result<(), Status> {
        // SAFETY: the handle is of `subscribe`; a number that the library does not know is an error.
        done(unsafe { (self.enable_callback)(1, subscription.0, DRIVER, callback) })
    }

    pub(super) fn enable_activity(&self, kind: u32) -> Result<(), Status> {
        // SAFETY: takes a number; one that the library does not know is an error.
        done(unsafe { (self.activity_enable)(kind) })
    }

    pub(super) fn disable_activity(&self, kind: u32) -> Result<(), Status> {
        // SAFETY: as above.
        done(unsafe { (self.activity_disable)(kind) })
    }

    /// Gives the functions by which records arrive. They stay registered for the life of the process.
    pub(super) fn register_buffers(
        &self,
        requested: BufferRequested,
        completed: BufferCompleted,
    ) -> Result<(), Status> {
        // SAFETY: both are functions of this program, which are never unloaded.
        done(unsafe { (self.register_buffers)(requested, completed) })
    }

    /// Has the records' times told on our clock; `false` where the library cannot.
    pub(super) fn register_clock(&self, read: ReadClock) -> bool {
        self.register_clock.is_some_and(|register| {
            // SAFETY: `read` is a function of this program that may be called from any thread.
            unsafe { register(read) == 0 }
        })
    }

    /// Has buffers handed back: those whose records are complete, or all. Takes a while; holds no lock of ours.
    pub(super) fn flush(&self, forced: bool) -> Result<(), Status> {
        // SAFETY: takes a flag.
        done(unsafe { (self.flush_all)(u32::from(forced) * FORCED) })
    }

    pub(super) fn timestamp(&self) -> Option<u64> {
        let mut now = 0;
        // SAFETY: the pointer is to a number of ours.
        let status = unsafe { (self.get_timestamp)(&raw mut now) };
        (status == 0).then_some(now)
    }

    /// Returns how many records were dropped since the last time.
    pub(super) fn take_dropped(&self) -> u64 {
        let mut dropped = 0;
        // SAFETY: no context and stream 0 stand for all of them; the pointer is to a number of ours.
        let status = unsafe { (self.dropped_records)(ptr::null_mut(), 0, &raw mut dropped) };
        match status {
            0 => dropped as u64,
            _ => 0,
        }
    }

    /// Calls `read` with each record of a buffer that was handed back. Only the first `bytes_of(kind)` bytes of a record
    /// are looked at, and none of kinds for which that is `None`.
    ///
    /// # Safety
    ///
    /// `buffer` must be what the library handed back, with `valid_bytes` as it said.
    pub(super) unsafe fn for_each_record(
        &self,
        buffer: *mut u8,
        valid_bytes: usize,
        bytes_of: impl Fn(u32) -> Option<usize>,
        mut read: impl FnMut(u32, &[u8]),
    ) {
        let mut record = ptr::null_mut();
        // SAFETY: the buffer is one that was handed back; the library moves `record` from one record to the next.
        while unsafe { (self.next_record)(buffer, valid_bytes, &raw mut record) } == 0
            && !record.is_null()
        {
            // SAFETY: every record begins with its kind.
            let kind = unsafe { record.cast::<u32>().read_unaligned() };
            if let Some(bytes) = bytes_of(kind) {
                // SAFETY: records of this kind are at least that long in every version of the library.
                read(kind, unsafe { std::slice::from_raw_parts(record, bytes) });
            }
        }
    }

    /// Returns the number that records of a stream have.
    pub(in super::super) fn stream_number(&self, context: Context, stream: Stream) -> Option<u32> {
        let mut number = 0;
        // SAFETY: both live, and the pointer is to a variable of ours.
        let status =
            unsafe { (self.stream_id?)(context.pointer(), stream.pointer(), 0, &raw mut number) };
        (status == 0).then_some(number)
    }

    /// Returns the number that records of a context have.
    pub(in super::super) fn context_number(&self, context: Context) -> Option<u32> {
        let mut number = 0;
        // SAFETY: the context lives, and the pointer is to a variable of ours.
        let status = unsafe { (self.context_id?)(context.pointer(), &raw mut number) };
        (status == 0).then_some(number)
    }

    /// Says what a status means.
    pub(super) fn describe(&self, status: Status) -> String {
        let mut text = ptr::null();
        // SAFETY: the pointer is to a pointer of ours.
        let told = self
            .result_string
            .is_some_and(|describe| unsafe { describe(status, &raw mut text) } == 0);
        let known = (told && !text.is_null()).then(|| {
            // SAFETY: the library's texts are constants.
            let text = unsafe { CStr::from_ptr(text) };
            text.to_string_lossy().into_owned()
        });
        match known {
            Some(known) => format!("{known} ({status})"),
            None => format!("status {status}"),
        }
    }
}

/// Returns the text at an address that a record of the library has.
///
/// # Safety
///
/// The address must be that of a C string or null.
pub(super) unsafe fn text_at<'a>(address: u64) -> &'a [u8] {
    if address == 0 {
        return b"";
    }
    let text = ptr::with_exposed_provenance::<c_char>(address as usize);
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

fn done(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        status => Err(status),
    }
}

#[cfg(not(windows))]
const NAMES: [&str; 3] = ["libcupti.so.13", "libcupti.so.12", "libcupti.so"];
#[cfg(windows)]
const NAMES: [&str; 2] = ["cupti64_2025.3.0.dll", "cupti.dll"];

fn candidates() -> Vec<OsString> {
    let mut candidates: Vec<OsString> = NAMES.iter().map(OsString::from).collect();
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].map(std::env::var_os);
    let toolkits = toolkits.into_iter().flatten().map(PathBuf::from);
    for toolkit in toolkits.chain([PathBuf::from("/usr/local/cuda")]) {
        for folder in FOLDERS {
            for name in NAMES {
                candidates.push(toolkit.join(folder).join(name).into_os_string());
            }
        }
    }
    candidates
}

/// Where a toolkit has the library.
const FOLDERS: [&str; 4] = [
    "lib64",
    "extras/CUPTI/lib64",
    "targets/x86_64-linux/lib",
    "targets/sbsa-linux/lib",
];
