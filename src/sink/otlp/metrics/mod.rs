//! The profile as OTLP metrics.
