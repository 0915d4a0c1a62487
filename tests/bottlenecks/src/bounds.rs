//! How sure a share is that was counted.

/// Returns the lower end of the one-sided 95 % Clopper-Pearson interval of `hits` out of `of`; `None` of nothing.
pub fn lower(hits: u64, of: u64) -> Option<f64> {
    if of == 0 {
        return None;
    }
    if hits == 0 {
        return Some(0.0);
    }
    // The share at which so many hits or more have a chance of 5 %.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_least(hits, of, middle) < 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

/// The chance of `hits` or more of `of` where each has the chance `share`.
fn at_least(hits: u64, of: u64, share: f64) -> f64 {
    let mut log_choose = 0.0;
    let mut sum = 0.0;
    for count in (hits..=of).rev() {
        let misses = of - count;
        sum += (log_choose + count as f64 * share.ln() + misses as f64 * (1.0 - share).ln()).exp();
        log_choose += (count as f64).ln() - ((misses + 1) as f64).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs of cases and failures at which 95 % is reached.
    #[test]
    fn the_bound_is_the_one_in_the_tables() {
        for (of, failures) in [
            (59, 0),
            (93, 1),
            (124, 2),
            (153, 3),
            (181, 4),
            (208, 5),
            (234, 6),
        ] {
            let reached = lower(of - failures, of).unwrap();
            let before = lower(of - 1 - failures, of - 1).unwrap();
            assert!(reached >= 0.95 && before < 0.95, "{of}: {reached} {before}");
        }
        assert_eq!(lower(0, 10), Some(0.0));
        assert_eq!(lower(0, 0), None);
    }
}
