//! The sink: samples, encodes, hands over, and keeps the account.

use std::io;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::batch::Batch;
use super::children::Children;
use super::encode::{self, OTEL_KIND, SpanEncoder};
use super::exporter::Exporter;
use super::metrics::{Metrics, MetricsSettings};
use super::sampling::Tail;
use super::settings::Settings;
use crate::model::{Diagnosis, Export, GpuBatch, GpuWork, Operation, Profile, Sample};
use crate::model::{SiteId, WallAnchor};
use crate::sink::{Sink, SinkError, Wants};

const NAME: &str = "otlp";

/// How often it is looked up what is slow, if nothing else asks for the profile more often.
const LEARN_PERIOD: Duration = Duration::from_secs(10);
/// The exporter may end a little after its own deadline, and this sink must not.
const MARGIN: Duration = Duration::from_millis(200);

/// Exports operations and metrics.
#[derive(Debug)]
pub(crate) struct OtlpSink {
    exporter: Exporter,
    encoder: SpanEncoder,
    batch: Batch,
    tail: Option<Tail>,
    needs_profile: bool,
    schedule_delay: Duration,
    wants_traces: bool,
    children: Children,
    metrics: Option<Meter>,
    left_out: u64,
    adopted: u64,
}

/// What metrics need.
#[derive(Debug)]
struct Meter {
    metrics: Metrics,
    resource: Resource,
    interval: Duration,
    next: Option<Instant>,
    /// Whether the kind of a site's spans is known, by [`SiteId`].
    known_kinds: Vec<bool>,
    lost_readings: u64,
}

impl Meter {
    fn new(settings: &Settings, resource: Resource) -> Meter {
        let interval = settings.metrics_interval;
        Meter {
            metrics: Metrics::new(MetricsSettings {
                temporality: settings.temporality,
                spans: true,
            }),
            resource,
            interval,
            next: Instant::now().checked_add(interval),
            known_kinds: Vec::new(),
            lost_readings: 0,
        }
    }

    /// Looks up the kind of each site once: it is the same for all of its spans in any program that means well.
    #[inline]
    fn note_kind(&mut self, operation: &Operation<'_>) {
        let SiteId(index) = operation.site.id;
        let known = self.known_kinds.get(index as usize);
        if known != Some(&true) {
            self.learn_kind(operation, index as usize);
        }
    }

    #[cold]
    fn learn_kind(&mut self, operation: &Operation<'_>, index: usize) {
        let kind = encode::kind(operation);
        if let Some(kind) = kind {
            self.metrics.kind(operation.site.id, kind);
        }
        if kind.is_some() || !operation.site.fields.contains(&OTEL_KIND) {
            let length = self.known_kinds.len().max(index + 1);
            self.known_kinds.resize(length, false);
            self.known_kinds[index] = true;
        }
    }

    /// Builds the request of this moment and how many points are in it.
    fn request(&mut self, profile: &Profile, own: &Export) -> Option<(Vec<u8>, u64)> {
        self.next = Instant::now().checked_add(self.interval);
        let request = self.metrics.request(profile, &self.resource, own);
        self.lost_readings += self.metrics.take_dropped_samples();
        request
    }
}

impl OtlpSink {
    /// Starts the exporter; `on_thread_start` is called first on its threads.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn start(
        settings: &Settings,
        anchor: WallAnchor,
        on_thread_start: fn(),
    ) -> io::Result<OtlpSink> {
        let exporter = Exporter::start(settings, on_thread_start)?;
        let resource = settings.resource.encode();
        let rules = &settings.sampling;
        Ok(OtlpSink {
            exporter,
            encoder: SpanEncoder::new(anchor),
            batch: Batch::new(resource.encode_to_vec(), settings.max_batch_spans),
            tail: rules.has_tail().then(|| Tail::new(rules.clone())),
            needs_profile: rules.needs_profile() && settings.traces.is_some(),
            schedule_delay: settings.schedule_delay,
            wants_traces: settings.traces.is_some(),
            children: Children::new(settings.max_gpu_spans),
            metrics: settings
                .metrics
                .is_some()
                .then(|| Meter::new(settings, resource)),
            left_out: 0,
            adopted: 0,
        })
    }

    fn operation(&mut self, operation: &Operation<'_>, now: Instant) {
        if let Some(meter) = &mut self.metrics {
            meter.note_kind(operation);
        }
        if operation.ids.adopted {
            self.adopted += 1;
        } else if operation.ids.sampled {
            let encoder = &mut self.encoder;
            self.batch.append(|out| encoder.append(out, operation));
        } else if let Some(tail) = &mut self.tail {
            tail.take(operation, &mut self.encoder, &mut self.batch, now);
        } else {
            self.left_out += 1;
        }
    }

    fn gpu_work(&mut self, work: &GpuWork) {
        let Some(ids) = self.children.ids(work) else {
            return;
        };
        let encoder = &mut self.encoder;
        let append = |out: &mut Vec<u8>| encoder.append_gpu(out, work, &ids);
        if ids.sampled {
            self.batch.append(append);
        } else if let Some(tail) = &mut self.tail {
            tail.take_child(ids.trace, append, &mut self.batch);
        } else {
            self.left_out += 1;
        }
    }

    fn settle(&mut self, now: Instant) {
        if let Some(tail) = &mut self.tail {
            tail.settle(now);
        }
    }

    fn hand_over(&mut self) {
        for batch in self.batch.take() {
            self.exporter.send_spans(batch);
        }
    }

    fn send_metrics(&mut self, profile: &Profile) {
        if !self.exporter.takes_metrics() {
            return;
        }
        let own = self.account();
        if let Some(meter) = &mut self.metrics
            && let Some((request, points)) = meter.request(profile, &own)
        {
            self.exporter.send_metrics(request, points);
        }
    }

    fn account(&self) -> Export {
        let mut export = self.exporter.account();
        export.name = NAME.to_owned();
        export.sampled_out += self.left_out;
        export.adopted += self.adopted;
        export.gpu_beyond_limit += self.children.beyond();
        export.pending += self.batch.pending();
        if let Some(tail) = &self.tail {
            export.sampled_out += tail.left_out();
            export.pending += tail.pending();
        }
        if let Some(meter) = &self.metrics {
            export.lost_points += meter.lost_readings;
        }
        export
    }
}

