//! A sink that keeps what it is given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_cortex::{Diagnosis, EventRecord, Fields, Level, Profile, Sink, SinkError};
use tracing_cortex::{SpanKind, SpanRecord, SpanSeq, Value};

/// Everything that was streamed.
#[derive(Debug, Default)]
pub struct Recorded {
    pub spans: Vec<Span>,
    pub events: Vec<Event>,
    pub flushes: u32,
    pub finished: u32,
}

/// A [`SpanRecord`] that lives on.
#[derive(Debug, Clone)]
pub struct Span {
    pub seq: SpanSeq,
    pub parent: Option<SpanSeq>,
    pub kind: SpanKind,
    pub site: &'static str,
    pub name: Option<String>,
    pub thread: Option<String>,
    pub start: u64,
    pub end: u64,
    pub fields: Vec<(&'static str, Text)>,
    pub unfinished: bool,
    pub overlapping: bool,
}

/// An [`EventRecord`] that lives on.
#[derive(Debug, Clone)]
pub struct Event {
    pub span: Option<SpanSeq>,
    pub thread: Option<String>,
    pub at: u64,
    pub level: Level,
    pub fields: Vec<(&'static str, Text)>,
}

/// What `Debug` prints of a [`Value`].
pub type Text = String;

impl Span {
    /// Whether this is an activation, and not the life of an async span.
    pub fn is_activation(&self) -> bool {
        !matches!(self.kind, SpanKind::Async { .. })
    }

    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Returns the last value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        last(&self.fields, name)
    }
}

impl Event {
    /// Returns the last value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        last(&self.fields, name)
    }
}

fn last<'f>(fields: &'f [(&'static str, Text)], name: &str) -> Option<&'f str> {
    let mut named = fields.iter().rev().filter(|(field, _)| *field == name);
    named.next().map(|(_, value)| value.as_str())
}

impl Recorded {
    /// Returns the records of one site in the order in which they came.
    pub fn of(&self, site: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.site == site).collect()
    }

    /// Returns the only record of a site.
    #[track_caller]
    pub fn only(&self, site: &str) -> &Span {
        match self.of(site)[..] {
            [span] => span,
            ref spans => panic!("{} records of {site}: {spans:#?}", spans.len()),
        }
    }
}

/// The records of a [`Recording`], for the test.
#[derive(Debug, Clone, Default)]
pub struct Records(Arc<Mutex<Recorded>>);

impl Records {
    pub fn take(&self) -> Recorded {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn read<R>(&self, read: impl FnOnce(&Recorded) -> R) -> R {
        read(&self.0.lock().unwrap())
    }
}

/// The sink.
#[derive(Debug)]
pub struct Recording(Records);

impl Recording {
    pub fn into(records: &Records) -> Recording {
        Recording(records.clone())
    }
}

fn fields(fields: Fields<'_>) -> Vec<(&'static str, Text)> {
    let text = |value| match value {
        Value::Str { text, .. } => text.to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::I128(value) => value.to_string(),
        Value::U128(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    fields
        .iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

impl Sink for Recording {
    fn name(&self) -> &str {
        "recording"
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        let mut recorded = self.0.0.lock().unwrap();
        recorded.spans.extend(batch.iter().map(|span| Span {
            seq: span.span,
            parent: span.parent,
            kind: span.kind,
            site: span.site.name,
            name: span.name.map(str::to_owned),
            thread: span.thread.name.as_deref().map(str::to_owned),
            start: span.start.0,
            end: span.end.0,
            fields: fields(span.fields),
            unfinished: span.unfinished,
            overlapping: span.overlapping,
        }));
        Ok(())
    }

    fn events(&mut self, batch: &[EventRecord<'_>]) -> Result<(), SinkError> {
        let mut recorded = self.0.0.lock().unwrap();
        recorded.events.extend(batch.iter().map(|event| Event {
            span: event.span,
            thread: event.thread.name.as_deref().map(str::to_owned),
            at: event.at.0,
            level: event.level,
            fields: fields(event.fields),
        }));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.0.0.lock().unwrap().flushes += 1;
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        self.0.0.lock().unwrap().finished += 1;
        Ok(())
    }
}
