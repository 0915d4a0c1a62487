//! Requests as a receiver decodes them, against the profile that they were made of.

mod readings;

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogramDataPoint, NumberDataPoint, metric,
    number_data_point,
};
use proptest::prelude::*;

use super::exponential::upper_bound;
use super::points::attribute;
use super::*;
use crate::model::{Bucket, Distribution, Example, Losses, Site, SiteStats, SpanId, Stats};
use crate::model::{GpuDevice, GpuDeviceStats, GpuProfile};
use crate::model::{TraceId, Unit, WallAnchor, buckets};

const STARTED: u64 = 1_763_700_000_000_000_000;
const CALLS: &str = "traces.span.metrics.calls";
const DURATION: &str = "traces.span.metrics.duration";
const UNSET: [(&str, &str); 1] = [("status.code", "STATUS_CODE_UNSET")];
const ERROR: [(&str, &str); 1] = [("status.code", "STATUS_CODE_ERROR")];

fn settings(temporality: Temporality) -> MetricsSettings {
    MetricsSettings {
        temporality,
        spans: true,
    }
}

fn resource() -> Resource {
    Resource {
        attributes: vec![attribute("service.name", "shop")],
        ..Resource::default()
    }
}

fn profile(wall_ms: u64, sites: Vec<SiteStats>) -> Profile {
    Profile {
        started: WallAnchor { unix_ns: STARTED },
        wall: Nanos(wall_ms * 1_000_000),
        sites,
        ..Profile::default()
    }
}

fn site(id: u32, name: &'static str, stats: Stats) -> SiteStats {
    let site = Site::new(SiteId(id), name, "shop", Some("src/main.rs"), Some(id));
    SiteStats::new(Arc::new(site), stats)
}

/// What the recorder makes of these durations.
fn recorded(values: &[u64]) -> Distribution {
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(0);
    let mut counts = BTreeMap::new();
    for &value in values {
        *counts.entry(buckets::locate(value)).or_insert(0) += 1;
    }
    let mut filled: Vec<Bucket> = Vec::new();
    for ((page, place), count) in counts {
        let value = Nanos(buckets::middle(page, place).clamp(min, max));
        filled.push(Bucket { value, count });
    }
    let sum = Nanos(values.iter().sum());
    Distribution::from_buckets(filled, sum, Nanos(min), Nanos(max), 0)
}

/// What a site's plain spans did that took so long.
fn plain(values: &[u64], errors: u64) -> Stats {
    let activation = recorded(values);
    Stats {
        calls: activation.count,
        errors,
        busy: activation.sum,
        activation,
        ..Stats::default()
    }
}

fn number(value: Option<number_data_point::Value>) -> f64 {
    match value {
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        Some(number_data_point::Value::AsDouble(value)) => value,
        None => f64::NAN,
    }
}

fn has(attributes: &[KeyValue], wanted: &[(&str, &str)]) -> bool {
    wanted
        .iter()
        .all(|(key, value)| attributes.contains(&attribute(key, *value)))
}

/// A decoded request.
struct Received(Vec<Metric>);

impl Received {
    /// Makes a request and decodes it.
    fn from(metrics: &mut Metrics, profile: &Profile) -> Received {
        Received::with(metrics, profile, &Export::default())
    }

    fn with(metrics: &mut Metrics, profile: &Profile, own: &Export) -> Received {
        let (bytes, points) = metrics.request(profile, &resource(), own).unwrap();
        let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
        let [of_resource] = request.resource_metrics.try_into().unwrap();
        assert_eq!(of_resource.resource, Some(resource()));
        let [of_scope] = of_resource.scope_metrics.try_into().unwrap();
        assert_eq!(of_scope.scope.unwrap().name, "tracing-cortex");
        let metrics = of_scope.metrics;
        assert_eq!(metrics.iter().map(points::points_of).sum::<u64>(), points);
        Received(metrics)
    }

