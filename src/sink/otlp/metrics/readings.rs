//! Resource readings on their way into the next request.

use std::collections::{BTreeMap, VecDeque};

use opentelemetry_proto::tonic::metrics::v1::{Metric, number_data_point};

use super::conventions::{Convention, Instrument};
use super::gpu;
use super::points::{Aggregation, attribute, counter, gauge, point, up_down_counter};
use crate::model::{GpuDevice, Nanos, Sample, Unit, WallAnchor};

/// The most readings of one series between two requests: a minute of the default interval of 250 ms, and some.
const MAX_PER_SERIES: usize = 256;

/// The most readings of all series: 1.5 MiB of a request, where receivers take 4 MiB by default.
const MAX_IN_ALL: usize = 16_384;

/// The readings since the last request, each with its own time.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_series: BTreeMap<String, Series>,
    len: usize,
    dropped: u64,
    /// Of each series that is a counter, the last time and value that was sent.
    sent: BTreeMap<String, (u64, f64)>,
}

#[derive(Debug)]
struct Series {
    unit: Unit,
    readings: VecDeque<(Nanos, f64)>,
}

impl Pending {
    /// Keeps a reading. Where there are too many, the oldest of its series goes.
    pub(super) fn keep(&mut self, sample: &Sample<'_>) {
        if !self.by_series.contains_key(sample.series) {
            let series = Series {
                unit: sample.unit,
                readings: VecDeque::new(),
            };
            self.by_series.insert(sample.series.to_owned(), series);
        }
        let Some(series) = self.by_series.get_mut(sample.series) else {
            return;
        };
        series.readings.push_back((sample.at, sample.value));
        self.len += 1;
        if self.len > MAX_IN_ALL || series.readings.len() > MAX_PER_SERIES {
            series.readings.pop_front();
            self.len -= 1;
            self.dropped += 1;
        }
    }

    /// Returns how many readings were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Moves everything into metrics; counters are aggregated as told.
    pub(super) fn drain(
        &mut self,
        anchor: WallAnchor,
        devices: &[GpuDevice],
        aggregation: Aggregation,
        metrics: &mut Vec<Metric>,
    ) {
        let taken = std::mem::take(&mut self.by_series);
        self.len = 0;
        // Several series may be one metric with different attributes.
        let mut by_metric = BTreeMap::new();
        for (name, series) in &taken {
            let convention = Convention::of(name, series.unit);
            let Convention {
                factor, instrument, ..
            } = convention;
            let key = (convention.name, convention.unit, instrument);
            let (_, points) = by_metric
                .entry(key)
                .or_insert_with(|| (convention.description, Vec::new()));
            let mut attributes = convention
                .device
                .map_or(Vec::new(), |device| gpu::attributes(device, devices));
            attributes.extend(convention.attribute.map(|(key, of)| attribute(key, of)));
            points.extend(series.readings.iter().map(|&(at, value)| {
                let time = anchor.unix_ns_at(at);
                let mut value = value * factor;
                let start = match instrument {
                    Instrument::Gauge => 0,
                    Instrument::Counter if aggregation == Aggregation::Delta => {
                        let last = self.sent.entry(name.clone());
                        let (since, sent) = last.or_insert((anchor.unix_ns, 0.0));
                        let start = std::mem::replace(since, time);
                        value -= std::mem::replace(sent, value);
                        start
                    }
                    Instrument::Counter | Instrument::UpDownCounter => anchor.unix_ns,
                };
                let value = number_data_point::Value::AsDouble(value);
                point(value, start, time, attributes.clone())
            }));
        }
        metrics.extend(by_metric.into_iter().filter_map(
            |((name, unit, instrument), (description, points))| match instrument {
                Instrument::Gauge => Some(gauge(name, unit, description, points)),
                Instrument::Counter => counter(name, unit, description, aggregation, points),
                Instrument::UpDownCounter => Some(up_down_counter(name, unit, description, points)),
            },
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::otlp::metrics::points::points_of;

    fn drain(pending: &mut Pending, metrics: &mut Vec<Metric>) {
        let cumulative = Aggregation::Cumulative;
        pending.drain(WallAnchor::default(), &[], cumulative, metrics);
    }

    #[test]
    fn the_newest_readings_of_a_series_are_kept_and_the_others_counted() {
        let mut pending = Pending::default();
        for at in 0..300 {
            pending.keep(&Sample::new("a", Unit::Count, Nanos(at), 0.0));
        }
        pending.keep(&Sample::new("b", Unit::Count, Nanos(7), 0.0));
        assert_eq!(pending.take_dropped(), 300 - MAX_PER_SERIES as u64);
        let (at, _) = pending.by_series["a"].readings[0];
        assert_eq!(at, Nanos(300 - MAX_PER_SERIES as u64));
        assert_eq!(pending.by_series["b"].readings.len(), 1);

        let mut metrics = Vec::new();
        drain(&mut pending, &mut metrics);
        assert_eq!(metrics.iter().map(points_of).sum::<u64>(), 257);
        drain(&mut pending, &mut metrics);
        assert_eq!(metrics.len(), 2);
    }

    #[test]
    fn all_series_together_are_bounded() {
        let mut pending = Pending::default();
        for series in 0..300 {
            for at in 0..100 {
                pending.keep(&Sample::new(
                    &series.to_string(),
                    Unit::Count,
                    Nanos(at),
                    0.0,
                ));
            }
        }
        assert_eq!(pending.len, MAX_IN_ALL);
        assert_eq!(pending.take_dropped(), 300 * 100 - MAX_IN_ALL as u64);
    }
}
