//! The settings as the user makes them.

use super::super::error::OtlpError;
use super::Settings;

/// Where and how to export; see [`CortexBuilder::otlp`](crate::CortexBuilder::otlp).
#[derive(Debug, Clone)]
pub struct Otlp {}

impl Otlp {
    /// Checks everything that can be known before the first request; `None` if `OTEL_SDK_DISABLED` is set or both
    /// signals are off.
    pub(crate) fn resolve(self) -> Result<Option<Settings>, OtlpError> {
        Ok(None)
    }
}
