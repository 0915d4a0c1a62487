//! Requests as the types that exporters of OpenTelemetry take.
//!
//! What a span says was decided when it was encoded. This only moves it from one type to another, so that it is the same
//! whichever way it goes.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Encoded;
use opentelemetry_proto::tonic::trace::v1 as proto;
use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prost::{DecodeError, Message};

/// A request, read.
pub(super) struct Decoded {
    pub(super) resource: Resource,
    pub(super) spans: Vec<SpanData>,
}

/// Reads one of our own requests: all spans of one resource.
pub(super) fn decode(request: &[u8]) -> Result<Decoded, DecodeError> {
    let request = ExportTraceServiceRequest::decode(request)?;
    let mut attributes = Vec::new();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        attributes = key_values(resource.attributes).0;
        for of_scope in of_resource.scope_spans {
            let scope = scope(of_scope.scope.unwrap_or_default());
            let of_scope = of_scope.spans.into_iter();
            spans.extend(of_scope.map(|span| span_data(span, scope.clone())));
        }
    }
    let resource = Resource::builder_empty()
        .with_attributes(attributes)
        .build();
    Ok(Decoded { resource, spans })
}

fn scope(scope: common::InstrumentationScope) -> InstrumentationScope {
    let builder = InstrumentationScope::builder(scope.name);
    builder.with_version(scope.version).build()
}

fn span_data(span: proto::Span, scope: InstrumentationScope) -> SpanData {
    let kind = span.kind();
    let (attributes, dropped) = key_values(span.attributes);
    let mut events = SpanEvents::default();
    events.events = span.events.into_iter().map(event).collect();
    events.dropped_count = span.dropped_events_count;
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(link).collect();
    links.dropped_count = span.dropped_links_count;
    SpanData {
        span_context: SpanContext::new(
            trace_id(&span.trace_id),
            span_id(&span.span_id),
            trace_flags(span.flags),
            false,
            trace_state(&span.trace_state),
        ),
        parent_span_id: span_id(&span.parent_span_id),
        parent_span_is_remote: is_remote(span.flags),
        span_kind: span_kind(kind),
        name: span.name.into(),
        start_time: time(span.start_time_unix_nano),
        end_time: time(span.end_time_unix_nano),
        attributes,
        dropped_attributes_count: span.dropped_attributes_count + dropped,
        events,
        links,
        status: status(span.status.unwrap_or_default()),
        instrumentation_scope: scope,
    }
}

fn event(event: proto::span::Event) -> Event {
    let (attributes, dropped) = key_values(event.attributes);
    let dropped = event.dropped_attributes_count + dropped;
    Event::new(event.name, time(event.time_unix_nano), attributes, dropped)
}

fn link(link: proto::span::Link) -> Link {
    let (attributes, dropped) = key_values(link.attributes);
    let context = SpanContext::new(
        trace_id(&link.trace_id),
        span_id(&link.span_id),
        trace_flags(link.flags),
        is_remote(link.flags),
        trace_state(&link.trace_state),
    );
    Link::new(context, attributes, link.dropped_attributes_count + dropped)
}

fn status(status: proto::Status) -> Status {
    match status.code() {
        proto::status::StatusCode::Unset => Status::Unset,
        proto::status::StatusCode::Ok => Status::Ok,
        proto::status::StatusCode::Error => Status::error(status.message),
    }
}

