//! The sink: samples, encodes, hands over, and keeps the account.

use std::io;
use std::time::{Duration, Instant};

use prost::Message;

use super::batch::Batch;
use super::encode::SpanEncoder;
use super::exporter::Exporter;
use super::sampling::{Sampling, Tail};
use super::settings::Settings;
use crate::model::{Diagnosis, Export, Operation, Profile, WallAnchor};
use crate::sink::{Sink, SinkError, Wants};

/// How often it is looked up what is slow, if nothing else asks for the profile more often.
const LEARN_PERIOD: Duration = Duration::from_secs(10);
/// The exporter's answer must be there before the deadline of the sink itself.
const MARGIN: Duration = Duration::from_millis(100);

/// Exports operations and metrics.
#[derive(Debug)]
pub(crate) struct OtlpSink {
    exporter: Exporter,
    encoder: SpanEncoder,
    batch: Batch,
    head: Sampling,
    tail: Option<Tail>,
    needs_profile: bool,
    schedule_delay: Duration,
    wants_traces: bool,
    /// `None` if metrics are switched off.
    metrics_interval: Option<Duration>,
    next_metrics: Option<Instant>,
    left_out: u64,
    adopted: u64,
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
        let resource = settings.resource.encode().encode_to_vec();
        let rules = &settings.sampling;
        let metrics_interval = settings.metrics.as_ref().map(|_| settings.metrics_interval);
        Ok(OtlpSink {
            exporter,
            encoder: SpanEncoder::new(anchor),
            batch: Batch::new(resource, settings.max_batch_spans),
            head: rules.head,
            tail: rules.has_tail().then(|| Tail::new(rules.clone())),
            needs_profile: rules.needs_profile() && settings.traces.is_some(),
            schedule_delay: settings.schedule_delay,
            wants_traces: settings.traces.is_some(),
            metrics_interval,
            next_metrics: metrics_interval
                .and_then(|interval| Instant::now().checked_add(interval)),
            left_out: 0,
            adopted: 0,
        })
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        if operation.ids.adopted {
            self.adopted += 1;
        } else if self.head.keeps(&operation.ids) {
            let encoder = &mut self.encoder;
            self.batch.append(|out| encoder.append(out, operation));
        } else if let Some(tail) = &mut self.tail {
            tail.take(operation, &mut self.encoder, &mut self.batch);
        } else {
            self.left_out += 1;
        }
    }

    fn hand_over(&mut self) {
        for batch in self.batch.take() {
            self.exporter.send_spans(batch);
        }
    }

    fn send_metrics(&mut self, profile: &Profile) {
        let _ = profile;
    }
}

impl Sink for OtlpSink {
    fn name(&self) -> &str {
        "otlp"
    }

    fn wants(&self) -> Wants {
        Wants {
            events: self.wants_traces,
            fields: self.wants_traces,
            operations: self.wants_traces,
            ..Wants::PROFILE
        }
    }

    fn operations(&mut self, batch: &[Operation<'_>]) -> Result<(), SinkError> {
        for operation in batch {
            self.operation(operation);
        }
        self.batch.close_after(self.schedule_delay);
        self.hand_over();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.batch.close();
        self.hand_over();
        Ok(())
    }

    fn tick_period(&self) -> Option<Duration> {
        let learn = self.needs_profile.then_some(LEARN_PERIOD);
        self.metrics_interval.into_iter().chain(learn).min()
    }

    fn tick(&mut self, profile: &Profile) -> Result<(), SinkError> {
        if let Some(tail) = &mut self.tail {
            tail.learn(profile);
        }
        let now = Instant::now();
        if self.next_metrics.is_some_and(|next| next <= now) {
            self.next_metrics = self
                .metrics_interval
                .and_then(|interval| now.checked_add(interval));
            self.send_metrics(profile);
        }
        Ok(())
    }

    fn export(&self) -> Option<Export> {
        let mut export = self.exporter.account();
        export.name = self.name().to_owned();
        export.sampled_out += self.left_out;
        export.adopted += self.adopted;
        export.pending += self.batch.pending();
        if let Some(tail) = &self.tail {
            export.sampled_out += tail.left_out();
            export.pending += tail.pending();
        }
        Some(export)
    }

    fn finish(
        &mut self,
        profile: &Profile,
        _diagnosis: &Diagnosis,
        deadline: Duration,
    ) -> Result<(), SinkError> {
        let until = Instant::now() + deadline.saturating_sub(MARGIN.min(deadline / 10));
        if let Some(tail) = &mut self.tail {
            tail.finish();
        }
        self.batch.close();
        self.hand_over();
        if self.metrics_interval.is_some() {
            self.send_metrics(profile);
        }
        self.exporter.finish(until);
        match self.export().and_then(|export| loss(&export)) {
            Some(loss) => Err(SinkError::other(loss)),
            None => Ok(()),
        }
    }
}

/// Says what did not arrive, if anything; what was spilled is not lost.
fn loss(export: &Export) -> Option<String> {
    let counts = [
        (export.refused, "spans refused"),
        (export.dropped + export.pending, "spans dropped"),
        (export.lost_points, "metric points lost"),
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
    if let Some(error) = &export.last_error {
        text.push_str(": ");
        text.push_str(error);
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
        assert_eq!(loss(&export), None);
        export.refused = 4;
        export.lost_points = 5;
        assert_eq!(
            loss(&export).unwrap(),
            "4 spans refused, 5 metric points lost on the way to http://localhost:4318: connection refused"
        );
        export.last_error = None;
        export.dropped = 6;
        assert_eq!(
            loss(&export).unwrap(),
            "4 spans refused, 6 spans dropped, 5 metric points lost on the way to http://localhost:4318"
        );
    }
}
