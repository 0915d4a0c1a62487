//! Events: a point on a stream, seen on the device's clock.

use crate::activities::{self, EVENT_SYNCHRONIZE, Record, STREAM_WAIT_EVENT};
use crate::capture;
use crate::clock;
use crate::counters::Counter;
use crate::driver::current_device;
use crate::errors::{INVALID_HANDLE, NOT_READY, OUT_OF_MEMORY, Outcome, put};
use crate::knobs::{self, Knob};
use crate::state::{State, lock};
use crate::streams::synchronize;

const EVENTS: usize = 0xe7_0000_0000;
const EVENT_STEP: usize = 0x10;
const DISABLE_TIMING: u32 = 2;

static IN_CAPTURE: Counter = Counter::new("event_in_capture");

#[derive(Clone, Copy)]
pub struct Event {
    device: usize,
    flags: u32,
    /// Host time at which the stream got there.
    at: Option<u64>,
}

impl State {
    fn event(&self, handle: usize) -> Result<(usize, Event), u32> {
        let index = handle.wrapping_sub(EVENTS) / EVENT_STEP;
        let event = self.events.get(index).copied().flatten();
        Ok((index, event.ok_or(INVALID_HANDLE)?))
    }
}

fn record(event: usize, stream: usize) -> Outcome {
    let now = clock::now();
    let mut state = lock();
    let stream = state.stream(stream)?;
    let (index, event) = state.event(event)?;
    if state.streams[stream].device != event.device {
        return Err(INVALID_HANDLE);
    }
    if state.is_captured(stream) {
        IN_CAPTURE.hit();
        return Ok(());
    }
    let (_, at) = state.schedule(stream, now, 0);
    state.events[index] = Some(Event {
        at: Some(at),
        ..event
    });
    Ok(())
}

unsafe fn elapsed(milliseconds: *mut f32, start: usize, end: usize) -> Outcome {
    let now = clock::now();
    let state = lock();
    let (start, end) = (state.event(start)?.1, state.event(end)?.1);
    let untimed = (start.flags | end.flags) & DISABLE_TIMING != 0;
    let (Some(from), Some(to)) = (start.at, end.at) else {
        return Err(INVALID_HANDLE);
    };
    if untimed || start.device != end.device {
        return Err(INVALID_HANDLE);
    }
    if from > now || to > now {
        return Err(NOT_READY);
    }
    let step = knobs::get(Knob::EVENT_RESOLUTION_NS).max(1) as u64;
    let ticks = |host| (clock::of_device(start.device, host) / step) as i64;
    let ns = (ticks(to) - ticks(from)) * step as i64;
    put(milliseconds, (ns as f64 / 1e6) as f32)
}

driver! {
    fn cuEventCreate(out: *mut usize, flags: u32) {
        let device = current_device()?;
        let mut state = lock();
        if (state.events.len() - state.free_events.len()) as i64 >= knobs::get(Knob::EVENT_LIMIT) {
            return Err(OUT_OF_MEMORY);
        }
        let index = match state.free_events.pop() {
            Some(index) => index,
            None => {
                state.events.push(None);
                state.events.len() - 1
            }
        };
        state.events[index] = Some(Event { device, flags, at: None });
        put(out, EVENTS + EVENT_STEP * index)
    }

    fn cuEventDestroy_v2(event: usize) {
        let mut state = lock();
        let (index, _) = state.event(event)?;
        state.events[index] = None;
        state.free_events.push(index);
        Ok(())
    }

    fn cuEventRecord(event: usize, stream: usize) {
        record(event, stream)
    }

    fn cuEventRecordWithFlags(event: usize, stream: usize, _flags: u32) {
        record(event, stream)
    }

    fn cuEventQuery(event: usize) {
        capture::may_ask()?;
        let now = clock::now();
        let event = lock().event(event)?.1;
        if event.at.is_some_and(|at| at > now) { Err(NOT_READY) } else { Ok(()) }
    }

    fn cuEventElapsedTime(milliseconds: *mut f32, start: usize, end: usize) {
        elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: usize, end: usize) {
        elapsed(milliseconds, start, end)
    }
}

traced! {
    121 => fn cuEventSynchronize(event: usize), |call| {
        capture::may_ask()?;
        let (index, event) = lock().event(event)?;
        synchronize(event.at.unwrap_or(0), |begin, end| {
            let id = Some(index as u32);
            Record::synchronization(EVENT_SYNCHRONIZE, (begin, end), call.correlation, event.device, None, id)
        });
        Ok(())
    }

    295 => fn cuStreamWaitEvent(stream: usize, event: usize, _flags: u32), |call| {
        let now = clock::now();
        let (stream, index, device) = {
            let mut state = lock();
            let stream = state.stream(stream)?;
            let (index, event) = state.event(event)?;
            let end = state.streams[stream].end.max(event.at.unwrap_or(0));
            state.streams[stream].end = end;
            (stream, index, state.streams[stream].device)
        };
        activities::add(activities::SYNCHRONIZATION, || {
            let id = Some(index as u32);
            Record::synchronization(STREAM_WAIT_EVENT, (now, now), call.correlation, device, Some(stream), id)
        });
        Ok(())
    }
}
