//! Identities that other processes know: W3C trace and span ids, and what travels with them.

use std::fmt;

use serde::{Serialize, Serializer};

use super::SpanSeq;

/// A W3C trace id, 128 bits, never zero. Prints as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// A W3C span id (`parent-id`), 64 bits, never zero. Prints as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The ids of one operation, the same in every output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ids {
    /// The trace that the operation belongs to.
    pub trace: TraceId,
    /// The operation.
    pub span: SpanId,
    /// The operation around it; `None` for the root of a trace.
    pub parent: Option<SpanId>,
    /// The parent is in another process, or was made by another tracing library in this one.
    pub parent_is_remote: bool,
    /// Whether the trace is recorded: as whoever began it decided, and as [`Otlp::sampling`](crate::otlp::Otlp::sampling)
    /// says. Other processes are told the same.
    pub sampled: bool,
    /// The trace began in another process, or with another tracing library in this one.
    pub remote_trace: bool,
    /// Another layer of the program made these ids and exports the span.
    pub adopted: bool,
}

impl Ids {
    /// Describes the root of a trace that began here.
    pub fn root(trace: TraceId, span: SpanId) -> Ids {
        Ids {
            trace,
            span,
            parent: None,
            parent_is_remote: false,
            sampled: true,
            remote_trace: false,
            adopted: false,
        }
    }
}

/// The span of another tracing library that a thread is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ambient {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) sampled: bool,
}

/// Makes ids out of sequence numbers, so that nothing has to be stored for them while a span runs.
///
/// The finaliser of SplitMix64 is a bijection, so that within one capture two numbers never get the same id; the
/// keys come from the operating system and keep processes apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdKeys {
    /// The upper half of all trace ids that begin here; never 0.
    trace_high: u64,
    trace: u64,
    span: u64,
}

impl IdKeys {
    /// Builds keys from three random numbers.
    pub(crate) fn new(random: [u64; 3]) -> IdKeys {
        IdKeys {
            trace_high: random[0].max(1),
            trace: random[1],
            span: random[2],
        }
    }

    /// Returns the id of the operation with this number.
    pub(crate) fn span(self, operation: SpanSeq) -> SpanId {
        SpanId(mix(self.span, operation.0))
    }

    /// Returns the id of the trace whose root has this number.
    pub(crate) fn trace(self, root: SpanSeq) -> TraceId {
        let low = mix(self.trace, root.0);
        TraceId(u128::from(self.trace_high) << 64 | u128::from(low))
    }
}

/// Never 0: one number of 2^64 would give it, and that one is as good as any other.
fn mix(key: u64, number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(key);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)).max(1)
}