    #[track_caller]
    fn metric(&self, name: &str) -> &Metric {
        let found = self.0.iter().find(|metric| metric.name == name);
        found.unwrap_or_else(|| panic!("no metric {name}"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|metric| metric.name == name)
    }

    #[track_caller]
    fn points(&self, name: &str) -> &[NumberDataPoint] {
        match self.metric(name).data.as_ref().unwrap() {
            metric::Data::Sum(sum) => &sum.data_points,
            metric::Data::Gauge(gauge) => &gauge.data_points,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Returns the sum over all points with these attributes.
    fn total(&self, name: &str, attributes: &[(&str, &str)]) -> f64 {
        if !self.has(name) {
            return 0.0;
        }
        let points = self.points(name).iter();
        points
            .filter(|point| has(&point.attributes, attributes))
            .map(|point| number(point.value))
            .sum()
    }

    fn durations(&self) -> &[ExponentialHistogramDataPoint] {
        match self.0.iter().find(|metric| metric.name == DURATION) {
            None => &[],
            Some(metric) => match metric.data.as_ref().unwrap() {
                metric::Data::ExponentialHistogram(histogram) => &histogram.data_points,
                other => panic!("{DURATION} is {other:?}"),
            },
        }
    }

    #[track_caller]
    fn temporality(&self, name: &str) -> AggregationTemporality {
        let code = match self.metric(name).data.as_ref().unwrap() {
            metric::Data::Sum(sum) => sum.aggregation_temporality,
            metric::Data::ExponentialHistogram(histogram) => histogram.aggregation_temporality,
            other => panic!("{name} is {other:?}"),
        };
        code.try_into().unwrap()
    }
}

fn buckets_of(point: &ExponentialHistogramDataPoint) -> impl Iterator<Item = (i32, u64)> {
    let positive = point.positive.as_ref().unwrap();
    (positive.offset..).zip(positive.bucket_counts.iter().copied())
}

#[test]
fn a_site_has_its_exact_figures_under_the_names_of_the_span_metrics() {
    let mut metrics = Metrics::new(settings(Temporality::Cumulative));
    metrics.kind(SiteId(1), SpanKind::Server);
    let stats = Stats {
        idle: Some(Nanos(4_000_000)),
        latency: Some(recorded(&[0, 3_000_000, 5_000_000])),
        ..plain(&[1_000_000; 3], 1)
    };
    let received = Received::from(&mut metrics, &profile(2000, vec![site(1, "get", stats)]));

    let of_site = [
        ("service.name", "shop"),
        ("span.name", "get"),
        ("span.kind", "SPAN_KIND_SERVER"),
    ];
    for (name, value, unit) in [
        (CALLS, 3.0, "{call}"),
        ("tracing_cortex.span.busy", 0.003, "s"),
        ("tracing_cortex.span.idle", 0.004, "s"),
    ] {
        assert_eq!(received.total(name, &of_site), value, "{name}");
        assert_eq!(received.metric(name).unit, unit);
        for point in received.points(name) {
            assert_eq!(point.start_time_unix_nano, STARTED);
            assert_eq!(point.time_unix_nano, STARTED + 2_000_000_000);
        }
    }
    assert_eq!(received.total(CALLS, &UNSET), 2.0);
    assert_eq!(received.total(CALLS, &ERROR), 1.0);

    assert_eq!(received.metric(DURATION).unit, "s");
    let [point] = received.durations() else {
        panic!("one site, one point")
    };
    assert!(has(&point.attributes, &of_site) && point.attributes.len() == 3);
    assert_eq!((point.count, point.zero_count), (3, 1));
    assert_eq!(
        (point.sum, point.min, point.max),
        (Some(0.008), Some(0.0), Some(0.005))
    );
    assert_eq!(buckets_of(point).map(|(_, count)| count).sum::<u64>(), 2);
}

#[test]
fn sites_with_the_same_name_and_kind_are_one_stream() {
    let mut metrics = Metrics::new(settings(Temporality::Cumulative));
    metrics.kind(SiteId(3), SpanKind::Client);
    let sites = vec![
        site(1, "get", plain(&[1000, 2000], 0)),
        site(2, "get", plain(&[4000], 1)),
        site(3, "get", plain(&[8000], 0)),
    ];
    let received = Received::from(&mut metrics, &profile(1, sites));
    let internal = [("span.kind", "SPAN_KIND_INTERNAL")];
    assert_eq!(received.total(CALLS, &internal), 3.0);
    assert_eq!(received.points(CALLS).len(), 3);
    let points = received.durations();
    assert_eq!(points.len(), 2);
    let merged = points.iter().find(|p| has(&p.attributes, &internal));
    let merged = merged.unwrap();
    assert_eq!((merged.count, merged.sum), (3, Some(7e-6)));
    assert_eq!((merged.min, merged.max), (Some(1e-6), Some(4e-6)));
}

#[test]
fn exemplars_are_the_sampled_examples() {
    let example = |span: u64, sampled| Example {
        trace_id: TraceId(7),
        span_id: SpanId(span),
        start: Nanos(1_000_000),
        duration: Nanos(span * 1000),
        sampled,
    };
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut metrics = Metrics::new(settings(temporality));
        let mut row = site(1, "get", plain(&[1000, 2000, 3000], 0));
        row.examples = vec![example(3, true), example(2, false), example(1, true)];
        let received = Received::from(&mut metrics, &profile(2, vec![row.clone()]));
        let exemplars = &received.durations()[0].exemplars;
        assert_eq!(exemplars.len(), 2);
        assert_eq!(exemplars[0].trace_id, 7_u128.to_be_bytes());
        assert_eq!(exemplars[0].span_id, 3_u64.to_be_bytes());
        assert_eq!(exemplars[0].time_unix_nano, STARTED + 1_003_000);

        row.stats = plain(&[1000, 2000, 3000, 9000], 0);
        row.examples.insert(0, example(9, true));
        let received = Received::from(&mut metrics, &profile(3, vec![row]));
        let expected = match temporality {
            Temporality::Cumulative => vec![9, 3, 1],
            _ => vec![9],
        };
        let values: Vec<_> = received.durations()[0]
            .exemplars
            .iter()
            .map(|exemplar| u64::from_be_bytes(exemplar.span_id.clone().try_into().unwrap()))
            .collect();
        assert_eq!(values, expected);
    }
}

#[test]
fn single_polls_of_an_open_async_span_are_no_durations() {
    let mut metrics = Metrics::new(settings(Temporality::Cumulative));
    let open = Stats {
        calls: 1,
        activation: recorded(&[5, 6, 7]),
        ..Stats::default()
    };
    let mut row = site(1, "serve", open);
    let received = Received::from(&mut metrics, &profile(1, vec![row.clone()]));
    assert_eq!(received.total(CALLS, &[]), 1.0);
    assert!(received.durations().is_empty());

    row.stats.latency = Some(recorded(&[9000]));
    let received = Received::from(&mut metrics, &profile(2, vec![row]));
    assert_eq!(received.durations()[0].count, 1);
}

#[test]
fn a_site_that_turns_out_async_goes_on_with_its_latencies() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut metrics = Metrics::new(settings(temporality));
        let mut row = site(1, "get", plain(&[100, 200, 300], 0));
        let first = Received::from(&mut metrics, &profile(1, vec![row.clone()]));
        assert_eq!(first.durations()[0].count, 3);
        row.stats.latency = Some(recorded(&[70_000]));
        row.stats.calls = 4;
        let second = Received::from(&mut metrics, &profile(2, vec![row]));
        let [point] = second.durations() else {
            panic!("one stream")
        };
        let (count, sum) = match temporality {
            Temporality::Cumulative => (4, 70_600),
            _ => (1, 70_000),
        };
        assert_eq!((point.count, point.sum), (count, Some(sum as f64 / 1e9)));
    }
}

