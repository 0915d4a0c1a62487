//! What the user sets, and what the environment says.

/// Where and how to export; see [`CortexBuilder::otlp`](crate::CortexBuilder::otlp).
#[derive(Debug, Clone)]
pub struct Otlp {}
