//! The one place that implements a tracing trait.

use std::fmt;
use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::capture::Capture;
use super::context::SetParentError;
use super::{enter, exit, lifecycle, local};
use crate::model::TraceContext;

/// Records what the program's spans do; its [`CortexGuard`](crate::CortexGuard) holds the results.
///
/// Build one with [`CortexLayer::builder`] and add it to a registry like any other layer:
///
/// ```
/// use tracing_cortex::CortexLayer;
/// use tracing_subscriber::prelude::*;
///
/// let (cortex, guard) = CortexLayer::builder().build()?;
/// let subscriber = tracing_subscriber::registry().with(cortex);
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info_span!("work").in_scope(|| ());
/// });
/// assert_eq!(guard.profile().sites[0].stats.calls, 1);
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
///
/// To leave spans out, filter for the whole subscriber (`registry().with(LevelFilter::INFO).with(cortex)`): that costs
/// next to nothing. A filter on this layer alone (`cortex.with_filter(..)`) works too, but every callback then looks
/// the span up once more, which costs about as much as the layer itself; `EnvFilter` used that way also takes locks
/// that all threads share.
pub struct CortexLayer {
    capture: Arc<Capture>,
}

impl CortexLayer {
    pub(crate) fn new(capture: Arc<Capture>) -> CortexLayer {
        CortexLayer { capture }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn capture(&self) -> &Capture {
        &self.capture
    }

    pub(crate) fn context(&self, id: u64) -> Option<TraceContext> {
        self.capture.context(id)
    }

    pub(crate) fn set_remote_parent(
        &self,
        id: u64,
        context: &TraceContext,
    ) -> Result<(), SetParentError> {
        self.capture.set_remote_parent(id, context)
    }

    pub(crate) fn add_link(&self, id: u64, context: &TraceContext) -> Result<(), SetParentError> {
        self.capture.add_link(id, context)
    }
}

/// The crates that send requests on this crate's own threads. What they say there reaches no layer of the subscriber:
/// another exporter among them would export our exports, and a log at level DEBUG would be full of them.
const EXPORTER_CRATES: [&str; 7] = [
    "h2",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "rustls",
    "tonic",
    "tower",
];

fn is_of_exporter(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let of_crate = target.split_once("::").map_or(target, |(name, _)| name);
    EXPORTER_CRATES.contains(&of_crate)
}

/// A layer whose ids are taken over, because it exports the same spans.
const OTHER_LAYER: &str = "tracing_opentelemetry::layer::OpenTelemetryLayer<";

impl fmt::Debug for CortexLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CortexLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CortexLayer
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.capture.hides_own_requests() && is_of_exporter(metadata) {
            // Asked each time, because the program may use the same crates.
            true => Interest::sometimes(),
            false => Interest::always(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !(self.capture.hides_own_requests()
            && is_of_exporter(metadata)
            && local::is_suppressed_on_this_thread())
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        let _ = subscriber;
        // The type names all layers below this one, unless one of them is boxed.
        if std::any::type_name::<S>().contains(OTHER_LAYER) {
            self.capture.adopt_ids();
        }
    }

    #[inline]
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        lifecycle::new_span(&self.capture, attributes, id);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        lifecycle::record(&self.capture, id, values);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        lifecycle::follows_from(&self.capture, id, follows);
    }

    #[inline]
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        lifecycle::event(&self.capture, event);
    }

    #[inline]
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        local::with(&self.capture, |local| {
            enter::enter(&self.capture, local, id.into_u64(), || context.metadata(id));
        });
    }

    #[inline]
    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        local::with(&self.capture, |local| {
            exit::exit(&self.capture, local, id.into_u64());
        });
    }

    #[inline]
    fn on_close(&self, id: Id, _: Context<'_, S>) {
        local::with(&self.capture, |local| {
            lifecycle::close(&self.capture, local, id.into_u64());
        });
    }
}
