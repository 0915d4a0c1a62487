//! What every output shows as one bar: a span, or one call through a held span, with everything that belongs to it.

use super::{Fields, Ids, Level, Nanos, Site, SpanSeq, Thread};

/// A finished operation with its ids and events.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Operation<'a> {
    /// Its ids, and those around it.
    pub ids: Ids,
    /// The tracing span; calls through a held span share it.
    pub span: SpanSeq,
    /// The callsite.
    pub site: &'a Site,
    /// `otel.name` if the program set it; otherwise the site's name is the operation's name.
    pub name: Option<&'a str>,
    /// The thread that ran it; of an async span the thread that closed it.
    pub thread: &'a Thread,
    /// When it began.
    pub start: Nanos,
    /// When it ended; never before `start`.
    pub end: Nanos,
    /// The sum of its activations; at most `end - start` unless threads were in it at the same time.
    pub busy: Nanos,
    /// How often it was entered: 1 for plain spans and calls, 0 for a span that never was.
    pub activations: u32,
    /// The fields, and the links that [`Fields::links`] returns.
    pub fields: Fields<'a>,
    /// What happened inside, by time of arrival.
    pub events: &'a [OperationEvent<'a>],
    /// How many events more there were than fit (128 for one operation).
    pub dropped_events: u32,
    /// It was still open when the capture ended; `end` is that time.
    pub unfinished: bool,
}

/// A tracing event inside an operation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OperationEvent<'a> {
    /// The callsite of the event.
    pub site: &'a Site,
    /// When it happened.
    pub at: Nanos,
    /// How severe the program called it.
    pub level: Level,
    /// Its fields, `message` among them.
    pub fields: Fields<'a>,
}

impl Operation<'_> {
    /// Returns the name to show.
    pub fn display_name(&self) -> &str {
        self.name.unwrap_or(self.site.name)
    }

    /// Returns `end - start - busy`: the time in which nobody worked on it.
    pub fn idle(&self) -> Nanos {
        self.end
            .saturating_sub(self.start)
            .saturating_sub(self.busy)
    }
}
