//! An OTLP receiver in this process that answers as a test tells it: takes, refuses, cuts, or never says a word.
//!
//! It has a thread and a runtime of its own, so that it goes on whatever happens to those under test. Used with
//! `#[path = "support/otlp/mod.rs"] mod otlp;`.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses a part; a test stops where it cannot go on"
)]

mod answer;
mod connection;
mod grpc;
mod http;
mod received;
mod server;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use answer::Answer;
pub use received::{Encoding, ReceivedSpan, Request, Signal, hex, spans_of, value};
pub use tls::{Authority, Validity};

use server::{Listener, Shared};

/// The receiver. Stops when it is dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    grpc: Listener,
    http: Listener,
    scheme: &'static str,
}

impl Receiver {
    /// Starts a receiver that takes everything.
    pub fn start() -> Receiver {
        let mut receiver = Receiver::down();
        receiver.restart();
        receiver
    }

    /// Reserves the ports without listening on them, so that connections are refused until [`Receiver::restart`].
    pub fn down() -> Receiver {
        Receiver::of(None)
    }

    /// Starts a receiver that speaks TLS only, with a certificate of this authority.
    pub fn with_tls(authority: &Authority, validity: Validity) -> Receiver {
        let mut receiver = Receiver::of(Some(authority.server(validity, false)));
        receiver.restart();
        receiver
    }

    /// Starts one that demands a certificate of this authority from the client too.
    pub fn with_client_certificates(authority: &Authority) -> Receiver {
        let mut receiver = Receiver::of(Some(authority.server(Validity::Now, true)));
        receiver.restart();
        receiver
    }

    fn of(tls: Option<tls::Acceptor>) -> Receiver {
        let shared = Arc::new(Shared::default());
        Receiver {
            scheme: if tls.is_some() { "https" } else { "http" },
            grpc: Listener::new(grpc::routes(&shared), &shared, tls.clone()),
            http: Listener::new(http::routes(&shared), &shared, tls),
            shared,
        }
    }

    /// Dies: closes the ports and all connections, without an answer to what is under way.
    pub fn stop(&mut self) {
        self.grpc.stop();
        self.http.stop();
    }

    /// Listens (again) on the same ports. What was received before is kept.
    pub fn restart(&mut self) {
        self.grpc.listen();
        self.http.listen();
    }

    /// Where gRPC is served, as a URL.
    pub fn grpc(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.grpc.port())
    }

    /// Where HTTP is served, without `/v1/traces`.
    pub fn http(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.http.port())
    }

    /// Sets how all requests are answered from now on.
    pub fn answer(&self, answer: Answer) {
        self.shared.change(|state| {
            state.traces.set(answer.clone());
            state.metrics.set(answer);
        });
    }

    /// Sets how the requests of one signal are answered from now on.
    pub fn answer_to(&self, signal: Signal, answer: Answer) {
        self.shared.change(|state| state.script(signal).set(answer));
    }

    /// Sets how the next trace requests are answered, one after the other; later ones as [`Receiver::answer`] said.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.change(|state| state.traces.next(answers));
    }

    /// Returns everything that arrived, also what was refused, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.read(|state| state.requests.clone())
    }

    /// Returns the requests of one signal.
    pub fn requests_of(&self, signal: Signal) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.signal() == signal);
        requests
    }

    /// Returns how many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.read(|state| state.connections)
    }

    /// Returns how many connections are open.
    pub fn open_connections(&self) -> usize {
        self.shared.read(|state| state.open_connections)
    }

    /// Returns the spans that were taken: those of accepted requests, without those refused one by one.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.shared
            .read(|state| state.requests.iter().flat_map(Request::spans).collect())
    }

    /// Returns how many spans were taken.
    pub fn span_count(&self) -> usize {
        self.shared.read(|state| state.taken_spans)
    }

    /// Returns the taken spans with this name.
    pub fn spans_by_name(&self, name: &str) -> Vec<ReceivedSpan> {
        let mut spans = self.spans();
        spans.retain(|received| received.span.name == name);
        spans
    }

    /// Returns the only taken span with this name.
    #[track_caller]
    pub fn span_by_name(&self, name: &str) -> ReceivedSpan {
        let mut spans = self.spans_by_name(name);
        assert_eq!(spans.len(), 1, "spans called {name}");
        spans.remove(0)
    }

    /// Returns the metrics of all accepted requests.
    pub fn metrics(&self) -> Vec<opentelemetry_proto::tonic::metrics::v1::Metric> {
        self.shared
            .read(|state| state.requests.iter().flat_map(Request::metrics).collect())
    }

    /// Waits until at least so many spans were taken, and returns all.
    #[track_caller]
    pub fn wait_for_spans(&self, count: usize, timeout: Duration) -> Vec<ReceivedSpan> {
        let what = || format!("{count} spans, {} are there", self.span_count());
        self.wait(timeout, what, |state| state.taken_spans >= count);
        self.spans()
    }

    /// Waits until so many requests arrived, whatever the answer to them.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> Vec<Request> {
        let what = || format!("{count} requests, {} are there", self.requests().len());
        self.wait(timeout, what, |state| state.requests.len() >= count);
        self.requests()
    }

    /// Waits until a metric with this name was taken.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, timeout: Duration) {
        let has = |request: &Request| request.metrics().iter().any(|metric| metric.name == name);
        let what = || format!("the metric {name}");
        self.wait(timeout, what, |state| state.requests.iter().any(has));
    }

    #[track_caller]
    fn wait(
        &self,
        timeout: Duration,
        what: impl FnOnce() -> String,
        done: impl Fn(&server::State) -> bool,
    ) {
        let until = Instant::now() + timeout;
        if !self.shared.wait_until(until, done) {
            panic!("waited {timeout:?} for {}", what());
        }
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.shared.change(|state| {
            state.requests.clear();
            state.taken_spans = 0;
        });
    }
}
