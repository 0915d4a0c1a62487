//! The simulator's own interface: its clock, its knobs, and what it has counted.

use std::ffi::CString;

use super::driver::{Driver, Stream, check};

impl Driver {
    /// Sets a knob, by its name without `FAKE_`; `_1` behind it means device 1.
    pub fn set(self, knob: &str, value: i64) {
        let name = CString::new(knob).unwrap();
        let code = unsafe { (self.table.fakeSet)(name.as_ptr(), value) };
        assert_eq!(code, 0, "no knob is called {knob}");
    }

    /// How often a symbol was called. Also `capture_broken` and `event_in_capture`.
    pub fn count(self, symbol: &str) -> u64 {
        let name = CString::new(symbol).unwrap();
        unsafe { (self.table.fakeCount)(name.as_ptr()) }
    }

    /// Puts the host's clock under the test's control, unless CUPTI was told to use another.
    pub fn manual_clock(self, start_ns: u64) {
        unsafe { (self.table.fakeClockManual)(start_ns) }
    }

    pub fn advance(self, ns: u64) {
        unsafe { (self.table.fakeClockAdvance)(ns) }
    }

    pub fn set_clock(self, ns: u64) {
        unsafe { (self.table.fakeClockSet)(ns) }
    }

    /// The host's time as the simulator sees it.
    pub fn now(self) -> u64 {
        unsafe { (self.table.fakeNow)() }
    }

    /// Called with the time that a waiting call waits for. It must move the clock that CUPTI was told to use.
    pub fn on_wait(self, hook: unsafe extern "C" fn(u64)) {
        unsafe { (self.table.fakeOnWait)(Some(hook)) }
    }

    /// Begins or ends the capture of a stream by this thread.
    pub fn capture(self, stream: Stream, on: bool) -> Result<(), u32> {
        check(unsafe { (self.table.fakeCapture)(stream.0, u32::from(on)) })
    }

    /// What NVTX was told, line by line.
    pub fn nvtx_log(self) -> Vec<String> {
        let length = unsafe { (self.table.fakeNvtxLog)(std::ptr::null_mut(), 0) };
        let mut bytes = vec![0; length];
        let now = unsafe { (self.table.fakeNvtxLog)(bytes.as_mut_ptr(), bytes.len()) };
        bytes.truncate(now);
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
