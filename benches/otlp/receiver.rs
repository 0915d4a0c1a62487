//! A process that receives OTLP over gRPC and HTTP, and counts.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{env, io, thread};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Where the receiver listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    pub(crate) grpc: String,
    pub(crate) http: String,
}

/// What arrived.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) spans: u64,
    pub(crate) requests: u64,
}

/// A receiver in a child process, which ends when its standard input does.
pub(crate) struct Receiver {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    pub(crate) endpoints: Endpoints,
}

impl Receiver {
    pub(crate) fn spawn() -> Receiver {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg("--receiver")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let endpoints = read_line(&mut output);
        Receiver {
            child,
            output,
            endpoints,
        }
    }

    /// Ends the process and returns what it counted.
    pub(crate) fn finish(mut self) -> Received {
        drop(self.child.stdin.take());
        let received = read_line(&mut self.output);
        assert!(self.child.wait().unwrap().success());
        received
    }
}

fn read_line<T: for<'de> Deserialize<'de>>(from: &mut impl BufRead) -> T {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Receives until standard input ends, then prints what arrived.
pub(crate) fn run() {
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (grpc, http) = runtime.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let grpc = TcpListener::bind(any).await.unwrap();
        let http = TcpListener::bind(any).await.unwrap();
        (grpc, http)
    });
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    print_line(&Endpoints {
        grpc: url(&grpc),
        http: url(&http),
    });

    let served = counts.clone();
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::join!(serve_grpc(grpc, served.clone()), serve_http(http, served))
        })
    });
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    print_line(&Received {
        spans: counts.spans.load(Relaxed),
        requests: counts.requests.load(Relaxed),
    });
}

fn print_line(value: &impl Serialize) {
    println!("{}", serde_json::to_string(value).unwrap());
}

async fn serve_grpc(listener: TcpListener, counts: Arc<Counts>) {
    let traces = TraceServiceServer::from_arc(counts.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(usize::MAX);
    let metrics = MetricsServiceServer::from_arc(counts)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(usize::MAX);
    tonic::transport::Server::builder()
        .add_service(traces)
        .add_service(metrics)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
        .unwrap();
}

async fn serve_http(listener: TcpListener, counts: Arc<Counts>) {
    let routes = Router::new()
        .route("/v1/traces", post(post_traces))
        .route("/v1/metrics", post(|_: Bytes| async { PROTOBUF }))
        .layer(DefaultBodyLimit::disable())
        .with_state(counts);
    axum::serve(listener, routes).await.unwrap();
}

/// An empty response in protobuf has no bytes.
const PROTOBUF: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];

async fn post_traces(
    State(counts): State<Arc<Counts>>,
    body: Bytes,
) -> [(&'static str, &'static str); 1] {
    counts.add(&ExportTraceServiceRequest::decode(body).unwrap());
    PROTOBUF
}

#[derive(Debug, Default)]
struct Counts {
    spans: AtomicU64,
    requests: AtomicU64,
}

impl Counts {
    fn add(&self, request: &ExportTraceServiceRequest) {
        let scopes = request
            .resource_spans
            .iter()
            .flat_map(|resource| &resource.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.spans.fetch_add(spans as u64, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }
}

#[tonic::async_trait]
impl TraceService for Counts {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.add(request.get_ref());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Counts {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
