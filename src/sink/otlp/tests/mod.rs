//! The exporter against small receivers on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exception for tests does not reach helpers"
)]

mod grpc;
mod http;
mod loss;
mod receiver;
#[cfg(feature = "otlp-ring")]
mod tls;

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::exporter::{Exporter, SpanBatch};
use super::settings::Otlp;
use crate::model::Export;

fn start(otlp: Otlp) -> Exporter {
    let settings = otlp.resolve().unwrap().unwrap();
    Exporter::start(&settings, || {}).unwrap()
}

/// Waits until everything that was queued has its fate; returns whether that was so by the deadline.
fn settles(exporter: &Exporter, deadline: Instant) -> bool {
    while !exporter.is_settled() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn request(spans: u64, name: &str) -> ExportTraceServiceRequest {
    let spans = (1..=spans).map(|number| Span {
        trace_id: vec![7; 16],
        span_id: number.to_be_bytes().to_vec(),
        name: name.to_owned(),
        start_time_unix_nano: 1_700_000_000_123_456_789,
        end_time_unix_nano: 1_700_000_000_223_456_789,
        ..Span::default()
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn batch(spans: u64) -> SpanBatch {
    SpanBatch {
        request: request(spans, "work").encode_to_vec(),
        spans,
    }
}

fn metrics() -> Vec<u8> {
    ExportMetricsServiceRequest {
        resource_metrics: vec![Default::default()],
    }
    .encode_to_vec()
}

/// Sends one batch of 3 spans and returns what became of it.
fn fate(otlp: Otlp) -> Export {
    let exporter = start(otlp);
    exporter.send_spans(batch(3));
    exporter.finish(soon());
    exporter.account()
}

/// Asserts the counts of spans: exported, refused, dropped, spilled.
fn assert_counts(export: &Export, expected: [u64; 4]) {
    let counts = [
        export.exported,
        export.refused,
        export.dropped,
        export.spilled,
    ];
    assert_eq!(counts, expected, "{export:?}");
    assert_eq!(export.pending, 0, "{export:?}");
    assert_eq!(
        export.last_error.is_some(),
        counts[1..].iter().any(|count| *count > 0),
        "{export:?}"
    );
}
