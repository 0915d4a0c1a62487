//! `OTEL_*` variables.
