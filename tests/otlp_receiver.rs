//! That the receiver of the other tests does what it says, shown with OpenTelemetry's own exporter and requests by hand.
#![cfg(feature = "otlp")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

#[path = "support/otlp/mod.rs"]
mod otlp;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use otlp::{Answer, Authority, Encoding, Receiver, Signal, Validity};
use prost::Message;
use tonic::codec::CompressionEncoding;

const SOON: Duration = Duration::from_secs(10);

/// Exports `count` spans as OpenTelemetry does, without trying again.
fn export(receiver: &Receiver, count: u8) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(receiver.grpc())
            .with_timeout(Duration::from_secs(2))
            .with_retry_policy(opentelemetry_otlp::RetryPolicy::disabled())
            .build()
            .unwrap();
        let spans = (1..=count).map(span_data).collect();
        let exported = exporter.export(spans).await;
        exported.map_err(|error| error.to_string())
    })
}

fn span_data(id: u8) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes([0xab; 16]),
        SpanId::from_bytes([id; 8]),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_800_000_000_123_456_789);
    SpanData {
        span_context: context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: format!("span {id}").into(),
        start_time: start,
        end_time: start + Duration::from_nanos(1),
        attributes: vec![opentelemetry::KeyValue::new("answer", 42)],
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::Unset,
        instrumentation_scope: Default::default(),
    }
}

fn request_of(count: usize) -> ExportTraceServiceRequest {
    let span = |index: usize| Span {
        name: format!("span {index}"),
        trace_id: vec![0xab; 16],
        span_id: (index as u64 + 1).to_be_bytes().to_vec(),
        start_time_unix_nano: 1_800_000_000_123_456_789,
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: (0..count).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// Posts by hand on a connection of its own; returns the head and the body of the answer as far as they come.
fn post(receiver: &Receiver, path: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let address = receiver.http();
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    talk(&mut stream, path, headers, body)
}

fn talk(
    stream: &mut (impl Read + Write),
    path: &str,
    headers: &str,
    body: &[u8],
) -> (String, Vec<u8>) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    // Ends with an error where the connection is cut.
    let _ = stream.read_to_end(&mut answer);
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return (String::from_utf8_lossy(&answer).into_owned(), Vec::new());
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head, answer[end + 4..].to_vec())
}

const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn spans_of_opentelemetry_arrive_over_grpc_with_ids_and_nanoseconds() {
    let receiver = Receiver::start();
    export(&receiver, 3).unwrap();
    let spans = receiver.wait_for_spans(3, SOON);
    assert_eq!(spans.len(), 3);
    let span = receiver.span_by_name("span 2");
    assert_eq!(span.trace_id(), "ab".repeat(16));
    assert_eq!(span.span_id(), "02".repeat(8));
    assert_eq!(span.parent_id(), "");
    assert_eq!(span.span.start_time_unix_nano, 1_800_000_000_123_456_789);
    assert_eq!(span.span.end_time_unix_nano, 1_800_000_000_123_456_790);
    assert_eq!(span.int("answer"), Some(42));
    let requests = receiver.requests();
    assert_eq!(requests[0].encoding, Encoding::Grpc);
    assert!(requests[0].header("user-agent").is_some());
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn gzip_is_taken_over_grpc() {
    let receiver = Receiver::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = TraceServiceClient::connect(receiver.grpc()).await.unwrap();
        let mut client = client.send_compressed(CompressionEncoding::Gzip);
        client.export(request_of(100)).await.unwrap();
    });
    assert_eq!(receiver.span_count(), 100);
    assert_eq!(receiver.requests()[0].header("grpc-encoding"), Some("gzip"));
}

