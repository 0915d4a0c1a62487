//! An exporter of the program's own in place of a receiver.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

type Exporting<'a> = Pin<Box<dyn Future<Output = OTelSdkResult> + Send + 'a>>;

/// A [`SpanExporter`] of any type, which the trait itself cannot stand for.
pub(crate) trait AnyExporter: Send + Sync {
    fn set_resource(&mut self, resource: &Resource);
    fn export(&self, batch: Vec<SpanData>) -> Exporting<'_>;
    fn shutdown(&self, timeout: Duration) -> OTelSdkResult;
}

impl<E: SpanExporter> AnyExporter for E {
    fn set_resource(&mut self, resource: &Resource) {
        SpanExporter::set_resource(self, resource);
    }

    fn export(&self, batch: Vec<SpanData>) -> Exporting<'_> {
        Box::pin(SpanExporter::export(self, batch))
    }

    fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.shutdown_with_timeout(timeout)
    }
}

/// Holds the exporter until somebody takes it; clones hold the same one.
#[derive(Clone)]
pub(crate) struct Held {
    /// Its type, which is all that can be said of it.
    shown: &'static str,
    exporter: Arc<Mutex<Option<Box<dyn AnyExporter>>>>,
}

impl Held {
    pub(super) fn new<E: SpanExporter + 'static>(exporter: E) -> Held {
        Held::of(std::any::type_name::<E>(), Box::new(exporter))
    }

    fn of(shown: &'static str, exporter: Box<dyn AnyExporter>) -> Held {
        Held {
            shown,
            exporter: Arc::new(Mutex::new(Some(exporter))),
        }
    }

    pub(crate) fn shown(&self) -> &'static str {
        self.shown
    }

    /// Returns the exporter, the first time.
    pub(crate) fn take(&self) -> Option<Box<dyn AnyExporter>> {
        let mut exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        exporter.take()
    }

    /// Takes the exporter away from all clones.
    pub(super) fn claim(&self) -> Option<Held> {
        let exporter = self.take()?;
        Some(Held::of(self.shown, exporter))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without what it says of itself, which may be a secret.
        f.write_str(self.shown)
    }
}
