//! What receivers answer, in protobuf or JSON, whatever was asked for.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::Value;

use super::Accepted;

/// Reads the body of a success.
pub(super) fn accepted(body: &[u8]) -> Accepted {
    // No message of the protocol begins with this byte.
    if body.first() == Some(&b'{') {
        return serde_json::from_slice(body)
            .map_or_else(|_| Accepted::default(), |json| of_json(&json));
    }
    // The answers for metrics have the same fields under the same numbers.
    match ExportTraceServiceResponse::decode(body) {
        Ok(response) => of_response(response),
        Err(_) => Accepted::default(),
    }
}

pub(super) fn of_response(response: ExportTraceServiceResponse) -> Accepted {
    let partial = response.partial_success.unwrap_or_default();
    Accepted {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        why: shortened(&partial.error_message),
    }
}

fn of_json(json: &Value) -> Accepted {
    let partial = ["partialSuccess", "partial_success"];
    let Some(partial) = partial.into_iter().find_map(|name| json.get(name)) else {
        return Accepted::default();
    };
    let rejected = [
        "rejectedSpans",
        "rejectedDataPoints",
        "rejected_spans",
        "rejected_data_points",
    ];
    let rejected = rejected.into_iter().find_map(|name| {
        let number = partial.get(name)?;
        number.as_u64().or_else(|| number.as_str()?.parse().ok())
    });
    let why = partial
        .get("errorMessage")
        .or_else(|| partial.get("error_message"));
    Accepted {
        rejected: rejected.unwrap_or(0),
        why: shortened(why.and_then(Value::as_str).unwrap_or_default()),
    }
}

/// `google.rpc.Status`, in bodies of refusals and in `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Reads what the body of a refusal says; empty if nothing.
pub(super) fn message(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let message = json.get("message").or_else(|| json.get("error"));
        if let Some(message) = message.and_then(Value::as_str) {
            return shortened(message);
        }
    }
    if let Ok(status) = RpcStatus::decode(body)
        && !status.message.is_empty()
    {
        return shortened(&status.message);
    }
    match std::str::from_utf8(body) {
        // A page for people says nothing in its first line.
        Ok(text) if !text.trim_start().starts_with('<') => shortened(text),
        _ => String::new(),
    }
}

/// Reads the wait that a gRPC receiver asks for.
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let detail = status
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos).ok()?;
    Some(Duration::new(seconds, nanos.min(999_999_999)).min(super::LONGEST_DEMAND))
}

/// Returns one line of text that fits into a report.
pub(super) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let one_line = text.split(|c: char| c.is_control()).map(str::trim);
    let one_line: Vec<_> = one_line.filter(|part| !part.is_empty()).collect();
    let one_line = one_line.join(" ");
    match one_line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}
