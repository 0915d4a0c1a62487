//! The profile as OTLP metrics.
//!
//! Messages are built here and not by an SDK's instruments: those take single measurements, send one time for all
//! readings of an interval, and no exemplars.
//!
//! | file | holds |
//! |---|---|
//! | `spans` | calls and durations of each site |
//! | `exponential` | from a distribution to an exponential histogram |
//! | `readings` | resource readings until the next request |
//! | `conventions`, `gpu` | names, units and instruments of the readings |
//! | `own` | the exporter's own counters, and losses |
//! | `points` | small builders |

mod conventions;
mod exponential;
mod gpu;
mod own;
mod points;
mod readings;
mod spans;
#[cfg(test)]
mod tests;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use self::own::Counters;
use self::points::{Aggregation, Interval};
use self::readings::Pending;
use self::spans::SpanMetrics;
use super::settings::Temporality;
use crate::model::{Export, Nanos, Profile, Sample, SiteId};

/// What is sent as metrics, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricsSettings {
    pub(super) temporality: Temporality,
    /// Whether calls and durations of spans are among them. Off where a collector derives the same from the spans.
    pub(super) spans: bool,
}

/// Turns profiles and resource readings into requests.
#[derive(Debug)]
pub(super) struct Metrics {
    settings: MetricsSettings,
    spans: SpanMetrics,
    pending: Pending,
    /// Counters that a reset of the capture sets to zero.
    of_capture: Counters,
    /// Counters that it does not.
    of_process: Counters,
    /// The last request's [`Profile::began`] and time.
    last: Option<(Nanos, u64)>,
}

impl Metrics {
    pub(super) fn new(settings: MetricsSettings) -> Metrics {
        Metrics {
            settings,
            spans: SpanMetrics::default(),
            pending: Pending::default(),
            of_capture: Counters::default(),
            of_process: Counters::default(),
            last: None,
        }
    }

    /// Notes the kind of a site's spans; a site that is never named is internal.
    pub(super) fn kind(&mut self, site: SiteId, kind: SpanKind) {
        self.spans.kind(site, kind);
    }

    /// Keeps resource readings for the next request.
    pub(super) fn samples(&mut self, batch: &[Sample<'_>]) {
        for sample in batch {
            self.pending.keep(sample);
        }
    }

    /// Returns how many readings were given up since this was last asked, because there were too many between two
    /// requests.
    pub(super) fn take_dropped_samples(&mut self) -> u64 {
        self.pending.take_dropped()
    }

    /// Builds the request of this moment and returns it encoded, with its number of points; `None` if there is nothing
    /// to say.
    pub(super) fn request(
        &mut self,
        profile: &Profile,
        resource: &Resource,
        own: &Export,
    ) -> Option<(Vec<u8>, u64)> {
        let metrics = self.metrics(profile, resource, own);
        let points = metrics.iter().map(points::points_of).sum();
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope {
                        name: env!("CARGO_PKG_NAME").to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        (points > 0).then(|| (request.encode_to_vec(), points))
    }

    fn metrics(&mut self, profile: &Profile, resource: &Resource, own: &Export) -> Vec<Metric> {
        let began = profile.started.unix_ns_at(profile.began);
        let now = began.saturating_add(profile.wall.0);
        let process_began = profile.started.unix_ns;
        if self.last.is_some_and(|(last, _)| last != profile.began) {
            self.spans.restart();
            self.of_capture.restart();
        }
        let since = self.last.map_or(process_began, |(_, time)| time);
        self.last = Some((profile.began, now));
        // What happened between the last request and a reset is not in the profile.
        let of_capture = Interval {
            start: began,
            since: since.max(began),
            now,
        };
        let of_process = Interval {
            start: process_began,
            since,
            now,
        };

        let counts = Aggregation::of_counts(self.settings.temporality);
        let readings = Aggregation::of_readings(self.settings.temporality);
        let mut metrics = Vec::new();
        if self.settings.spans {
            let service = service_name(resource);
            self.spans
                .append(profile, service, counts, of_capture, &mut metrics);
        }
        let devices: Vec<_> = profile
            .gpu
            .iter()
            .flat_map(|gpu| gpu.devices.iter().map(|stats| stats.device.clone()))
            .collect();
        self.pending
            .drain(profile.started, &devices, readings, &mut metrics);
        if let Some(cpu) = profile.process.cpu {
            metrics.extend(self.cpu_time(cpu, readings, of_capture));
        }
        own::append_losses(
            &profile.losses,
            &mut self.of_capture,
            counts,
            of_capture,
            &mut metrics,
        );
        own::append_export(own, &mut self.of_process, counts, of_process, &mut metrics);
        metrics
    }

    /// The only counter among the resources that is known as a count and not as a rate.
    fn cpu_time(
        &mut self,
        cpu: Nanos,
        aggregation: Aggregation,
        interval: Interval,
    ) -> Option<Metric> {
        const NAME: &str = "process.cpu.time";
        let value = self.of_capture.value((NAME, ""), cpu.0, aggregation)?;
        let start = aggregation.start(interval);
        let point = points::point(points::seconds(value), start, interval.now, Vec::new());
        points::counter(
            NAME,
            "s",
            "CPU time of the process since the start.",
            aggregation,
            vec![point],
        )
    }
}

fn service_name(resource: &Resource) -> Option<&str> {
    let mut attributes = resource.attributes.iter();
    let named = attributes.find(|attribute| attribute.key == "service.name")?;
    match named.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(name) => Some(name),
        _ => None,
    }
}
