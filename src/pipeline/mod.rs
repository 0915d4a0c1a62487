//! Wiring: the only module that knows all the others and their order.
//!
//! ```text
//!  app threads                     thread `cortex-collect`            whoever ends the capture
//!  capture ── records (bounded) ──▶ drain ──▶ sinks.spans, events      close ▶ drain ▶ profile ▶ diagnose
//!     └─ per-thread statistics ──────────────────────────────────────▶        ▶ sinks.finish, each on its own thread
//!  `cortex-sample`: readings ─────▶ sinks.samples
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `builder` | settings, and their check |
//! | `build` | from settings to a capture that runs |
//! | `level` | how much is collected |
//! | `environment` | settings from `TRACING_CORTEX_*` |
//! | `session` | what the threads of a capture share, and its end |
//! | `readings` | resource readings on their way to the sinks |
//! | `collector` | the thread that feeds the sinks |
//! | `outlets` | the sinks, kept apart from each other |
//! | `span_ext` | spans whose traces go through several processes |
//! | `guard` | what the program holds |
//! | `exits` | the ways a process ends without dropping the guard |

mod build;
mod build_error;
mod builder;
mod collector;
mod environment;
mod exits;
#[cfg(feature = "cuda")]
mod gpu;
mod guard;
mod init;
mod level;
mod outlets;
mod readings;
mod session;
mod span_ext;
mod text_report;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use build_error::BuildError;
pub use builder::CortexBuilder;
pub use guard::{CortexGuard, FinishError, FlushError, SinkFailure, SinkFailureKind, Summary};
pub use init::{InitError, init};
pub use level::ProfilingLevel;
pub use span_ext::CortexSpanExt;
pub use text_report::TextReport;

/// Locks; what these locks protect stays usable after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
