//! Numbers as people read them.

/// Speed-ups beyond this say only that the site is nearly everything.
const LARGEST_FACTOR: f64 = 100.0;

/// Prints a share as whole per cent.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 {
        "under 1 %".to_owned()
    } else {
        format!("{percent:.0} %")
    }
}

/// Prints a share of measuring cost, where tenths matter.
pub(crate) fn percent_fine(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Prints a ceiling such as `1.45x`, rounded up so that the text never promises less than can happen; `None` where
/// there is no ceiling worth naming.
pub(crate) fn ceiling(factor: Option<f64>) -> Option<String> {
    let factor = factor.filter(|factor| *factor <= LARGEST_FACTOR)?;
    Some(format!("{:.2}x", (factor * 100.0 - 1e-6).ceil() / 100.0))
}

/// Prints a factor that was computed, such as `1.44x`, rounded down.
pub(crate) fn factor(factor: f64) -> String {
    format!("{:.2}x", (factor * 100.0 + 1e-6).floor() / 100.0)
}

/// Prints how many times larger one number is than another: `12x`, `3.4x`.
pub(crate) fn ratio(ratio: f64) -> String {
    if ratio < 10.0 {
        format!("{ratio:.1}x")
    } else {
        format!("{ratio:.0}x")
    }
}

/// Prints bytes as megabytes with the digits that matter: `9.54 MB`, `120 MB`.
pub(crate) fn megabytes(bytes: f64) -> String {
    let megabytes = bytes / 1e6;
    match megabytes.abs() {
        size if size < 10.0 => format!("{megabytes:.2} MB"),
        size if size < 100.0 => format!("{megabytes:.1} MB"),
        _ => format!("{megabytes:.0} MB"),
    }
}

/// Prints `1 call`, `2 calls`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_rounded_up_and_a_saving_down() {
        assert_eq!(ceiling(Some(1.441)).as_deref(), Some("1.45x"));
        assert_eq!(ceiling(Some(1.25)).as_deref(), Some("1.25x"));
        assert_eq!(factor(1.449), "1.44x");
        assert_eq!(factor(1.25), "1.25x");
    }

    #[test]
    fn a_ceiling_that_says_nothing_is_left_out() {
        assert_eq!(ceiling(Some(5_000.0)), None);
        assert_eq!(ceiling(None), None);
    }
}
