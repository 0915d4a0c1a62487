//! Field values of spans and events, typed and bounded, in the compact form in which they travel.

use super::field_words::LONG;
use super::{Site, SpanId, TraceId};

/// A field's value with the type that the program gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A large signed integer.
    I128(i128),
    /// A large unsigned integer.
    U128(u128),
    /// A number; may be NaN or infinite.
    F64(f64),
    /// Text: a string, or what `Debug` or `Display` printed.
    Str {
        /// The text, cut at the declared limit.
        text: &'a str,
        /// Whether it was longer than the limit.
        cut: bool,
    },
}

/// The fields of one span or event, decoded while iterating: `(name, value)` in the order of recording.
///
/// A field that was recorded twice appears twice; the later value counts.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    site: Option<&'a Site>,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// No fields.
    pub const fn empty() -> Fields<'static> {
        Fields {
            site: None,
            bytes: &[],
        }
    }

    /// Reads what a [`FieldWriter`] wrote for `site`.
    pub(crate) fn new(site: &'a Site, bytes: &'a [u8]) -> Fields<'a> {
        Fields {
            site: Some(site),
            bytes,
        }
    }

    /// Returns the fields as they travel.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns `otel.name` where the program set it.
    pub(crate) fn otel_name(&self) -> Option<&'a str> {
        if self.bytes.is_empty() || !self.site?.fields.contains(&"otel.name") {
            return None;
        }
        match self.get("otel.name")? {
            Value::Str { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Iterates over names and values.
    pub fn iter(&self) -> FieldIter<'a> {
        FieldIter {
            site: self.site,
            bytes: self.bytes,
        }
    }

    /// Iterates over the spans that this one is linked to, by [`FOLLOWS_FROM`] or by a context of another process; empty
    /// unless a sink [wants ids](crate::Wants::ids).
    pub fn links(&self) -> impl Iterator<Item = Link> + 'a {
        self.entries().filter_map(|entry| match entry {
            Entry::Link(link) => Some(link),
            _ => None,
        })
    }

    /// Returns the `tracestate` that came with the trace from another process.
    pub fn trace_state(&self) -> Option<&'a str> {
        self.entries().find_map(|entry| match entry {
            Entry::TraceState(state) => Some(state),
            _ => None,
        })
    }

    /// Iterates over fields, links and `tracestate` at once, which is faster than one after the other.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'a>> + 'a {
        Entries(self.iter())
    }

    /// Returns the last value recorded under `name`.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter()
            .filter(|(field, _)| *field == name)
            .last()
            .map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = (&'static str, Value<'a>);
    type IntoIter = FieldIter<'a>;

    fn into_iter(self) -> FieldIter<'a> {
        self.iter()
    }
}

/// Iterator over [`Fields`]. Ends early, never panics, where the bytes are damaged.
#[derive(Debug, Clone)]
pub struct FieldIter<'a> {
    site: Option<&'a Site>,
    bytes: &'a [u8],
}

pub(super) const BOOL: u8 = 0;
pub(super) const I64: u8 = 1;
pub(super) const U64: u8 = 2;
pub(super) const F64: u8 = 3;
pub(super) const I128: u8 = 4;
pub(super) const U128: u8 = 5;
pub(super) const STR: u8 = 6;
const STR_CUT: u8 = 7;

/// 16 bytes of trace id, 8 of span id, in place of a value.
const LINK: u8 = 8;
/// A string in place of a value: `tracestate`.
const TRACE_STATE: u8 = 9;

/// The name under which the spans that this one follows from appear.
pub const FOLLOWS_FROM: &str = "follows_from";

/// The field index that stands for [`FOLLOWS_FROM`].
pub(crate) const FOLLOWS_FROM_INDEX: u8 = u8::MAX;

/// A span that another one is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The trace of the linked span.
    pub trace: TraceId,
    /// The linked span.
    pub span: SpanId,
}

impl Link {
    /// Describes a link.
    pub fn new(trace: TraceId, span: SpanId) -> Link {
        Link { trace, span }
    }
}

/// What stands between the bytes: a field, or something that is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// A name and its value.
    Field(&'static str, Value<'a>),
    /// See [`Fields::links`].
    Link(Link),
    /// See [`Fields::trace_state`].
    TraceState(&'a str),
}

struct Entries<'a>(FieldIter<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = self.0.entry();
        if entry.is_none() {
            self.0.bytes = &[];
        }
        entry
    }
}

