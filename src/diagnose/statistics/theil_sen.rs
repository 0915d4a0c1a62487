//! How steeply values rise, whatever the outliers.

use super::mann_kendall::mann_kendall;
use super::probability::normal_quantile;
use super::robust::median_of_sorted;

/// A line through points, and how sure its slope is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slope {
    /// The median of the slopes between all pairs of points.
    pub(crate) slope: f64,
    /// The 95 % interval of the slope.
    pub(crate) low: f64,
    /// See `low`.
    pub(crate) high: f64,
}

/// Fits a line through points `(x, y)` with rising `x`; takes `n^2 / 2` numbers of memory for `n` points.
///
/// `None` below 4 points, or where no two points have a different `x`, or with a number that is not finite.
pub(crate) fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    let n = points.len();
    if n < 4
        || points
            .iter()
            .any(|(x, y)| !(x.is_finite() && y.is_finite()))
    {
        return None;
    }
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for (index, &(x, y)) in points.iter().enumerate() {
        for &(later_x, later_y) in &points[index + 1..] {
            if later_x != x {
                slopes.push((later_y - y) / (later_x - x));
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_by(f64::total_cmp);
    let values: Vec<f64> = points.iter().map(|&(_, y)| y).collect();
    // Without a spread all values are equal, and so are all slopes.
    let spread = mann_kendall(&values).map_or(0.0, |test| test.spread);
    let pairs = slopes.len() as f64;
    let half_width = normal_quantile(0.975) * spread;
    let at = |rank: f64| slopes[(rank.max(0.0) as usize).min(slopes.len() - 1)];
    Some(Slope {
        slope: median_of_sorted(&slopes),
        low: at(((pairs - half_width) / 2.0).floor() - 1.0),
        high: at(((pairs + half_width) / 2.0).ceil()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn outliers_do_not_turn_the_line() {
        let mut points: Vec<(f64, f64)> = (0..40)
            .map(|x| (f64::from(x), 3.0 * f64::from(x)))
            .collect();
        points[5].1 = 1e6;
        points[30].1 = -1e6;
        let fit = theil_sen(&points).unwrap();
        assert_eq!(fit.slope, 3.0);
        assert!(fit.low <= 3.0 && fit.high >= 3.0);
    }

    /// Between squares the slopes are `x + later_x`: 45 of them from 1 to 17, of which the interval takes the 11th and the
    /// 35th, as half of 1.96 times the square root of 125 is 10.96.
    #[test]
    fn the_interval_leaves_out_the_slopes_at_both_ends() {
        let squares = (0..10).map(|x| (f64::from(x), f64::from(x * x)));
        let fit = theil_sen(&squares.collect::<Vec<_>>()).unwrap();
        assert_eq!((fit.low, fit.slope, fit.high), (6.0, 9.0, 12.0));
    }

    #[test]
    fn what_is_no_line_has_no_slope() {
        assert_eq!(theil_sen(&[(1.0, 1.0); 8]), None);
        assert_eq!(theil_sen(&[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]), None);
        let infinite = [(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 1.0), (3.0, 1.0)];
        assert_eq!(theil_sen(&infinite), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_slope_lies_within_its_interval(values in prop::collection::vec(-1e6_f64..1e6, 4..60)) {
            let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(x, &y)| (x as f64, y)).collect();
            let fit = theil_sen(&points).unwrap();
            prop_assert!(fit.low <= fit.slope && fit.slope <= fit.high, "{fit:?}");
        }
    }
}
