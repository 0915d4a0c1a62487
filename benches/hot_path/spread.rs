//! A figure that was measured several times.

use serde::Serialize;

/// A figure over all rounds that have it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) rounds: usize,
}

impl Spread {
    /// Returns `None` if no round has the figure.
    pub(crate) fn over<'a, R>(
        rounds: &'a [R],
        figure: impl Fn(&'a R) -> Option<f64>,
    ) -> Option<Spread> {
        let mut values: Vec<f64> = rounds.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            len if len % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Spread {
            min: values[0],
            median,
            max: values[values.len() - 1],
            rounds: values.len(),
        })
    }
}

/// Prints the median, or a dash.
pub(crate) fn median(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |spread| {
        format!("{:.digits$}", spread.median)
    })
}

/// Prints the smallest and the largest value, or a dash.
pub(crate) fn range(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |spread| {
        format!("[{:.digits$}..{:.digits$}]", spread.min, spread.max)
    })
}