impl<'a> FieldIter<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.get(bytes..)?;
        Some(())
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    fn decode(&mut self) -> Option<(&'static str, Value<'a>)> {
        loop {
            if let Entry::Field(name, value) = self.entry()? {
                return Some((name, value));
            }
        }
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let [mut tag, index] = self.take()?;
        if tag & LONG != 0 {
            self.skip(6)?;
            tag &= !LONG;
        }
        match tag {
            LINK => {
                let trace = TraceId(u128::from_le_bytes(self.take()?));
                let span = SpanId(u64::from_le_bytes(self.take()?));
                return Some(Entry::Link(Link { trace, span }));
            }
            TRACE_STATE => return Some(Entry::TraceState(self.text()?)),
            _ => {}
        }
        let name = if index == FOLLOWS_FROM_INDEX {
            FOLLOWS_FROM
        } else {
            self.site?.fields.get(usize::from(index))?
        };
        let value = match tag {
            BOOL => Value::Bool(self.take::<1>()? != [0]),
            I64 => Value::I64(i64::from_le_bytes(self.take()?)),
            U64 => Value::U64(u64::from_le_bytes(self.take()?)),
            F64 => Value::F64(f64::from_le_bytes(self.take()?)),
            I128 => Value::I128(i128::from_le_bytes(self.take()?)),
            U128 => Value::U128(u128::from_le_bytes(self.take()?)),
            STR | STR_CUT => Value::Str {
                text: self.text()?,
                cut: tag == STR_CUT,
            },
            _ => self.short(tag)?,
        };
        Some(Entry::Field(name, value))
    }
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = (&'static str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let decoded = self.decode();
        if decoded.is_none() {
            self.bytes = &[];
        }
        decoded
    }
}

/// Writes field values into a buffer, each string cut at a limit.
#[derive(Debug)]
pub(crate) struct FieldWriter<'b> {
    bytes: &'b mut Vec<u8>,
    max_str_bytes: usize,
    cuts: u64,
}

impl<'b> FieldWriter<'b> {
    /// Appends to `bytes`; strings keep at most `max_str_bytes` (and at most 65,535) bytes.
    pub(crate) fn new(bytes: &'b mut Vec<u8>, max_str_bytes: usize) -> FieldWriter<'b> {
        FieldWriter {
            bytes,
            max_str_bytes: max_str_bytes.min(usize::from(u16::MAX)),
            cuts: 0,
        }
    }

    /// Returns how many strings were cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Returns how many bytes were written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back what was written after the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// Appends the value of the field with this index in [`Site::fields`].
    pub(crate) fn write(&mut self, index: u8, value: Value<'_>) {
        match value {
            Value::Bool(value) => self.put(BOOL, index, &[u8::from(value)]),
            Value::I64(value) => self.put(I64, index, &value.to_le_bytes()),
            Value::U64(value) => self.put(U64, index, &value.to_le_bytes()),
            Value::F64(value) => self.put(F64, index, &value.to_le_bytes()),
            Value::I128(value) => self.put(I128, index, &value.to_le_bytes()),
            Value::U128(value) => self.put(U128, index, &value.to_le_bytes()),
            Value::Str { text, cut } => self.put_str(index, text, cut),
        }
    }

    /// Appends a link to a span.
    pub(crate) fn write_link(&mut self, link: Link) {
        self.bytes.extend_from_slice(&[LINK, 0]);
        self.bytes.extend_from_slice(&link.trace.0.to_le_bytes());
        self.bytes.extend_from_slice(&link.span.0.to_le_bytes());
    }

    /// Appends a `tracestate`, which must not be longer than 65,535 bytes.
    pub(crate) fn write_trace_state(&mut self, state: &str) {
        let Ok(length) = u16::try_from(state.len()) else {
            return;
        };
        self.bytes.extend_from_slice(&[TRACE_STATE, 0]);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(state.as_bytes());
    }

    /// Appends what `value` prints with `Debug`, without building a `String`.
    pub(crate) fn write_debug(&mut self, index: u8, value: &dyn std::fmt::Debug) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[STR, index, 0, 0]);
        let mut sink = Bounded {
            end: self.bytes.len().saturating_add(self.max_str_bytes),
            bytes: self.bytes,
            cut: false,
        };
        // An error here is either ours, raised to stop at the limit, or the value's own; what was printed stays.
        let printed = std::fmt::write(&mut sink, format_args!("{value:?}"));
        let cut = sink.cut || printed.is_err();
        let length = self.bytes.len() - start - 4;
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
        self.bytes[start + 2..start + 4].copy_from_slice(&length);
        if cut {
            self.bytes[start] = STR_CUT;
            self.cuts += 1;
        }
    }

    fn put(&mut self, tag: u8, index: u8, payload: &[u8]) {
        self.bytes.extend_from_slice(&[tag, index]);
        self.bytes.extend_from_slice(payload);
    }

    fn put_str(&mut self, index: u8, text: &str, cut: bool) {
        let kept = floor_char_boundary(text, self.max_str_bytes);
        let cut = cut || kept < text.len();
        self.cuts += u64::from(cut);
        let length = u16::try_from(kept).unwrap_or(u16::MAX).to_le_bytes();
        self.put(if cut { STR_CUT } else { STR }, index, &length);
        self.bytes.extend_from_slice(&text.as_bytes()[..kept]);
    }
}

fn floor_char_boundary(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    (0..=limit)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

struct Bounded<'b> {
    bytes: &'b mut Vec<u8>,
    end: usize,
    cut: bool,
}

impl std::fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let kept = floor_char_boundary(text, self.end - self.bytes.len());
        self.bytes.extend_from_slice(&text.as_bytes()[..kept]);
        if kept < text.len() {
            self.cut = true;
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}
