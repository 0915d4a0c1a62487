//! Ranges that the program marks on a stream.
#![expect(
    unsafe_code,
    reason = "streams of other bindings are pointers, and who passes one must promise that it lives"
)]

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use tracing::dispatcher;

use super::event_api::{Context, Stream};
use super::ranges::{Open, Ranges};
use crate::capture::CortexLayer;
use crate::capture::process::is_forked_child;

/// Measures how long a device takes from here to the end of the returned [`Range`], on this stream, for the span that
/// this thread is in. Feature `cuda`.
///
/// For programs in which CUPTI cannot be had, and to give a name to a part of a span's work. Two events are put on the
/// stream; they are read later, by the thread `cortex-gpu`, so that neither the stream nor the program ever waits. The
/// range is named like the span, unless [`Range::named`] says otherwise.
///
/// A range is a window on one stream. It has the device's pauses in it, as where the host launches too slowly: do not
/// read it as busy time.
///
/// Needs a [`CortexLayer`](crate::CortexLayer) in the thread's current subscriber, built with
/// [`cuda`](crate::CortexBuilder::cuda); does nothing otherwise. Ranges on a stream that is being captured into a graph
/// are not measured, and at most 4,096 of a context can be under way; what is not measured is counted in
/// [`GpuProfile::lost_ranges`](crate::GpuProfile::lost_ranges). Errors of the driver never reach the program.
///
/// ```no_run
/// use cudarc::driver::CudaContext;
/// use tracing_cortex::CortexLayer;
/// use tracing_cortex::gpu::{self, Cuda};
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().cuda(Cuda::auto().without_cupti()).build()?;
/// tracing_subscriber::registry().with(cortex).init();
///
/// let stream = CudaContext::new(0)?.new_stream()?;
/// let host = vec![1.0_f32; 1 << 20];
/// tracing::info_span!("forward").in_scope(|| {
///     // Until the end of this scope, as `forward`.
///     let _range = gpu::range(&stream);
///     // A part of it, with a name of its own.
///     let upload = gpu::range(&stream).named("upload");
///     let input = stream.clone_htod(&host)?;
///     upload.end();
///     // Launch kernels on `input` here.
///     # drop(input);
///     Ok::<(), cudarc::driver::DriverError>(())
/// })?;
/// # drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn range(stream: &Arc<CudaStream>) -> Range {
    let context = stream.context().cu_ctx().cast();
    // SAFETY: the stream, which keeps its context, is held until the range has ended.
    let (context, handle) = unsafe {
        (
            Context::new(context),
            Stream::new(stream.cu_stream().cast()),
        )
    };
    begin(Some(context), handle, Some(stream))
}

/// [`range`] for other bindings than cudarc: `context` is a `CUcontext`, or null for the thread's current one, and
/// `stream` a `CUstream`.
///
/// # Safety
///
/// The stream must be one of the context, and live until the range has ended. The context must live until the capture
/// has; primary contexts, which the runtime's API uses, do: the capture holds them from their first range on.
pub unsafe fn range_raw(context: *mut c_void, stream: *mut c_void) -> Range {
    // SAFETY: as the caller says.
    let (context, stream) = unsafe {
        let given = (!context.is_null()).then(|| Context::new(context));
        (given, Stream::new(stream))
    };
    begin(context, stream, None)
}

/// A range that goes on until this is dropped, on whatever thread.
///
/// It belongs to the span in which it was begun. One that has not ended when the capture does is counted as unfinished.
#[must_use = "the range ends where this is dropped"]
pub struct Range {
    open: Option<(Arc<Ranges>, Open)>,
    name: Option<Arc<str>>,
    /// Keeps the stream and its context alive.
    _stream: Option<Arc<CudaStream>>,
}

impl Range {
    /// Gives the range another name than its span's.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Range {
        if self.open.is_some() {
            self.name = Some(name.into());
        }
        self
    }

    /// Ends the range here; the same as dropping it.
    pub fn end(self) {}
}

impl Drop for Range {
    fn drop(&mut self) {
        // A forked child has no driver, and locks that threads of its parent held.
        if let Some((ranges, open)) = self.open.take()
            && !is_forked_child()
        {
            ranges.end(open, self.name.take());
        }
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range")
            .field("measures", &self.open.is_some())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn begin(context: Option<Context>, stream: Stream, held: Option<&Arc<CudaStream>>) -> Range {
    let open = dispatcher::get_default(|dispatch| {
        let capture = dispatch.downcast_ref::<CortexLayer>()?.capture();
        let ranges = capture.of_gpu::<Ranges>()?;
        if is_forked_child() || ranges.is_closed() {
            return None;
        }
        let open = ranges.begin(context, stream, capture.current())?;
        Some((ranges, open))
    });
    Range {
        _stream: held.filter(|_| open.is_some()).cloned(),
        open,
        name: None,
    }
}