#[test]
fn an_operation_that_fails_late_takes_nothing_back() {
    let mut metrics = Metrics::new(settings(Temporality::Cumulative));
    let mut row = site(1, "get", plain(&[100, 200], 0));
    let mut unset = |calls, errors, wall| {
        row.stats.calls = calls;
        row.stats.errors = errors;
        let received = Received::from(&mut metrics, &profile(wall, vec![row.clone()]));
        received.total(CALLS, &UNSET)
    };
    assert_eq!(
        [unset(3, 0, 1), unset(3, 1, 2), unset(5, 1, 3)],
        [3.0, 3.0, 4.0]
    );
}

#[test]
fn after_a_reset_streams_begin_anew() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut metrics = Metrics::new(settings(temporality));
        let before = profile(1000, vec![site(1, "get", plain(&[100; 50], 0))]);
        Received::from(&mut metrics, &before);

        // More calls than before, so that nothing but the beginning tells.
        let mut after = profile(4000, vec![site(1, "get", plain(&[100; 60], 0))]);
        after.began = Nanos(3_000_000_000);
        let received = Received::from(&mut metrics, &after);
        assert_eq!(received.total(CALLS, &[]), 60.0);
        let point = &received.durations()[0];
        assert_eq!(point.count, 60);
        assert_eq!(point.start_time_unix_nano, STARTED + 3_000_000_000);
        assert_eq!(point.time_unix_nano, STARTED + 7_000_000_000);
    }
}

#[test]
fn what_did_not_change_is_left_out_of_a_delta() {
    let mut metrics = Metrics::new(settings(Temporality::Delta));
    let sites = vec![site(1, "get", plain(&[100; 50], 0))];
    let first = Received::from(&mut metrics, &profile(1, sites.clone()));
    assert_eq!(first.temporality(CALLS), AggregationTemporality::Delta);
    assert_eq!(first.temporality(DURATION), AggregationTemporality::Delta);
    let second = Received::from(&mut metrics, &profile(2, sites));
    assert!(!second.has(CALLS) && !second.has(DURATION));
}