impl Sink for OtlpSink {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants {
            fields: self.wants_traces,
            operations: self.wants_traces,
            samples: self.metrics.is_some(),
            gpu: self.wants_traces,
            ..Wants::PROFILE
        }
    }

    fn operations(&mut self, batch: &[Operation<'_>]) -> Result<(), SinkError> {
        let now = Instant::now();
        for operation in batch {
            self.operation(operation, now);
        }
        self.settle(now);
        self.batch.close_after(self.schedule_delay);
        self.hand_over();
        Ok(())
    }

    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        for work in batch.work {
            self.gpu_work(work);
        }
        self.hand_over();
        Ok(())
    }

    fn samples(&mut self, batch: &[Sample<'_>]) -> Result<(), SinkError> {
        if let Some(meter) = &mut self.metrics
            && self.exporter.takes_metrics()
        {
            meter.metrics.samples(batch);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.settle(Instant::now());
        self.batch.close();
        self.hand_over();
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        let is_settled = self.exporter.is_settled();
        if !is_settled {
            // Asked only while somebody waits.
            self.exporter.hurry();
        }
        is_settled
    }

    fn tick_period(&self) -> Option<Duration> {
        let learn = self.needs_profile.then_some(LEARN_PERIOD);
        let metrics = self.metrics.as_ref().map(|meter| meter.interval);
        metrics.into_iter().chain(learn).min()
    }

    fn tick(&mut self, profile: &Profile) -> Result<(), SinkError> {
        if let Some(tail) = &mut self.tail {
            tail.learn(profile);
        }
        if let Some(meter) = &self.metrics {
            // Ticks come a little early or late, but never by half of their period.
            let slack = self.tick_period().unwrap_or_default() / 2;
            let soon = Instant::now().checked_add(slack);
            if meter.next.is_some() && meter.next <= soon {
                self.send_metrics(profile);
            }
        }
        Ok(())
    }

    fn export(&self) -> Option<Export> {
        Some(self.account())
    }

    fn finish(
        &mut self,
        profile: &Profile,
        _diagnosis: &Diagnosis,
        deadline: Duration,
    ) -> Result<(), SinkError> {
        let until = Instant::now() + deadline.saturating_sub(MARGIN.min(deadline / 4));
        if let Some(tail) = &mut self.tail {
            tail.finish();
        }
        self.batch.close();
        self.hand_over();
        self.send_metrics(profile);
        self.exporter.finish(until);
        match loss(&self.account(), self.exporter.unwanted_points()) {
            Some(loss) => Err(SinkError::other(loss)),
            None => Ok(()),
        }
    }
}

/// Says what did not arrive, if anything. What was spilled is not lost, and a receiver that takes no metrics is no
/// failure.
fn loss(export: &Export, unwanted_points: u64) -> Option<String> {
    let lost_points = export.lost_points.saturating_sub(unwanted_points);
    let counts = [
        (export.refused, "spans refused"),
        (export.dropped + export.pending, "spans dropped"),
        (lost_points, "metric points lost"),
    ];
    let mut counts = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"));
    let mut text = counts.next()?;
    for count in counts {
        text.push_str(", ");
        text.push_str(&count);
    }
    text.push_str(&format!(" on the way to {}", export.endpoint));
    let of_points = export.last_points_error.as_ref();
    let of_points = of_points.filter(|_| lost_points > 0);
    let errors: Vec<_> = export.last_error.iter().chain(of_points).collect();
    for (index, error) in errors.iter().enumerate() {
        // What stops all of it is said once.
        if !errors[..index].contains(error) {
            text.push_str(if index == 0 { ": " } else { "; " });
            text.push_str(error);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_named_with_its_reason() {
        let mut export = Export {
            endpoint: "http://localhost:4318".to_owned(),
            exported: 7,
            spilled: 3,
            sampled_out: 2,
            adopted: 1,
            last_error: Some("connection refused".to_owned()),
            ..Export::default()
        };
        assert_eq!(loss(&export, 0), None);
        export.refused = 4;
        export.lost_points = 5;
        assert_eq!(
            loss(&export, 0).unwrap(),
            "4 spans refused, 5 metric points lost on the way to http://localhost:4318: connection refused"
        );
        export.last_points_error = Some("the queue is full".to_owned());
        assert_eq!(
            loss(&export, 0).unwrap(),
            "4 spans refused, 5 metric points lost on the way to http://localhost:4318: connection refused; the queue \
             is full"
        );
        export.last_points_error.clone_from(&export.last_error);
        assert_eq!(
            loss(&export, 1).unwrap(),
            "4 spans refused, 4 metric points lost on the way to http://localhost:4318: connection refused"
        );
        export.last_error = None;
        export.dropped = 6;
        assert_eq!(
            loss(&export, 5).unwrap(),
            "4 spans refused, 6 spans dropped on the way to http://localhost:4318"
        );
        let export = Export {
            lost_points: 5,
            last_points_error: Some("takes no metrics".to_owned()),
            ..Export::default()
        };
        assert_eq!(loss(&export, 5), None);
    }
}