#[test]
fn protobuf_json_and_gzip_are_taken_over_http() {
    let receiver = Receiver::start();
    let (traces, bytes) = (request_of(2), request_of(2).encode_to_vec());
    let (head, body) = post(&receiver, "/v1/traces", PROTOBUF, &bytes);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"", "an empty message");

    let json = serde_json::to_vec(&traces).unwrap();
    let (head, body) = post(&receiver, "/v1/traces", JSON, &json);
    assert!(head.contains("application/json"), "{head}");
    let body: ExportTraceServiceResponse = serde_json::from_slice(&body).unwrap();
    assert_eq!(body.partial_success, None);

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let headers = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
    post(&receiver, "/v1/traces", &headers, &gzip.finish().unwrap());

    assert_eq!(receiver.span_count(), 6);
    let requests = receiver.requests();
    let encodings: Vec<_> = requests.iter().map(|request| request.encoding).collect();
    let expected = [
        Encoding::HttpProtobuf,
        Encoding::HttpJson,
        Encoding::HttpProtobuf,
    ];
    assert_eq!(encodings, expected);
    assert_eq!(requests[2].header("content-encoding"), Some("gzip"));
    let start = receiver.spans()[2].span.start_time_unix_nano;
    assert_eq!(start, 1_800_000_000_123_456_789, "through JSON");
    assert_eq!(requests[2].connection, 2);
}

#[test]
fn what_is_no_otlp_is_refused() {
    let receiver = Receiver::start();
    let status = |path, headers, body: &[u8]| post(&receiver, path, headers, body).0;
    assert!(status("/v1/traces", PROTOBUF, b"\xff\xff").contains(" 400 "));
    assert!(status("/v1/traces", JSON, b"{").contains(" 400 "));
    assert!(status("/v1/traces", "Content-Type: text/plain\r\n", b"").contains(" 415 "));
    assert!(status("/v1/logs", PROTOBUF, b"").contains(" 404 "));
    assert!(receiver.requests().is_empty());
}

#[test]
fn metrics_are_kept_apart() {
    let receiver = Receiver::start();
    receiver.answer_to(Signal::Traces, Answer::unavailable());
    let metrics = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![Metric {
                    name: "calls".to_owned(),
                    ..Metric::default()
                }],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    post(&receiver, "/v1/metrics", PROTOBUF, &metrics.encode_to_vec());
    receiver.wait_for_metric("calls", SOON);
    assert_eq!(receiver.requests_of(Signal::Metrics).len(), 1);
    assert_eq!(receiver.span_count(), 0);
}

#[test]
fn answers_follow_the_script_and_only_what_is_accepted_counts() {
    let receiver = Receiver::start();
    let retry = Answer::RetryAfter(Duration::from_secs(3));
    receiver.script([
        Answer::bad_request(),
        Answer::bad_token(),
        retry,
        Answer::partial(2, "too long"),
    ]);
    let bytes = request_of(5).encode_to_vec();
    let next = || post(&receiver, "/v1/traces", PROTOBUF, &bytes);
    assert!(next().0.contains(" 400 "));
    assert!(next().0.contains(" 401 "));
    let (head, _) = next();
    assert!(
        head.contains(" 503 ") && head.contains("retry-after: 3"),
        "{head}"
    );
    assert_eq!(receiver.span_count(), 0);
    let (_, body) = next();
    let partial = ExportTraceServiceResponse::decode(&body[..]).unwrap();
    let partial = partial.partial_success.unwrap();
    assert_eq!(
        (partial.rejected_spans, &*partial.error_message),
        (2, "too long")
    );
    assert_eq!(receiver.span_count(), 3);
    assert!(next().0.contains(" 200 "), "the script is over");
    assert_eq!(receiver.span_count(), 8);
    assert_eq!(receiver.requests().len(), 5);
}

