//! Spans to an exporter of the program's own.
//!
//! It may block its thread, as one with a blocking HTTP client does, or need a runtime, as one with an async client does.
//! So it is called on a thread on which both are allowed, and not on the one that must keep the deadlines.

use std::any::Any;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::span_data::{self, Decoded};
use super::{Accepted, Failure, answer};
use crate::sink::otlp::retry::Again;
use crate::sink::otlp::settings::{AnyExporter, Held};

/// Calls the exporter, once at a time, as its trait demands.
#[derive(Debug, Clone)]
pub(super) struct Custom {
    shown: &'static str,
    timeout: Duration,
    open: Arc<Mutex<Option<Open>>>,
}

/// The exporter until its shutdown.
struct Open {
    exporter: Box<dyn AnyExporter>,
    has_resource: bool,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

/// What came of a call.
enum End {
    Answered(OTelSdkResult),
    TimedOut,
    /// Nobody waits for it any more.
    Abandoned,
}

impl Custom {
    pub(super) fn new(held: &Held, timeout: Duration) -> Custom {
        let open = held.take().map(|exporter| Open {
            exporter,
            has_resource: false,
        });
        Custom {
            shown: held.shown(),
            timeout,
            open: Arc::new(Mutex::new(open)),
        }
    }

    /// Sends one request. Dropping the future ends the call where the exporter waits next; one that blocks its thread
    /// cannot be ended.
    pub(super) async fn send(&self, request: Bytes) -> Result<Accepted, Failure> {
        let (_waiting, abandoned) = oneshot::channel();
        let custom = self.clone();
        let call = tokio::task::spawn_blocking(move || custom.call(&request, abandoned));
        call.await.unwrap_or_else(|error| {
            Err(self.lost(format!(
                "{} could not be called ({error}); this is an error of tracing-cortex",
                self.shown
            )))
        })
    }

    fn call(
        &self,
        request: &[u8],
        abandoned: oneshot::Receiver<Infallible>,
    ) -> Result<Accepted, Failure> {
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        let shown = self.shown;
        let Decoded { resource, spans } = span_data::decode(request).map_err(|error| {
            self.lost(format!(
                "a request for {shown} could not be read ({error}); this is an error of tracing-cortex"
            ))
        })?;
        let mut open = self.open();
        let Some(Open {
            exporter,
            has_resource,
        }) = open.as_mut()
        else {
            return Err(self.lost(format!("{shown} was shut down before")));
        };
        let end = caught(|| {
            if !*has_resource {
                *has_resource = true;
                exporter.set_resource(&resource);
            }
            let exporting = tokio::time::timeout(self.timeout, exporter.export(spans));
            block_on(async {
                let (mut exporting, mut abandoned) = (pin!(exporting), pin!(abandoned));
                poll_fn(|cx| {
                    if abandoned.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(End::Abandoned);
                    }
                    exporting.as_mut().poll(cx).map(|answer| match answer {
                        Ok(result) => End::Answered(result),
                        Err(_) => End::TimedOut,
                    })
                })
                .await
            })
        });
        let (why, again) = match end {
            Ok(End::Answered(Ok(()))) => return Ok(Accepted::default()),
            Ok(End::Answered(Err(OTelSdkError::AlreadyShutdown))) => (
                format!(
                    "{shown} was shut down by another part of the program: give Otlp::span_exporter one that nobody else \
                     has"
                ),
                Again::InVain,
            ),
            Ok(End::Answered(Err(error))) => (
                format!("{shown} failed ({})", answer::shortened(&said(&error))),
                Again::Backoff,
            ),
            Ok(End::TimedOut) => (
                format!(
                    "{shown} did not answer within {:?}: see what it is busy with, or raise Otlp::timeout",
                    self.timeout
                ),
                Again::Backoff,
            ),
            Ok(End::Abandoned) => (
                format!("{shown} did not answer before the end"),
                Again::Backoff,
            ),
            Err(panic) => (format!("{shown} panicked{panic}"), Again::InVain),
        };
        Err(Failure { why, again })
    }

    /// Shuts the exporter down after its last call, with what is left of the time, and drops it. Gives what it said of
    /// an error.
    pub(super) fn close(
        &self,
        runtime: &Runtime,
        deadline: Instant,
    ) -> JoinHandle<Result<(), String>> {
        let custom = self.clone();
        runtime.spawn_blocking(move || {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            let Some(open) = custom.open().take() else {
                return Ok(());
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let closed = caught(|| open.exporter.shutdown(left));
            // Apart: a panic while another unwinds would end the program.
            let dropped = caught(move || drop(open));
            let shown = custom.shown;
            match (closed, dropped) {
                (Err(panic), _) | (_, Err(panic)) => {
                    Err(format!("{shown} panicked at its end{panic}"))
                }
                (Ok(Err(error)), _) => Err(format!(
                    "the shutdown of {shown} failed ({})",
                    answer::shortened(&said(&error))
                )),
                (Ok(Ok(())), _) => Ok(()),
            }
        })
    }

    /// What is to be said where the shutdown did not end in time.
    pub(super) fn unclosed(&self) -> String {
        format!("the shutdown of {} did not end in time", self.shown)
    }

    fn lost(&self, why: String) -> Failure {
        Failure {
            why,
            again: Again::InVain,
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(error: &OTelSdkError) -> String {
    match error {
        OTelSdkError::InternalFailure(reason) => reason.clone(),
        OTelSdkError::Timeout(_) | OTelSdkError::AlreadyShutdown => error.to_string(),
    }
}

/// Returns what a panic says, in brackets, instead of panicking.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // What it leaves half done is the exporter's own; it is not looked into.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let panic: &(dyn Any + Send) = panic.as_ref();
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.map(|text| format!(" ({})", answer::shortened(text)));
        text.unwrap_or_default()
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread. A runtime's own way would forbid blocking inside.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = TaskContext::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
