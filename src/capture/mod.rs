//! The layer itself: runs inside the program's spans.
//!
//! On enter, exit and close of a span that lives on one thread there is no lock, no allocation, no system call, no
//! look into the subscriber's data and no write that another thread waits for. Everything a thread writes is its own
//! and made of relaxed atomics, so that the report can read it at any time.
//!
//! | file | holds |
//! |---|---|
//! | `layer` | `impl Layer`: the only place that implements a tracing trait |
//! | `capture` | what all threads of one layer share |
//! | `counters` | what was lost, by reason |
//! | `local`, `frame` | one thread's part, and how a callback finds it |
//! | `enter`, `exit` | the two ends of an activation |
//! | `found` | spans of other threads |
//! | `marks` | ranges in another tool |
//! | `lifecycle` | new, record, follows-from, close, events |
//! | `span_state` | what is remembered of an open span |
//! | `place`, `context` | ids: where in which trace a span is, and what travels to other processes |
//! | `node`, `recorder` | call tree and histograms |
//! | `sites` | numbers for callsites and paths |
//! | `stream`, `ring`, `drain` | the event stream: encoding, bounded buffers, decoding |
//! | `sampling` | which roots' trees are streamed where nobody asked for all |
//! | `gpu_reports` | device times that the program says itself |
//! | `gpu_calls` | calls into a GPU's driver, and the span that they are made in |
//! | `survey` | what is told of all threads at one moment |
//! | `unfinished` | what is open when the capture ends |
//! | `visit` | field values |
//! | `calibrate` | the layer's own cost |
//! | `process` | exits and forks, as the C library tells of them |

mod calibrate;
#[expect(
    clippy::module_inception,
    reason = "the shared state is the capture, the module is about capturing"
)]
mod capture;
mod context;
mod counters;
mod cpu_time;
mod drain;
mod enter;
mod exit;
mod found;
mod frame;
#[cfg(feature = "cuda")]
mod gpu_calls;
mod gpu_reports;
mod identity;
mod layer;
mod lifecycle;
mod local;
mod marks;
mod node;
mod place;
pub(crate) mod process;
mod recorder;
mod ring;
mod sampling;
mod sites;
mod span_state;
mod stream;
mod survey;
mod unfinished;
mod visit;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use calibrate::{Cost, calibrate};
pub(crate) use capture::{AmbientFn, Capture, SamplerFn, Settings, Streams};
pub use context::SetParentError;
pub(crate) use drain::{Batch, Drain, InFlight, Outlets};
pub use layer::CortexLayer;
pub(crate) use local::suppress_on_this_thread;
pub(crate) use sites::HeldFn;

/// The declared limits. What lies beyond is folded, cut or dropped, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes for records on their way to the collector, all threads together.
    pub(crate) max_record_bytes: usize,
    /// Nodes of the call tree; each may have one `(other)` more.
    pub(crate) max_tree_nodes: usize,
    /// Steps of a call path.
    pub(crate) max_path_depth: u32,
    /// Bytes of one string value.
    pub(crate) max_field_bytes: usize,
    /// Open spans beyond those that fit into the threads' own tables.
    pub(crate) max_open_spans: usize,
}

/// What to do with a record that does not fit into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Drop it and count it. The program never waits; statistics stay exact.
    #[default]
    DropNewest,
    /// Let the thread wait until there is room, for offline profiling. Nothing is lost and the program runs as fast as
    /// the slowest sink. A sink with threads of its own must not wait for them if they create spans that are captured.
    Block,
}

/// Locks; a panic elsewhere while the lock was held leaves only numbers behind, which stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
