//! What the program holds while the capture runs, and what it gets in the end.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::session::Session;
use crate::model::{Diagnosis, Finding, Profile};
use crate::sink::SinkError;

/// Ends the capture when dropped: the report is written then.
///
/// Bind it to a name (`let _cortex = ..`); `let _ = ..` drops it at once. Dropping waits for the sinks, at most for the
/// [deadline](crate::CortexBuilder::exit_deadline), and ignores their errors; [`CortexGuard::finish`] returns them.
///
/// ```
/// use tracing_cortex::CortexLayer;
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().build()?;
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(cortex), || {
///     for _ in 0..3 {
///         tracing::info_span!("request").in_scope(|| ());
///     }
///     let so_far = guard.profile();
///     assert_eq!(so_far.sites[0].stats.calls, 3);
/// });
/// let summary = guard.finish()?;
/// println!("{}", summary.diagnosis().headline);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping the guard ends the capture; bind it to a name such as `_cortex`"]
pub struct CortexGuard {
    session: Arc<Session>,
}

impl CortexGuard {
    pub(super) fn new(session: Arc<Session>) -> CortexGuard {
        CortexGuard { session }
    }

    /// Ends a capture that never became effective: nothing is reported.
    pub(super) fn discard(self) {
        self.session.discard();
    }

    /// Returns what is known so far, without stopping anything.
    ///
    /// Spans that are entered count with their time so far (of each thread the outermost 64). Threads go on recording while they are read: of a thread
    /// that is recording at the moment, the numbers of one site may be apart by what it recorded in between.
    pub fn profile(&self) -> Profile {
        self.session.profile()
    }

    /// Starts all statistics anew, for example after warm-up. Spans that are entered count from now on.
    ///
    /// An async span that was polled before the reset counts no operation after it, only its time. What streams (the
    /// Chrome trace) goes on.
    pub fn reset(&self) {
        self.session.reset();
    }

    /// Takes a reading of every resource now, and waits for it, at most for the
    /// [deadline](crate::CortexBuilder::exit_deadline). Returns whether it was taken: not where resources are
    /// [off](crate::CortexBuilder::no_resources), a source hangs, or the capture has ended.
    ///
    /// On a [manual clock](crate::CortexBuilder::manual_clock) these are the only readings, and throughput is counted at
    /// these moments, so that series and windows are the same in every run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_cortex::{CortexLayer, ManualClock, Unit};
    ///
    /// let clock = ManualClock::new();
    /// let mut depth = 0.0;
    /// let (_layer, guard) = CortexLayer::builder()
    ///     .manual_clock(&clock)
    ///     .gauge("queue.depth", Unit::Count, move || {
    ///         depth += 1.0;
    ///         Some(depth)
    ///     })
    ///     .build()?;
    /// for _ in 0..3 {
    ///     clock.advance(Duration::from_secs(1));
    ///     guard.sample_resources();
    /// }
    /// let depths: Vec<_> = guard.profile().resources[0].points.iter().map(|point| point.mean).collect();
    /// assert_eq!(depths, [1.0, 2.0, 3.0]);
    /// # Ok::<(), tracing_cortex::BuildError>(())
    /// ```
    pub fn sample_resources(&self) -> bool {
        self.session.sample_resources()
    }

    /// Has everything that was recorded so far written out.
    ///
    /// # Errors
    ///
    /// [`FlushError`] if that takes longer than `timeout`, if a sink has failed, or if the capture has ended.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.session.flush(timeout)
    }

    /// Ends the capture, writes everything that was asked for, and returns the results.
    ///
    /// The layer stays where it is and does nothing any more.
    ///
    /// # Errors
    ///
    /// [`FinishError`] names every sink that failed; the results are in it all the same.
    pub fn finish(self) -> Result<Summary, FinishError> {
        self.session.finish()
    }
}

impl Drop for CortexGuard {
    fn drop(&mut self) {
        // Whoever wants the errors calls `finish`; the report shows them as well.
        let _ = self.session.finish();
    }
}

impl fmt::Debug for CortexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CortexGuard").finish_non_exhaustive()
    }
}

/// The results of a capture.
#[derive(Clone)]
pub struct Summary {
    profile: Arc<Profile>,
    diagnosis: Arc<Diagnosis>,
}

/// Short, because a `main` that returns a [`FinishError`] prints it this way.
impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summary")
            .field("headline", &self.diagnosis.headline)
            .finish_non_exhaustive()
    }
}

