//! The identity of a span as it travels between processes: W3C `traceparent`, `tracestate` and `baggage`.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{SpanId, TraceId, baggage, trace_state};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// The bytes of a `traceparent` of version 00: `00-` trace id `-` span id `-` flags.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// A span of this or another process, and what goes with it: enough to continue its trace elsewhere.
///
/// ```
/// use tracing_cortex::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = header.parse()?;
/// assert!(context.sampled());
/// assert_eq!(context.traceparent(), header);
///
/// let broken = header.replace('f', "F").parse::<TraceContext>();
/// assert!(broken.is_err(), "upper case is not valid");
/// # Ok::<(), tracing_cortex::TraceContextError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
    random: bool,
    state: Option<Arc<str>>,
    baggage: Option<Arc<str>>,
}

impl TraceContext {
    /// Describes a span without `tracestate` and `baggage`. Ids of zero are not valid and no receiver takes them.
    pub fn new(trace: TraceId, span: SpanId, sampled: bool) -> TraceContext {
        TraceContext {
            trace,
            span,
            sampled,
            random: false,
            state: None,
            baggage: None,
        }
    }

    /// Reads a `traceparent` exactly as W3C Trace Context (level 2) describes it, without blanks around it.
    ///
    /// Of a version above 00 the part that version 00 has is read. Flags beyond "sampled" and "random" are ignored.
    ///
    /// # Errors
    ///
    /// [`TraceContextError`] says which part is wrong. Such a header must be ignored and a new trace begun.
    pub fn parse(traceparent: &str) -> Result<TraceContext, TraceContextError> {
        let bytes = traceparent.as_bytes();
        let wrong_length = TraceContextError::Length { found: bytes.len() };
        let Some((head, rest)) = bytes.split_first_chunk::<LENGTH>() else {
            return Err(wrong_length);
        };
        if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
            return Err(TraceContextError::Separator);
        }
        let version = hex(&head[..2], "version")?;
        if version == 0xff {
            return Err(TraceContextError::Version);
        }
        if version == 0 && !rest.is_empty() {
            return Err(wrong_length);
        }
        if rest.first().is_some_and(|&byte| byte != b'-') {
            return Err(TraceContextError::Separator);
        }
        let trace = TraceId(hex(&head[3..35], "trace id")?);
        let span = hex(&head[36..52], "span id")?;
        let span = SpanId(u64::try_from(span).unwrap_or_default());
        let flags = hex(&head[53..], "flags")?;
        if trace.0 == 0 {
            return Err(TraceContextError::ZeroTraceId);
        }
        if span.0 == 0 {
            return Err(TraceContextError::ZeroSpanId);
        }
        let mut context = TraceContext::new(trace, span, flags & u128::from(SAMPLED) != 0);
        context.random = flags & u128::from(RANDOM) != 0;
        Ok(context)
    }

    /// Reads the headers of a request or a message; `get` returns the value of the header with that lower-case name.
    ///
    /// Returns `None` without a valid `traceparent`; the other two then mean nothing. Several `tracestate` or `baggage`
    /// headers are one, joined with commas in their order, which is up to `get`.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tracing_cortex::TraceContext;
    ///
    /// let headers = HashMap::from([
    ///     ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ///     ("tracestate", "congo=t61rcWkgMzE"),
    /// ]);
    /// let context = TraceContext::from_headers(|name| headers.get(name).map(ToString::to_string));
    /// assert!(context.is_some_and(|context| context.trace_state() == Some("congo=t61rcWkgMzE")));
    /// ```
    pub fn from_headers(get: impl Fn(&str) -> Option<String>) -> Option<TraceContext> {
        let parent = get(TRACEPARENT)?;
        let mut context = TraceContext::parse(parent.trim_matches([' ', '\t'])).ok()?;
        if let Some(state) = get(TRACESTATE) {
            context = context.with_trace_state(&state);
        }
        if let Some(baggage) = get(BAGGAGE) {
            context = context.with_baggage(&baggage);
        }
        Some(context)
    }

    /// Sets the `tracestate`: what tracing systems want to know of each other. One that is not valid, or has more than
    /// 32 members, is left out as a whole; of one longer than 512 bytes, members over 128 bytes go first, then the last.
    #[must_use]
    pub fn with_trace_state(mut self, state: &str) -> TraceContext {
        self.state = trace_state::checked(state).map(Arc::from);
        self
    }

    /// Sets the `baggage`: what the program wants to know in other processes. Members that are not valid are left out,
    /// and those beyond 180 or 8192 bytes.
    #[must_use]
    pub fn with_baggage(mut self, baggage: &str) -> TraceContext {
        self.baggage = baggage::checked(baggage).map(Arc::from);
        self
    }

    /// Says whether the lower 56 bits of the trace id are random, which samplers elsewhere may rely on. Default: no.
    #[must_use]
    pub fn with_random(mut self, random: bool) -> TraceContext {
        self.random = random;
        self
    }

    /// Returns the same span with the `tracestate` and the baggage of another context.
    pub(crate) fn carrying(mut self, other: &TraceContext) -> TraceContext {
        self.state = other.state.clone();
        self.baggage = other.baggage.clone();
        self
    }

    /// Returns the trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// Returns the span, which is the parent of what continues the trace.
    pub fn span_id(&self) -> SpanId {
        self.span
    }

    /// Whether the span is recorded by whoever made it.
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// Whether the trace id was declared random.
    pub fn random(&self) -> bool {
        self.random
    }

    /// Returns the `tracestate`, if there is one.
    pub fn trace_state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns the `baggage` as it is sent, if there is some.
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }

    /// Iterates over the baggage: keys, and values with the percent encoding undone. Properties are left out.
    pub fn baggage_entries(&self) -> impl Iterator<Item = (&str, std::borrow::Cow<'_, str>)> {
        baggage::entries(self.baggage().unwrap_or_default())
    }

    /// Returns the value of the header `traceparent`.
    pub fn traceparent(&self) -> String {
        self.to_string()
    }

    /// Calls `set` with the name and value of each header to send: `traceparent`, and `tracestate` and `baggage` where
    /// there are such.
    pub fn for_each_header(&self, mut set: impl FnMut(&'static str, &str)) {
        set(TRACEPARENT, &self.traceparent());
        if let Some(state) = self.trace_state() {
            set(TRACESTATE, state);
        }
        if let Some(baggage) = self.baggage() {
            set(BAGGAGE, baggage);
        }
    }
}

