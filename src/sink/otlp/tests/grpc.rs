//! gRPC against a server of tonic's.

use std::collections::VecDeque;
use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};

use super::{assert_counts, batch, fate, metrics, request, settles, soon, start};
use crate::sink::otlp::settings::{Compression, Otlp, Protocol};

type Answer = Result<i64, Status>;

#[derive(Clone, Default)]
struct Server {
    /// Spans or points to refuse, or an error; afterwards everything is taken.
    script: Arc<Mutex<VecDeque<Answer>>>,
    received: Arc<Mutex<Vec<Request<ExportTraceServiceRequest>>>>,
}

impl Server {
    fn next(&self) -> Answer {
        self.script.lock().unwrap().pop_front().unwrap_or(Ok(0))
    }

    /// Listens until the process ends; returns the URL.
    fn start(script: impl IntoIterator<Item = Answer>) -> (Server, Otlp) {
        Server::after(|_| {}, script)
    }

    /// As `start`, after something else has been done with the listener.
    fn after(
        before: impl FnOnce(&TcpListener) + Send + 'static,
        script: impl IntoIterator<Item = Answer>,
    ) -> (Server, Otlp) {
        let server = Server::default();
        server.script.lock().unwrap().extend(script);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let services = server.clone();
        std::thread::spawn(move || {
            before(&listener);
            listener.set_nonblocking(true).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tonic::transport::server::TcpIncoming::from(listener);
                let gzip = CompressionEncoding::Gzip;
                tonic::transport::Server::builder()
                    .add_service(
                        TraceServiceServer::new(services.clone())
                            .accept_compressed(gzip)
                            .send_compressed(gzip),
                    )
                    .add_service(MetricsServiceServer::new(services))
                    .serve_with_incoming(incoming)
                    .await
                    .unwrap();
            });
        });
        (server, Otlp::new(url).protocol(Protocol::Grpc))
    }
}

#[tonic::async_trait]
impl TraceService for Server {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received.lock().unwrap().push(request);
        let rejected_spans = self.next()?;
        Ok(Response::new(ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "too long".to_owned(),
            }),
        }))
    }
}

#[tonic::async_trait]
impl MetricsService for Server {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let rejected_data_points = self.next()?;
        Ok(Response::new(ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess {
                rejected_data_points,
                error_message: "no histograms".to_owned(),
            }),
        }))
    }
}

#[test]
fn spans_arrive_with_their_metadata_plain_and_compressed() {
    for compression in [Compression::None, Compression::Gzip] {
        let (server, otlp) = Server::start([]);
        let otlp = otlp
            .compression(compression)
            .header("authorization", "Bearer 1")
            .timeout(Duration::from_secs(3));
        assert_counts(&fate(otlp), [3, 0, 0, 0]);
        let received = server.received.lock().unwrap();
        assert_eq!(*received[0].get_ref(), request(3, "work"));
        let metadata = received[0].metadata();
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer 1");
        let agent = metadata.get("user-agent").unwrap().to_str().unwrap();
        assert!(agent.starts_with("tracing-cortex/"), "{agent}");
        assert!(metadata.contains_key("grpc-timeout"));
    }
}

#[test]
fn what_a_receiver_takes_only_in_part_is_counted() {
    let (_, otlp) = Server::start([Ok(2)]);
    let export = fate(otlp);
    assert_counts(&export, [1, 2, 0, 0]);
    let error = export.last_error.unwrap();
    assert!(error.ends_with("refused a part of a request; it says: too long"));

    let (_, otlp) = Server::start([Ok(1)]);
    let exporter = start(otlp);
    exporter.send_metrics(metrics(), 5);
    exporter.finish(soon());
    let account = exporter.account();
    assert_eq!((account.exported_points, account.lost_points), (4, 1));
    assert_eq!(account.last_error, None);
    assert!(account.last_points_error.unwrap().contains("no histograms"));
}

#[test]
fn a_receiver_without_a_service_for_metrics_gets_them_once() {
    let (_, otlp) = Server::start([Err(Status::new(Code::Unimplemented, "unknown service"))]);
    let exporter = start(otlp);
    assert!(exporter.takes_metrics());
    exporter.send_metrics(metrics(), 5);
    assert!(settles(&exporter, soon()));
    assert!(!exporter.takes_metrics());
    exporter.send_metrics(metrics(), 2);
    exporter.send_spans(batch(3));
    exporter.finish(soon());
    let account = exporter.account();
    assert_counts(&account, [3, 0, 0, 0]);
    assert_eq!((account.exported_points, account.lost_points), (0, 7));
    assert_eq!(exporter.unwanted_points(), 7);
    let error = account.last_points_error.unwrap();
    assert!(
        error.contains(
            "takes no metrics (UNIMPLEMENTED): switch them off with Otlp::metrics(false)"
        ),
        "{error}"
    );
}

