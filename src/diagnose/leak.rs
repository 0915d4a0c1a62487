//! Whether a resource goes on growing: six tests that warm-up, plateaus, steps and sawteeth do not pass together.

use std::time::Duration;

use crate::diagnose::evidence::Evidence;
use crate::diagnose::statistics::{Slope, median};
use crate::diagnose::trend::{Trend, quarters, strictly_rising};
use crate::model::{Nanos, Series};

/// The part of the readings that is taken for warm-up.
const WARM_UP: f64 = 0.3;

/// Points below which nothing is even suspected.
const FEWEST_POINTS: usize = 12;

/// What a resource must have to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enough {
    /// Readings after warm-up.
    pub(crate) samples: u64,
    /// Time after warm-up.
    pub(crate) time: Duration,
}

/// A resource that grows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leak {
    /// Where the line through the readings after warm-up begins and ends.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Growth per second.
    pub(crate) slope: Slope,
    /// Readings after warm-up, and the time they span.
    pub(crate) samples: u64,
    pub(crate) time: Nanos,
}

/// What the tests say.
#[derive(Debug)]
pub(crate) enum Growth {
    Leaks(Leak),
    /// It grows, but was not watched for long enough: readings that there are and that are needed.
    Suspected(u64, u64),
    /// It does not.
    Steady,
    /// Nobody read it for long enough to say anything.
    Unknown,
}

impl Growth {
    /// Tests a series; `floor` says, from its median, what growth is worth telling.
    pub(crate) fn of(
        series: &Series,
        enough: Enough,
        floor: impl Fn(f64) -> f64,
        chance: f64,
    ) -> Growth {
        let warm = (series.points.len() as f64 * WARM_UP).ceil() as usize;
        let points = series.points.get(warm..).unwrap_or_default();
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Growth::Unknown;
        };
        let samples = points
            .iter()
            .fold(0, |sum: u64, point| sum.saturating_add(point.samples));
        let time = last.at.saturating_sub(first.at);
        let long = time >= Nanos::from(enough.time);
        let judged = samples >= enough.samples && long;
        let values: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (point.at.as_secs_f64(), point.mean))
            .collect();
        let lows: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (point.at.as_secs_f64(), point.min))
            .collect();
        let trend = (points.len() >= FEWEST_POINTS)
            .then(|| leak_trend(&values, &lows, floor, chance))
            .flatten();
        match trend {
            Some(trend) if judged => Growth::Leaks(Leak {
                from: trend.from,
                to: trend.to,
                slope: trend.slope,
                samples,
                time,
            }),
            Some(_) if long => Growth::Suspected(samples, enough.samples),
            Some(_) => Growth::Suspected(time.0 / SECOND, enough.time.as_secs()),
            None if judged => Growth::Steady,
            None => Growth::Unknown,
        }
    }
}

const SECOND: u64 = 1_000_000_000;

fn leak_trend(
    values: &[(f64, f64)],
    lows: &[(f64, f64)],
    floor: impl Fn(f64) -> f64,
    chance: f64,
) -> Option<Trend> {
    let trend = Trend::rising(values, chance)?;
    let plain: Vec<f64> = values.iter().map(|&(_, value)| value).collect();
    if trend.to - trend.from < floor(median(&plain)?) {
        return None;
    }
    if !trend.goes_on(values) {
        return None;
    }
    let minima = quarters(lows, |part| part.iter().copied().reduce(f64::min))?;
    strictly_rising(&minima).then_some(trend)
}

impl Leak {
    /// Returns how long it takes from the last reading to reach `limit`, by both ends of the slope's interval: the
    /// soonest, and the latest.
    pub(crate) fn reaches(&self, limit: f64) -> Option<(Duration, Duration)> {
        let left = limit - self.to;
        let at = |slope: f64| Duration::try_from_secs_f64(left / slope).ok();
        (left > 0.0).then_some(())?;
        Some((at(self.slope.high)?, at(self.slope.low)?))
    }
}

/// Returns a series by its name.
pub(crate) fn series<'a>(evidence: &Evidence<'a>, name: &str) -> Option<&'a Series> {
    let mut series = evidence.profile.resources.iter();
    series.find(|series| series.name == name)
}

/// Prints a time to a limit in the unit that fits.
pub(crate) fn eta(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// Prints `, limit 1024 in 3 min to 4 min`; nothing without a limit.
pub(crate) fn limit_words(limit: Option<(String, (Duration, Duration))>) -> String {
    limit.map_or(String::new(), |(limit, (soonest, latest))| {
        let (soonest, latest) = (eta(soonest), eta(latest));
        if soonest == latest {
            format!(" At this rate the limit of {limit} is reached in {soonest}.")
        } else {
            format!(" At this rate the limit of {limit} is reached in {soonest} to {latest}.")
        }
    })
}
