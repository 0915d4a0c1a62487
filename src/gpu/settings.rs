//! What the program asks for.

/// What is to be recorded of CUDA devices; given to [`CortexBuilder::cuda`](crate::CortexBuilder::cuda). Feature `cuda`.
///
/// ```no_run
/// use tracing_cortex::CortexLayer;
/// use tracing_cortex::gpu::Cuda;
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().cuda(Cuda::auto()).build()?;
/// tracing_subscriber::registry().with(cortex).init();
/// // Kernels and copies that are started in this span are this span's.
/// tracing::info_span!("forward").in_scope(|| {});
/// # drop(guard);
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cuda {
    pub(crate) cupti: bool,
    pub(crate) nvml: bool,
    pub(crate) nvtx: bool,
}

impl Cuda {
    /// Records every kernel, copy, fill, wait and allocation through CUPTI where it can be had; where not, the report says
    /// why.
    ///
    /// Build the layer before the first work on a device: CUPTI prepares itself at the first use of a context, which
    /// takes longer in a running program. Starts the CUDA driver (`cuInit`), so a program that forks must do that before.
    pub fn auto() -> Cuda {
        Cuda {
            cupti: true,
            nvml: true,
            nvtx: false,
        }
    }

    /// Leaves CUPTI to another profiler.
    pub fn without_cupti(mut self) -> Cuda {
        self.cupti = false;
        self
    }

    /// Reads no utilisation, memory, power, temperature or clocks through NVML, which takes part in the readings of
    /// [`CortexBuilder::resources`](crate::CortexBuilder::resources) otherwise.
    pub fn without_nvml(mut self) -> Cuda {
        self.nvml = false;
        self
    }

    /// Tells NVTX of every activation, so that Nsight Systems shows the spans beside the work of the devices. Default: off.
    ///
    /// Costs nothing in a program that runs under no such tool.
    pub fn nvtx(mut self) -> Cuda {
        self.nvtx = true;
        self
    }
}
