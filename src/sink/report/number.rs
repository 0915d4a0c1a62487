//! Numbers as people read them: three significant digits and a unit. Counts stay exact.

use crate::model::{Nanos, Unit};

/// Stands for what is not a number.
const NOT_A_NUMBER: &str = "-";

/// Returns an exact count with a comma at every thousand.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns `count(value)` and the noun, with an `s` unless there is exactly one.
pub(super) fn counted(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// Returns a share of one in per cent with one decimal.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.1} %", share * 100.0)
    } else {
        NOT_A_NUMBER.to_owned()
    }
}

/// Returns tenths of a per cent as [`percent`] does.
pub(super) fn permille(tenths: u64) -> String {
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Returns three significant digits; whole numbers and those from a thousand on have no decimals.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return NOT_A_NUMBER.to_owned();
    }
    let size = value.abs();
    if size >= 1e15 {
        return format!("{value:.2e}");
    }
    if size >= 999.5 || value.fract() == 0.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(size.round() as u64));
    }
    if size < 0.001 {
        return format!("{value:.2e}");
    }
    let mut decimals = 2;
    for (limit, more) in [(0.009_995, 5), (0.099_95, 4), (0.999_5, 3), (9.995, 2)] {
        if size < limit {
            return format!("{value:.more$}");
        }
        decimals = 1;
    }
    if size >= 99.95 {
        decimals = 0;
    }
    format!("{value:.decimals$}")
}

/// Returns a size in bytes with a binary unit.
pub(super) fn bytes(value: f64) -> String {
    let mut value = value;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{} {unit}", significant(value))
}

/// Returns a reading in its unit.
pub(super) fn quantity(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return NOT_A_NUMBER.to_owned();
    }
    match unit {
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => format!("{}/s", bytes(value)),
        Unit::Percent => format!("{} %", significant(value)),
        Unit::PerSecond => format!("{} /s", significant(value)),
        Unit::Seconds => time(value * 1e9),
        Unit::Count => significant(value),
        Unit::Watts => decimal(value, "W"),
        Unit::Joules => decimal(value, "J"),
        Unit::Celsius => format!("{} C", significant(value)),
        Unit::Hertz => decimal(value, "Hz"),
    }
}

/// Returns a value with a decimal prefix.
fn decimal(value: f64, unit: &str) -> String {
    let mut value = value;
    let mut prefix = "";
    for larger in ["k", "M", "G", "T"] {
        if value.abs() < 999.5 {
            break;
        }
        value /= 1000.0;
        prefix = larger;
    }
    format!("{} {prefix}{unit}", significant(value))
}

/// Returns nanoseconds as [`Nanos`] prints them, below a nanosecond with digits.
pub(super) fn time(ns: f64) -> String {
    if !ns.is_finite() {
        NOT_A_NUMBER.to_owned()
    } else if ns.abs() < 999.5 {
        format!("{} ns", significant(ns))
    } else if ns < 0.0 {
        format!("-{}", Nanos(-ns as u64))
    } else {
        Nanos(ns.round() as u64).to_string()
    }
}

type Print = fn(f64) -> String;

/// The ends of an evidence number's name that say its unit, and how such a number is printed.
const SUFFIXES: [(&str, Print); 10] = [
    ("_ns", time),
    ("_us", |value| time(value * 1e3)),
    ("_ms", |value| time(value * 1e6)),
    ("_bytes", bytes),
    ("_percent", |value| format!("{} %", significant(value))),
    ("_per_second", |value| format!("{} /s", significant(value))),
    ("_per_s", |value| format!("{} /s", significant(value))),
    ("_seconds", |value| time(value * 1e9)),
    ("_secs", |value| time(value * 1e9)),
    ("_s", |value| time(value * 1e9)),
];

/// Returns an evidence number with its name: `self_ms = 1500` becomes `self 1.50 s`.
pub(super) fn evidence(name: &str, value: f64) -> String {
    if !value.is_finite() {
        return format!("{} unknown", name.replace('_', " "));
    }
    if name == "share" || name.ends_with("_share") {
        return format!("{} {}", name.replace('_', " "), percent(value));
    }
    for (suffix, print) in SUFFIXES {
        if let Some(stem) = name.strip_suffix(suffix) {
            return format!("{} {}", stem.replace('_', " "), print(value));
        }
    }
    format!("{} {}", name.replace('_', " "), significant(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(value), expected);
        }
    }

    #[test]
    fn other_numbers_have_three_significant_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (3.0, "3"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (999.6, "1,000"),
            (0.012_34, "0.0123"),
            (9.996, "10.0"),
            (-1.5, "-1.50"),
            (0.000_12, "1.20e-4"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(significant(value), expected, "{value}");
        }
        assert_eq!(bytes(1023.9), "1.00 KiB");
        assert_eq!(bytes(96.5 * 1024.0 * 1024.0), "96.5 MiB");
        assert_eq!(quantity(0.25, Unit::Seconds), "250 ms");
        assert_eq!(quantity(310.0, Unit::Watts), "310 W");
        assert_eq!(quantity(36_500.0, Unit::Joules), "36.5 kJ");
        assert_eq!(quantity(47.0, Unit::Celsius), "47 C");
        assert_eq!(quantity(1.98e9, Unit::Hertz), "1.98 GHz");
    }

    #[test]
    fn evidence_is_printed_in_the_unit_of_its_name() {
        assert_eq!(evidence("self_ns", 1.5e9), "self 1.50 s");
        assert_eq!(evidence("p99_ms", 2.5), "p99 2.50 ms");
        assert_eq!(evidence("share", 0.61), "share 61.0 %");
        assert_eq!(evidence("calls", 1_200.0), "calls 1,200");
        assert_eq!(evidence("p99_over_p50", 12.0), "p99 over p50 12");
    }
}
