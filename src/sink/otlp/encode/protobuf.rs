//! The protobuf wire format, as far as spans need it.

use std::io::Write;

use crate::model::Value;

/// Returns the first byte of a field with a number below 16 and a varint for value.
pub(super) const fn varint_field(number: u8) -> u8 {
    number << 3
}

/// Returns the first byte of a field with a number below 16 and eight bytes for value.
pub(super) const fn fixed64_field(number: u8) -> u8 {
    number << 3 | 1
}

/// Returns the first byte of a field with a number below 16 and a length before its value.
pub(super) const fn sized_field(number: u8) -> u8 {
    number << 3 | 2
}

/// Appends a number of variable length, canonical.
#[inline]
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns how many bytes [`varint`] appends.
#[inline]
pub(super) const fn varint_len(value: u64) -> usize {
    (63 - (value | 1).leading_zeros() as usize) / 7 + 1
}

#[inline]
pub(super) fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field);
    varint(out, value);
}

#[inline]
pub(super) fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    let mut bytes = [field; 9];
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&bytes);
}

#[inline]
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Returns how many bytes [`bytes`] appends for a value of this length.
#[inline]
pub(super) const fn sized_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// What most messages need for their length.
const GUESS: usize = 2;

/// Appends a field whose length is known only after `content` has appended the value.
#[inline]
pub(super) fn message(out: &mut Vec<u8>, field: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[field, 0, 0]);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    let needed = varint_len(length as u64);
    if needed != GUESS {
        make_room(out, start, needed);
    }
    let mut rest = length;
    let first = start - GUESS;
    for byte in &mut out[first..first + needed - 1] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[first + needed - 1] = rest as u8;
}

/// Moves what begins at `start` so that `needed` bytes are before it instead of [`GUESS`].
#[cold]
fn make_room(out: &mut Vec<u8>, start: usize, needed: usize) {
    let end = out.len();
    let moved = start - GUESS + needed;
    if needed > GUESS {
        out.resize(end + needed - GUESS, 0);
    }
    out.copy_within(start..end, moved);
    out.truncate(moved + end - start);
}

/// Appends what the value looks like to a reader.
pub(super) fn text(out: &mut Vec<u8>, value: Value<'_>) {
    // Writing to a vector never fails.
    let _ = match value {
        Value::Bool(value) => write!(out, "{value}"),
        Value::I64(value) => write!(out, "{value}"),
        Value::U64(value) => write!(out, "{value}"),
        Value::I128(value) => write!(out, "{value}"),
        Value::U128(value) => write!(out, "{value}"),
        Value::F64(value) => write!(out, "{value}"),
        Value::Str { text, .. } => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_varint_reads_back_and_is_as_long_as_foretold(shift in 0_u32..64, value: u64) {
            let value = value >> shift;
            let mut out = Vec::new();
            varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(prost::encoding::decode_varint(&mut out.as_slice()).unwrap(), value);
        }
    }

    #[test]
    fn a_message_of_any_length_has_the_shortest_length_before_it() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let content: Vec<u8> = (0..length).map(|at: u32| at as u8).collect();
            let mut patched = vec![7];
            message(&mut patched, sized_field(2), |out| {
                out.extend_from_slice(&content)
            });
            let mut direct = vec![7];
            bytes(&mut direct, sized_field(2), &content);
            assert!(patched == direct, "{length}");
            assert_eq!(direct.len() - 1, sized_len(content.len()));
        }
    }
}
