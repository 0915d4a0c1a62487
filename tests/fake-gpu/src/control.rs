//! What only tests call: knobs and counts.

use std::ffi::{CStr, c_char};

use crate::counters;
use crate::knobs;

exported! {
    // 0 when there is such a knob.
    fn fakeSet(name: *const c_char, value: i64) -> u32 {
        match CStr::from_ptr(name).to_str() {
            Ok(name) if knobs::set(name, value) => 0,
            _ => 1,
        }
    }

    fn fakeCount(name: *const c_char) -> u64 {
        CStr::from_ptr(name).to_str().map_or(0, counters::count)
    }
}
