//! What GPUs did, the calls that made them do it, and what both add up to.

mod call;
mod function;
mod raw;
mod stats;
mod work;

pub use call::{GpuApi, GpuCall, GpuCaller, GpuMemory};
pub(crate) use function::GpuFunction;
pub(crate) use raw::{GpuActivity, GpuCallEnd, GpuOwner, GpuReported, RawCaller};
pub use stats::{GpuDevice, GpuDeviceStats, GpuIdle, GpuKernelStats, GpuLostRanges, GpuNotice};
pub use stats::{GpuProfile, GpuStats, GpuStreamStats, GpuTotals};
pub use work::{
    GpuBatch, GpuCopy, GpuKernel, GpuKind, GpuMemoryKind, GpuQueue, GpuSource, GpuWork,
};
