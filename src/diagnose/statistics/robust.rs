//! The middle and the spread of values, whatever the outliers.

/// Makes the median absolute deviation comparable with a standard deviation.
const NORMAL: f64 = 1.4826;

/// Returns the median; `None` without values. Values that are not numbers are left out.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    (!sorted.is_empty()).then(|| median_of_sorted(&sorted))
}

/// Returns the median distance from the median, scaled so that it is the standard deviation of normal values; `None`
/// without values.
pub(crate) fn mad(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    Some(median(&distances)? * NORMAL)
}

/// Returns the value that a share `q` of the values does not exceed; `None` without values.
pub(crate) fn quantile_of(values: &[f64], q: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Returns the middle of values by rising size; zero without values.
pub(super) fn median_of_sorted(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted {
        [] => 0.0,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| !value.is_nan())
        .collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN]), None);
        assert_eq!(
            mad(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]),
            Some(1.0 * NORMAL)
        );
        assert_eq!(quantile_of(&[1.0, 2.0, 3.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile_of(&[1.0, 2.0, 3.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile_of(&[7.0], 0.0), Some(7.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Fewer than half of the values cannot move the median out of the range of the others.
        #[test]
        fn a_minority_does_not_move_the_median(
            mut values in prop::collection::vec(-10.0_f64..10.0, 11..40),
            far in prop::collection::vec(1e9_f64..1e12, 0..5),
        ) {
            values.extend(far);
            let middle = median(&values).unwrap();
            prop_assert!((-10.0..=10.0).contains(&middle));
            prop_assert!(mad(&values).unwrap() <= 20.0 * NORMAL);
        }
    }
}