impl Summary {
    pub(super) fn new(profile: Arc<Profile>, diagnosis: Arc<Diagnosis>) -> Summary {
        Summary { profile, diagnosis }
    }

    /// Returns what was measured.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Returns what the rules say about it.
    pub fn diagnosis(&self) -> &Diagnosis {
        &self.diagnosis
    }

    /// Returns what the denied rules found: see [`CortexBuilder::rule`](crate::CortexBuilder::rule).
    pub fn denied(&self) -> impl Iterator<Item = &Finding> {
        self.diagnosis.denied()
    }
}

/// A sink that did not do its work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SinkFailure {
    /// The sink's name.
    pub sink: String,
    /// What happened.
    pub kind: SinkFailureKind,
}

/// What happened to a sink.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SinkFailureKind {
    /// It returned an error.
    Failed(Arc<SinkError>),
    /// It panicked.
    Panicked,
    /// It did not return within this time.
    Late(Duration),
}

impl SinkFailure {
    pub(super) fn new(sink: &str, kind: SinkFailureKind) -> SinkFailure {
        SinkFailure {
            sink: sink.to_owned(),
            kind,
        }
    }
}

/// Says what happened, with the cause: failures are listed in reports, where nobody asks for the source.
impl fmt::Display for SinkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.sink)?;
        match &self.kind {
            SinkFailureKind::Failed(error) => {
                write!(f, "{error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            SinkFailureKind::Panicked => write!(f, "panicked"),
            SinkFailureKind::Late(deadline) => write!(
                f,
                "did not return within {deadline:?}; allow more with exit_deadline"
            ),
        }
    }
}

impl Error for SinkFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            SinkFailureKind::Failed(error) => Some(error.as_ref()),
            SinkFailureKind::Panicked | SinkFailureKind::Late(_) => None,
        }
    }
}

/// Why a capture did not end as it should.
#[derive(Debug, Clone)]
pub struct FinishError {
    failures: Vec<SinkFailure>,
    summary: Option<Summary>,
    reason: FinishProblem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FinishProblem {
    Sinks,
    Forked,
    Unfinished(Duration),
}

impl FinishError {
    pub(super) fn new(failures: Vec<SinkFailure>, summary: Summary) -> FinishError {
        FinishError {
            failures,
            summary: Some(summary),
            reason: FinishProblem::Sinks,
        }
    }

    pub(super) fn forked() -> FinishError {
        FinishError {
            failures: Vec::new(),
            summary: None,
            reason: FinishProblem::Forked,
        }
    }

    pub(super) fn unfinished(deadline: Duration) -> FinishError {
        FinishError {
            failures: Vec::new(),
            summary: None,
            reason: FinishProblem::Unfinished(deadline),
        }
    }

    /// Returns every sink that failed.
    pub fn failures(&self) -> &[SinkFailure] {
        &self.failures
    }

    /// Returns the results; they do not depend on the sinks. `None` in a forked child, which has none.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
}

impl fmt::Display for FinishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            FinishProblem::Sinks => {
                write!(f, "{} of the outputs failed", self.failures.len())?;
                for failure in &self.failures {
                    write!(f, "; {failure}")?;
                }
                Ok(())
            }
            FinishProblem::Forked => write!(
                f,
                "this process was forked off the one that captures; finish the capture there"
            ),
            FinishProblem::Unfinished(deadline) => write!(
                f,
                "another thread has been finishing the capture for over {deadline:?}; allow more with exit_deadline"
            ),
        }
    }
}

impl Error for FinishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures
            .first()
            .map(|failure| failure as &(dyn Error + 'static))
    }
}

/// Why a flush did not complete.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FlushError {
    /// It took longer than allowed; a sink may be slow or hanging.
    Timeout(Duration),
    /// These sinks have failed; the others were flushed.
    Sinks(Vec<SinkFailure>),
    /// The capture has ended, or this is a forked child.
    Ended,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlushError::Timeout(timeout) => {
                write!(f, "the outputs were not flushed within {timeout:?}")
            }
            FlushError::Sinks(failures) => {
                write!(f, "{} of the outputs failed", failures.len())?;
                for failure in failures {
                    write!(f, "; {failure}")?;
                }
                Ok(())
            }
            FlushError::Ended => write!(f, "the capture has ended; flush before finish"),
        }
    }
}

impl Error for FlushError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FlushError::Sinks(failures) => failures
                .first()
                .map(|failure| failure as &(dyn Error + 'static)),
            FlushError::Timeout(_) | FlushError::Ended => None,
        }
    }
}
