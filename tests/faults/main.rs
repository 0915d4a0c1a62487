//! Bad input and faults: each is a clear error or a counted loss, never a panic, a hang or a corrupt file.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops where it cannot go on"
)]

mod callbacks;
mod files;
#[cfg(unix)]
mod fork;
mod layers;
mod limits;
mod overflow;
mod sinks;
mod support;
mod threads;
mod values;