#[test]
fn low_memory_sends_the_differences_of_what_the_program_counts() {
    let mut metrics = Metrics::new(settings(Temporality::LowMemory));
    let mut profile = profile(1, vec![site(1, "get", plain(&[100; 50], 0))]);
    profile.process.cpu = Some(Nanos(2_500_000));
    metrics.samples(&[Sample::new("process.rss", Unit::Bytes, Nanos(5), 1.0)]);
    let received = Received::from(&mut metrics, &profile);
    assert_eq!(received.temporality(CALLS), AggregationTemporality::Delta);
    for name in ["process.cpu.time", "process.memory.usage"] {
        let cumulative = AggregationTemporality::Cumulative;
        assert_eq!(received.temporality(name), cumulative, "{name}");
    }
    assert_eq!(received.total("process.cpu.time", &[]), 0.0025);
}

#[test]
fn every_span_is_in_one_count_of_the_exporter() {
    const EXPORTED: &str = "otel.sdk.exporter.span.exported";
    let own = Export {
        name: "otlp".to_owned(),
        exported: 90,
        refused: 4,
        dropped: 3,
        spilled: 2,
        pending: 1,
        lost_points: 5,
        ..Export::default()
    };
    let mut metrics = Metrics::new(settings(Temporality::Delta));
    let mut profile = profile(1, Vec::new());
    profile.losses = Losses {
        dropped_events: 8,
        ..Losses::default()
    };
    let received = Received::with(&mut metrics, &profile, &own);
    let component = [("otel.component.name", "otlp")];
    assert_eq!(received.total(EXPORTED, &component), 99.0);
    for (error, spans) in [("rejected", 4.0), ("dropped", 3.0), ("spilled", 2.0)] {
        assert_eq!(received.total(EXPORTED, &[("error.type", error)]), spans);
    }
    let queue = "otel.sdk.processor.span.queue.size";
    assert_eq!(received.total(queue, &[]), 1.0);
    let points = "otel.sdk.exporter.metric_data_point.exported";
    assert_eq!(received.total(points, &[("error.type", "lost")]), 5.0);
    let losses = received.points("tracing_cortex.losses");
    assert_eq!(losses.len(), 1);
    assert!(has(&losses[0].attributes, &[("reason", "dropped_events")]));

    // A reset of the capture does not touch what was exported.
    profile.began = Nanos(5);
    profile.wall = Nanos(6_000_000);
    let own = Export {
        exported: 95,
        ..own
    };
    let received = Received::with(&mut metrics, &profile, &own);
    assert_eq!(received.total(EXPORTED, &[]), 5.0);
    assert_eq!(received.total("tracing_cortex.losses", &[]), 8.0);
}

#[test]
fn spans_can_be_left_out() {
    let mut metrics = Metrics::new(MetricsSettings {
        temporality: Temporality::Cumulative,
        spans: false,
    });
    let received = Received::from(
        &mut metrics,
        &profile(1, vec![site(1, "get", plain(&[1], 0))]),
    );
    assert!(!received.has(CALLS) && !received.has(DURATION));
}

