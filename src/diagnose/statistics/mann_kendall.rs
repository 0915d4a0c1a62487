//! Whether values rise or fall over time, whatever the shape.

use std::cmp::Ordering;

use super::probability::normal_above;

/// The result of the Mann-Kendall test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MannKendall {
    /// The probability of a rise this clear, if there is none.
    pub(crate) rising: f64,
    /// The probability of a fall this clear, if there is none.
    pub(crate) falling: f64,
    /// Pairs that rise minus pairs that fall, as a share of all pairs, in `[-1, 1]`.
    pub(crate) tau: f64,
    /// The standard deviation of the number of pairs that rise minus those that fall, for intervals.
    pub(crate) spread: f64,
}

/// Tests values in the order of their time, by the normal approximation, corrected for ties and for continuity.
///
/// Every value counts as independent of the one before, so values that wander look like a trend: rules need more than
/// this test. `None` below 4 values, if all are equal, or if one is not a number.
pub(crate) fn mann_kendall(values: &[f64]) -> Option<MannKendall> {
    let n = values.len();
    if n < 4 || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut score = 0_i64;
    for (index, &value) in values.iter().enumerate() {
        for &later in &values[index + 1..] {
            score += match later.partial_cmp(&value) {
                Some(Ordering::Greater) => 1,
                Some(Ordering::Less) => -1,
                _ => 0,
            };
        }
    }
    let part = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 = sorted
        .chunk_by(|one, other| one == other)
        .map(|equal| part(equal.len() as f64))
        .sum();
    let spread = ((part(n as f64) - ties) / 18.0).max(0.0).sqrt();
    if spread == 0.0 {
        return None;
    }
    let score = score as f64;
    let pairs = n as f64 * (n as f64 - 1.0) / 2.0;
    Some(MannKendall {
        rising: normal_above((score - 1.0) / spread),
        falling: normal_above((-score - 1.0) / spread),
        tau: score / pairs,
        spread,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten rising values: S = 45, variance 125, z = 44 / sqrt(125).
    #[test]
    fn a_rise_without_ties_has_the_known_probability() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let test = mann_kendall(&values).unwrap();
        assert!((test.spread.powi(2) - 125.0).abs() < 1e-9);
        assert!(
            (test.rising / 4.155e-5 - 1.0).abs() < 1e-3,
            "{}",
            test.rising
        );
        assert_eq!(test.tau, 1.0);
        assert!(test.falling > 0.9999);
    }

    /// Two groups of two and one of three: 10 values have the variance (2250 - 18 - 18 - 66) / 18.
    #[test]
    fn ties_take_from_the_variance() {
        let values = [1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 6.0, 6.0];
        let test = mann_kendall(&values).unwrap();
        let variance = (2250.0 - 18.0 - 18.0 - 66.0) / 18.0;
        assert!((test.spread.powi(2) - variance).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_tested_gives_no_result() {
        assert_eq!(mann_kendall(&[1.0, 2.0, 3.0]), None);
        assert_eq!(mann_kendall(&[5.0; 20]), None);
        assert_eq!(mann_kendall(&[1.0, f64::NAN, 3.0, 4.0, 5.0]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Turned round in time, a rise is a fall; a scale or an offset changes nothing.
        #[test]
        fn only_the_order_counts(values in prop::collection::vec(-1000_i32..1000, 4..60), scale in 1_i32..50, offset in -500_i32..500) {
            let plain: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
            let moved: Vec<f64> = values.iter().map(|&value| f64::from(value * scale + offset)).collect();
            let reversed: Vec<f64> = plain.iter().rev().copied().collect();
            let test = mann_kendall(&plain);
            prop_assert_eq!(test, mann_kendall(&moved));
            if let (Some(test), Some(back)) = (test, mann_kendall(&reversed)) {
                prop_assert_eq!(test.rising, back.falling);
                prop_assert_eq!(test.tau, -back.tau);
                prop_assert!((0.0..=1.0).contains(&test.rising));
            }
        }
    }
}
