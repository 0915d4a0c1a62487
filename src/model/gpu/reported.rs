//! Device times that the program has measured itself.

use super::super::{Nanos, PathId};

/// What the program has said itself of the work of one call path's spans, on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GpuReported {
    pub(crate) path: PathId,
    pub(crate) device: Option<u32>,
    pub(crate) reports: u64,
    pub(crate) time: Nanos,
}