fn span_kind(kind: proto::span::SpanKind) -> SpanKind {
    use proto::span::SpanKind as Kind;
    match kind {
        Kind::Unspecified | Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

/// Returns the attributes and how many there is no place for in these types; the encoder writes none of those.
fn key_values(attributes: Vec<common::KeyValue>) -> (Vec<KeyValue>, u32) {
    let mut dropped = 0;
    let mut kept = Vec::with_capacity(attributes.len());
    for common::KeyValue { key, value, .. } in attributes {
        match value.and_then(|value| value.value).and_then(of_encoded) {
            Some(value) => kept.push(KeyValue::new(key, value)),
            None => dropped += 1,
        }
    }
    (kept, dropped)
}

fn of_encoded(value: Encoded) -> Option<Value> {
    match value {
        Encoded::StringValue(text) => Some(Value::String(text.into())),
        Encoded::BoolValue(value) => Some(Value::Bool(value)),
        Encoded::IntValue(value) => Some(Value::I64(value)),
        Encoded::DoubleValue(value) => Some(Value::F64(value)),
        Encoded::ArrayValue(_)
        | Encoded::KvlistValue(_)
        | Encoded::BytesValue(_)
        | Encoded::StringValueStrindex(_) => None,
    }
}

/// The invalid id where there are no such bytes.
fn trace_id(bytes: &[u8]) -> TraceId {
    <[u8; 16]>::try_from(bytes).map_or(TraceId::INVALID, TraceId::from_bytes)
}

/// The invalid id where there are no such bytes: a root has no parent.
fn span_id(bytes: &[u8]) -> SpanId {
    <[u8; 8]>::try_from(bytes).map_or(SpanId::INVALID, SpanId::from_bytes)
}

fn trace_flags(flags: u32) -> TraceFlags {
    TraceFlags::new((flags & SpanFlags::TraceFlagsMask as u32) as u8)
}

fn is_remote(flags: u32) -> bool {
    flags & SpanFlags::ContextIsRemoteMask as u32 != 0
}

fn trace_state(state: &str) -> TraceState {
    // Its rules for keys may be those of an earlier level of the specification.
    state.parse().unwrap_or(TraceState::NONE)
}

fn time(unix_ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_ns)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource as EncodedResource;

    use super::*;

    fn attribute(key: &str, value: Encoded) -> common::KeyValue {
        common::KeyValue {
            key: key.to_owned(),
            value: Some(common::AnyValue { value: Some(value) }),
            ..common::KeyValue::default()
        }
    }

    fn span() -> proto::Span {
        let attributes = vec![
            attribute("text", Encoded::StringValue("a".to_owned())),
            attribute("flag", Encoded::BoolValue(true)),
            attribute("whole", Encoded::IntValue(i64::MIN)),
            attribute("part", Encoded::DoubleValue(0.1)),
        ];
        proto::Span {
            trace_id: (1..=16).collect(),
            span_id: vec![2; 8],
            trace_state: "congo=t61rcWkgMzE,a=1".to_owned(),
            parent_span_id: vec![3; 8],
            flags: 0x303,
            name: "work".to_owned(),
            kind: proto::span::SpanKind::Consumer.into(),
            start_time_unix_nano: 1_700_000_000_123_456_789,
            end_time_unix_nano: 1_700_000_000_123_456_790,
            attributes: attributes.clone(),
            dropped_attributes_count: 4,
            events: vec![proto::span::Event {
                time_unix_nano: 1_700_000_000_123_456_791,
                name: "half".to_owned(),
                attributes: attributes.clone(),
                dropped_attributes_count: 5,
            }],
            dropped_events_count: 6,
            links: vec![proto::span::Link {
                trace_id: vec![7; 16],
                span_id: vec![8; 8],
                trace_state: "b=2".to_owned(),
                attributes,
                dropped_attributes_count: 9,
                flags: 0x301,
            }],
            dropped_links_count: 10,
            status: Some(proto::Status {
                message: "gone".to_owned(),
                code: proto::status::StatusCode::Error.into(),
            }),
        }
    }

    fn decoded(span: proto::Span) -> Decoded {
        let scope = common::InstrumentationScope {
            name: "scope".to_owned(),
            version: "1".to_owned(),
            ..common::InstrumentationScope::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![proto::ResourceSpans {
                resource: Some(EncodedResource {
                    attributes: vec![attribute("process.pid", Encoded::IntValue(7))],
                    ..EncodedResource::default()
                }),
                scope_spans: vec![proto::ScopeSpans {
                    scope: Some(scope),
                    spans: vec![span],
                    ..proto::ScopeSpans::default()
                }],
                ..proto::ResourceSpans::default()
            }],
        };
        decode(&request.encode_to_vec()).unwrap()
    }

    #[test]
    fn nothing_of_a_span_is_lost() {
        let mut decoded = decoded(span());
        let data = decoded.spans.remove(0);
        assert!(!data.span_context.is_remote());
        assert_eq!(data.instrumentation_scope.name(), "scope");
        assert_eq!(data.instrumentation_scope.version(), Some("1"));
        // The way back is that of another crate.
        assert_eq!(proto::Span::from(data), span());
        let resource: Vec<_> = decoded.resource.iter().collect();
        assert_eq!(resource, [(&"process.pid".into(), &Value::I64(7))]);
    }

    #[test]
    fn a_span_that_says_little_says_no_more_afterwards() {
        let plain = proto::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            flags: 0x100,
            kind: proto::span::SpanKind::Internal.into(),
            status: Some(proto::Status::default()),
            ..proto::Span::default()
        };
        let data = decoded(plain.clone()).spans.remove(0);
        assert_eq!(data.parent_span_id, SpanId::INVALID);
        assert_eq!(proto::Span::from(data), plain);
    }

    #[test]
    fn what_has_no_place_counts_as_dropped() {
        let mut encoded = span();
        encoded
            .attributes
            .push(attribute("bytes", Encoded::BytesValue(vec![1])));
        let data = decoded(encoded).spans.remove(0);
        assert_eq!(data.attributes.len(), 4);
        assert_eq!(data.dropped_attributes_count, 5);
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        assert!(decode(&[0xff; 3]).is_err());
    }
}
