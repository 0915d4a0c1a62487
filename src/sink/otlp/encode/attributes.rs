//! Attributes: keys and typed values, each key once.

use std::ops::Range;

use super::protobuf::{self, bytes, fixed64_field, sized_field, sized_len, varint_field};
use crate::model::Value;

const KEY: u8 = sized_field(1);
const VALUE: u8 = sized_field(2);
const STRING: u8 = sized_field(1);
const BOOL: u8 = varint_field(2);
const INT: u8 = varint_field(3);
const DOUBLE: u8 = fixed64_field(4);

/// The attributes of one span or event while they are appended.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// The field of the message that they are.
    field: u8,
    /// The program's keys and where each begins and ends.
    keys: Vec<(&'static str, Range<usize>)>,
    /// The [`bit`] of each of them: a key whose bit is not there is new.
    bits: u64,
    /// One of the keys may be one that we add.
    ours: bool,
}

impl Attributes {
    /// Begins a new set.
    #[inline]
    pub(super) fn begin(&mut self, field: u8) {
        self.field = field;
        self.keys.clear();
        self.bits = 0;
        self.ours = false;
    }

    /// Appends a field of the program, and takes back an earlier value of it.
    #[inline]
    pub(super) fn field(&mut self, out: &mut Vec<u8>, key: &'static str, value: Value<'_>) {
        let bit = bit(key);
        if self.bits & bit != 0 {
            self.take_back(out, key);
        }
        self.bits |= bit;
        self.ours |= may_be_ours(key);
        let start = out.len();
        append(out, self.field, key, value);
        self.keys.push((key, start..out.len()));
    }

    /// Appends what we know, unless the program has set that key.
    pub(super) fn own(&self, out: &mut Vec<u8>, key: &'static str, value: Value<'_>) {
        if !self.ours || !self.has(key) {
            append(out, self.field, key, value);
        }
    }

    pub(super) fn own_text(&self, out: &mut Vec<u8>, key: &'static str, text: &str) {
        self.own(out, key, Value::Str { text, cut: false });
    }

    /// Whether a key that we add may be there already.
    pub(super) fn may_have_ours(&self) -> bool {
        self.ours
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| *known == key)
    }

    #[cold]
    fn take_back(&mut self, out: &mut Vec<u8>, key: &str) {
        let Some(at) = self.keys.iter().position(|(known, _)| *known == key) else {
            return;
        };
        let (_, taken) = self.keys.remove(at);
        for (_, later) in &mut self.keys[at..] {
            *later = later.start - taken.len()..later.end - taken.len();
        }
        out.drain(taken);
    }
}

/// Returns one of 64 bits, which nearly always differs for the few keys of a span.
#[inline]
fn bit(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let ends = match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => usize::from(*first) * 3 + usize::from(*last) * 5,
        _ => 0,
    };
    1 << ((ends + bytes.len()) % 64)
}

/// Quick, and wrong only in saying yes: all keys that we add begin like this.
#[inline]
fn may_be_ours(key: &str) -> bool {
    matches!(
        key.as_bytes(),
        [b'b', b'u', ..]
            | [b'c', b'o', ..]
            | [b'e', b'x', ..]
            | [b'i', b'd', ..]
            | [b'l', b'e', ..]
            | [b'm', b'e', ..]
            | [b't', b'a' | b'h', ..]
    )
}

/// Appends one `KeyValue`.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, field: u8, key: &str, value: Value<'_>) {
    match value {
        Value::Str { text, .. } => string(out, field, key, text),
        Value::Bool(value) => {
            open(out, field, key, 2);
            out.extend_from_slice(&[VALUE, 2, BOOL, u8::from(value)]);
        }
        Value::F64(value) => {
            open(out, field, key, 9);
            let mut bytes = [VALUE, 9, DOUBLE, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes[3..].copy_from_slice(&value.to_bits().to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        Value::I64(value) => integer(out, field, key, value),
        Value::U64(number) => match i64::try_from(number) {
            Ok(value) => integer(out, field, key, value),
            Err(_) => printed(out, field, key, value),
        },
        Value::I128(number) => match i64::try_from(number) {
            Ok(value) => integer(out, field, key, value),
            Err(_) => printed(out, field, key, value),
        },
        Value::U128(number) => match i64::try_from(number) {
            Ok(value) => integer(out, field, key, value),
            Err(_) => printed(out, field, key, value),
        },
    }
}

/// Appends a text attribute with the content of any value.
#[cold]
pub(super) fn printed(out: &mut Vec<u8>, field: u8, key: &str, value: Value<'_>) {
    protobuf::message(out, field, |out| {
        bytes(out, KEY, key.as_bytes());
        protobuf::message(out, VALUE, |out| {
            protobuf::message(out, STRING, |out| protobuf::text(out, value));
        });
    });
}

#[inline]
fn string(out: &mut Vec<u8>, field: u8, key: &str, text: &str) {
    if text.len() < SHORT {
        let length = text.len() as u8;
        open(out, field, key, 2 + text.len());
        out.extend_from_slice(&[VALUE, 2 + length, STRING, length]);
        out.extend_from_slice(text.as_bytes());
    } else {
        let length = sized_len(text.len());
        open(out, field, key, length);
        protobuf::number(out, VALUE, length as u64);
        bytes(out, STRING, text.as_bytes());
    }
}

#[inline]
fn integer(out: &mut Vec<u8>, field: u8, key: &str, value: i64) {
    let mut rest = value.cast_unsigned();
    // The longest varint has 10 bytes.
    let mut bytes = [0; 13];
    let digits = protobuf::varint_len(rest);
    bytes[0] = VALUE;
    bytes[1] = 1 + digits as u8;
    bytes[2] = INT;
    for byte in &mut bytes[3..2 + digits] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    bytes[2 + digits] = rest as u8;
    open(out, field, key, 1 + digits);
    // Of fixed length, for which the compiler needs no call.
    let end = out.len() + 3 + digits;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// Appends all of a `KeyValue` up to its value, which has this length.
#[inline]
fn open(out: &mut Vec<u8>, field: u8, key: &str, value_len: usize) {
    // Nearly all attributes are so short that every length is one byte.
    if key.len() + value_len < SHORT {
        let length = (4 + key.len() + value_len) as u8;
        out.extend_from_slice(&[field, length, KEY, key.len() as u8]);
        out.extend_from_slice(key.as_bytes());
    } else {
        let length = sized_len(key.len()) + sized_len(value_len);
        protobuf::number(out, field, length as u64);
        bytes(out, KEY, key.as_bytes());
    }
}

/// What is shorter has room for four bytes more within a length of one byte.
const SHORT: usize = 0x80 - 4;
