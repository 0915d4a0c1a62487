//! JSON text appended to a byte buffer, without building values first.

use std::io::Write as _;

use crate::model::Value;

/// What ends a text that was cut.
pub(in crate::sink) const ELLIPSIS: &str = "\u{2026}";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `00` to `99`: two digits for each division.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut n = 0;
    while n < 100 {
        pairs[2 * n] = b'0' + (n / 10) as u8;
        pairs[2 * n + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    pairs
};

/// Appends `text` with quotes around it.
pub(in crate::sink) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends `text` as it stands between quotes.
pub(in crate::sink) fn escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Most text needs nothing else.
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        escape(out, tail[0]);
        rest = &tail[1..];
    }
    out.extend_from_slice(rest);
}

/// Whether no byte needs an escape, eight bytes at a time.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut special = 0;
    for word in words {
        special |= special_bytes(u64::from_le_bytes(*word));
    }
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    special | special_bytes(u64::from_le_bytes(last)) == 0
}

/// Not zero if a byte of `word` needs an escape.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    // Subtracting borrows into the top bit of the bytes below the limit; a byte whose top bit was set does not count.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & TOPS;
    below(word, 0x20)
        | below(word ^ (ONES * u64::from(b'"')), 1)
        | below(word ^ (ONES * u64::from(b'\\')), 1)
}

fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends decimal digits.
pub(in crate::sink) fn unsigned(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let start = decimal(&mut digits, value);
    out.extend_from_slice(&digits[start..]);
}

/// Appends decimal digits with a sign where there is one.
pub(in crate::sink) fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
}

/// Appends nanoseconds as microseconds with three decimals: no nanosecond is lost, whatever the length of the run.
pub(in crate::sink) fn micros(out: &mut Vec<u8>, nanos: u64) {
    let mut digits = [0; 24];
    let (whole, rest) = (nanos / 1000, (nanos % 1000) as usize);
    digits[20] = b'.';
    digits[21] = b'0' + (rest / 100) as u8;
    digits[22..].copy_from_slice(pair(rest % 100));
    let mut front = [0; 20];
    let start = decimal(&mut front, whole);
    digits[start..20].copy_from_slice(&front[start..]);
    out.extend_from_slice(&digits[start..]);
}

/// Appends `0x` and hexadecimal digits.
pub(in crate::sink) fn hex(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(b"0x");
    let digits = (64 - value.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(HEX[(value >> (4 * place)) as usize & 15]);
    }
}

/// Appends a number that reads back as the same `f64`; what JSON has no number for becomes text.
pub(in crate::sink) fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        display(out, format_args!("{value:?}"));
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

/// Appends a field's value with its type. Integers that viewers would show wrapped (beyond `i64`) become text.
pub(in crate::sink) fn value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::I64(value) => signed(out, value),
        Value::U64(value) => match i64::try_from(value) {
            Ok(value) => signed(out, value),
            Err(_) => display(out, format_args!("\"{value}\"")),
        },
        Value::I128(value) => match i64::try_from(value) {
            Ok(value) => signed(out, value),
            Err(_) => display(out, format_args!("\"{value}\"")),
        },
        Value::U128(value) => match i64::try_from(value) {
            Ok(value) => signed(out, value),
            Err(_) => display(out, format_args!("\"{value}\"")),
        },
        Value::F64(value) => float(out, value),
        Value::Str { text, cut } => {
            out.push(b'"');
            escaped(out, text);
            if cut {
                out.extend_from_slice(ELLIPSIS.as_bytes());
            }
            out.push(b'"');
        }
    }
}

fn display(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a `Vec` and printing numbers cannot fail.
    let _ = out.write_fmt(text);
}

fn pair(below_100: usize) -> &'static [u8] {
    &PAIRS[2 * below_100..2 * below_100 + 2]
}

/// Fills `digits` from its end and returns where they start.
fn decimal(digits: &mut [u8; 20], mut value: u64) -> usize {
    let mut start = digits.len();
    while value >= 100 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(pair((value % 100) as usize));
        value /= 100;
    }
    if value >= 10 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(pair(value as usize));
    } else {
        start -= 1;
        digits[start] = b'0' + value as u8;
    }
    start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for value in [
            0,
            1,
            9,
            10,
            99,
            100,
            101,
            12_345,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            assert_eq!(text(|out| unsigned(out, value)), value.to_string());
            assert_eq!(text(|out| hex(out, value)), format!("{value:#x}"));
        }
        for value in [0, -1, 7, i64::MIN, i64::MAX] {
            assert_eq!(text(|out| signed(out, value)), value.to_string());
        }
    }

    #[test]
    fn no_nanosecond_is_lost() {
        for (nanos, expected) in [
            (0, "0.000"),
            (1, "0.001"),
            (999, "0.999"),
            (1_000, "1.000"),
            (1_234_050, "1234.050"),
            (u64::MAX, "18446744073709551.615"),
        ] {
            assert_eq!(text(|out| micros(out, nanos)), expected);
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_are_text() {
        for (value, expected) in [
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e300, "1e300"),
        ] {
            assert_eq!(text(|out| float(out, value)), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back(original in any::<String>()) {
            let json = text(|out| string(out, &original));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), original);
        }

        #[test]
        fn any_number_reads_back(bits in any::<u64>(), nanos in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(text(|out| float(out, value)).parse::<f64>().unwrap(), value);
            prop_assert_eq!(text(|out| unsigned(out, nanos)), nanos.to_string());
            prop_assert_eq!(text(|out| micros(out, nanos)).replace('.', "").parse::<u64>().unwrap(), nanos);
        }
    }
}
