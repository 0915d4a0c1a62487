//! Field values in whole words: longer than the bytes that [`FieldWriter`](super::FieldWriter) writes, but made with two or
//! three instructions where a thread of the program waits for it.
//!
//! The first word of each value begins like there, with tag and index. A flag in the tag says where the value is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Value;
use super::fields::{BOOL, F64, FieldIter, I64, I128, STR, U64, U128};

/// The value is in the rest of the first word; that of a string begins there.
pub(super) const SHORT: u8 = 1 << 4;
/// The value begins in the second word.
pub(super) const LONG: u8 = 1 << 5;

/// The bits of the first word that are not the value's.
const START_BITS: u32 = 16;

/// Writes field values into a few words that others may read meanwhile.
#[derive(Debug)]
pub(crate) struct FieldWords<'w> {
    words: &'w [AtomicU64],
    /// How many words it takes; more than there are if there are too few.
    used: usize,
}

impl<'w> FieldWords<'w> {
    pub(crate) fn new(words: &'w [AtomicU64]) -> FieldWords<'w> {
        FieldWords { words, used: 0 }
    }

    /// Appends the value of the field with this index in [`Site::fields`](super::Site::fields).
    #[inline(always)]
    pub(crate) fn write(&mut self, index: u8, value: Value<'_>) {
        match value {
            Value::Bool(value) => self.put_short(BOOL, index, u64::from(value)),
            Value::U64(value) if value << START_BITS >> START_BITS == value => {
                self.put_short(U64, index, value);
            }
            Value::I64(value) if value << START_BITS >> START_BITS == value => {
                self.put_short(I64, index, value.cast_unsigned());
            }
            Value::U64(value) => self.put_long(U64, index, &[value]),
            Value::I64(value) => self.put_long(I64, index, &[value.cast_unsigned()]),
            Value::F64(value) => self.put_long(F64, index, &[value.to_bits()]),
            Value::I128(value) => {
                let value = value.cast_unsigned();
                self.put_long(I128, index, &[value as u64, (value >> 64) as u64]);
            }
            Value::U128(value) => {
                self.put_long(U128, index, &[value as u64, (value >> 64) as u64]);
            }
            Value::Str { text, .. } => self.put_str(index, text),
        }
    }

    /// Says that not all values can be written.
    pub(crate) fn fail(&mut self) {
        self.used = usize::MAX / 16;
    }

    /// Returns how many bytes were written, or `None` if that is not everything.
    #[inline]
    pub(crate) fn finish(self) -> Option<usize> {
        (self.used <= self.words.len()).then_some(self.used * 8)
    }

    #[inline(always)]
    fn push(&mut self, word: u64) {
        if let Some(place) = self.words.get(self.used) {
            place.store(word, Relaxed);
        }
        self.used += 1;
    }

    #[inline(always)]
    fn put_short(&mut self, tag: u8, index: u8, value: u64) {
        self.push(start(tag | SHORT, index) | value << START_BITS);
    }

    fn put_long(&mut self, tag: u8, index: u8, value: &[u64]) {
        self.push(start(tag | LONG, index));
        for &word in value {
            self.push(word);
        }
    }

    fn put_str(&mut self, index: u8, text: &str) {
        let Ok(length) = u16::try_from(text.len()) else {
            return self.fail();
        };
        let text = text.as_bytes();
        let (first, rest) = text.split_at_checked(4).unwrap_or((text, &[]));
        let first = u64::from(length) | word(first) << 16;
        self.put_short(STR, index, first);
        let (words, last) = rest.as_chunks::<8>();
        for word in words {
            self.push(u64::from_le_bytes(*word));
        }
        if !last.is_empty() {
            self.push(word(last));
        }
    }
}

fn start(tag: u8, index: u8) -> u64 {
    u64::from(tag) | u64::from(index) << 8
}

/// Puts at most eight bytes into a word.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |word, &byte| word << 8 | u64::from(byte))
}

impl<'a> FieldIter<'a> {
    /// Reads a value that begins in the first word; tag and index have been read.
    pub(super) fn short(&mut self, tag: u8) -> Option<Value<'a>> {
        if tag == STR | SHORT {
            let text = self.text()?;
            self.skip((4 + text.len()).next_multiple_of(8) - 4 - text.len())?;
            return Some(Value::Str { text, cut: false });
        }
        let [a, b, c, d, e, f] = self.take()?;
        let value = u64::from_le_bytes([0, 0, a, b, c, d, e, f]);
        match tag & !SHORT {
            BOOL => Some(Value::Bool(value != 0)),
            I64 => Some(Value::I64(value.cast_signed() >> START_BITS)),
            U64 => Some(Value::U64(value >> START_BITS)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{FieldWriter, Fields, Site, SiteId};

    fn value() -> impl Strategy<Value = (u8, Value<'static>)> {
        const TEXTS: [&str; 6] = [
            "",
            "a",
            "/orders",
            "/orders/",
            "a longer text",
            "für zwei Wörter",
        ];
        let value = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            (any::<i64>(), 0_u32..64).prop_map(|(value, by)| Value::I64(value >> by)),
            (any::<u64>(), 0_u32..64).prop_map(|(value, by)| Value::U64(value >> by)),
            any::<f64>().prop_map(Value::F64),
            any::<i128>().prop_map(Value::I128),
            any::<u128>().prop_map(Value::U128),
            prop::sample::select(&TEXTS[..]).prop_map(|text| Value::Str { text, cut: false }),
        ];
        (0_u8..32, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn words_say_what_the_field_writer_says_or_that_they_are_too_few(
            values in prop::collection::vec(value(), 0..6),
        ) {
            const WORDS: usize = 12;
            let names = std::iter::repeat_n("field", 32);
            let site = Site::new(SiteId(1), "span", "test", None, None).with_fields(names);
            let mut bytes = Vec::new();
            let mut writer = FieldWriter::new(&mut bytes, usize::MAX);
            let places = [const { AtomicU64::new(0) }; WORDS];
            let mut words = FieldWords::new(&places);
            let count = values.len();
            for (index, value) in values {
                writer.write(index, value);
                words.write(index, value);
            }
            match words.finish() {
                Some(length) => {
                    let in_words: Vec<u8> = places
                        .iter()
                        .flat_map(|word| word.load(Relaxed).to_le_bytes())
                        .collect();
                    let read = |bytes| format!("{:?}", Vec::from_iter(Fields::new(&site, bytes)));
                    prop_assert_eq!(read(&in_words[..length]), read(&bytes));
                }
                // A value takes at most six bytes and a started word more than there.
                None => prop_assert!(bytes.len() + count * 13 > WORDS * 8),
            }
        }
    }
}
