//! The driver's functions for events, which are marks on a stream that carry the device's time.
//!
//! Looked up one by one at run time. What goes through cudarc would end the program where a symbol is missing, and take
//! errors that are meant for the program.
#![expect(
    unsafe_code,
    reason = "the driver is a C library; every function pointer is called through the signature of `cuda.h`"
)]

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use super::symbols::Symbols;

/// `CUresult`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    /// `CUDA_ERROR_OUT_OF_MEMORY`.
    pub(super) const OUT_OF_MEMORY: Status = Status(2);
    /// `CUDA_ERROR_INVALID_CONTEXT`.
    pub(super) const NO_CONTEXT: Status = Status(201);
    const NOT_READY: Status = Status(600);
    /// `CUDA_ERROR_STREAM_CAPTURE_IMPLICIT`: a default stream, while another one is being captured.
    const CAPTURE_IMPLICIT: Status = Status(906);

    fn check(code: u32) -> Result<(), Status> {
        match code {
            0 => Ok(()),
            code => Err(Status(code)),
        }
    }

    /// Whether the context answers nothing else from now on.
    pub(super) fn is_final(self) -> bool {
        matches!(
            self.0,
            4 | 46 | 201 | 214 | 220 | 700 | 702 | 709 | 710 | 714..=719
        )
    }
}

/// The functions, of a driver that is never unloaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventApi {
    create: unsafe extern "C" fn(*mut *mut c_void, u32) -> u32,
    destroy: unsafe extern "C" fn(*mut c_void) -> u32,
    record: unsafe extern "C" fn(*mut c_void, *mut c_void) -> u32,
    query: unsafe extern "C" fn(*mut c_void) -> u32,
    /// The first version, which all drivers have.
    elapsed: unsafe extern "C" fn(*mut f32, *mut c_void, *mut c_void) -> u32,
    is_capturing: unsafe extern "C" fn(*mut c_void, *mut c_int) -> u32,
    exchange_capture_mode: unsafe extern "C" fn(*mut c_int) -> u32,
    create_stream: unsafe extern "C" fn(*mut *mut c_void, u32) -> u32,
    destroy_stream: unsafe extern "C" fn(*mut c_void) -> u32,
    current: unsafe extern "C" fn(*mut *mut c_void) -> u32,
    set_current: unsafe extern "C" fn(*mut c_void) -> u32,
    device: unsafe extern "C" fn(*mut c_int) -> u32,
    primary_state: unsafe extern "C" fn(c_int, *mut u32, *mut c_int) -> u32,
    retain_primary: unsafe extern "C" fn(*mut *mut c_void, c_int) -> u32,
    release_primary: unsafe extern "C" fn(c_int) -> u32,
    /// Absent before CUDA 12.
    stream_id: Option<unsafe extern "C" fn(*mut c_void, *mut u64) -> u32>,
    /// Absent before CUDA 12.
    context_id: Option<unsafe extern "C" fn(*mut c_void, *mut u64) -> u32>,
}

/// A context that lives as long as its ranges, as whoever made this value has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Context(usize);

/// A stream that lives as long as its ranges, as whoever made this value has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stream(usize);

/// An event with times, until it is destroyed.
#[derive(Debug)]
pub(super) struct Event(usize);

