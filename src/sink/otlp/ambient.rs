//! The span of another OpenTelemetry library that a thread is in.

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;

use crate::model::{Ambient, SpanId, TraceId};

/// Returns the current span of OpenTelemetry's own context, if there is one.
pub(crate) fn current_otel_span() -> Option<Ambient> {
    Context::map_current(|context| {
        if !context.has_active_span() {
            return None;
        }
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| Ambient {
            trace: TraceId(u128::from_be_bytes(ids.trace_id().to_bytes())),
            span: SpanId(u64::from_be_bytes(ids.span_id().to_bytes())),
            sampled: ids.is_sampled(),
        })
    })
}
