//! Tails of the distributions that the tests need.

use std::f64::consts::{FRAC_2_PI, TAU};

/// Up to here binomial tails are added up; beyond, the normal distribution is as good.
const EXACT: u64 = 10_000;

/// Returns how likely a standard normal value is above `z`; relative error below 1e-9.
pub(crate) fn normal_above(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal_above(-z);
    }
    let density = (-z * z / 2.0).exp() / TAU.sqrt();
    if z > 3.0 {
        // Laplace's continued fraction of the tail.
        let fraction = (1..=60).rev().fold(z, |below, k| z + f64::from(k) / below);
        return density / fraction;
    }
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 - density * sum
}

/// Returns how likely a value of Student's distribution is at least `t` away from zero; exact for whole degrees of freedom.
pub(crate) fn student_beyond(t: f64, freedom: u32) -> f64 {
    let nu = f64::from(freedom.max(1));
    let angle = (t.abs() / nu.sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom.max(1) % 2 == 1;
    let mut term = if odd { cos } else { 1.0 };
    let mut sum = 0.0;
    let mut power = if odd { 1.0 } else { 0.0 };
    while power <= nu - 2.0 && term > 0.0 {
        sum += term;
        power += 2.0;
        term *= cos * cos * (power - 1.0) / power;
    }
    let inside = if odd {
        FRAC_2_PI * (angle + sin * sum)
    } else {
        sin * sum
    };
    (1.0 - inside).clamp(0.0, 1.0)
}

/// Returns the least number that a binomial count with `n` tries of chance `p` stays at or below with probability `sure`.
pub(crate) fn binomial_most(n: u64, p: f64, sure: f64) -> u64 {
    if p <= 0.0 {
        return 0;
    }
    if p >= 1.0 {
        return n;
    }
    let tries = n as f64;
    if n > EXACT {
        let spread = (tries * p * (1.0 - p)).sqrt();
        let most = (tries * p + normal_quantile(sure) * spread).ceil();
        return (most.max(0.0) as u64).min(n);
    }
    let mut log_term = tries * (1.0 - p).ln();
    let odds = (p / (1.0 - p)).ln();
    let mut sum = 0.0;
    for k in 0..n {
        sum += log_term.exp();
        if sum >= sure {
            return k;
        }
        log_term += ((n - k) as f64 / (k + 1) as f64).ln() + odds;
    }
    n
}

/// Returns the value that a standard normal one does not exceed with probability `p`.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if 1.0 - normal_above(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_near(value: f64, expected: f64) {
        assert!(
            (value / expected - 1.0).abs() < 1e-4,
            "{value} instead of {expected}"
        );
    }

    #[test]
    fn tails_are_those_of_the_tables() {
        assert_near(normal_above(1.644854), 0.05);
        assert_near(normal_above(2.326348), 0.01);
        assert_near(normal_above(3.719016), 1e-4);
        assert_near(normal_above(5.997807), 1e-9);
        assert_near(normal_quantile(0.975), 1.959964);
        assert_near(student_beyond(12.706205, 1), 0.05);
        assert_near(student_beyond(4.302653, 2), 0.05);
        assert_near(student_beyond(2.228139, 10), 0.05);
        assert_near(student_beyond(3.249836, 9), 0.01);
        assert_near(student_beyond(1.959964, 100_000), 0.05);
    }

    #[test]
    fn a_binomial_count_stays_below_its_bound() {
        assert_eq!(binomial_most(10, 0.5, 0.95), 8);
        assert_eq!(binomial_most(59, 0.05, 0.04), 0);
        assert_eq!(binomial_most(100, 0.05, 0.95), 9);
        assert_eq!(binomial_most(7, 0.0, 0.99), 0);
        assert_eq!(binomial_most(7, 1.0, 0.01), 7);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn tails_fall_and_add_up(z in 0.0_f64..30.0, further in 0.001_f64..5.0) {
            prop_assert!(normal_above(z + further) < normal_above(z));
            prop_assert!((normal_above(z) + normal_above(-z) - 1.0).abs() < 1e-12);
        }

        /// Where the exact count gives way to the normal distribution, both say nearly the same.
        #[test]
        fn both_ways_to_a_binomial_bound_agree(p in 0.01_f64..0.99, sure in 0.5_f64..0.99) {
            let exact = binomial_most(EXACT, p, sure) as f64;
            let near = binomial_most(EXACT + 1, p, sure) as f64;
            prop_assert!((exact - near).abs() <= 4.0, "{exact} {near}");
        }
    }
}
