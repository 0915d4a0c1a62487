//! What the process's CUDA devices do: recorded through CUPTI, attributed to the span that the calling thread is in; and
//! [`range`]s that the program marks on a stream, which need no CUPTI.
//!
//! Everything is opened at run time. What cannot be had is said once, in [`GpuProfile::notices`], and costs nothing.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | what the program asks for |
//! | `recorder` | the thread `cortex-gpu`, which asks the driver for what it has |
//! | `cupti/` | CUPTI: calls and records |
//! | `range` | ranges that the program marks |
//! | `ranges` | the events of those, shared with the thread |
//! | `resolver` | reading them, on the thread |
//! | `timeline` | the time of events |
//! | `event_api` | the driver's functions for events |
//! | `driver` | which devices there are |
//! | `nvtx` | ranges with the names of the spans, for NVIDIA's own tools |
//! | `anchors` | a device's clock on the capture's |
//! | `symbols` | opening libraries |
//!
//! [`GpuProfile::notices`]: crate::GpuProfile::notices

mod anchors;
mod cupti;
mod driver;
mod event_api;
mod nvtx;
mod range;
mod ranges;
mod recorder;
mod resolver;
mod settings;
mod symbols;
mod timeline;

pub(crate) use nvtx::Nvtx;
pub use range::{Range, range, range_raw};
pub(crate) use recorder::GpuRecorder;
pub use settings::Cuda;