/// Prints the `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = (u8::from(self.sampled) * SAMPLED) | (u8::from(self.random) * RANDOM);
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

impl FromStr for TraceContext {
    type Err = TraceContextError;

    fn from_str(traceparent: &str) -> Result<TraceContext, TraceContextError> {
        TraceContext::parse(traceparent)
    }
}

/// Reads at most 32 digits. Unlike `from_str_radix`, takes no sign and no capitals.
fn hex(digits: &[u8], part: &'static str) -> Result<u128, TraceContextError> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(TraceContextError::NotHex { part }),
        };
        Ok(number << 4 | u128::from(value))
    })
}

/// Why something is not the identity of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceContextError {
    /// It is not as long as a `traceparent` of its version.
    Length {
        /// Its bytes.
        found: usize,
    },
    /// The parts are not separated by hyphens where they have to be.
    Separator,
    /// The version is `ff`, which is never valid.
    Version,
    /// A part has something else than the digits 0 to 9 and a to f.
    NotHex {
        /// The part: version, trace id, span id or flags.
        part: &'static str,
    },
    /// The trace id is zero: there is no trace.
    ZeroTraceId,
    /// The span id is zero: there is no span.
    ZeroSpanId,
}

impl fmt::Display for TraceContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceContextError::Length { found } => {
                write!(f, "a traceparent has {LENGTH} bytes, this one {found}")
            }
            TraceContextError::Separator => f.write_str(
                "a traceparent is version-traceid-spanid-flags with 2, 32, 16 and 2 digits",
            ),
            TraceContextError::Version => f.write_str("the version of a traceparent is not ff"),
            TraceContextError::NotHex { part } => {
                write!(
                    f,
                    "the {part} of a traceparent has only the digits 0-9 and a-f"
                )
            }
            TraceContextError::ZeroTraceId => f.write_str("the trace id is zero"),
            TraceContextError::ZeroSpanId => f.write_str("the span id is zero"),
        }
    }
}

impl Error for TraceContextError {}
