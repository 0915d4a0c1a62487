//! Requests as OTLP-JSON, for receivers that take nothing else.

use std::error::Error;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::settings::Signal;

/// Rewrites a protobuf request.
pub(super) fn from_protobuf(
    signal: Signal,
    request: &[u8],
) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let json = match signal {
        Signal::Traces => serde_json::to_vec(&ExportTraceServiceRequest::decode(request)?)?,
        Signal::Metrics => serde_json::to_vec(&ExportMetricsServiceRequest::decode(request)?)?,
    };
    Ok(json)
}
