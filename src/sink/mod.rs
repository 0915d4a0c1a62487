//! Where the results go. A sink computes no statistic, so all outputs agree.

mod chrome;
mod kineto;
#[cfg(feature = "otlp")]
pub mod otlp;
mod report;
mod trace_events;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::chrome::ChromeSink;
pub use kineto::KinetoSink;
pub use report::{JsonSink, TextOptions, TextSink, report_json, report_text};

use crate::model::{
    Diagnosis, EventRecord, Export, GpuBatch, Operation, Profile, Sample, SpanRecord,
};

/// A destination for what was measured: a file format, a backend, your own program.
///
/// ```
/// use std::time::Duration;
/// use tracing_cortex::{CortexLayer, Diagnosis, Profile, Sink, SinkError, Wants};
///
/// struct Metrics;
///
/// impl Sink for Metrics {
///     fn name(&self) -> &str {
///         "metrics"
///     }
///
///     fn wants(&self) -> Wants {
///         Wants::PROFILE
///     }
///
///     fn finish(&mut self, profile: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
///         for row in &profile.sites {
///             println!("{} {}", row.site.name, row.stats.self_time.as_secs_f64());
///         }
///         Ok(())
///     }
/// }
///
/// let (cortex, guard) = CortexLayer::builder().sink(Metrics).build()?;
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
///
/// While the program runs, the methods are called from the thread `cortex-collect`; [`Sink::finish`] has a thread of its
/// own, so that a sink that hangs does not delay the others. One call ends before the next begins. Spans that a sink
/// itself creates there are not captured. A sink that fails is named in [`Losses::failures`](crate::Losses::failures) and
/// by `finish()`; the other sinks go on. After its first error in a streaming method a sink gets no more records but is
/// still told to finish.
pub trait Sink: Send + 'static {
    /// Returns a short, stable name for error messages.
    fn name(&self) -> &str;

    /// Returns what the sink wants to be given; decides what is recorded at all. Default: everything.
    ///
    /// Return [`Wants::PROFILE`] from a sink that only implements `finish`: a program whose sinks stream nothing runs
    /// faster.
    fn wants(&self) -> Wants {
        Wants::ALL
    }

    /// Receives spans in the order in which they ended on each thread. At most one second old.
    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Receives events in the order of each thread.
    fn events(&mut self, batch: &[EventRecord<'_>]) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Receives finished operations, each exactly once and with its events: what a tracing backend calls a span.
    ///
    /// An operation arrives up to two seconds after its end, because what other threads say about it is waited for.
    fn operations(&mut self, batch: &[Operation<'_>]) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Receives resource readings by rising time.
    fn samples(&mut self, batch: &[Sample<'_>]) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Receives what devices did and the calls that had them do it. Comes after the spans around the calls in no fixed
    /// order: a device's work is told when it is over and its driver was asked, every quarter of a second.
    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Makes durable what was received: called at least once a second while records arrive, and by `flush()`.
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Whether what [`Sink::flush`] was called for has arrived. `false` from a sink that goes on sending on a thread of
    /// its own: [`CortexGuard::flush`](crate::CortexGuard::flush) waits for it.
    fn is_flushed(&self) -> bool {
        true
    }

    /// Returns how often [`Sink::tick`] is to be called; `None`, the default, is never.
    fn tick_period(&self) -> Option<Duration> {
        None
    }

    /// Receives the live profile, for metrics.
    fn tick(&mut self, profile: &Profile) -> Result<(), SinkError> {
        let _ = profile;
        Ok(())
    }

    /// Returns what became of the spans that this sink was to send elsewhere; `None`, the default, if it sends none.
    ///
    /// Asked several times a second between the other calls, and once more after `finish`, before the reports are
    /// written.
    fn export(&self) -> Option<Export> {
        None
    }

    /// Delivers the result. Called exactly once, after the last batch.
    ///
    /// Must return within `deadline`: after that the program stops waiting for it.
    fn finish(
        &mut self,
        profile: &Profile,
        diagnosis: &Diagnosis,
        deadline: Duration,
    ) -> Result<(), SinkError>;
}

/// What a [`Sink`] wants to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Wants {
    /// Calls of [`Sink::spans`].
    pub spans: bool,
    /// Calls of [`Sink::events`].
    pub events: bool,
    /// Fields on spans and events.
    pub fields: bool,
    /// Calls of [`Sink::samples`].
    pub samples: bool,
    /// Calls of [`Sink::operations`]; includes `ids`.
    pub operations: bool,
    /// Trace and span ids on records, and contexts that travel to other processes.
    pub ids: bool,
    /// Calls of [`Sink::gpu`].
    pub gpu: bool,
}

impl Wants {
    /// Everything that streams as it is recorded, and the profile; no operations and no ids, which cost more.
    pub const ALL: Wants = Wants {
        spans: true,
        events: true,
        fields: true,
        samples: true,
        operations: false,
        ids: false,
        gpu: true,
    };

    /// Only the profile in the end.
    pub const PROFILE: Wants = Wants {
        spans: false,
        events: false,
        fields: false,
        samples: false,
        operations: false,
        ids: false,
        gpu: false,
    };

    /// Returns what at least one of the two wants.
    pub fn or(self, other: Wants) -> Wants {
        Wants {
            spans: self.spans || other.spans,
            events: self.events || other.events,
            fields: self.fields || other.fields,
            samples: self.samples || other.samples,
            operations: self.operations || other.operations,
            ids: self.ids || other.ids || self.operations || other.operations,
            gpu: self.gpu || other.gpu,
        }
    }
}

/// Why a sink could not do its work.
#[derive(Debug)]
#[non_exhaustive]
pub enum SinkError {
    /// A file could not be written.
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard error could not be written.
    Stderr(io::Error),
    /// Something of the sink's own.
    Other(Box<dyn Error + Send + Sync>),
}

impl SinkError {
    /// Wraps an error of a sink's own.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> SinkError {
        SinkError::Other(error.into())
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::File { path, .. } => write!(
                f,
                "cannot write {}; free the disk or choose another path",
                path.display()
            ),
            SinkError::Stderr(_) => write!(
                f,
                "cannot write the report to stderr; send it to a file with report_text(path)"
            ),
            SinkError::Other(_) => write!(f, "the sink failed"),
        }
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SinkError::File { source, .. } | SinkError::Stderr(source) => Some(source),
            SinkError::Other(source) => Some(source.as_ref()),
        }
    }
}
