//! What streams to the sinks while the program runs.

use super::fields::Fields;
use super::{Ids, Nanos, Site, SpanId, SpanSeq, Thread};

/// One bar of a timeline: an activation of a span on one thread, or the life of an async span.
///
/// A span that was entered once yields one record when it closes, [`SpanKind::Whole`]. A span that was entered several
/// times yields one record per activation ([`SpanKind::Poll`], or [`SpanKind::Call`] where the span is *held*), and an
/// async span one [`SpanKind::Async`] more when it closes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpanRecord<'a> {
    /// The span.
    pub span: SpanSeq,
    /// The runtime parent: the span around this activation, or the declared parent where nothing was entered.
    pub parent: Option<SpanSeq>,
    /// What this record stands for.
    pub kind: SpanKind,
    /// The callsite.
    pub site: &'a Site,
    /// `otel.name` if the program set it; otherwise the site's name is the span's name.
    pub name: Option<&'a str>,
    /// The thread that ran the activation; for [`SpanKind::Async`] the thread that closed the span.
    pub thread: &'a Thread,
    /// When the activation, or for [`SpanKind::Async`] the span, began.
    pub start: Nanos,
    /// When it ended; never before `start`.
    pub end: Nanos,
    /// The fields. They come with the last record of a span: `Whole`, `Async`, or each `Call`; empty on a `Poll`.
    pub fields: Fields<'a>,
    /// The span was still open when the capture ended; `end` is that time.
    pub unfinished: bool,
    /// The ids of the operation that this is, or is a part of; `None` unless a sink [wants](crate::Wants::ids) them.
    pub ids: Option<Ids>,
    /// Overlaps its neighbours on the thread without nesting in them (guards dropped out of order).
    pub overlapping: bool,
    /// It is in a sampled tree.
    pub(crate) traced: bool,
    /// An error was recorded in the operation; known with the last record of a span, as the fields are.
    pub(crate) failed: bool,
}

/// What a [`SpanRecord`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanKind {
    /// A span with one activation, as `#[instrument]` on a plain function makes.
    Whole,
    /// One activation of an async span.
    Poll,
    /// One call through a held span: created once, entered on every call.
    Call,
    /// An async span from open to close.
    Async {
        /// The sum of its polls.
        busy: Nanos,
        /// How often it was entered.
        activations: u32,
    },
}

/// One tracing event.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventRecord<'a> {
    /// The span around it on its thread, if any.
    pub span: Option<SpanSeq>,
    /// The operation around it; `None` unless a sink [wants ids](crate::Wants::ids).
    pub operation: Option<SpanId>,
    /// The callsite of the event.
    pub site: &'a Site,
    /// The thread that emitted it.
    pub thread: &'a Thread,
    /// When it happened.
    pub at: Nanos,
    /// How severe the program called it.
    pub level: Level,
    /// Its fields, `message` among them.
    pub fields: Fields<'a>,
    /// It is in a sampled tree, and means something there.
    pub(crate) traced: bool,
}

/// Severity of an event, as in `tracing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The most detailed.
    Trace,
    /// Detailed.
    Debug,
    /// Normal.
    Info,
    /// Suspicious.
    Warn,
    /// Failed.
    Error,
}

impl Level {
    /// Returns the name in capitals, as `tracing` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        }
    }
}
