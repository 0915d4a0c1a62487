//! Calls and durations of each site, under the names of the collector's span-metrics connector.
//!
//! | metric | |
//! |---|---|
//! | `traces.span.metrics.calls` | operations, also those under way, by `status.code` |
//! | `traces.span.metrics.duration` | finished operations: from open to close of async spans, else the activation |
//! | `tracing_cortex.span.busy` | time inside |
//! | `tracing_cortex.span.idle` | async spans only: time in which nobody worked on them |
//!
//! A stream is a name and a kind; sites that share both are added up. The duration has no `status.code`, because one
//! distribution holds the failed and the other operations of a site. It is in seconds, as OpenTelemetry asks for; Jaeger's
//! monitoring has to be told so by its `latency_unit`, which is milliseconds unless set.
//!
//! What is sent only ever grows: each request adds to the streams what each site has grown by since the request before.
//! So cumulative streams are the sums of the deltas, in whichever way a site's figures or its kind change.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Metric, exemplar, metric,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::exponential::Counts;
use super::points::{Aggregation, Interval, attribute, count, counter, point, seconds};
use crate::model::{Distribution, Example, Profile, SiteId, SiteStats, SpanId, Stats, WallAnchor};

/// Exemplars of one point, the slowest ones.
const MAX_EXEMPLARS: usize = 5;

/// All streams, and what they were made of so far.
#[derive(Debug, Default)]
pub(super) struct SpanMetrics {
    kinds: HashMap<SiteId, SpanKind>,
    sites: HashMap<SiteId, Sent>,
    streams: BTreeMap<(&'static str, SpanKind), Stream>,
}

/// What was sent of one site.
#[derive(Debug, Default)]
struct Sent {
    unset: u64,
    errors: u64,
    busy: u64,
    idle: u64,
    counts: Counts,
    sum: u64,
    examples: Vec<SpanId>,
}

#[derive(Debug, Default)]
struct Stream {
    since_start: Figures,
    since_request: Figures,
}

/// Times are in nanoseconds.
#[derive(Debug, Default)]
struct Figures {
    unset: u64,
    errors: u64,
    busy: u64,
    idle: Option<u64>,
    counts: Counts,
    sum: u64,
    /// The exact extremes; `None` where only those since the start are known.
    range: Option<(u64, u64)>,
    examples: Vec<Example>,
}

impl SpanMetrics {
    /// Notes the kind of a site's spans. Where they differ, the last one told counts.
    pub(super) fn kind(&mut self, site: SiteId, kind: SpanKind) {
        self.kinds.insert(site, kind);
    }

    /// Forgets what was sent, for figures that began anew.
    pub(super) fn restart(&mut self) {
        self.sites.clear();
        self.streams.clear();
    }

    /// Appends the metrics of all sites.
    pub(super) fn append(
        &mut self,
        profile: &Profile,
        service: Option<&str>,
        aggregation: Aggregation,
        interval: Interval,
        metrics: &mut Vec<Metric>,
    ) {
        for stream in self.streams.values_mut() {
            stream.since_request = Figures::default();
        }
        for row in profile.sites.iter().filter(|row| row.stats.calls > 0) {
            let kind = match self.kinds.get(&row.site.id) {
                None | Some(SpanKind::Unspecified) => SpanKind::Internal,
                Some(kind) => *kind,
            };
            let sent = self.sites.entry(row.site.id).or_default();
            let stream = self.streams.entry((row.site.name, kind)).or_default();
            stream.add(sent, row);
        }

        let start = aggregation.start(interval);
        let mut calls = Vec::new();
        let mut durations = Vec::new();
        let mut busy = Vec::new();
        let mut idle = Vec::new();
        for ((name, kind), stream) in &self.streams {
            let figures = match aggregation {
                Aggregation::Cumulative => &stream.since_start,
                Aggregation::Delta => &stream.since_request,
            };
            let attributes = || attributes(service, name, *kind);
            for (status, value) in [
                ("STATUS_CODE_UNSET", figures.unset),
                ("STATUS_CODE_ERROR", figures.errors),
            ] {
                if value > 0 {
                    let mut attributes = attributes();
                    attributes.push(attribute("status.code", status));
                    calls.push(point(count(value), start, interval.now, attributes));
                }
            }
            if figures.counts.total() > 0 {
                durations.push(figures.histogram(
                    profile.started,
                    start,
                    interval.now,
                    attributes(),
                ));
            }
            for (points, value) in [(&mut busy, Some(figures.busy)), (&mut idle, figures.idle)] {
                if let Some(value) = value.filter(|&value| value > 0) {
                    points.push(point(seconds(value), start, interval.now, attributes()));
                }
            }
        }
        metrics.extend(counter(
            "traces.span.metrics.calls",
            "{call}",
            "Operations, also those under way.",
            aggregation,
            calls,
        ));
        if !durations.is_empty() {
            metrics.push(Metric {
                name: "traces.span.metrics.duration".to_owned(),
                description: "How long operations took.".to_owned(),
                unit: "s".to_owned(),
                data: Some(metric::Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: durations,
                    aggregation_temporality: aggregation.code(),
                })),
                ..Metric::default()
            });
        }
        metrics.extend(counter(
            "tracing_cortex.span.busy",
            "s",
            "Time inside spans, summed over threads.",
            aggregation,
            busy,
        ));
        metrics.extend(counter(
            "tracing_cortex.span.idle",
            "s",
            "Time between open and close of async spans in which nobody worked on them.",
            aggregation,
            idle,
        ));
    }
}

