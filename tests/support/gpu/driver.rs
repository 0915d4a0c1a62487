//! The driver's interface as a program uses it: contexts, streams, events, kernels and graphs.
//!
//! An error is the driver's code.

use std::ffi::CString;
use std::ptr::null;

use super::table::{Table, table};

const NON_BLOCKING: u32 = 1;
const DISABLE_TIMING: u32 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context(pub usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream(pub usize);

impl Stream {
    /// The legacy default stream.
    pub const DEFAULT: Stream = Stream(0);
    pub const PER_THREAD: Stream = Stream(2);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event(pub usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernel(pub usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Graph(pub usize);

#[derive(Clone, Copy)]
pub struct Driver {
    pub(super) table: &'static Table,
}

pub(super) fn check(code: u32) -> Result<(), u32> {
    if code == 0 { Ok(()) } else { Err(code) }
}

/// What a function answers through its first parameter.
pub(super) fn out<T: Default>(call: impl FnOnce(*mut T) -> u32) -> Result<T, u32> {
    let mut value = T::default();
    check(call(&mut value))?;
    Ok(value)
}

impl Driver {
    /// Opens `libcuda.so.1`. The process must be a child on a [`Machine`](super::Machine).
    pub fn open() -> Driver {
        Driver { table: table() }
    }

    /// Opens it, initialises it, and makes the context of device 0 current.
    pub fn ready() -> Driver {
        let driver = Driver::open();
        driver.init().unwrap();
        driver.context(0).unwrap();
        driver
    }

    pub fn init(self) -> Result<(), u32> {
        check(unsafe { (self.table.cuInit)(0) })
    }

    pub fn device_count(self) -> Result<i32, u32> {
        out(|count| unsafe { (self.table.cuDeviceGetCount)(count) })
    }

    /// Retains a device's primary context and makes it this thread's current one.
    pub fn context(self, device: i32) -> Result<Context, u32> {
        let context =
            out(|context| unsafe { (self.table.cuDevicePrimaryCtxRetain)(context, device) })?;
        self.set_current(Context(context))?;
        Ok(Context(context))
    }

    pub fn release(self, device: i32) -> Result<(), u32> {
        check(unsafe { (self.table.cuDevicePrimaryCtxRelease_v2)(device) })
    }

    pub fn set_current(self, context: Context) -> Result<(), u32> {
        check(unsafe { (self.table.cuCtxSetCurrent)(context.0) })
    }

    pub fn current(self) -> Result<Option<Context>, u32> {
        let context: usize = out(|context| unsafe { (self.table.cuCtxGetCurrent)(context) })?;
        Ok((context != 0).then_some(Context(context)))
    }

    pub fn synchronize(self) -> Result<(), u32> {
        check(unsafe { (self.table.cuCtxSynchronize)() })
    }

    /// A stream that the default stream does not wait for.
    pub fn stream(self) -> Result<Stream, u32> {
        self.stream_with(NON_BLOCKING)
    }

    pub fn blocking_stream(self) -> Result<Stream, u32> {
        self.stream_with(0)
    }

    fn stream_with(self, flags: u32) -> Result<Stream, u32> {
        out(|stream| unsafe { (self.table.cuStreamCreate)(stream, flags) }).map(Stream)
    }

    pub fn destroy_stream(self, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuStreamDestroy_v2)(stream.0) })
    }

    pub fn synchronize_stream(self, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuStreamSynchronize)(stream.0) })
    }

    pub fn query_stream(self, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuStreamQuery)(stream.0) })
    }

    pub fn wait_for_event(self, stream: Stream, event: Event) -> Result<(), u32> {
        check(unsafe { (self.table.cuStreamWaitEvent)(stream.0, event.0, 0) })
    }

    /// Sets this thread's mode of stream capture (0 global, 1 thread-local, 2 relaxed) and returns the one before.
    pub fn capture_mode(self, mode: u32) -> Result<u32, u32> {
        let mut mode = mode;
        check(unsafe { (self.table.cuThreadExchangeStreamCaptureMode)(&mut mode) })?;
        Ok(mode)
    }

    pub fn event(self) -> Result<Event, u32> {
        out(|event| unsafe { (self.table.cuEventCreate)(event, 0) }).map(Event)
    }

    pub fn event_without_timing(self) -> Result<Event, u32> {
        out(|event| unsafe { (self.table.cuEventCreate)(event, DISABLE_TIMING) }).map(Event)
    }

    pub fn destroy_event(self, event: Event) -> Result<(), u32> {
        check(unsafe { (self.table.cuEventDestroy_v2)(event.0) })
    }

    pub fn record(self, event: Event, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuEventRecord)(event.0, stream.0) })
    }

    pub fn query(self, event: Event) -> Result<(), u32> {
        check(unsafe { (self.table.cuEventQuery)(event.0) })
    }

    pub fn synchronize_event(self, event: Event) -> Result<(), u32> {
        check(unsafe { (self.table.cuEventSynchronize)(event.0) })
    }

    pub fn elapsed_ms(self, start: Event, end: Event) -> Result<f32, u32> {
        out(|ms| unsafe { (self.table.cuEventElapsedTime)(ms, start.0, end.0) })
    }

    /// A kernel whose every run takes so long.
    pub fn kernel(self, name: &str, duration_ns: u64) -> Kernel {
        let name = CString::new(name).unwrap();
        Kernel(unsafe { (self.table.fakeKernel)(name.as_ptr(), duration_ns) })
    }

    /// Launches on one block of 32 threads.
    pub fn launch(self, kernel: Kernel, stream: Stream) -> Result<(), u32> {
        self.launch_shaped(kernel, stream, [1, 1, 1], [32, 1, 1])
    }

    pub fn launch_shaped(
        self,
        kernel: Kernel,
        stream: Stream,
        [gx, gy, gz]: [u32; 3],
        [bx, by, bz]: [u32; 3],
    ) -> Result<(), u32> {
        let launch = self.table.cuLaunchKernel;
        check(unsafe {
            launch(
                kernel.0,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                0,
                stream.0,
                null(),
                null(),
            )
        })
    }

    /// Launches through the runtime's `cudaLaunchKernel`, which calls the driver.
    pub fn launch_by_runtime(self, kernel: Kernel, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.fakeRuntimeLaunch)(kernel.0, stream.0) })
    }

    /// A graph that runs these kernels one after the other.
    pub fn graph(self, kernels: &[Kernel]) -> Graph {
        let handles: Vec<_> = kernels.iter().map(|kernel| kernel.0).collect();
        Graph(unsafe { (self.table.fakeGraph)(handles.as_ptr(), handles.len()) })
    }

    pub fn launch_graph(self, graph: Graph, stream: Stream) -> Result<(), u32> {
        check(unsafe { (self.table.cuGraphLaunch)(graph.0, stream.0) })
    }
}
