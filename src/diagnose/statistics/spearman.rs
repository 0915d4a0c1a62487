//! Whether two things grow together, whatever the shape.

use super::probability::student_beyond;

/// The result of Spearman's test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spearman {
    /// 1: the higher one, the higher the other; -1: the lower; 0: neither.
    pub(crate) rho: f64,
    /// The probability of a `rho` this far from zero, if neither says anything about the other.
    pub(crate) p: f64,
}

/// Compares the ranks of pairs. `None` below 4 pairs, if one side has one value only, or with a number that is none.
pub(crate) fn spearman(pairs: &[(f64, f64)]) -> Option<Spearman> {
    let n = pairs.len();
    if n < 4 || pairs.iter().any(|(x, y)| x.is_nan() || y.is_nan()) {
        return None;
    }
    let ranks_x = ranks(pairs.iter().map(|&(x, _)| x));
    let ranks_y = ranks(pairs.iter().map(|&(_, y)| y));
    let middle = (n as f64 + 1.0) / 2.0;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in ranks_x.iter().zip(&ranks_y) {
        let (x, y) = (x - middle, y - middle);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    if xx == 0.0 || yy == 0.0 {
        return None;
    }
    let rho = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    let freedom = u32::try_from(n - 2).unwrap_or(u32::MAX);
    let t = rho * (f64::from(freedom) / (1.0 - rho * rho).max(f64::MIN_POSITIVE)).sqrt();
    Some(Spearman {
        rho,
        p: student_beyond(t, freedom),
    })
}

/// Returns the rank of each value, counted from 1; equal values share the mean of theirs.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values
        .enumerate()
        .map(|(index, value)| (value, index))
        .collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut ranks = vec![0.0; order.len()];
    let mut below = 0;
    for equal in order.chunk_by(|one, other| one.0 == other.0) {
        let rank = below as f64 + (equal.len() as f64 + 1.0) / 2.0;
        for &(_, index) in equal {
            ranks[index] = rank;
        }
        below += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ranks 1..10 against 2 1 4 3 6 5 8 7 10 9: the squared differences add up to 10.
    #[test]
    fn the_coefficient_and_its_probability_are_the_known_ones() {
        let swapped = [2, 1, 4, 3, 6, 5, 8, 7, 10, 9];
        let pairs: Vec<(f64, f64)> = (1..)
            .zip(swapped)
            .map(|(x, y)| (f64::from(x), f64::from(y)))
            .collect();
        let test = spearman(&pairs).unwrap();
        let expected = 1.0 - 6.0 * 10.0 / (10.0 * 99.0);
        assert!((test.rho - expected).abs() < 1e-12);
        assert!(test.p < 1e-4 && test.p > 1e-6, "{}", test.p);
    }

    #[test]
    fn equal_values_share_their_rank() {
        assert_eq!(
            ranks([3.0, 1.0, 3.0, 2.0].into_iter()),
            [3.5, 1.0, 3.5, 2.0]
        );
    }

    #[test]
    fn one_value_on_a_side_says_nothing() {
        assert_eq!(spearman(&[(1.0, 5.0); 6]), None);
        assert_eq!(spearman(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_sides_can_be_exchanged(pairs in prop::collection::vec((-100_i32..100, -100_i32..100), 4..50)) {
            let one: Vec<(f64, f64)> = pairs.iter().map(|&(x, y)| (f64::from(x), f64::from(y))).collect();
            let other: Vec<(f64, f64)> = one.iter().map(|&(x, y)| (y, x)).collect();
            if let (Some(one), Some(other)) = (spearman(&one), spearman(&other)) {
                prop_assert!((one.rho - other.rho).abs() < 1e-12);
                prop_assert!((-1.0..=1.0).contains(&one.rho) && (0.0..=1.0).contains(&one.p));
            }
        }
    }
}
