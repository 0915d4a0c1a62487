//! `/v1/traces` and `/v1/metrics`, in protobuf and JSON.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::post;
use axum::{Router, http::StatusCode};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::trace::v1 as trace;
use prost::Message as _;
use serde::Serialize;
use tonic::Code;

use super::connection::Link;
use super::grpc::RpcStatus;
use super::received::Message;
use super::server::Shared;
use super::{Answer, Encoding, Request};

/// Builds the two services as one router; anything else is answered with 404.
pub(super) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics_))
        .with_state(Arc::clone(shared))
}

type Call = http::Request<Body>;
type Link_ = Extension<Arc<Link>>;

async fn traces(State(shared): State<Arc<Shared>>, link: Link_, call: Call) -> Response {
    let decode = |encoding, bytes: &[u8]| {
        Some(Message::Traces(match encoding {
            Encoding::HttpJson => serde_json::from_slice(bytes).ok()?,
            _ => trace::ExportTraceServiceRequest::decode(bytes).ok()?,
        }))
    };
    let partial = |rejected, error_message| trace::ExportTraceServiceResponse {
        partial_success: (rejected > 0).then_some(trace::ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message,
        }),
    };
    serve(&shared, &link, call, decode, partial).await
}

async fn metrics_(State(shared): State<Arc<Shared>>, link: Link_, call: Call) -> Response {
    let decode = |encoding, bytes: &[u8]| {
        Some(Message::Metrics(match encoding {
            Encoding::HttpJson => serde_json::from_slice(bytes).ok()?,
            _ => metrics::ExportMetricsServiceRequest::decode(bytes).ok()?,
        }))
    };
    let partial = |rejected, error_message| metrics::ExportMetricsServiceResponse {
        partial_success: (rejected > 0).then_some(metrics::ExportMetricsPartialSuccess {
            rejected_data_points: rejected,
            error_message,
        }),
    };
    serve(&shared, &link, call, decode, partial).await
}

async fn serve<R: prost::Message + Serialize>(
    shared: &Shared,
    link: &Link,
    call: Call,
    decode: impl FnOnce(Encoding, &[u8]) -> Option<Message>,
    partial: impl FnOnce(i64, String) -> R,
) -> Response {
    let (parts, body) = call.into_parts();
    let header = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let encoding = match header(CONTENT_TYPE) {
        Some("application/x-protobuf") => Encoding::HttpProtobuf,
        Some("application/json") => Encoding::HttpJson,
        _ => return plain(415),
    };
    let gzip = match header(CONTENT_ENCODING) {
        None | Some("identity") => false,
        Some("gzip") => true,
        Some(_) => return plain(415),
    };
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return plain(400);
    };
    let Some(message) = unpacked(&bytes, gzip).and_then(|bytes| decode(encoding, &bytes)) else {
        return refusal(encoding, 400, Code::InvalidArgument, "cannot be decoded");
    };
    let received = Request {
        encoding,
        headers: parts.headers,
        message,
        connection: link.number,
        at: Instant::now(),
        answer: Answer::Accept,
        taken: 0,
    };
    match shared.receive(received, link).await {
        Answer::Partial { rejected, message } => {
            response(encoding, 200, &partial(rejected as i64, message))
        }
        Answer::Refuse {
            http,
            grpc,
            message,
        } => refusal(encoding, http, grpc, &message),
        Answer::RetryAfter(delay) => {
            let mut response = refusal(encoding, 503, Code::Unavailable, "try again later");
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, delay.as_secs().into());
            response
        }
        Answer::Accept | Answer::Delay(_) | Answer::Cut | Answer::Silence => {
            response(encoding, 200, &partial(0, String::new()))
        }
    }
}

fn unpacked(bytes: &[u8], gzip: bool) -> Option<Vec<u8>> {
    if !gzip {
        return Some(bytes.to_vec());
    }
    let mut unpacked = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    decoder.read_to_end(&mut unpacked).ok()?;
    Some(unpacked)
}

/// A response without a body.
fn plain(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn response<R: prost::Message + Serialize>(encoding: Encoding, status: u16, body: &R) -> Response {
    let json = encoding == Encoding::HttpJson;
    let bytes = if json {
        serde_json::to_vec(body).unwrap()
    } else {
        body.encode_to_vec()
    };
    with_body(json, status, bytes)
}

fn refusal(encoding: Encoding, status: u16, code: Code, message: &str) -> Response {
    let json = encoding == Encoding::HttpJson;
    let bytes = if json {
        let body = serde_json::json!({ "code": code as i32, "message": message });
        body.to_string().into_bytes()
    } else {
        RpcStatus::new(code, message).encode_to_vec()
    };
    with_body(json, status, bytes)
}

fn with_body(json: bool, status: u16, bytes: Vec<u8>) -> Response {
    let mut response = plain(status);
    *response.body_mut() = Body::from(bytes);
    let kind = if json {
        "application/json"
    } else {
        "application/x-protobuf"
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind.parse().unwrap());
    response
}
