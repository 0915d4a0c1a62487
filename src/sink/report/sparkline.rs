//! Small graphs of one line.

/// Draws at most `width` values between zero and their maximum; of values that share a mark the largest counts.
///
/// Values that are not finite or below zero draw as zero.
pub(super) fn sparkline(values: &[f64], width: usize, marks: &[char]) -> String {
    let clean: Vec<f64> = values
        .iter()
        .map(|value| {
            if value.is_finite() {
                value.max(0.0)
            } else {
                0.0
            }
        })
        .collect();
    let places = clean.len().min(width);
    let top = clean.iter().copied().fold(0.0, f64::max);
    let steps = marks.len().saturating_sub(1);
    (0..places)
        .filter_map(|place| {
            let from = place * clean.len() / places;
            let to = ((place + 1) * clean.len() / places).max(from + 1);
            let value = clean[from..to].iter().copied().fold(0.0, f64::max);
            let height = if top > 0.0 { value / top } else { 0.0 };
            marks.get((height * steps as f64).round() as usize)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [char; 5] = ['0', '1', '2', '3', '4'];

    #[test]
    fn heights_are_relative_to_zero_and_the_maximum() {
        assert_eq!(sparkline(&[0.0, 5.0, 10.0], 10, &MARKS), "024");
        assert_eq!(sparkline(&[9.0, 10.0], 10, &MARKS), "44");
        assert_eq!(sparkline(&[0.0, 0.0], 10, &MARKS), "00");
        assert_eq!(sparkline(&[], 10, &MARKS), "");
        assert_eq!(
            sparkline(&[f64::NAN, f64::INFINITY, -1.0, 1.0], 10, &MARKS),
            "0004"
        );
    }

    #[test]
    fn a_peak_survives_when_values_share_a_mark() {
        let mut values = vec![0.0; 1000];
        values[501] = 8.0;
        let drawn = sparkline(&values, 10, &MARKS);
        assert_eq!(drawn.len(), 10);
        assert_eq!(drawn.matches('4').count(), 1);
    }
}
