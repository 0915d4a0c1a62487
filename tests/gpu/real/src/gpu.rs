//! The device that the cases run on, and time on it by hand.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUevent_flags};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaStream, LaunchConfig, PushKernelArg, result,
};

use crate::args::Settings;
use crate::kernels::Kernels;
use crate::{Result, machine};

pub struct Gpu {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    pub kernels: Kernels,
    pub multiprocessors: u32,
    elapsed: unsafe extern "C" fn(*mut f32, usize, usize) -> u32,
}

/// Device memory, for as long as the process lives.
#[derive(Clone, Copy)]
pub struct Memory(pub CUdeviceptr);

impl Gpu {
    /// Opens device 0.
    pub fn open(settings: &Settings) -> Result<Gpu> {
        let context = CudaContext::new(0)?;
        // SAFETY: the cases order their work themselves; events of cudarc's own would be in what is measured.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        let kernels = Kernels::load(&context, settings.ptx)?;
        let multiprocessors = context.attribute(
            cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
        )?;
        Ok(Gpu {
            elapsed: machine::elapsed_time()?,
            multiprocessors: u32::try_from(multiprocessors)?.max(1),
            context,
            stream,
            kernels,
        })
    }

    pub fn allocate(&self, bytes: usize) -> Result<Memory> {
        // SAFETY: the memory is given to kernels and copies that stay inside it.
        Ok(Memory(unsafe { result::malloc_sync(bytes) }?))
    }

    /// Page-locked memory of the host, for as long as the process lives.
    pub fn pinned(&self, bytes: usize) -> Result<&'static mut [u8]> {
        // SAFETY: the driver gives that many bytes, page-aligned, and nobody gives them back.
        unsafe {
            let memory: *mut c_void = result::malloc_host(bytes, 0)?;
            memory.cast::<u8>().write_bytes(1, bytes);
            Ok(std::slice::from_raw_parts_mut(memory.cast(), bytes))
        }
    }

    pub fn event(&self) -> Result<CudaEvent> {
        Ok(self
            .context
            .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?)
    }

    /// Returns the device's time between two events that it has passed, in nanoseconds.
    pub fn between(&self, begin: &CudaEvent, end: &CudaEvent) -> Result<f64> {
        let mut milliseconds = 0.0_f32;
        let (begin, end) = (begin.cu_event() as usize, end.cu_event() as usize);
        // SAFETY: both events live, and the pointer is to a number of ours.
        match unsafe { (self.elapsed)(&raw mut milliseconds, begin, end) } {
            0 => Ok(f64::from(milliseconds) * 1e6),
            code => Err(format!("cuEventElapsedTime fails with {code}").into()),
        }
    }

    /// Returns the device's time from the begin to the end of what `work` starts on the stream; waits for it.
    pub fn timed(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let (begin, end) = (self.event()?, self.event()?);
        begin.record(&self.stream)?;
        work()?;
        end.record(&self.stream)?;
        self.stream.synchronize()?;
        self.between(&begin, &end)
    }

    pub fn compute(
        &self,
        stream: &CudaStream,
        blocks: u32,
        out: Memory,
        rounds: u32,
    ) -> Result<()> {
        let mut launch = stream.launch_builder(&self.kernels.compute_bound);
        launch.arg(&out.0).arg(&rounds);
        // SAFETY: the parameters are those of the kernel; `out` has a number for each thread.
        unsafe { launch.launch(shape(blocks)) }?;
        Ok(())
    }

    pub fn triad(&self, [out, x, y]: [Memory; 3], n: u32) -> Result<()> {
        let mut launch = self.stream.launch_builder(&self.kernels.memory_bound);
        launch.arg(&out.0).arg(&x.0).arg(&y.0).arg(&n);
        // SAFETY: the parameters are those of the kernel; each has `n` numbers.
        unsafe { launch.launch(shape(n.div_ceil(BLOCK))) }?;
        Ok(())
    }

    pub fn tiny(&self) -> Result<()> {
        launch_empty(&self.stream, &self.kernels.tiny)
    }
}

/// Threads of a block.
pub const BLOCK: u32 = 256;

fn shape(blocks: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (BLOCK, 1, 1),
        shared_mem_bytes: 0,
    }
}

fn launch_empty(stream: &CudaStream, kernel: &CudaFunction) -> Result<()> {
    let one = LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (1, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the kernel has no parameters.
    unsafe { stream.launch_builder(kernel).launch(one) }?;
    Ok(())
}
