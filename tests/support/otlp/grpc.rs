//! The two gRPC services.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server as metrics_server;
use opentelemetry_proto::tonic::collector::trace::v1 as trace;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server as trace_server;
use prost::Message as _;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Code, Response, Status};

use super::connection::Link;
use super::received::Message;
use super::server::Shared;
use super::{Answer, Encoding, Request};

/// Builds the services as one router.
pub(super) fn routes(shared: &Arc<Shared>) -> Router {
    let traces = trace_server::TraceServiceServer::new(Service(Arc::clone(shared)))
        .accept_compressed(CompressionEncoding::Gzip);
    let metrics = metrics_server::MetricsServiceServer::new(Service(Arc::clone(shared)))
        .accept_compressed(CompressionEncoding::Gzip);
    Routes::new(traces).add_service(metrics).into_axum_router()
}

struct Service(Arc<Shared>);

impl Service {
    async fn receive<M>(
        &self,
        request: tonic::Request<M>,
        message: impl FnOnce(M) -> Message,
    ) -> Result<Option<(usize, String)>, Status> {
        let (metadata, extensions, body) = request.into_parts();
        let link = extensions
            .get::<Arc<Link>>()
            .expect("a link per connection");
        let received = Request {
            encoding: Encoding::Grpc,
            headers: metadata.into_headers(),
            message: message(body),
            connection: link.number,
            at: Instant::now(),
            answer: Answer::Accept,
            taken: 0,
        };
        match self.0.receive(received, link).await {
            Answer::Partial { rejected, message } => Ok(Some((rejected, message))),
            Answer::Refuse { grpc, message, .. } => Err(Status::new(grpc, message)),
            Answer::RetryAfter(delay) => Err(retry_after(delay)),
            Answer::Accept | Answer::Delay(_) | Answer::Cut | Answer::Silence => Ok(None),
        }
    }
}

#[tonic::async_trait]
impl trace_server::TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<trace::ExportTraceServiceRequest>,
    ) -> Result<Response<trace::ExportTraceServiceResponse>, Status> {
        let refused = self.receive(request, Message::Traces).await?;
        let partial = refused.map(|(rejected, message)| trace::ExportTracePartialSuccess {
            rejected_spans: rejected as i64,
            error_message: message,
        });
        Ok(Response::new(trace::ExportTraceServiceResponse {
            partial_success: partial,
        }))
    }
}

#[tonic::async_trait]
impl metrics_server::MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<metrics::ExportMetricsServiceRequest>,
    ) -> Result<Response<metrics::ExportMetricsServiceResponse>, Status> {
        let refused = self.receive(request, Message::Metrics).await?;
        let partial = refused.map(|(rejected, message)| metrics::ExportMetricsPartialSuccess {
            rejected_data_points: rejected as i64,
            error_message: message,
        });
        Ok(Response::new(metrics::ExportMetricsServiceResponse {
            partial_success: partial,
        }))
    }
}

/// `google.rpc.Status`, which stands in gRPC's details and in HTTP's error bodies.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    pub(super) fn new(code: Code, message: &str) -> RpcStatus {
        RpcStatus {
            code: code as i32,
            message: message.to_owned(),
            details: Vec::new(),
        }
    }
}

fn retry_after(delay: Duration) -> Status {
    let mut status = RpcStatus::new(Code::Unavailable, "try again later");
    let info = RetryInfo {
        retry_delay: Some(RpcDuration {
            seconds: delay.as_secs() as i64,
            nanos: delay.subsec_nanos() as i32,
        }),
    };
    status.details.push(Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: info.encode_to_vec(),
    });
    let details = status.encode_to_vec().into();
    Status::with_details(Code::Unavailable, status.message, details)
}
