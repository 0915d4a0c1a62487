//! What arrived.

use std::time::Instant;

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    InstrumentationScope, KeyValue, any_value::Value as AnyValue,
};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::Answer;

/// Which service was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
}

/// How a request was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

/// The message of a request.
#[derive(Debug, Clone)]
pub enum Message {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub encoding: Encoding,
    /// Over gRPC the metadata.
    pub headers: HeaderMap,
    pub message: Message,
    /// The number of the connection, from 0.
    pub connection: usize,
    pub at: Instant,
    /// What was or will be answered.
    pub answer: Answer,
    /// How many of its spans or metrics were taken; 0 until it is answered.
    pub taken: usize,
}

/// A span with what stands around it in its request.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    pub resource: Resource,
    pub scope: InstrumentationScope,
    pub span: Span,
}

impl Request {
    pub fn signal(&self) -> Signal {
        match self.message {
            Message::Traces(_) => Signal::Traces,
            Message::Metrics(_) => Signal::Metrics,
        }
    }

    /// Returns a header in text, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns how many spans or metrics it brought.
    pub fn len(&self) -> usize {
        match &self.message {
            Message::Traces(traces) => traces
                .resource_spans
                .iter()
                .flat_map(|resource| &resource.scope_spans)
                .map(|scope| scope.spans.len())
                .sum(),
            Message::Metrics(metrics) => metrics
                .resource_metrics
                .iter()
                .flat_map(|resource| &resource.scope_metrics)
                .map(|scope| scope.metrics.len())
                .sum(),
        }
    }

    /// Returns the spans that were taken.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let mut spans = self.all_spans();
        spans.truncate(self.taken);
        spans
    }

    /// Returns the spans, taken or not.
    pub fn all_spans(&self) -> Vec<ReceivedSpan> {
        let Message::Traces(traces) = &self.message else {
            return Vec::new();
        };
        spans_of(traces)
    }

    /// Returns the metrics if they were taken.
    pub fn metrics(&self) -> Vec<Metric> {
        let Message::Metrics(metrics) = &self.message else {
            return Vec::new();
        };
        let scopes = metrics.resource_metrics.iter();
        let scopes = scopes.flat_map(|resource| &resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| &scope.metrics);
        metrics.take(self.taken).cloned().collect()
    }
}

/// Returns the spans of a message in its order.
pub fn spans_of(traces: &ExportTraceServiceRequest) -> Vec<ReceivedSpan> {
    let mut spans = Vec::new();
    for of_resource in &traces.resource_spans {
        for of_scope in &of_resource.scope_spans {
            spans.extend(of_scope.spans.iter().map(|span| ReceivedSpan {
                resource: of_resource.resource.clone().unwrap_or_default(),
                scope: of_scope.scope.clone().unwrap_or_default(),
                span: span.clone(),
            }));
        }
    }
    spans
}

impl ReceivedSpan {
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn span_id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// Empty for the root of a trace.
    pub fn parent_id(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    #[track_caller]
    pub fn attribute(&self, key: &str) -> Option<&AnyValue> {
        value(&self.span.attributes, key)
    }

    /// Returns an attribute in text.
    #[track_caller]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.attribute(key)? {
            AnyValue::StringValue(text) => Some(text),
            other => panic!("{key} is {other:?}"),
        }
    }

    /// Returns a whole number.
    #[track_caller]
    pub fn int(&self, key: &str) -> Option<i64> {
        match self.attribute(key)? {
            AnyValue::IntValue(number) => Some(*number),
            other => panic!("{key} is {other:?}"),
        }
    }

    /// Returns an attribute of the resource in text.
    #[track_caller]
    pub fn resource_text(&self, key: &str) -> Option<&str> {
        match value(&self.resource.attributes, key)? {
            AnyValue::StringValue(text) => Some(text),
            other => panic!("{key} is {other:?}"),
        }
    }
}

/// Returns the only value of a key.
#[track_caller]
pub fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a AnyValue> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.as_ref()?.value.as_ref();
    assert!(found.next().is_none(), "{key} stands twice");
    value
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
