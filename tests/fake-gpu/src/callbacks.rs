//! CUPTI's subscription: callbacks at the beginning and at the end of API calls.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::mem::transmute;
use std::ptr::null;
use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::driver;
use crate::knobs::{self, Knob};

pub const DRIVER: u32 = 1;
pub const RUNTIME: u32 = 2;

const INVALID_PARAMETER: u32 = 1;
const MULTIPLE_SUBSCRIBERS: u32 = 39;
/// Callback ids per domain.
const IDS: u32 = 1024;

type Callback = unsafe extern "C" fn(*mut c_void, u32, u32, *const CallbackData);

#[repr(C)]
pub struct CallbackData {
    site: u32,
    name: *const c_char,
    params: *const c_void,
    ret: *mut c_void,
    symbol: *const c_char,
    context: usize,
    context_uid: u32,
    correlation_data: *mut u64,
    correlation: u32,
}

/// A call that a subscriber may hear of.
pub struct Api {
    pub domain: u32,
    pub cbid: u32,
    pub name: *const c_char,
    /// Of the kernel, at launches.
    pub symbol: *const c_char,
    pub params: *const c_void,
}

/// What the records of a call's work carry.
#[derive(Clone, Copy)]
pub struct Call {
    pub correlation: u32,
}

static CALLBACK: AtomicUsize = AtomicUsize::new(0);
static USER: AtomicUsize = AtomicUsize::new(0);
static SUBSCRIBER: AtomicUsize = AtomicUsize::new(0);
static NEXT_CORRELATION: AtomicU32 = AtomicU32::new(1);
static ENABLED: [[AtomicU64; IDS as usize / 64]; 2] =
    [const { [const { AtomicU64::new(0) }; IDS as usize / 64] }; 2];

thread_local! {
    /// The correlation id of the runtime call that this thread is in; 0 outside.
    static OUTER: Cell<u32> = const { Cell::new(0) };
}

fn slot(domain: u32, cbid: u32) -> Option<(&'static AtomicU64, u64)> {
    let domain = ENABLED.get(domain.checked_sub(1)? as usize)?;
    Some((domain.get(cbid as usize / 64)?, 1 << (cbid % 64)))
}

fn is_enabled(domain: u32, cbid: u32) -> bool {
    slot(domain, cbid).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
}

/// Runs an API call, and the subscriber before and after it.
pub unsafe fn around(api: Api, run: impl FnOnce(Call) -> u32) -> u32 {
    let correlation = NEXT_CORRELATION.fetch_add(1, Relaxed);
    let outer = OUTER.get();
    if api.domain == RUNTIME {
        OUTER.set(correlation);
    }
    let inherits = outer != 0 && knobs::get(Knob::RUNTIME_CORRELATION) != 0;
    let call = Call {
        correlation: if inherits { outer } else { correlation },
    };
    let result = if is_enabled(api.domain, api.cbid) {
        heard(&api, correlation, || run(call))
    } else {
        run(call)
    };
    if api.domain == RUNTIME {
        OUTER.set(outer);
    }
    result
}

unsafe fn heard(api: &Api, correlation: u32, run: impl FnOnce() -> u32) -> u32 {
    let mut result = 0_u32;
    let mut correlation_data = 0_u64;
    let context = driver::current();
    let mut data = CallbackData {
        site: 0,
        name: api.name,
        params: api.params,
        ret: (&raw mut result).cast(),
        symbol: api.symbol,
        context,
        context_uid: driver::context_uid(context),
        correlation_data: &raw mut correlation_data,
        correlation,
    };
    tell(api, &raw const data);
    let outcome = run();
    data.ret.cast::<u32>().write(outcome);
    data.site = 1;
    tell(api, &raw const data);
    outcome
}

