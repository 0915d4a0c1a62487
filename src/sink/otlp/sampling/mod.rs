//! Which traces are exported.
