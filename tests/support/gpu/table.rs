//! The functions of the driver that the tests call.

use std::ffi::{c_char, c_void};
use std::mem::transmute;
use std::sync::OnceLock;

use libloading::os::unix::Library;

/// In place of a symbol that the machine's library lacks: ends the process.
unsafe extern "C" fn missing() {
    panic!("the test calls a symbol that it took away");
}

macro_rules! table {
    ($($name:ident: fn($($type:ty),*) $(-> $ret:ty)?;)*) => {
        #[allow(non_snake_case, reason = "the names are those of the libraries")]
        pub struct Table { $(pub $name: unsafe extern "C" fn($($type),*) $(-> $ret)?,)* }

        impl Table {
            fn load(library: &Library) -> Table {
                // The library stays open as long as the process lives.
                Table { $($name: unsafe {
                    match library.get(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(symbol) => *symbol,
                        Err(_) => transmute::<unsafe extern "C" fn(), unsafe extern "C" fn($($type),*) $(-> $ret)?>(missing),
                    }
                },)* }
            }
        }
    };
}

table! {
    cuInit: fn(u32) -> u32;
    cuDeviceGetCount: fn(*mut i32) -> u32;
    cuDevicePrimaryCtxRetain: fn(*mut usize, i32) -> u32;
    cuDevicePrimaryCtxRelease_v2: fn(i32) -> u32;
    cuCtxGetCurrent: fn(*mut usize) -> u32;
    cuCtxSetCurrent: fn(usize) -> u32;
    cuCtxSynchronize: fn() -> u32;
    cuStreamCreate: fn(*mut usize, u32) -> u32;
    cuStreamDestroy_v2: fn(usize) -> u32;
    cuStreamSynchronize: fn(usize) -> u32;
    cuStreamQuery: fn(usize) -> u32;
    cuStreamWaitEvent: fn(usize, usize, u32) -> u32;
    cuThreadExchangeStreamCaptureMode: fn(*mut u32) -> u32;
    cuEventCreate: fn(*mut usize, u32) -> u32;
    cuEventDestroy_v2: fn(usize) -> u32;
    cuEventRecord: fn(usize, usize) -> u32;
    cuEventQuery: fn(usize) -> u32;
    cuEventSynchronize: fn(usize) -> u32;
    cuEventElapsedTime: fn(*mut f32, usize, usize) -> u32;
    cuLaunchKernel: fn(usize, u32, u32, u32, u32, u32, u32, u32, usize, *const c_void, *const c_void) -> u32;
    cuGraphLaunch: fn(usize, usize) -> u32;
    cuMemAlloc_v2: fn(*mut u64, usize) -> u32;
    cuMemFree_v2: fn(u64) -> u32;
    cuMemAllocAsync: fn(*mut u64, usize, usize) -> u32;
    cuMemFreeAsync: fn(u64, usize) -> u32;
    cuMemHostAlloc: fn(*mut *mut c_void, usize, u32) -> u32;
    cuMemFreeHost: fn(*mut c_void) -> u32;
    cuMemcpyHtoD_v2: fn(u64, *const c_void, usize) -> u32;
    cuMemcpyHtoDAsync_v2: fn(u64, *const c_void, usize, usize) -> u32;
    cuMemcpyDtoH_v2: fn(*mut c_void, u64, usize) -> u32;
    cuMemcpyDtoHAsync_v2: fn(*mut c_void, u64, usize, usize) -> u32;
    cuMemcpyDtoDAsync_v2: fn(u64, u64, usize, usize) -> u32;
    cuMemcpyPeerAsync: fn(u64, usize, u64, usize, usize, usize) -> u32;
    cuMemsetD8_v2: fn(u64, u8, usize) -> u32;
    cuMemsetD8Async: fn(u64, u8, usize, usize) -> u32;
    fakeKernel: fn(*const c_char, u64) -> usize;
    fakeGraph: fn(*const usize, usize) -> usize;
    fakeRuntimeLaunch: fn(usize, usize) -> u32;
    fakeCapture: fn(usize, u32) -> u32;
    fakeSet: fn(*const c_char, i64) -> u32;
    fakeCount: fn(*const c_char) -> u64;
    fakeClockManual: fn(u64);
    fakeClockAdvance: fn(u64);
    fakeClockSet: fn(u64);
    fakeNow: fn() -> u64;
    fakeOnWait: fn(Option<unsafe extern "C" fn(u64)>);
    fakeNvtxLog: fn(*mut u8, usize) -> usize;
}

/// The table of the simulated driver, which this process must find as `libcuda.so.1`.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let library = unsafe { Library::new("libcuda.so.1") }.unwrap();
        let table = Table::load(&library);
        std::mem::forget(library);
        table
    })
}
