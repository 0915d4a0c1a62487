//! One request over gRPC. The bytes are ready: the codec only passes them on.

use std::error::Error;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::Connect;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Status};

use super::client::Client;
use super::{Accepted, Failure, answer, network};
use crate::sink::otlp::retry::Again;
use crate::sink::otlp::settings::{Compression, Signal, Target};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

pub(super) async fn send(
    client: &Client,
    target: &Target,
    request: Bytes,
) -> Result<Accepted, Failure> {
    let length = request.len();
    let answer = match client {
        Client::Plain(pool) => call(pool.clone(), target, request).await,
        Client::Tls(pool) => call(pool.clone(), target, request).await,
    };
    match answer {
        Ok(response) => Ok(answer::of_response(response)),
        Err(status) => Err(failure(target, length, &status)),
    }
}

async fn call<C>(
    pool: Pool<C, Body>,
    target: &Target,
    request: Bytes,
) -> Result<ExportTraceServiceResponse, Status>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let mut grpc =
        Grpc::with_origin(pool, target.uri.clone()).accept_compressed(CompressionEncoding::Gzip);
    if target.compression == Compression::Gzip {
        grpc = grpc.send_compressed(CompressionEncoding::Gzip);
    }
    let mut request = Request::new(request);
    let metadata = request.metadata_mut();
    *metadata = MetadataMap::from_headers(target.headers.clone());
    if !metadata.contains_key("user-agent") {
        metadata.insert("user-agent", MetadataValue::from_static(super::USER_AGENT));
    }
    request.set_timeout(target.timeout);
    let path = match target.signal {
        Signal::Traces => PathAndQuery::from_static(TRACES),
        Signal::Metrics => PathAndQuery::from_static(METRICS),
    };
    let response = grpc.unary(request, path, ReadyBytes).await?;
    Ok(response.into_inner())
}

#[derive(Debug, Clone, Copy)]
struct ReadyBytes;

impl Codec for ReadyBytes {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = ReadyBytes;
    type Decoder = ReadyBytes;

    fn encoder(&mut self) -> ReadyBytes {
        ReadyBytes
    }

    fn decoder(&mut self) -> ReadyBytes {
        ReadyBytes
    }
}

impl Encoder for ReadyBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for ReadyBytes {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(
        &mut self,
        from: &mut DecodeBuf<'_>,
    ) -> Result<Option<ExportTraceServiceResponse>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        // The answers for metrics have the same fields under the same numbers. What cannot be read is no refusal.
        Ok(Some(
            ExportTraceServiceResponse::decode(bytes).unwrap_or_default(),
        ))
    }
}

fn failure(target: &Target, length: usize, status: &Status) -> Failure {
    // A status of the receiver has no source; one that stands for a broken connection has.
    if let Some(source) = status.source() {
        return network::failure(target, source);
    }
    let Target { shown, setting, .. } = target;
    let demanded = answer::retry_delay(status.details());
    let (why, again) = match status.code() {
        Code::Unauthenticated => (
            format!(
                "{shown} refused the token (UNAUTHENTICATED): check {}",
                network::TOKEN
            ),
            Again::Never,
        ),
        Code::PermissionDenied => (
            format!(
                "{shown} does not allow this (PERMISSION_DENIED): check {}",
                network::TOKEN
            ),
            Again::Never,
        ),
        Code::Unimplemented if target.signal == Signal::Metrics => (
            network::no_metrics(target, &"UNIMPLEMENTED"),
            Again::NothingOfThisSignal,
        ),
        Code::Unimplemented => (
            format!(
                "{shown} has no OTLP service for this (UNIMPLEMENTED): check {setting} and {}",
                network::PROTOCOL
            ),
            Again::Never,
        ),
        Code::ResourceExhausted => match demanded {
            Some(_) => (
                format!(
                    "{shown} asks for fewer requests (RESOURCE_EXHAUSTED): raise its limits, or sample"
                ),
                Again::Backoff,
            ),
            None => (too_large(shown, length, "RESOURCE_EXHAUSTED"), Again::Never),
        },
        // What tonic's servers answer to a message beyond their limit.
        Code::OutOfRange if status.message().contains("message length too large") => {
            (too_large(shown, length, "OUT_OF_RANGE"), Again::Never)
        }
        Code::DeadlineExceeded => return network::no_answer(target),
        code @ (Code::Cancelled
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss) => (
            format!("{shown} is not available ({})", name(code)),
            Again::Backoff,
        ),
        code => (
            format!("{shown} refused the request ({})", name(code)),
            Again::Never,
        ),
    };
    let again = match (again, demanded) {
        (Again::Backoff, Some(wait)) => Again::After(wait),
        (again, _) => again,
    };
    Failure {
        why: network::with_message(why, &answer::shortened(status.message())),
        again,
    }
}

fn too_large(shown: &str, length: usize, code: &str) -> String {
    format!(
        "{shown} finds a request of {length} bytes too large, or has no room for more ({code}): lower \
         Otlp::max_batch_spans, or raise the receiver's limits"
    )
}

/// Returns the name that the protocol's documents use.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
