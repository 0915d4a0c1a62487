//! A span's place in traces that go through several processes.

use tracing::Span;

use crate::capture::{CortexLayer, SetParentError};
use crate::model::TraceContext;

/// Continues traces of other processes, and hands on to them. For spans of any origin: `#[instrument]`, `tower-http`,
/// your own.
///
/// Needs a [`CortexLayer`] in the span's subscriber with an output that wants ids, such as
/// [`otlp`](crate::CortexBuilder::otlp). With two such layers the one that was added last answers.
///
/// ```
/// use std::collections::HashMap;
/// use tracing_cortex::{CortexSpanExt, TraceContext};
///
/// /// What a server does with a request.
/// fn incoming(headers: &HashMap<String, String>) -> tracing::Span {
///     let span = tracing::info_span!("request", otel.kind = "server");
///     if let Some(parent) = TraceContext::from_headers(|name| headers.get(name).cloned()) {
///         // A span that nobody records has no parent to set; the request is served all the same.
///         let _ = span.set_remote_parent(&parent);
///     }
///     span
/// }
///
/// /// What a client does before it sends one.
/// fn outgoing(headers: &mut HashMap<String, String>) {
///     tracing::Span::current().inject(|name, value| {
///         headers.insert(name.to_owned(), value.to_owned());
///     });
/// }
/// # let mut headers = HashMap::new();
/// # incoming(&headers).in_scope(|| outgoing(&mut headers));
/// ```
pub trait CortexSpanExt {
    /// Makes the span a part of another process's trace, under the span that `context` names.
    ///
    /// Call it before the span is entered or has children; at the beginning of an `#[instrument]`ed function it still
    /// works on `Span::current()`.
    ///
    /// # Errors
    ///
    /// [`SetParentError`] says why the span stays where it was.
    fn set_remote_parent(&self, context: &TraceContext) -> Result<(), SetParentError>;

    /// Returns what another process needs to continue the span's trace; inside a held span, under this call.
    ///
    /// From then on the span cannot get another parent. `None` where nothing records the span or nothing wants ids.
    fn trace_context(&self) -> Option<TraceContext>;

    /// Calls `set` with each header to send, `traceparent` first; not at all where there is no context.
    fn inject(&self, set: impl FnMut(&'static str, &str)) {
        if let Some(context) = self.trace_context() {
            context.for_each_header(set);
        }
    }

    /// Links the span with one that it does not run inside of: the message that a consumer took, one item of a batch.
    ///
    /// # Errors
    ///
    /// [`SetParentError`] says why there is no link.
    fn add_link(&self, context: &TraceContext) -> Result<(), SetParentError>;
}

impl CortexSpanExt for Span {
    fn set_remote_parent(&self, context: &TraceContext) -> Result<(), SetParentError> {
        let set = |layer: &CortexLayer, id| layer.set_remote_parent(id, context);
        with_layer(self, set).unwrap_or(Err(SetParentError::NoLayer))
    }

    fn trace_context(&self) -> Option<TraceContext> {
        with_layer(self, CortexLayer::context)?
    }

    fn add_link(&self, context: &TraceContext) -> Result<(), SetParentError> {
        let link = |layer: &CortexLayer, id| layer.add_link(id, context);
        with_layer(self, link).unwrap_or(Err(SetParentError::NoLayer))
    }
}

fn with_layer<R>(span: &Span, then: impl FnOnce(&CortexLayer, u64) -> R) -> Option<R> {
    span.with_subscriber(|(id, dispatch)| {
        let layer = dispatch.downcast_ref::<CortexLayer>()?;
        Some(then(layer, id.into_u64()))
    })?
}
