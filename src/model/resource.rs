//! Measurements of the process and the machine over time.

use serde::Serialize;

use super::Nanos;

/// What a resource reading counts in; part of how it is printed, never of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Per cent; 100 is one whole core where a series says "of one".
    Percent,
    /// Things: threads, files, queue entries.
    Count,
    /// Things per second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Watts.
    Watts,
    /// Joules.
    Joules,
    /// Degrees Celsius.
    Celsius,
    /// Hertz.
    Hertz,
}

/// One reading of one series.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// The series, such as `process.rss`.
    pub series: &'a str,
    /// The unit of `value`.
    pub unit: Unit,
    /// When it was read.
    pub at: Nanos,
    /// The reading; always finite.
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// Builds a reading.
    pub fn new(series: &'a str, unit: Unit, at: Nanos, value: f64) -> Sample<'a> {
        Sample {
            series,
            unit,
            at,
            value,
        }
    }
}

/// All readings of one resource, bounded: old readings are merged in pairs when there are too many.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Series {
    /// The name, such as `process.rss`.
    pub name: String,
    /// The unit of all values.
    pub unit: Unit,
    /// How many readings were taken; exact.
    pub samples: u64,
    /// The mean of all readings; exact.
    pub mean: f64,
    /// The smallest reading; exact.
    pub min: f64,
    /// The largest reading; exact.
    pub max: f64,
    /// The readings by rising time.
    pub points: Vec<Point>,
}

/// One reading, or several that were merged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The time of the (first) reading.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// How many readings this stands for.
    pub samples: u64,
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Series {
    /// Returns a series without readings.
    pub fn new(name: impl Into<String>, unit: Unit) -> Series {
        Series {
            name: name.into(),
            unit,
            samples: 0,
            mean: 0.0,
            min: 0.0,
            max: 0.0,
            points: Vec::new(),
        }
    }
}
