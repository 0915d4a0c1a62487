//! Contexts of this crate as OpenTelemetry's, and back, for programs that use both.

use opentelemetry::baggage::{BaggageExt, KeyValueMetadata};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, SpanId as OtelSpanId, TraceId as OtelTraceId};

use crate::model::{SpanId, TraceContext, TraceContextError, TraceId};

const RANDOM: TraceFlags = TraceFlags::new(2);

/// Gives a context that counts as remote. Baggage has no place in it.
impl From<&TraceContext> for SpanContext {
    fn from(context: &TraceContext) -> SpanContext {
        let sampled = TraceFlags::NOT_SAMPLED.with_sampled(context.sampled());
        let flags = if context.random() {
            sampled | RANDOM
        } else {
            sampled
        };
        let state = context.trace_state().unwrap_or_default().parse();
        SpanContext::new(
            OtelTraceId::from_bytes(context.trace_id().0.to_be_bytes()),
            OtelSpanId::from_bytes(context.span_id().0.to_be_bytes()),
            flags,
            true,
            // Its rules for keys may be those of an earlier level of the specification.
            state.unwrap_or(TraceState::NONE),
        )
    }
}

/// Fails for a context without valid ids, which stands for "no span".
impl TryFrom<&SpanContext> for TraceContext {
    type Error = TraceContextError;

    fn try_from(context: &SpanContext) -> Result<TraceContext, TraceContextError> {
        let trace = u128::from_be_bytes(context.trace_id().to_bytes());
        let span = u64::from_be_bytes(context.span_id().to_bytes());
        if trace == 0 {
            return Err(TraceContextError::ZeroTraceId);
        }
        if span == 0 {
            return Err(TraceContextError::ZeroSpanId);
        }
        Ok(
            TraceContext::new(TraceId(trace), SpanId(span), context.is_sampled())
                .with_random(context.trace_flags() & RANDOM == RANDOM)
                .with_trace_state(&context.trace_state().header()),
        )
    }
}

/// Gives a context with a remote span and the baggage, and nothing of the current one.
impl From<&TraceContext> for Context {
    fn from(context: &TraceContext) -> Context {
        let entries = context
            .baggage_entries()
            .map(|(key, value)| KeyValueMetadata::new(key.to_owned(), value.into_owned(), ""));
        Context::new()
            .with_remote_span_context(context.into())
            .with_baggage(entries)
    }
}

/// Takes the active span and the baggage; fails where no span is active.
impl TryFrom<&Context> for TraceContext {
    type Error = TraceContextError;

    fn try_from(context: &Context) -> Result<TraceContext, TraceContextError> {
        let span = TraceContext::try_from(context.span().span_context())?;
        let members = context.baggage().iter().map(|(key, (value, metadata))| {
            let properties = metadata.as_str();
            let separator = if properties.is_empty() { "" } else { ";" };
            format!("{key}={}{separator}{properties}", encoded(value.as_str()))
        });
        let members: Vec<String> = members.collect();
        Ok(span.with_baggage(&members.join(",")))
    }
}

/// Percent-encodes what may not stand in the value of a baggage member.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for &byte in value.as_bytes() {
        if byte.is_ascii_graphic() && !b"\",;\\%".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
