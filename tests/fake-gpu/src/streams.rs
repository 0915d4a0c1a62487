//! Streams, and when the work on them starts and ends.

use crate::activities::{self, CONTEXT_SYNCHRONIZE, Record, STREAM_SYNCHRONIZE};
use crate::capture;
use crate::clock;
use crate::driver::{self, current_device};
use crate::errors::{INVALID_HANDLE, NOT_READY, put};
use crate::knobs::{self, Knob, MAX_DEVICES};
use crate::state::{State, lock, thread_id};

const STREAMS: usize = 0x57_0000;
const STREAM_STEP: usize = 0x10;
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;
const NON_BLOCKING: u32 = 1;
/// CUPTI's number of a context's default stream.
const DEFAULT_ID: u32 = 7;

pub struct Stream {
    pub device: usize,
    /// Host time at which all of its work has ended.
    pub end: u64,
    pub flags: u32,
    pub priority: i32,
    pub alive: bool,
    /// The thread that captures it.
    pub captured_by: Option<u64>,
}

impl Stream {
    pub fn of_devices() -> Vec<Stream> {
        (0..MAX_DEVICES)
            .map(|device| Stream::new(device, 0, 0))
            .collect()
    }

    fn new(device: usize, flags: u32, priority: i32) -> Stream {
        Stream {
            device,
            end: 0,
            flags,
            priority,
            alive: true,
            captured_by: None,
        }
    }

    fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }
}

/// As CUPTI numbers it, which is not what `cuStreamGetId` says.
pub fn id_of(stream: usize) -> u32 {
    match stream {
        0..MAX_DEVICES => DEFAULT_ID,
        _ => 13 + (stream - MAX_DEVICES) as u32,
    }
}

impl State {
    /// The index of a stream by its handle.
    pub fn stream(&mut self, handle: usize) -> Result<usize, u32> {
        match handle {
            0 | LEGACY => current_device(),
            PER_THREAD => {
                let device = current_device()?;
                let next = self.streams.len();
                let index = *self.per_thread.entry((device, thread_id())).or_insert(next);
                if index == next {
                    self.streams.push(Stream::new(device, 0, 0));
                }
                Ok(index)
            }
            _ => {
                let index = handle.wrapping_sub(STREAMS) / STREAM_STEP;
                let known = self.streams.get(index).is_some_and(|stream| stream.alive);
                if known {
                    Ok(index)
                } else {
                    Err(INVALID_HANDLE)
                }
            }
        }
    }

    /// The start and the end of work that is launched now.
    pub fn schedule(&mut self, index: usize, now: u64, duration: u64) -> (u64, u64) {
        let stream = &self.streams[index];
        let device = stream.device;
        let ready = now + knobs::get_of(Knob::GPU_LATENCY_NS, device).max(0) as u64;
        let free = if index < MAX_DEVICES {
            let of_device = self
                .streams
                .iter()
                .filter(|stream| stream.device == device && stream.is_blocking());
            of_device.map(|stream| stream.end).max().unwrap_or(0)
        } else if stream.is_blocking() {
            stream.end.max(self.streams[device].end)
        } else {
            stream.end
        };
        let start = ready.max(free);
        let end = start + duration;
        self.streams[index].end = end;
        (start, end)
    }

    /// When all of a device's work has ended.
    fn end_of(&self, device: usize) -> u64 {
        let of_device = self.streams.iter().filter(|stream| stream.device == device);
        of_device.map(|stream| stream.end).max().unwrap_or(0)
    }
}

fn create(flags: u32, priority: i32) -> Result<usize, u32> {
    let device = current_device()?;
    let mut state = lock();
    state.streams.push(Stream::new(device, flags, priority));
    Ok(STREAMS + STREAM_STEP * (state.streams.len() - 1))
}

driver! {
    fn cuStreamCreate(stream: *mut usize, flags: u32) {
        put(stream, create(flags, 0)?)
    }

    fn cuStreamCreateWithPriority(stream: *mut usize, flags: u32, priority: i32) {
        put(stream, create(flags, priority)?)
    }

    fn cuStreamDestroy_v2(stream: usize) {
        let mut state = lock();
        let index = state.stream(stream)?;
        if index < MAX_DEVICES {
            return Err(INVALID_HANDLE);
        }
        state.streams[index].alive = false;
        Ok(())
    }

    fn cuStreamGetId(stream: usize, id: *mut u64) {
        let index = lock().stream(stream)?;
        put(id, 1000 + index as u64)
    }

    fn cuStreamGetCtx(stream: usize, context: *mut usize) {
        let mut state = lock();
        let index = state.stream(stream)?;
        put(context, driver::context_of(state.streams[index].device))
    }

    fn cuStreamGetFlags(stream: usize, flags: *mut u32) {
        let mut state = lock();
        let index = state.stream(stream)?;
        put(flags, state.streams[index].flags)
    }

    fn cuStreamGetPriority(stream: usize, priority: *mut i32) {
        let mut state = lock();
        let index = state.stream(stream)?;
        put(priority, state.streams[index].priority)
    }

    fn cuStreamQuery(stream: usize) {
        capture::may_ask()?;
        let now = clock::now();
        let mut state = lock();
        let index = state.stream(stream)?;
        if state.streams[index].end > now { Err(NOT_READY) } else { Ok(()) }
    }
}

/// Waits, and says so in a record.
pub fn synchronize(until: u64, record: impl FnOnce(u64, u64) -> Record) {
    let begin = clock::now();
    clock::wait_until(until);
    let end = clock::now();
    activities::add(activities::SYNCHRONIZATION, || record(begin, end));
}

unsafe fn synchronize_context(context: usize, correlation: u32) -> Result<(), u32> {
    capture::may_ask()?;
    let device = driver::device_of(context)?;
    let until = lock().end_of(device);
    synchronize(until, |begin, end| {
        Record::synchronization(
            CONTEXT_SYNCHRONIZE,
            (begin, end),
            correlation,
            device,
            None,
            None,
        )
    });
    Ok(())
}

traced! {
    126 => fn cuStreamSynchronize(stream: usize), |call| {
        capture::may_ask()?;
        let (index, device, until) = {
            let mut state = lock();
            let index = state.stream(stream)?;
            (index, state.streams[index].device, state.streams[index].end)
        };
        synchronize(until, |begin, end| {
            Record::synchronization(STREAM_SYNCHRONIZE, (begin, end), call.correlation, device, Some(index), None)
        });
        Ok(())
    }

    17 => fn cuCtxSynchronize(), |call| {
        synchronize_context(driver::current(), call.correlation)
    }

    800 => fn cuCtxSynchronize_v2(context: usize), |call| {
        synchronize_context(context, call.correlation)
    }
}
