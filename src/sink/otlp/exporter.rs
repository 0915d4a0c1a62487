//! The thread `cortex-export` and the queue before it.

use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use opentelemetry::Context;
use tokio::runtime::Builder;

use super::sending::{Ended, Shared, run};
use super::settings::{Settings, Signal};
use super::transport::Transport;
use crate::model::Export;

/// Spans that are ready to be sent.
#[derive(Debug)]
pub(crate) struct SpanBatch {
    /// A whole `ExportTraceServiceRequest`, at most 3.5 MiB.
    pub(crate) request: Vec<u8>,
    /// How many spans it holds.
    pub(crate) spans: u64,
}

/// Sends requests from a thread of its own; counts what became of each span.
///
/// Dropping it without [`Exporter::finish`] gives up what is queued. In a forked child there is no such thread: there
/// everything returns at once.
#[derive(Debug)]
pub(crate) struct Exporter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

impl Exporter {
    /// Starts the thread `cortex-export`. `on_thread_start` is called first on each thread that the exporter starts:
    /// it switches off this crate's own callbacks there.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or no event queue.
    pub(crate) fn start(settings: &Settings, on_thread_start: fn()) -> io::Result<Exporter> {
        // Apart from its thread, so that what the system refuses is known here.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("cortex-export")
            .on_thread_start(on_thread_start)
            .build()?;
        let shared = Arc::new(Shared::new(settings));
        let of_thread = Arc::clone(&shared);
        let transport = Transport::new(settings);
        let thread = thread::Builder::new()
            .name("cortex-export".to_owned())
            .spawn(move || {
                on_thread_start();
                // Dropped last, so that whoever waits for the end finds nothing running.
                let _ended = Ended(Arc::clone(&of_thread));
                // This crate's callbacks are off. A tracing layer of OpenTelemetry's must not export our exports either.
                let _suppressed = Context::enter_telemetry_suppressed_scope();
                // Whatever panics in here, the account must be closed.
                let _ =
                    panic::catch_unwind(AssertUnwindSafe(|| run(&of_thread, runtime, transport)));
            })?;
        Ok(Exporter {
            shared,
            thread: Mutex::new(Some(thread)),
            pid: std::process::id(),
        })
    }

    /// Queues spans. Does not wait for the receiver; when the queue is full, the oldest batch is spilled or dropped.
    pub(crate) fn send_spans(&self, batch: SpanBatch) {
        self.send(Signal::Traces, batch.request, batch.spans);
    }

    /// Queues a whole `ExportMetricsServiceRequest` with so many points.
    pub(crate) fn send_metrics(&self, request: Vec<u8>, points: u64) {
        self.send(Signal::Metrics, request, points);
    }

    fn send(&self, signal: Signal, request: Vec<u8>, amount: u64) {
        if !self.is_in_child() {
            self.shared.send(signal, request, amount);
        }
    }

    /// Whether everything that was queued so far has its fate.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_in_child() || self.shared.is_settled()
    }

    /// Tries again at once what has failed, at most once a second: for those who wait.
    pub(crate) fn hurry(&self) {
        if !self.is_in_child() {
            self.shared.hurry();
        }
    }

    /// Sends what is queued, gives up what cannot be sent by the deadline, and ends the thread.
    ///
    /// Returns soon after the deadline, whatever the receiver and the disk do.
    pub(crate) fn finish(&self, deadline: Instant) {
        if self.is_in_child() {
            // The thread does not exist here, so that it must be neither joined nor detached.
            mem::forget(self.thread().take());
            return;
        }
        let has_ended = self.shared.finish(deadline);
        if let Some(thread) = self.thread().take()
            && has_ended
        {
            // It cannot have panicked: its closure catches everything.
            let _ = thread.join();
        }
    }

    /// Returns what became of the spans and points so far. `sampled_out` and `adopted` are 0: the sink knows them.
    pub(crate) fn account(&self) -> Export {
        if self.is_in_child() {
            return Export::default();
        }
        self.shared.export()
    }

    /// Whether metrics are worth building: the receiver has not said that it has no place for them.
    pub(crate) fn takes_metrics(&self) -> bool {
        self.is_in_child() || self.shared.takes_metrics()
    }

    /// Returns how many of the lost points are lost only because the receiver takes no metrics.
    pub(crate) fn unwanted_points(&self) -> u64 {
        if self.is_in_child() {
            return 0;
        }
        self.shared.unwanted_points()
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_child(&self) -> bool {
        std::process::id() != self.pid
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let is_running = self.thread().is_some();
        if is_running {
            self.finish(Instant::now());
        }
    }
}
