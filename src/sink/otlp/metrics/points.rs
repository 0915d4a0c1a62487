//! Small builders of what OTLP metrics consist of.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, Sum, metric, number_data_point,
};

use super::Temporality;

/// What a request speaks of, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    /// When the cumulative figures began: at the start, or at the last reset.
    pub(super) start: u64,
    /// When the last request was made; not before `start`.
    pub(super) since: u64,
    pub(super) now: u64,
}

/// Whether a figure is sent as what it is since the start, or as what it grew by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregation {
    Cumulative,
    Delta,
}

impl Aggregation {
    /// Of what the program itself counts.
    pub(super) fn of_counts(temporality: Temporality) -> Aggregation {
        match temporality {
            Temporality::Cumulative => Aggregation::Cumulative,
            Temporality::Delta | Temporality::LowMemory => Aggregation::Delta,
        }
    }

    /// Of counters that are read elsewhere, where a difference takes memory.
    pub(super) fn of_readings(temporality: Temporality) -> Aggregation {
        match temporality {
            Temporality::Cumulative | Temporality::LowMemory => Aggregation::Cumulative,
            Temporality::Delta => Aggregation::Delta,
        }
    }

    pub(super) fn start(self, interval: Interval) -> u64 {
        match self {
            Aggregation::Cumulative => interval.start,
            Aggregation::Delta => interval.since,
        }
    }

    pub(super) fn code(self) -> i32 {
        match self {
            Aggregation::Cumulative => AggregationTemporality::Cumulative as i32,
            Aggregation::Delta => AggregationTemporality::Delta as i32,
        }
    }
}

pub(super) fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}

pub(super) fn count(value: u64) -> number_data_point::Value {
    number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn seconds(nanos: u64) -> number_data_point::Value {
    number_data_point::Value::AsDouble(nanos as f64 / 1e9)
}

pub(super) fn point(
    value: number_data_point::Value,
    start_time_unix_nano: u64,
    time_unix_nano: u64,
    attributes: Vec<KeyValue>,
) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, unit: &str, description: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// Builds a sum that only grows; `None` without points.
pub(super) fn counter(
    name: &str,
    unit: &str,
    description: &str,
    aggregation: Aggregation,
    data_points: Vec<NumberDataPoint>,
) -> Option<Metric> {
    let sum = Sum {
        aggregation_temporality: aggregation.code(),
        is_monotonic: true,
        data_points,
    };
    (!sum.data_points.is_empty()).then(|| metric(name, unit, description, metric::Data::Sum(sum)))
}

/// Builds a sum that may fall. Always cumulative, whatever the user prefers for counters.
pub(super) fn up_down_counter(
    name: &str,
    unit: &str,
    description: &str,
    data_points: Vec<NumberDataPoint>,
) -> Metric {
    let sum = Sum {
        aggregation_temporality: Aggregation::Cumulative.code(),
        is_monotonic: false,
        data_points,
    };
    metric(name, unit, description, metric::Data::Sum(sum))
}

pub(super) fn gauge(
    name: &str,
    unit: &str,
    description: &str,
    data_points: Vec<NumberDataPoint>,
) -> Metric {
    let gauge = Gauge { data_points };
    metric(name, unit, description, metric::Data::Gauge(gauge))
}

/// Returns how many points a metric has.
pub(super) fn points_of(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(metric::Data::Sum(sum)) => sum.data_points.len(),
        Some(metric::Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    };
    u64::try_from(points).unwrap_or(u64::MAX)
}