#[test]
fn what_may_pass_is_tried_again() {
    for code in [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ] {
        let (server, otlp) = Server::start([Err(Status::new(code, "later"))]);
        assert_counts(&fate(otlp), [3, 0, 0, 0]);
        assert_eq!(server.received.lock().unwrap().len(), 2, "{code:?}");
    }
}

#[test]
fn connections_that_are_cut_lose_nothing() {
    let cut = |listener: &TcpListener| {
        for bytes in [0, 100, 1000] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut vec![0; bytes]);
        }
    };
    let (_, otlp) = Server::after(cut, []);
    assert_counts(&fate(otlp), [3, 0, 0, 0]);
}

/// `google.rpc.Status` with a `google.rpc.RetryInfo` of 0.6 s.
fn retry_info() -> Vec<u8> {
    let info = [&[10, 6, 16][..], &[0x80, 0x8C, 0x8D, 0x9E, 0x02]].concat();
    let kind = b"type.googleapis.com/google.rpc.RetryInfo";
    let info = [
        &[10, kind.len() as u8],
        &kind[..],
        &[18, info.len() as u8],
        &info,
    ]
    .concat();
    [&[26, info.len() as u8], info.as_slice()].concat()
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let busy = Status::with_details(code, "busy", retry_info().into());
        let (_, otlp) = Server::start([Err(busy)]);
        let began = Instant::now();
        assert_counts(&fate(otlp), [3, 0, 0, 0]);
        assert!(began.elapsed() >= Duration::from_millis(600), "{code:?}");
    }
}

#[test]
fn refusals_are_counted_once_and_say_what_to_change() {
    for (code, expected) in [
        (
            Code::Unauthenticated,
            "refused the token (UNAUTHENTICATED): check the header `authorization` in OTEL_EXPORTER_OTLP_HEADERS or \
             Otlp::header; it says: no",
        ),
        (
            Code::PermissionDenied,
            "does not allow this (PERMISSION_DENIED): check the header `authorization` in \
             OTEL_EXPORTER_OTLP_HEADERS or Otlp::header; it says: no",
        ),
        (
            Code::Unimplemented,
            "has no OTLP service for this (UNIMPLEMENTED): check Otlp::endpoint and OTEL_EXPORTER_OTLP_PROTOCOL or \
             Otlp::protocol; it says: no",
        ),
        (
            Code::InvalidArgument,
            "refused the request (INVALID_ARGUMENT); it says: no",
        ),
        (
            Code::Internal,
            "refused the request (INTERNAL); it says: no",
        ),
        (Code::Unknown, "refused the request (UNKNOWN); it says: no"),
    ] {
        let (server, otlp) = Server::start([Err(Status::new(code, "no"))]);
        let export = fate(otlp);
        assert_counts(&export, [0, 3, 0, 0]);
        assert_eq!(server.received.lock().unwrap().len(), 1, "{code:?}");
        let error = export.last_error.unwrap();
        assert!(error.starts_with("http://127.0.0.1:"), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }
    let (_, otlp) = Server::start([Err(Status::new(Code::ResourceExhausted, "no"))]);
    let error = fate(otlp).last_error.unwrap();
    assert!(error.contains("lower Otlp::max_batch_spans"), "{error}");
}

#[test]
fn a_message_beyond_the_servers_limit_is_refused_with_its_size() {
    let (_, otlp) = Server::start([]);
    let exporter = start(otlp);
    let mut request = request(1, "work");
    request.resource_spans[0].schema_url = "x".repeat(5 << 20);
    exporter.send_spans(super::SpanBatch {
        request: prost::Message::encode_to_vec(&request),
        spans: 1,
    });
    exporter.finish(soon());
    let account = exporter.account();
    assert_counts(&account, [0, 1, 0, 0]);
    let error = account.last_error.unwrap();
    assert!(error.contains("bytes too large"), "{error}");
}

#[test]
fn the_wrong_protocol_is_named() {
    let (_, otlp) = Server::start([]);
    let exporter = start(otlp.protocol(Protocol::HttpProtobuf));
    exporter.send_spans(batch(3));
    exporter.finish(Instant::now() + Duration::from_millis(300));
    let error = exporter.account().last_error.unwrap();
    assert!(
        error.contains("the connection to http://127.0.0.1:"),
        "{error}"
    );
}
