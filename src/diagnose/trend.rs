//! Whether a series of values goes on rising or falling: a test that plateaus, steps and noise do not pass.

use crate::diagnose::statistics::{Slope, mann_kendall, median, theil_sen};

/// What goes on has at least this part of the slope that it had before.
const GOES_ON: f64 = 0.3;

/// A line through values over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    /// Change per unit of time, with its 95 % interval.
    pub(crate) slope: Slope,
    /// Where the line begins and ends.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Trend {
    /// Returns the trend of values that rise by chance with a probability below `chance`; `None` if they do not.
    pub(crate) fn rising(points: &[(f64, f64)], chance: f64) -> Option<Trend> {
        let values: Vec<f64> = points.iter().map(|&(_, value)| value).collect();
        if mann_kendall(&values)?.rising >= chance {
            return None;
        }
        let slope = theil_sen(points)?;
        if slope.low <= 0.0 {
            return None;
        }
        Trend::through(points, slope)
    }

    /// The same for values that fall; its slope is below zero.
    pub(crate) fn falling(points: &[(f64, f64)], chance: f64) -> Option<Trend> {
        let turned: Vec<(f64, f64)> = points.iter().map(|&(at, value)| (at, -value)).collect();
        let Trend { slope, from, to } = Trend::rising(&turned, chance)?;
        Some(Trend {
            slope: Slope {
                slope: -slope.slope,
                low: -slope.high,
                high: -slope.low,
            },
            from: -from,
            to: -to,
        })
    }

    /// Whether the second half of the points goes on as the first half and the whole do: a step or a plateau does not.
    pub(crate) fn goes_on(&self, points: &[(f64, f64)]) -> bool {
        let (early, late) = points.split_at(points.len() / 2);
        let (Some(early), Some(late)) = (theil_sen(early), theil_sen(late)) else {
            return false;
        };
        let sign = self.slope.slope.signum();
        let before = (sign * early.slope).max(sign * self.slope.slope);
        sign * late.slope >= GOES_ON * before
    }

    /// Puts the line so that as many points are above as below.
    fn through(points: &[(f64, f64)], slope: Slope) -> Option<Trend> {
        let (first, last) = (points.first()?.0, points.last()?.0);
        let above: Vec<f64> = points
            .iter()
            .map(|&(at, value)| value - slope.slope * (at - first))
            .collect();
        let from = median(&above)?;
        Some(Trend {
            slope,
            from,
            to: from + slope.slope * (last - first),
        })
    }
}

/// Cuts points into four parts of equal number and returns one figure of each; `None` below 8 points.
pub(crate) fn quarters(
    points: &[(f64, f64)],
    figure: impl Fn(&[f64]) -> Option<f64>,
) -> Option<[f64; 4]> {
    let n = points.len();
    if n < 8 {
        return None;
    }
    let mut figures = [0.0; 4];
    for (index, place) in figures.iter_mut().enumerate() {
        let part = &points[index * n / 4..(index + 1) * n / 4];
        let values: Vec<f64> = part.iter().map(|&(_, value)| value).collect();
        *place = figure(&values)?;
    }
    Some(figures)
}

/// Whether each figure is clearly above the one before: by a twentieth of the whole rise, which noise alone seldom does
/// three times in a row.
pub(crate) fn strictly_rising(figures: &[f64; 4]) -> bool {
    let least = (figures[3] - figures[0]) / 20.0;
    least > 0.0 && figures.windows(2).all(|pair| pair[1] - pair[0] >= least)
}
