//! What the exporter says about itself, and what the capture lost.

use std::collections::HashMap;

use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};

use super::points::{Aggregation, Interval, attribute, count, counter, point, up_down_counter};
use crate::model::{Export, Losses};

/// Counters and what was sent of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: HashMap<(&'static str, &'static str), u64>,
}

impl Counters {
    /// Forgets what was sent, for counters that began anew.
    pub(super) fn restart(&mut self) {
        self.sent.clear();
    }

    /// Builds a counter that is never sent lower than before; `key` names it and one value of its attribute.
    /// `None` where there is nothing to say.
    pub(super) fn value(
        &mut self,
        key: (&'static str, &'static str),
        now: u64,
        aggregation: Aggregation,
    ) -> Option<u64> {
        let sent = self.sent.entry(key).or_default();
        let growth = now.saturating_sub(*sent);
        *sent += growth;
        let value = match aggregation {
            Aggregation::Cumulative => *sent,
            Aggregation::Delta => growth,
        };
        Some(value).filter(|&value| value > 0)
    }
}

/// Appends what became of the spans and of the metric points.
pub(super) fn append_export(
    export: &Export,
    counters: &mut Counters,
    aggregation: Aggregation,
    interval: Interval,
    metrics: &mut Vec<Metric>,
) {
    let component = || attribute("otel.component.name", export.name.clone());
    // The conventions' word for what a receiver refused is `rejected`.
    let spans = [
        ("", export.exported),
        ("rejected", export.refused),
        ("dropped", export.dropped),
        ("spilled", export.spilled),
    ];
    let data_points = [("", export.exported_points), ("lost", export.lost_points)];
    for (name, unit, description, counts) in [
        (
            "otel.sdk.exporter.span.exported",
            "{span}",
            "Spans whose export has ended, by why it failed.",
            spans.as_slice(),
        ),
        (
            "otel.sdk.exporter.metric_data_point.exported",
            "{data_point}",
            "Metric points whose export has ended, by why it failed.",
            data_points.as_slice(),
        ),
    ] {
        let points = counts.iter().filter_map(|&(error, value)| {
            let value = counters.value((name, error), value, aggregation)?;
            let mut attributes = vec![component()];
            if !error.is_empty() {
                attributes.push(attribute("error.type", error));
            }
            let start = aggregation.start(interval);
            Some(point(count(value), start, interval.now, attributes))
        });
        metrics.extend(counter(
            name,
            unit,
            description,
            aggregation,
            points.collect(),
        ));
    }
    metrics.push(up_down_counter(
        "otel.sdk.processor.span.queue.size",
        "{span}",
        "Spans that wait to be exported.",
        vec![point(
            count(export.pending),
            interval.start,
            interval.now,
            vec![component()],
        )],
    ));
}

/// Appends what the capture lost, if it lost anything.
pub(super) fn append_losses(
    losses: &Losses,
    counters: &mut Counters,
    aggregation: Aggregation,
    interval: Interval,
    metrics: &mut Vec<Metric>,
) {
    const NAME: &str = "tracing_cortex.losses";
    let points: Vec<NumberDataPoint> = by_reason(losses)
        .into_iter()
        .filter_map(|(reason, value)| {
            let value = counters.value((NAME, reason), value, aggregation)?;
            Some(point(
                count(value),
                aggregation.start(interval),
                interval.now,
                vec![attribute("reason", reason)],
            ))
        })
        .collect();
    metrics.extend(counter(
        NAME,
        "{loss}",
        "What was not measured, by reason.",
        aggregation,
        points,
    ));
}

/// Names every counter as the JSON report does.
fn by_reason(losses: &Losses) -> [(&'static str, u64); 18] {
    // Taken apart, so that a new counter cannot be forgotten here.
    let Losses {
        dropped_spans,
        dropped_events,
        cut_strings,
        panicked_fields,
        folded_activations,
        untracked_spans,
        unknown_spans,
        unbalanced_exits,
        out_of_order_exits,
        nested_enters,
        late_latencies,
        late_calls,
        clock_steps,
        teardown,
        outliers,
        stray_records,
        open_spans,
        failures,
    } = losses;
    let failures = u64::try_from(failures.len()).unwrap_or(u64::MAX);
    [
        ("dropped_spans", *dropped_spans),
        ("dropped_events", *dropped_events),
        ("cut_strings", *cut_strings),
        ("panicked_fields", *panicked_fields),
        ("folded_activations", *folded_activations),
        ("untracked_spans", *untracked_spans),
        ("unknown_spans", *unknown_spans),
        ("unbalanced_exits", *unbalanced_exits),
        ("out_of_order_exits", *out_of_order_exits),
        ("nested_enters", *nested_enters),
        ("late_latencies", *late_latencies),
        ("late_calls", *late_calls),
        ("clock_steps", *clock_steps),
        ("teardown", *teardown),
        ("outliers", *outliers),
        ("stray_records", *stray_records),
        ("open_spans", *open_spans),
        ("failures", failures),
    ]
}
