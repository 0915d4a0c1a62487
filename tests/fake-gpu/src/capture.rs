//! Streams that are being captured into a graph, and calls that break a capture.

use std::cell::Cell;

use crate::counters::Counter;
use crate::errors::{CAPTURE_UNSUPPORTED, INVALID_VALUE, Outcome, put};
use crate::knobs::{self, Knob};
use crate::state::{State, lock, thread_id};

const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;
const ACTIVE: u32 = 1;

static BROKEN: Counter = Counter::new("capture_broken");

thread_local! {
    /// Threads begin in the mode GLOBAL.
    static MODE: Cell<u32> = const { Cell::new(0) };
}

impl State {
    pub fn is_captured(&self, stream: usize) -> bool {
        self.streams[stream].captured_by.is_some() || knobs::get(Knob::CAPTURING) != 0
    }
}

/// For calls that are not allowed while a stream is captured, unless the thread has said that it knows what it does.
pub fn may_ask() -> Outcome {
    let state = lock();
    let captured = || state.streams.iter().filter_map(|stream| stream.captured_by);
    let broken = match MODE.get() {
        RELAXED => false,
        THREAD_LOCAL => captured().any(|thread| thread == thread_id()),
        _ => knobs::get(Knob::CAPTURING) != 0 || captured().next().is_some(),
    };
    if broken {
        BROKEN.hit();
        return Err(CAPTURE_UNSUPPORTED);
    }
    Ok(())
}

driver! {
    fn cuThreadExchangeStreamCaptureMode(mode: *mut u32) {
        if mode.is_null() || *mode > RELAXED {
            return Err(INVALID_VALUE);
        }
        put(mode, MODE.replace(*mode))
    }

    fn cuStreamIsCapturing(stream: usize, status: *mut u32) {
        let mut state = lock();
        let index = state.stream(stream)?;
        put(status, if state.is_captured(index) { ACTIVE } else { 0 })
    }

    fn fakeCapture(stream: usize, on: u32) {
        let mut state = lock();
        let index = state.stream(stream)?;
        state.streams[index].captured_by = (on != 0).then(thread_id);
        Ok(())
    }
}