#[test]
fn the_same_answers_have_their_status_over_grpc() {
    let receiver = Receiver::start();
    receiver.script([
        Answer::bad_request(),
        Answer::bad_token(),
        Answer::RetryAfter(Duration::from_millis(1500)),
        Answer::partial(1, "too long"),
    ]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = TraceServiceClient::connect(receiver.grpc()).await.unwrap();
        let status = client.export(request_of(3)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let status = client.export(request_of(3)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        let status = client.export(request_of(3)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        let details = status.details();
        assert!(details.windows(9).any(|bytes| bytes == b"RetryInfo"));
        let response = client.export(request_of(3)).await.unwrap().into_inner();
        assert_eq!(response.partial_success.unwrap().rejected_spans, 1);
    });
    assert_eq!(receiver.span_count(), 2);
}

#[test]
fn a_cut_connection_ends_in_the_middle_of_the_answer() {
    let receiver = Receiver::start();
    receiver.script([Answer::Cut]);
    let bytes = request_of(5).encode_to_vec();
    let (head, _) = post(&receiver, "/v1/traces", PROTOBUF, &bytes);
    assert_eq!(head, "HTTP/1.1");
    assert_eq!(receiver.span_count(), 0);
    assert_eq!(receiver.requests().len(), 1);

    receiver.script([Answer::Cut]);
    assert!(export(&receiver, 1).is_err());
    export(&receiver, 1).unwrap();
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn a_late_answer_is_late_and_no_answer_ends_with_the_receiver() {
    let mut receiver = Receiver::start();
    receiver.answer(Answer::Delay(Duration::from_millis(200)));
    let bytes = request_of(1).encode_to_vec();
    let start = Instant::now();
    let (head, _) = post(&receiver, "/v1/traces", PROTOBUF, &bytes);
    assert!(head.contains(" 200 "));
    assert!(start.elapsed() >= Duration::from_millis(200));

    receiver.answer(Answer::Silence);
    let address = receiver.http().replace("http://", "");
    let waiting = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        talk(&mut stream, "/v1/traces", PROTOBUF, &bytes).0
    });
    receiver.wait_for_requests(2, SOON);
    assert_eq!(receiver.open_connections(), 1);
    receiver.stop();
    assert_eq!(waiting.join().unwrap(), "");
    assert_eq!(receiver.open_connections(), 0);
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn it_is_down_until_it_is_started_and_comes_back_on_the_same_ports() {
    let mut receiver = Receiver::down();
    let (grpc, http) = (receiver.grpc(), receiver.http());
    let address = http.strip_prefix("http://").unwrap().to_owned();
    let refused = || TcpStream::connect(&address).unwrap_err().kind();
    assert_eq!(refused(), std::io::ErrorKind::ConnectionRefused);
    assert!(export(&receiver, 1).is_err());
    for round in 1..=3 {
        receiver.restart();
        export(&receiver, 1).unwrap();
        assert_eq!(receiver.span_count(), round);
        receiver.stop();
        assert_eq!(refused(), std::io::ErrorKind::ConnectionRefused);
    }
    assert_eq!((receiver.grpc(), receiver.http()), (grpc, http));
}

#[test]
fn requests_in_parallel_are_all_kept() {
    let receiver = Receiver::start();
    let bytes = request_of(50).encode_to_vec();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| post(&receiver, "/v1/traces", PROTOBUF, &bytes));
        }
    });
    assert_eq!(receiver.wait_for_spans(400, SOON).len(), 400);
    assert_eq!(receiver.connections(), 8);
}

/// Posts one span over TLS.
fn post_tls(
    receiver: &Receiver,
    trusted: &Authority,
    client: Option<(String, String)>,
) -> Result<String, std::io::Error> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let own = CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap();
    roots.add(own).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let address = receiver.http();
    let stream = TcpStream::connect(address.strip_prefix("https://").unwrap())?;
    let mut stream = rustls::StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let bytes = request_of(1).encode_to_vec();
    let (head, _) = talk(&mut stream, "/v1/traces", PROTOBUF, &bytes);
    Ok(head)
}

#[test]
fn tls_is_spoken_with_a_certificate_of_the_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = Receiver::with_tls(&authority, Validity::Now);
    let head = post_tls(&receiver, &authority, None).unwrap();
    assert!(head.contains(" 200 "), "{head}");
    let error = post_tls(&receiver, &other, None).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn an_expired_certificate_is_not_trusted() {
    let authority = Authority::new();
    let receiver = Receiver::with_tls(&authority, Validity::Expired);
    let error = post_tls(&receiver, &authority, None).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn a_client_certificate_is_demanded_where_the_test_wants_one() {
    let authority = Authority::new();
    let receiver = Receiver::with_client_certificates(&authority);
    let head = post_tls(&receiver, &authority, Some(authority.client())).unwrap();
    assert!(head.contains(" 200 "), "{head}");
    // TLS 1.3 says so only after the handshake.
    let without = post_tls(&receiver, &authority, None).unwrap_or_default();
    assert!(!without.contains(" 200 "), "{without}");
    assert_eq!(receiver.span_count(), 1);
}