fn attributes(service: Option<&str>, name: &str, kind: SpanKind) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(4);
    attributes.extend(service.map(|service| attribute("service.name", service)));
    attributes.push(attribute("span.name", name));
    attributes.push(attribute("span.kind", kind.as_str_name()));
    attributes
}

impl Stream {
    /// Adds what a site has grown by since it was last sent.
    fn add(&mut self, sent: &mut Sent, row: &SiteStats) {
        let stats = &row.stats;
        // An operation under way counts as not failed. Where it fails after all, the next ones make up for it.
        let unset = grow(&mut sent.unset, stats.calls.saturating_sub(stats.errors));
        let errors = grow(&mut sent.errors, stats.errors);
        let busy = grow(&mut sent.busy, stats.busy.0);
        let idle = stats.idle.map(|idle| grow(&mut sent.idle, idle.0));
        for figures in [&mut self.since_start, &mut self.since_request] {
            figures.unset += unset;
            figures.errors += errors;
            figures.busy = figures.busy.saturating_add(busy);
            if let Some(idle) = idle {
                figures.idle = Some(figures.idle.unwrap_or(0).saturating_add(idle));
            }
        }
        if let Some(durations) = durations(stats) {
            self.add_durations(sent, durations);
        }
        let examples = || row.examples.iter().filter(|example| example.sampled);
        self.since_request
            .add_examples(examples().filter(|example| !sent.examples.contains(&example.span_id)));
        self.since_start.add_examples(examples());
        sent.examples = examples().map(|example| example.span_id).collect();
    }

    fn add_durations(&mut self, sent: &mut Sent, durations: &Distribution) {
        let now = Counts::of(durations);
        let growth = sent
            .counts
            .growth(&now)
            .filter(|_| sent.sum <= durations.sum.0);
        // A site whose first spans were plain changes from activations to latencies with its first async one.
        let counts = growth.unwrap_or_else(|| {
            sent.counts = Counts::default();
            sent.sum = 0;
            now
        });
        let is_all = sent.counts.total() == 0;
        let sum = grow(&mut sent.sum, durations.sum.0);
        sent.counts.absorb(&counts);
        if counts.total() == 0 {
            return;
        }
        let range = (durations.min.0, durations.max.0);
        self.since_start.add_durations(&counts, sum, Some(range));
        self.since_request
            .add_durations(&counts, sum, is_all.then_some(range));
    }
}

/// Returns how long the operations of a site took; `None` while only single polls of open async spans are known.
fn durations(stats: &Stats) -> Option<&Distribution> {
    let polls = stats.latency.is_none() && stats.activation.count > stats.calls;
    Some(stats.operations()).filter(|durations| !polls && durations.count > 0)
}

/// Raises `sent` to `now` and returns the difference. Figures of what goes on may fall a little; what was sent does not.
fn grow(sent: &mut u64, now: u64) -> u64 {
    let growth = now.saturating_sub(*sent);
    *sent += growth;
    growth
}

impl Figures {
    fn add_durations(&mut self, counts: &Counts, sum: u64, range: Option<(u64, u64)>) {
        let is_first = self.counts.total() == 0;
        self.range = match (self.range, range) {
            (Some((min, max)), Some((low, high))) => Some((min.min(low), max.max(high))),
            (None, range) if is_first => range,
            _ => None,
        };
        self.counts.absorb(counts);
        self.sum = self.sum.saturating_add(sum);
    }

    fn add_examples<'a>(&mut self, examples: impl Iterator<Item = &'a Example>) {
        for example in examples {
            let known = |other: &Example| other.span_id == example.span_id;
            if !self.examples.iter().any(known) {
                self.examples.push(example.clone());
            }
        }
        self.examples
            .sort_by_key(|example| std::cmp::Reverse(example.duration));
        self.examples.truncate(MAX_EXEMPLARS);
    }

    fn histogram(
        &self,
        anchor: WallAnchor,
        start_time_unix_nano: u64,
        time_unix_nano: u64,
        attributes: Vec<KeyValue>,
    ) -> ExponentialHistogramDataPoint {
        let scaled = self.counts.scaled();
        let in_seconds = |nanos: u64| nanos as f64 / 1e9;
        ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            count: self.counts.total(),
            sum: Some(in_seconds(self.sum)),
            scale: scaled.scale,
            zero_count: scaled.zero_count,
            positive: Some(scaled.positive),
            exemplars: self
                .examples
                .iter()
                .map(|example| exemplar(example, anchor))
                .collect(),
            min: self.range.map(|(min, _)| in_seconds(min)),
            max: self.range.map(|(_, max)| in_seconds(max)),
            ..ExponentialHistogramDataPoint::default()
        }
    }
}

fn exemplar(example: &Example, anchor: WallAnchor) -> Exemplar {
    let end = example.start.saturating_add(example.duration);
    Exemplar {
        time_unix_nano: anchor.unix_ns_at(end),
        span_id: example.span_id.0.to_be_bytes().to_vec(),
        trace_id: example.trace_id.0.to_be_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(example.duration.as_secs_f64())),
        ..Exemplar::default()
    }
}
