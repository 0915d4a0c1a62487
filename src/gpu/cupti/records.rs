//! CUPTI's activity records, read by offset.
//!
//! The fields below lie at the same place in the records of CUDA 11.0 to 13.4; a structure of one version would not fit
//! the others.

use std::sync::Arc;

use crate::model::{GpuCopy, GpuKernel, GpuKind, GpuMemoryKind, GpuQueue};

/// The kinds that are enabled; `CUpti_ActivityKind`.
pub(super) const KINDS: [u32; 4] = [CONCURRENT_KERNEL, MEMCPY, MEMSET, MEMCPY_PEER];

const MEMCPY: u32 = 1;
const MEMSET: u32 = 2;
const KERNEL: u32 = 3;
const CONCURRENT_KERNEL: u32 = 10;
const MEMCPY_PEER: u32 = 22;

/// Returns how much of a record is read; `None` for kinds that are not.
pub(super) fn bytes_of(kind: u32) -> Option<usize> {
    match kind {
        KERNEL | CONCURRENT_KERNEL => Some(160),
        MEMCPY => Some(72),
        MEMSET => Some(48),
        MEMCPY_PEER => Some(64),
        _ => None,
    }
}

/// A record with times on the library's clock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) kind: GpuKind,
    pub(super) queue: GpuQueue,
    pub(super) start_ns: u64,
    /// 0 where the work has not ended.
    pub(super) end_ns: u64,
    pub(super) correlation: u32,
    pub(super) graph: Option<u32>,
}

/// Reads a record. `name` returns the name at an address.
pub(super) fn read(kind: u32, bytes: &[u8], name: impl FnOnce(u64) -> Arc<str>) -> Option<Record> {
    let at = Fields(bytes);
    Some(match kind {
        KERNEL | CONCURRENT_KERNEL => {
            let mut kernel = GpuKernel::new(name(at.u64(104)?));
            kernel.registers = at.u16(6)?;
            kernel.grid = at.three(52)?;
            kernel.block = at.three(64)?;
            kernel.shared_bytes = at.u32(76)?.saturating_add(at.u32(80)?);
            Record {
                kind: GpuKind::Kernel(kernel),
                queue: GpuQueue::new(at.u32(40)?, at.u32(44)?, at.u32(48)?),
                start_ns: at.u64(16)?,
                end_ns: at.u64(24)?,
                correlation: at.u32(92)?,
                graph: Some(at.u32(156)?).filter(|&graph| graph != 0),
            }
        }
        MEMCPY => Record {
            kind: GpuKind::Copy(GpuCopy::new(
                memory_kind(at.u8(5)?),
                memory_kind(at.u8(6)?),
                at.u64(8)?,
            )),
            queue: GpuQueue::new(at.u32(32)?, at.u32(36)?, at.u32(40)?),
            start_ns: at.u64(16)?,
            end_ns: at.u64(24)?,
            correlation: at.u32(44)?,
            graph: None,
        },
        MEMSET => Record {
            kind: GpuKind::Set { bytes: at.u64(8)? },
            queue: GpuQueue::new(at.u32(32)?, at.u32(36)?, at.u32(40)?),
            start_ns: at.u64(16)?,
            end_ns: at.u64(24)?,
            correlation: at.u32(44)?,
            graph: None,
        },
        MEMCPY_PEER => {
            let mut copy = GpuCopy::new(memory_kind(at.u8(5)?), memory_kind(at.u8(6)?), at.u64(8)?);
            let source = at.u32(44)?;
            let target = at.u32(52)?;
            let device = at.u32(32)?;
            copy.peer = Some(if target == device { source } else { target });
            Record {
                kind: GpuKind::Copy(copy),
                queue: GpuQueue::new(device, at.u32(36)?, at.u32(40)?),
                start_ns: at.u64(16)?,
                end_ns: at.u64(24)?,
                correlation: at.u32(60)?,
                graph: None,
            }
        }
        _ => return None,
    })
}

/// `CUpti_ActivityMemoryKind`.
fn memory_kind(number: u8) -> GpuMemoryKind {
    match number {
        1 => GpuMemoryKind::Pageable,
        2 => GpuMemoryKind::Pinned,
        3 | 6 => GpuMemoryKind::Device,
        4 => GpuMemoryKind::Array,
        5 | 7 => GpuMemoryKind::Managed,
        _ => GpuMemoryKind::Unknown,
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.take(at).map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.take(at).map(u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.take(at).map(u64::from_ne_bytes)
    }

    fn three(&self, at: usize) -> Option<[u32; 3]> {
        Some([self.u32(at)?, self.u32(at + 4)?, self.u32(at + 8)?])
    }
}
