//! What GPUs did, the calls that made them do it, and what both add up to.

mod call;
#[cfg(any(feature = "cuda", test))]
mod function;
#[cfg(any(feature = "cuda", test))]
mod raw;
mod reported;
mod stats;
mod work;

pub use call::{GpuApi, GpuCall, GpuCaller, GpuMemory};
#[cfg(any(feature = "cuda", test))]
pub(crate) use function::GpuFunction;
#[cfg(any(feature = "cuda", test))]
pub(crate) use raw::{GpuActivity, GpuCallEnd, GpuOwner, RawCaller};
pub(crate) use reported::GpuReported;
pub use stats::{GpuDevice, GpuDeviceStats, GpuIdle, GpuKernelStats, GpuLostRanges, GpuNotice};
pub use stats::{GpuPause, GpuPauses};
pub use stats::{GpuProfile, GpuStats, GpuStreamStats, GpuTotals};
pub use work::{
    GpuBatch, GpuCopy, GpuKernel, GpuKind, GpuMemoryKind, GpuQueue, GpuSource, GpuWork,
};
