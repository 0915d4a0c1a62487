//! The functions of the driver that are recorded.

use super::GpuApi;

/// One function of the driver, as a number that fits into a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GpuFunction(pub(crate) u16);

impl GpuFunction {
    /// Returns the driver's name and what the function is for.
    pub(crate) fn describe(self) -> Option<(&'static str, GpuApi)> {
        FUNCTIONS.get(usize::from(self.0)).copied()
    }

    /// Returns the function with this name; variants of one function have one name here.
    pub(crate) fn named(name: &str) -> Option<GpuFunction> {
        let at = FUNCTIONS.iter().position(|(known, _)| *known == name)?;
        u16::try_from(at).ok().map(GpuFunction)
    }
}

/// Their order is that of the numbers.
const FUNCTIONS: &[(&str, GpuApi)] = &[
    ("cuLaunchKernel", GpuApi::Launch),
    ("cuLaunchKernelEx", GpuApi::Launch),
    ("cuLaunchCooperativeKernel", GpuApi::Launch),
    ("cuLaunchCooperativeKernelMultiDevice", GpuApi::Launch),
    ("cuLaunch", GpuApi::Launch),
    ("cuLaunchGrid", GpuApi::Launch),
    ("cuLaunchGridAsync", GpuApi::Launch),
    ("cuGraphLaunch", GpuApi::GraphLaunch),
    ("cuGraphLaunchWithArguments", GpuApi::GraphLaunch),
    ("cuMemcpy", GpuApi::Copy),
    ("cuMemcpyAsync", GpuApi::CopyAsync),
    ("cuMemcpyHtoD", GpuApi::Copy),
    ("cuMemcpyHtoDAsync", GpuApi::CopyAsync),
    ("cuMemcpyDtoH", GpuApi::Copy),
    ("cuMemcpyDtoHAsync", GpuApi::CopyAsync),
    ("cuMemcpyDtoD", GpuApi::Copy),
    ("cuMemcpyDtoDAsync", GpuApi::CopyAsync),
    ("cuMemcpyDtoA", GpuApi::Copy),
    ("cuMemcpyAtoD", GpuApi::Copy),
    ("cuMemcpyAtoA", GpuApi::Copy),
    ("cuMemcpyHtoA", GpuApi::Copy),
    ("cuMemcpyHtoAAsync", GpuApi::CopyAsync),
    ("cuMemcpyAtoH", GpuApi::Copy),
    ("cuMemcpyAtoHAsync", GpuApi::CopyAsync),
    ("cuMemcpy2D", GpuApi::Copy),
    ("cuMemcpy2DUnaligned", GpuApi::Copy),
    ("cuMemcpy2DAsync", GpuApi::CopyAsync),
    ("cuMemcpy3D", GpuApi::Copy),
    ("cuMemcpy3DAsync", GpuApi::CopyAsync),
    ("cuMemcpyPeer", GpuApi::Copy),
    ("cuMemcpyPeerAsync", GpuApi::CopyAsync),
    ("cuMemcpy3DPeer", GpuApi::Copy),
    ("cuMemcpy3DPeerAsync", GpuApi::CopyAsync),
    ("cuMemcpyBatchAsync", GpuApi::CopyAsync),
    ("cuMemcpy3DBatchAsync", GpuApi::CopyAsync),
    ("cuMemcpyWithAttributesAsync", GpuApi::CopyAsync),
    ("cuMemcpy3DWithAttributesAsync", GpuApi::CopyAsync),
    ("cuMemsetD8", GpuApi::Set),
    ("cuMemsetD16", GpuApi::Set),
    ("cuMemsetD32", GpuApi::Set),
    ("cuMemsetD2D8", GpuApi::Set),
    ("cuMemsetD2D16", GpuApi::Set),
    ("cuMemsetD2D32", GpuApi::Set),
    ("cuMemsetD8Async", GpuApi::SetAsync),
    ("cuMemsetD16Async", GpuApi::SetAsync),
    ("cuMemsetD32Async", GpuApi::SetAsync),
    ("cuMemsetD2D8Async", GpuApi::SetAsync),
    ("cuMemsetD2D16Async", GpuApi::SetAsync),
    ("cuMemsetD2D32Async", GpuApi::SetAsync),
    ("cuCtxSynchronize", GpuApi::Synchronize),
    ("cuStreamSynchronize", GpuApi::Synchronize),
    ("cuEventSynchronize", GpuApi::Synchronize),
    ("cuMemAlloc", GpuApi::Allocate),
    ("cuMemAllocPitch", GpuApi::Allocate),
    ("cuMemAllocManaged", GpuApi::Allocate),
    ("cuMemAllocAsync", GpuApi::Allocate),
    ("cuMemAllocFromPoolAsync", GpuApi::Allocate),
    ("cuMemFree", GpuApi::Free),
    ("cuMemFreeAsync", GpuApi::Free),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found_under_its_name() {
        for (at, (name, api)) in FUNCTIONS.iter().enumerate() {
            let function = GpuFunction::named(name).unwrap();
            assert_eq!(usize::from(function.0), at, "{name} stands there twice");
            assert_eq!(function.describe(), Some((*name, *api)));
        }
        assert_eq!(GpuFunction(u16::MAX).describe(), None);
    }
}