/// Durations of every order of magnitude alike, zero among them.
fn durations(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u64>> {
    let value = (0_u32..43, 0..=buckets::MAX).prop_map(|(shift, value)| value >> shift);
    prop::collection::vec(prop_oneof![1 => Just(0), 20 => value], len)
}

/// Returns the bounds, in seconds, of the bucket with the value of this rank (from 1).
fn bounds_of_rank(point: &ExponentialHistogramDataPoint, rank: u64) -> (f64, f64) {
    let mut seen = point.zero_count;
    if seen >= rank {
        return (0.0, 0.0);
    }
    for (index, count) in buckets_of(point) {
        seen += count;
        if seen >= rank {
            let bound = |index| upper_bound(index, point.scale);
            return (bound(index - 1), bound(index));
        }
    }
    panic!("{rank} of {seen}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantiles_are_within_a_bucket_of_the_profiles(values in durations(1..800)) {
        let stats = plain(&values, 0);
        let quantiles = stats.activation.quantiles;
        let mut metrics = Metrics::new(settings(Temporality::Cumulative));
        let received = Received::from(&mut metrics, &profile(1, vec![site(1, "get", stats)]));
        let point = &received.durations()[0];
        let n = values.len() as u64;
        prop_assert_eq!(point.count, n);
        let in_buckets: u64 = buckets_of(point).map(|(_, count)| count).sum();
        prop_assert_eq!(in_buckets + point.zero_count, n);
        prop_assert!(point.positive.as_ref().unwrap().bucket_counts.len() <= 160);

        for (q, value) in [(0.5, quantiles.p50), (0.99, quantiles.p99)] {
            let seconds = value.as_secs_f64();
            // Where `q * n` is a whole number, the next value may be the one that is meant.
            let rank = ((q * n as f64) as u64).clamp(1, n);
            let (low, _) = bounds_of_rank(point, rank);
            let (_, high) = bounds_of_rank(point, (rank + 1).min(n));
            prop_assert!(
                seconds >= low * 0.99 - 1e-9 && seconds <= high * 1.01 + 1e-9,
                "p{} is {} s, not within {}..{}", q * 100.0, seconds, low, high
            );
        }
    }

    #[test]
    fn deltas_add_up_to_the_cumulative_figures(ticks in prop::collection::vec((durations(0..60), 0_u64..3), 1..8)) {
        let mut delta = Metrics::new(settings(Temporality::Delta));
        let mut cumulative = Metrics::new(settings(Temporality::Cumulative));
        let (mut all, mut errors) = (Vec::new(), 0);
        let mut summed: BTreeMap<&str, f64> = BTreeMap::new();
        let (mut count, mut sum, mut in_buckets) = (0, 0.0, 0);
        let mut last = None;
        let mut end = STARTED;
        for (wall, (values, failed)) in (1..).zip(ticks) {
            errors += failed.min(values.len() as u64);
            all.extend(values);
            let profile = profile(wall, vec![site(1, "get", plain(&all, errors))]);
            let received = Received::from(&mut delta, &profile);
            for (key, name, status) in [("unset", CALLS, &UNSET[..]), ("error", CALLS, &ERROR), ("busy", "tracing_cortex.span.busy", &[])] {
                *summed.entry(key).or_default() += received.total(name, status);
            }
            for point in received.durations() {
                prop_assert_eq!(point.start_time_unix_nano, end);
                let own: u64 = buckets_of(point).map(|(_, count)| count).sum();
                prop_assert_eq!(own + point.zero_count, point.count);
                count += point.count;
                sum += point.sum.unwrap();
                in_buckets += own;
                let is_first = count == point.count;
                prop_assert_eq!((point.min.is_some(), point.max.is_some()), (is_first, is_first));
            }
            end = STARTED + wall * 1_000_000;
            last = Some(Received::from(&mut cumulative, &profile));
        }
        let last = last.unwrap();
        let busy = "tracing_cortex.span.busy";
        prop_assert_eq!(summed["unset"], last.total(CALLS, &UNSET));
        prop_assert_eq!(summed["error"], last.total(CALLS, &ERROR));
        prop_assert!((summed["busy"] - last.total(busy, &[])).abs() <= 1e-9 * summed["busy"]);
        prop_assert_eq!(summed["unset"] + summed["error"], all.len() as f64);
        if let [point] = last.durations() {
            prop_assert_eq!(point.count, all.len() as u64);
            prop_assert_eq!(count, point.count);
            prop_assert_eq!(in_buckets + all.iter().filter(|value| **value == 0).count() as u64, count);
            prop_assert!((sum - point.sum.unwrap()).abs() <= 1e-9 * sum);
        } else {
            prop_assert!(all.is_empty());
        }
    }

    /// Prometheus takes a bucket that falls for a restart of the program.
    #[test]
    fn no_cumulative_bucket_ever_falls(ticks in prop::collection::vec(durations(0..30), 2..6)) {
        let mut metrics = Metrics::new(settings(Temporality::Cumulative));
        let mut all = Vec::new();
        let mut before: BTreeMap<i32, u64> = BTreeMap::new();
        let mut scale = 5;
        for (wall, values) in (1..).zip(ticks) {
            all.extend(values);
            let received = Received::from(&mut metrics, &profile(wall, vec![site(1, "get", plain(&all, 0))]));
            let Some(point) = received.durations().first() else { continue };
            let steps = scale - point.scale;
            prop_assert!(steps >= 0);
            let now: BTreeMap<i32, u64> = buckets_of(point).collect();
            let mut merged: BTreeMap<i32, u64> = BTreeMap::new();
            for (index, count) in before {
                *merged.entry(index >> steps).or_default() += count;
            }
            for (index, count) in merged {
                prop_assert!(now.get(&index).copied().unwrap_or(0) >= count);
            }
            (before, scale) = (now, point.scale);
        }
    }
}