/// `CU_EVENT_DEFAULT`: with times.
const WITH_TIMES: u32 = 0;
/// `CU_STREAM_NON_BLOCKING`: the default stream does not wait for it.
const NON_BLOCKING: u32 = 1;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`: what this thread asks breaks no capture of another.
const RELAXED: c_int = 2;

fn pointer(handle: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(handle)
}

impl Context {
    /// # Safety
    ///
    /// The context must live as long as this value and its copies are used.
    pub(super) unsafe fn new(context: *mut c_void) -> Context {
        Context(context.expose_provenance())
    }

    pub(super) fn pointer(self) -> *mut c_void {
        pointer(self.0)
    }
}

impl Stream {
    /// # Safety
    ///
    /// The stream must live as long as this value and its copies are used.
    pub(super) unsafe fn new(stream: *mut c_void) -> Stream {
        Stream(stream.expose_provenance())
    }

    pub(super) fn pointer(self) -> *mut c_void {
        pointer(self.0)
    }

    /// Returns a number made from the handle, for drivers that do not number streams.
    fn made_up_number(self) -> u32 {
        (self.0 ^ self.0 >> 32) as u32
    }
}

impl EventApi {
    /// # Safety
    ///
    /// The symbols must be those of the driver.
    pub(super) unsafe fn from_symbols(symbols: &Symbols<'_>) -> Result<EventApi, String> {
        // SAFETY: as the caller says; each symbol is given the signature that `cuda.h` declares for it.
        unsafe {
            Ok(EventApi {
                create: symbols.get(c"cuEventCreate")?,
                destroy: symbols.get(c"cuEventDestroy_v2")?,
                record: symbols.get(c"cuEventRecord")?,
                query: symbols.get(c"cuEventQuery")?,
                elapsed: symbols.get(c"cuEventElapsedTime")?,
                is_capturing: symbols.get(c"cuStreamIsCapturing")?,
                exchange_capture_mode: symbols.get(c"cuThreadExchangeStreamCaptureMode")?,
                create_stream: symbols.get(c"cuStreamCreate")?,
                destroy_stream: symbols.get(c"cuStreamDestroy_v2")?,
                current: symbols.get(c"cuCtxGetCurrent")?,
                set_current: symbols.get(c"cuCtxSetCurrent")?,
                device: symbols.get(c"cuCtxGetDevice")?,
                primary_state: symbols.get(c"cuDevicePrimaryCtxGetState")?,
                retain_primary: symbols.get(c"cuDevicePrimaryCtxRetain")?,
                release_primary: symbols.get(c"cuDevicePrimaryCtxRelease_v2")?,
                stream_id: symbols.get(c"cuStreamGetId").ok(),
                context_id: symbols.get(c"cuCtxGetId").ok(),
            })
        }
    }

    /// Returns the context of this thread.
    pub(super) fn current(&self) -> Result<Option<Context>, Status> {
        let mut current = null_mut();
        // SAFETY: the pointer is to a variable of ours.
        Status::check(unsafe { (self.current)(&raw mut current) })?;
        Ok((!current.is_null()).then(|| Context(current.expose_provenance())))
    }

    /// Does something in a context and leaves the thread in the one that it was in.
    pub(super) fn within<R>(
        &self,
        context: Context,
        work: impl FnOnce() -> Result<R, Status>,
    ) -> Result<R, Status> {
        let before = self.current()?;
        if before == Some(context) {
            return work();
        }
        // SAFETY: the context lives.
        Status::check(unsafe { (self.set_current)(pointer(context.0)) })?;
        let done = work();
        let before = before.map_or(null_mut(), |before| pointer(before.0));
        // SAFETY: the thread was in this context, or in none. Where that fails the program's next call fails alike.
        let _ = unsafe { (self.set_current)(before) };
        done
    }

    /// Does something that is not allowed while any thread captures a stream, as if none did.
    pub(super) fn relaxed<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = self.exchange_capture_mode(RELAXED);
        let done = work();
        if let Some(before) = before {
            self.exchange_capture_mode(before);
        }
        done
    }

    /// The same for all that this thread does from now on.
    pub(super) fn relax_this_thread(&self) {
        self.exchange_capture_mode(RELAXED);
    }

    fn exchange_capture_mode(&self, mut mode: c_int) -> Option<c_int> {
        // SAFETY: the pointer is to a variable of ours.
        let status = unsafe { (self.exchange_capture_mode)(&raw mut mode) };
        (status == 0).then_some(mode)
    }

    /// Makes an event in the current context.
    pub(super) fn create_event(&self) -> Result<Event, Status> {
        let mut event = null_mut();
        // SAFETY: the pointer is to a variable of ours.
        Status::check(unsafe { (self.create)(&raw mut event, WITH_TIMES) })?;
        Ok(Event(event.expose_provenance()))
    }

    pub(super) fn destroy_event(&self, event: Event) {
        // SAFETY: the event lives, and nobody uses it after this. What fails is gone with its context.
        let _ = unsafe { (self.destroy)(pointer(event.0)) };
    }

    pub(super) fn record(&self, event: &Event, stream: Stream) -> Result<(), Status> {
        // SAFETY: both live.
        Status::check(unsafe { (self.record)(pointer(event.0), pointer(stream.0)) })
    }

    /// Whether the stream has passed the event.
    pub(super) fn is_passed(&self, event: &Event) -> Result<bool, Status> {
        // SAFETY: the event lives.
        match Status::check(unsafe { (self.query)(pointer(event.0)) }) {
            Err(Status::NOT_READY) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Returns the device's time from one event to another, both of which were passed; in either order.
    ///
    /// The driver says it in milliseconds as a 32-bit float: to 61 ns after a second, to 4 us after a minute.
    pub(super) fn elapsed_ns(&self, from: &Event, to: &Event) -> Result<i64, Status> {
        match self.elapsed_forward(from, to) {
            Ok(ns) if ns >= 0 => Ok(ns),
            // Nothing says that the driver counts backwards as well.
            other => match self.elapsed_forward(to, from) {
                Ok(ns) => Ok(-ns),
                Err(_) => other,
            },
        }
    }

    fn elapsed_forward(&self, from: &Event, to: &Event) -> Result<i64, Status> {
        let mut milliseconds = 0.0_f32;
        // SAFETY: both events live, and the pointer is to a variable of ours.
        Status::check(unsafe {
            (self.elapsed)(&raw mut milliseconds, pointer(from.0), pointer(to.0))
        })?;
        Ok((f64::from(milliseconds) * 1e6).round() as i64)
    }

    pub(super) fn is_capturing(&self, stream: Stream) -> Result<bool, Status> {
        let mut status = 0;
        // SAFETY: the stream lives, and the pointer is to a variable of ours.
        match Status::check(unsafe { (self.is_capturing)(pointer(stream.0), &raw mut status) }) {
            Err(Status::CAPTURE_IMPLICIT) => Ok(true),
            other => other.map(|()| status != 0),
        }
    }

    /// Makes a stream in the current context.
    pub(super) fn create_stream(&self) -> Result<Stream, Status> {
        let mut stream = null_mut();
        // SAFETY: the pointer is to a variable of ours.
        Status::check(unsafe { (self.create_stream)(&raw mut stream, NON_BLOCKING) })?;
        Ok(Stream(stream.expose_provenance()))
    }

    pub(super) fn destroy_stream(&self, stream: Stream) {
        // SAFETY: this crate has made the stream, and nobody uses it after this.
        let _ = unsafe { (self.destroy_stream)(pointer(stream.0)) };
    }

    /// Returns the driver's number of a stream, or one made from the handle.
    pub(super) fn stream_number(&self, stream: Stream) -> u32 {
        let mut id = 0;
        match self.stream_id {
            // SAFETY: the stream lives, and the pointer is to a variable of ours.
            Some(stream_id) if unsafe { stream_id(pointer(stream.0), &raw mut id) } == 0 => {
                id as u32
            }
            _ => stream.made_up_number(),
        }
    }

    /// Returns the driver's number of a context.
    pub(super) fn context_number(&self, context: Context) -> Option<u32> {
        let mut id = 0;
        // SAFETY: the context lives, and the pointer is to a variable of ours.
        let status = unsafe { (self.context_id?)(pointer(context.0), &raw mut id) };
        (status == 0).then_some(id as u32)
    }

    /// Returns the device of the current context.
    pub(super) fn device(&self) -> Result<Device, Status> {
        let mut device = 0;
        // SAFETY: the pointer is to a variable of ours.
        Status::check(unsafe { (self.device)(&raw mut device) })?;
        Ok(Device(device))
    }

    /// Keeps a context alive, if it is its device's primary one; returns whether it is.
    pub(super) fn hold(&self, context: Context, device: Device) -> bool {
        let (mut flags, mut active) = (0, 0);
        let mut primary = null_mut();
        // SAFETY: all pointers are to variables of ours. A device whose primary context is not in use gets none.
        unsafe {
            if (self.primary_state)(device.0, &raw mut flags, &raw mut active) != 0
                || active == 0
                || (self.retain_primary)(&raw mut primary, device.0) != 0
            {
                return false;
            }
        }
        let is_it = primary.expose_provenance() == context.0;
        if !is_it {
            self.release(device);
        }
        is_it
    }

    /// Gives back what [`EventApi::hold`] took.
    pub(super) fn release(&self, device: Device) {
        // SAFETY: takes a number; it was held.
        let _ = unsafe { (self.release_primary)(device.0) };
    }
}

/// The driver's name of a device, which is its ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device(c_int);

impl Device {
    pub(super) fn ordinal(self) -> u32 {
        u32::try_from(self.0).unwrap_or(0)
    }
}
