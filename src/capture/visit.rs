//! Reads field values out of `tracing` without holding anything of the capture.
//!
//! A field's `Debug` may itself open spans. So values are written to a buffer of the thread's, outside of its part of
//! the capture, and moved into the span afterwards. Where no value has a `Debug` to run, they go straight to the span.

use std::cell::Cell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;

use tracing_core::field::{Field, Visit};

use super::gpu_reports::{self, Said};
use crate::model::{FieldWords, FieldWriter, Nanos, Value};

/// What fields said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// The operation failed: a field `error`, or `otel.status_code = "ERROR"`.
    pub(super) error: bool,
    /// Strings that were cut.
    pub(super) cuts: u64,
    /// Values whose `Debug` panicked; they are left out.
    pub(super) panics: u64,
    /// What was said of work on a device.
    pub(super) gpu: Said,
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes fields and hands the bytes to `then`.
pub(super) fn read<R>(
    max_field_bytes: usize,
    record: impl FnOnce(&mut dyn Visit),
    then: impl FnOnce(Read, &mut Vec<u8>) -> R,
) -> R {
    // A nested call, or a thread that is shutting down, works on a fresh buffer.
    let mut bytes = SCRATCH.try_with(Cell::take).unwrap_or_default();
    bytes.clear();
    let mut visitor = Visitor {
        writer: FieldWriter::new(&mut bytes, max_field_bytes),
        error: false,
        panics: 0,
        gpu: Said::default(),
    };
    record(&mut visitor);
    let read = Read {
        error: visitor.error,
        cuts: visitor.writer.cuts(),
        panics: visitor.panics,
        gpu: visitor.gpu,
    };
    let result = then(read, &mut bytes);
    // Losing the buffer to a thread that is shutting down costs an allocation, nothing else.
    let _ = SCRATCH.try_with(|scratch| scratch.set(bytes));
    result
}

/// Writes fields into words while the capture may be borrowed: none of the program's code runs. Returns how many bytes
/// they take; `None` if there is a value that its own `Debug` prints, a string longer than `max_field_bytes`, or too much
/// for the words. Fields whose names mean something are not looked for.
#[inline]
pub(super) fn read_simple(
    words: &[AtomicU64],
    max_field_bytes: usize,
    record: impl FnOnce(&mut dyn Visit),
) -> Option<usize> {
    let mut visitor = Simple {
        words: FieldWords::new(words),
        max_field_bytes,
    };
    record(&mut visitor);
    visitor.words.finish()
}

struct Simple<'w> {
    words: FieldWords<'w>,
    max_field_bytes: usize,
}

impl Visit for Simple<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.words.write(index(field), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.words.write(index(field), Value::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.words.write(index(field), Value::U64(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.words.write(index(field), Value::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.words.write(index(field), Value::U128(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.words.write(index(field), Value::F64(value));
    }

    fn record_str(&mut self, field: &Field, text: &str) {
        if text.len() > self.max_field_bytes {
            return self.words.fail();
        }
        let cut = false;
        self.words.write(index(field), Value::Str { text, cut });
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {
        self.words.fail();
    }
}

struct Visitor<'b> {
    writer: FieldWriter<'b>,
    error: bool,
    panics: u64,
    gpu: Said,
}

impl Visitor<'_> {
    #[inline]
    fn write(&mut self, field: &Field, value: Value<'_>) {
        let name = field.name();
        // Compared by length first, so that most fields cost one comparison.
        if name == "error" {
            self.error |= !matches!(value, Value::Bool(false));
        } else if name == "otel.status_code" {
            self.error |= matches!(value, Value::Str { text: "ERROR", .. });
        } else if name == gpu_reports::TIME {
            self.gpu.time = number(value).map(Nanos);
        } else if name == gpu_reports::DEVICE {
            self.gpu.device = number(value).and_then(|number| u32::try_from(number).ok());
        }
        self.writer.write(index(field), value);
    }
}

/// Returns a number that may be a time: plain literals come as signed ones.
fn number(value: Value<'_>) -> Option<u64> {
    match value {
        Value::U64(number) => Some(number),
        Value::I64(number) => u64::try_from(number).ok(),
        Value::U128(number) => u64::try_from(number).ok(),
        Value::I128(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// `tracing` allows 32 fields, so the index always fits.
fn index(field: &Field) -> u8 {
    u8::try_from(field.index()).unwrap_or(u8::MAX - 1)
}

impl Visit for Visitor<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, Value::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, Value::U64(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write(field, Value::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field, Value::U128(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, Value::F64(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let value = Value::Str {
            text: value,
            cut: false,
        };
        self.write(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        self.error |= name == "error";
        let before = self.writer.len();
        // All of the user's code that runs in here runs under this call. A value that cannot be printed must not take
        // down a program that would never have printed it without this layer.
        let printed = catch_unwind(AssertUnwindSafe(|| {
            if name == "otel.status_code" {
                // The semantic value is a plain word; `Debug` of a `&str` would put it in quotes.
                self.error |= format!("{value:?}").trim_matches('"') == "ERROR";
            }
            self.writer.write_debug(index(field), value);
        }));
        if printed.is_err() {
            self.writer.truncate(before);
            self.panics += 1;
        }
    }
}