unsafe fn tell(api: &Api, data: *const CallbackData) {
    // Unsubscribed, or the callback disabled, since the call began.
    let callback = CALLBACK.load(Acquire);
    if callback == 0 || !is_enabled(api.domain, api.cbid) {
        return;
    }
    let callback = transmute::<usize, Callback>(callback);
    callback(
        USER.load(Relaxed) as *mut c_void,
        api.domain,
        api.cbid,
        data,
    );
}

fn enable(enable: u32, domain: u32, cbid: u32) -> u32 {
    let Some((word, bit)) = slot(domain, cbid) else {
        return INVALID_PARAMETER;
    };
    match enable {
        0 => word.fetch_and(!bit, Relaxed),
        _ => word.fetch_or(bit, Relaxed),
    };
    0
}

fn knob_error(knob: Knob) -> Option<u32> {
    Some(knobs::get(knob) as u32).filter(|code| *code != 0)
}

exported! {
    fn cuptiSubscribe(subscriber: *mut usize, callback: Option<Callback>, user: *mut c_void) -> u32 {
        static NEXT: AtomicUsize = AtomicUsize::new(0x5b_0001);
        if let Some(code) = knob_error(Knob::CUPTI_SUBSCRIBE) {
            return code;
        }
        let (Some(callback), false) = (callback, subscriber.is_null()) else {
            return INVALID_PARAMETER;
        };
        let handle = NEXT.fetch_add(1, Relaxed);
        if SUBSCRIBER.compare_exchange(0, handle, Acquire, Relaxed).is_err() {
            return MULTIPLE_SUBSCRIBERS;
        }
        USER.store(user as usize, Relaxed);
        CALLBACK.store(callback as usize, Release);
        subscriber.write(handle);
        0
    }

    fn cuptiUnsubscribe(subscriber: usize) -> u32 {
        if subscriber == 0 || subscriber != SUBSCRIBER.load(Relaxed) {
            return INVALID_PARAMETER;
        }
        CALLBACK.store(0, Release);
        for word in ENABLED.iter().flatten() {
            word.store(0, Relaxed);
        }
        SUBSCRIBER.store(0, Release);
        0
    }

    fn cuptiEnableCallback(on: u32, subscriber: usize, domain: u32, cbid: u32) -> u32 {
        if let Some(code) = knob_error(Knob::CUPTI_CALLBACK) {
            return code;
        }
        if subscriber == 0 || subscriber != SUBSCRIBER.load(Relaxed) {
            return INVALID_PARAMETER;
        }
        enable(on, domain, cbid)
    }

    fn cuptiEnableDomain(on: u32, subscriber: usize, domain: u32) -> u32 {
        if let Some(code) = knob_error(Knob::CUPTI_CALLBACK) {
            return code;
        }
        if subscriber == 0 || subscriber != SUBSCRIBER.load(Relaxed) {
            return INVALID_PARAMETER;
        }
        (1..IDS).map(|cbid| enable(on, domain, cbid)).max().unwrap_or(0)
    }

    fn cuptiGetCallbackName(domain: u32, cbid: u32, name: *mut *const c_char) -> u32 {
        let text = match (domain, cbid) {
            (DRIVER, 307) => "cuLaunchKernel\0",
            (DRIVER, 514) => "cuGraphLaunch\0",
            (DRIVER, 276) => "cuMemcpyHtoD_v2\0",
            (DRIVER, 277) => "cuMemcpyHtoDAsync_v2\0",
            (DRIVER, 126) => "cuStreamSynchronize\0",
            (RUNTIME, 211) => "cudaLaunchKernel_v7000\0",
            _ => return INVALID_PARAMETER,
        };
        name.write(text.as_ptr().cast());
        0
    }

    fn fakeRuntimeLaunch(function: usize, stream: usize) -> u32 {
        let api = Api {
            domain: RUNTIME,
            cbid: 211,
            name: c"cudaLaunchKernel".as_ptr(),
            symbol: crate::launch::name_of(function),
            params: null(),
        };
        around(api, |_| crate::launch::cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, null(), null()))
    }
}
