//! CUPTI's numbers for the driver's functions, and where the parameters of those that change memory are.
//!
//! The numbers are those of `cupti_driver_cbid.h`; they are never given to another function. Variants of a function,
//! such as those for a stream per thread, do the same and are recorded under one name.

use crate::model::GpuFunction;

/// One more than the largest number below.
pub(super) const COUNT: usize = 841;

/// The variants of each function that is recorded.
pub(super) const RECORDED: &[(&str, &[u32])] = &[
    ("cuLaunchKernel", &[307, 442]),
    ("cuLaunchKernelEx", &[652, 653]),
    ("cuLaunchCooperativeKernel", &[477, 478]),
    ("cuLaunchCooperativeKernelMultiDevice", &[480]),
    ("cuLaunch", &[115]),
    ("cuLaunchGrid", &[116]),
    ("cuLaunchGridAsync", &[117]),
    ("cuGraphLaunch", &[514, 515]),
    ("cuGraphLaunchWithArguments", &[819]),
    ("cuMemcpy", &[248, 305, 408]),
    ("cuMemcpyAsync", &[306, 418]),
    ("cuMemcpyHtoD", &[43, 276, 397]),
    ("cuMemcpyHtoDAsync", &[60, 277, 421]),
    ("cuMemcpyDtoH", &[45, 278, 398]),
    ("cuMemcpyDtoHAsync", &[62, 279, 422]),
    ("cuMemcpyDtoD", &[47, 280, 399]),
    ("cuMemcpyDtoDAsync", &[64, 281, 423]),
    ("cuMemcpyDtoA", &[49, 285, 400]),
    ("cuMemcpyAtoD", &[51, 284, 401]),
    ("cuMemcpyAtoA", &[55, 286, 404]),
    ("cuMemcpyHtoA", &[53, 292, 402]),
    ("cuMemcpyHtoAAsync", &[66, 293, 419]),
    ("cuMemcpyAtoH", &[54, 282, 403]),
    ("cuMemcpyAtoHAsync", &[67, 283, 420]),
    ("cuMemcpy2D", &[56, 287, 405]),
    ("cuMemcpy2DUnaligned", &[57, 288, 406]),
    ("cuMemcpy2DAsync", &[68, 289, 424]),
    ("cuMemcpy3D", &[58, 290, 407]),
    ("cuMemcpy3DAsync", &[69, 291, 425]),
    ("cuMemcpyPeer", &[318, 409]),
    ("cuMemcpyPeerAsync", &[319, 426]),
    ("cuMemcpy3DPeer", &[320, 410]),
    ("cuMemcpy3DPeerAsync", &[321, 427]),
    ("cuMemcpyBatchAsync", &[776, 777, 796, 797]),
    ("cuMemcpy3DBatchAsync", &[778, 779, 798, 799]),
    ("cuMemcpyWithAttributesAsync", &[837, 838]),
    ("cuMemcpy3DWithAttributesAsync", &[839, 840]),
    ("cuMemsetD8", &[71, 249, 411]),
    ("cuMemsetD16", &[73, 250, 412]),
    ("cuMemsetD32", &[75, 251, 413]),
    ("cuMemsetD2D8", &[77, 252, 414]),
    ("cuMemsetD2D16", &[79, 253, 415]),
    ("cuMemsetD2D32", &[81, 254, 416]),
    ("cuMemsetD8Async", &[216, 428]),
    ("cuMemsetD16Async", &[218, 429]),
    ("cuMemsetD32Async", &[220, 430]),
    ("cuMemsetD2D8Async", &[222, 431]),
    ("cuMemsetD2D16Async", &[224, 432]),
    ("cuMemsetD2D32Async", &[226, 433]),
    ("cuCtxSynchronize", &[17, 800]),
    ("cuStreamSynchronize", &[126, 440]),
    ("cuEventSynchronize", &[121]),
    ("cuMemAlloc", &[29, 243]),
    ("cuMemAllocPitch", &[31, 244]),
    ("cuMemAllocManaged", &[371]),
    ("cuMemAllocAsync", &[598, 599]),
    ("cuMemAllocFromPoolAsync", &[611, 612]),
    ("cuMemFree", &[33, 245]),
    ("cuMemFreeAsync", &[600, 601]),
];

/// Returns the function that each number stands for, by number.
pub(super) fn functions() -> Vec<Option<GpuFunction>> {
    let mut functions = vec![None; COUNT];
    for (name, numbers) in RECORDED {
        for &number in *numbers {
            if let Some(place) = functions.get_mut(number as usize) {
                *place = GpuFunction::named(name);
            }
        }
    }
    functions
}

/// Where a call's parameters say which memory it takes or gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemoryParameters {
    /// A pointer to the address, then the size.
    Linear,
    /// A pointer to the address, one to the length of a row, the width, the number of rows.
    Pitched,
    /// The address.
    Release,
}

/// Returns where the parameters of a function are. Those of the functions before 64-bit addresses are left out.
pub(super) fn memory_parameters(callback: u32) -> Option<MemoryParameters> {
    match callback {
        243 | 371 | 598 | 599 | 611 | 612 => Some(MemoryParameters::Linear),
        244 => Some(MemoryParameters::Pitched),
        245 | 600 | 601 => Some(MemoryParameters::Release),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GpuApi;

    #[test]
    fn every_recorded_function_is_known_to_the_model_and_no_number_is_given_twice() {
        let mut seen = std::collections::HashSet::new();
        for (name, numbers) in RECORDED {
            assert!(GpuFunction::named(name).is_some(), "{name}");
            for &number in *numbers {
                assert!((number as usize) < COUNT, "{name}");
                assert!(seen.insert(number), "{number} of {name} stands there twice");
            }
        }
        let found = functions().iter().flatten().count();
        assert_eq!(found, seen.len());
    }

    #[test]
    fn parameters_of_memory_belong_to_functions_of_memory() {
        let functions = functions();
        for number in 0..COUNT as u32 {
            let Some(parameters) = memory_parameters(number) else {
                continue;
            };
            let (_, api) = functions[number as usize].unwrap().describe().unwrap();
            let expected = match parameters {
                MemoryParameters::Release => GpuApi::Free,
                MemoryParameters::Linear | MemoryParameters::Pitched => GpuApi::Allocate,
            };
            assert_eq!(api, expected, "{number}");
        }
    }
}
