//! NVTX as a tool sees it: a log of what was pushed, popped, started and ended.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt::Write;
use std::ptr::{from_ref, null};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::knobs::{self, Knob};
use crate::state::thread_id;

const ATTRIBUTES_SIZE: u16 = 48;
const ASCII: i32 = 1;
const REGISTERED: i32 = 3;

static LOG: Mutex<String> = Mutex::new(String::new());
static NEXT_RANGE: AtomicU64 = AtomicU64::new(1);

#[repr(C)]
pub struct Attributes {
    version: u16,
    size: u16,
    category: u32,
    color_type: i32,
    color: u32,
    payload_type: i32,
    reserved: i32,
    payload: u64,
    message_type: i32,
    message: *const c_void,
}

/// Domains and registered strings are texts that live on.
unsafe fn keep(text: *const c_char) -> *const c_void {
    let text: &'static CString = Box::leak(Box::new(CStr::from_ptr(text).to_owned()));
    from_ref(text).cast()
}

unsafe fn kept<'a>(handle: *const c_void) -> &'a str {
    let text = handle.cast::<CString>().as_ref();
    text.and_then(|text| text.to_str().ok()).unwrap_or("-")
}

unsafe fn text<'a>(text: *const c_char) -> &'a str {
    CStr::from_ptr(text).to_str().unwrap_or("?")
}

unsafe fn message<'a>(attributes: *const Attributes) -> &'a str {
    let Some(attributes) = attributes.as_ref() else {
        return "?";
    };
    assert_eq!(
        attributes.size, ATTRIBUTES_SIZE,
        "fake-gpu: the size of NVTX attributes"
    );
    match attributes.message_type {
        ASCII => text(attributes.message.cast()),
        REGISTERED => kept(attributes.message),
        other => panic!("fake-gpu: NVTX message type {other}"),
    }
}

fn log(line: std::fmt::Arguments) {
    let mut log = LOG.lock().unwrap();
    writeln!(log, "{line}").unwrap();
}

exported! {
    fn nvtxInitialize(_reserved: *const c_void) -> () {}

    fn nvtxDomainCreateA(name: *const c_char) -> *const c_void {
        if knobs::get(Knob::NVTX_TOOL) == 0 {
            return null();
        }
        log(format_args!("domain {}", text(name)));
        keep(name)
    }

    fn nvtxDomainDestroy(domain: *const c_void) -> () {
        log(format_args!("destroy {}", kept(domain)));
    }

    fn nvtxDomainRegisterStringA(domain: *const c_void, string: *const c_char) -> *const c_void {
        log(format_args!("string {} {}", kept(domain), text(string)));
        keep(string)
    }

    fn nvtxDomainRangePushEx(domain: *const c_void, attributes: *const Attributes) -> i32 {
        log(format_args!("push {} {} {}", kept(domain), message(attributes), thread_id()));
        0
    }

    fn nvtxDomainRangePop(domain: *const c_void) -> i32 {
        log(format_args!("pop {} {}", kept(domain), thread_id()));
        0
    }

    fn nvtxDomainRangeStartEx(domain: *const c_void, attributes: *const Attributes) -> u64 {
        let id = NEXT_RANGE.fetch_add(1, Relaxed);
        log(format_args!("start {} {} {id}", kept(domain), message(attributes)));
        id
    }

    fn nvtxDomainRangeEnd(domain: *const c_void, id: u64) -> () {
        log(format_args!("end {} {id}", kept(domain)));
    }

    fn nvtxDomainMarkEx(domain: *const c_void, attributes: *const Attributes) -> () {
        log(format_args!("mark {} {} {}", kept(domain), message(attributes), thread_id()));
    }

    fn nvtxRangePushA(name: *const c_char) -> i32 {
        log(format_args!("push - {} {}", text(name), thread_id()));
        0
    }

    fn nvtxRangePop() -> i32 {
        log(format_args!("pop - {}", thread_id()));
        0
    }

    fn nvtxNameOsThreadA(thread: u32, name: *const c_char) -> () {
        log(format_args!("thread {thread} {}", text(name)));
    }

    // The bytes that the log has; written as far as they fit.
    fn fakeNvtxLog(buffer: *mut u8, room: usize) -> usize {
        let log = LOG.lock().unwrap();
        if !buffer.is_null() {
            buffer.copy_from_nonoverlapping(log.as_ptr(), log.len().min(room));
        }
        log.len()
    }
}
