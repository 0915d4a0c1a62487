//! What a program's spans become at a receiver, and what is told of those that do not get there.
#![cfg(feature = "otlp")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tracing_cortex::otlp::{Otlp, Sampling};
use tracing_cortex::{BuildError, CortexBuilder, CortexLayer, Export, FinishError, Profile};
use tracing_subscriber::prelude::*;

/// Takes every request over HTTP and passes on where it went and what was in it.
struct Backend {
    url: String,
    requests: Receiver<(String, Vec<u8>)>,
}

impl Backend {
    fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream, &sender));
            }
        });
        Backend { url, requests }
    }

    fn otlp(&self) -> Otlp {
        Otlp::new(&self.url).service_name("shop")
    }

    /// Returns all spans that came so far.
    fn spans(&self) -> Vec<Span> {
        let bodies = self
            .requests
            .try_iter()
            .filter(|(path, _)| path == "/v1/traces");
        bodies
            .flat_map(|(_, body)| {
                let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
                request.resource_spans
            })
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }
}

/// Answers requests until the other side closes the connection.
fn serve(stream: TcpStream, sender: &Sender<(String, Vec<u8>)>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        sender.send((path, body)).ok()?;
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer).ok()?;
    }
}

/// Runs a program under a capture; returns how that ended, and what is known in the end.
fn run(builder: CortexBuilder, program: impl FnOnce()) -> (Result<(), FinishError>, Profile) {
    let (cortex, guard) = builder.no_resources().build().unwrap();
    let subscriber = tracing_subscriber::registry().with(cortex);
    tracing::subscriber::with_default(subscriber, program);
    match guard.finish() {
        Ok(summary) => (Ok(()), summary.profile().clone()),
        Err(error) => {
            let profile = error.summary().unwrap().profile().clone();
            (Err(error), profile)
        }
    }
}

fn exporting(otlp: Otlp) -> CortexBuilder {
    CortexLayer::builder().otlp(otlp)
}

fn only(profile: &Profile) -> &Export {
    let [export] = &profile.exports[..] else {
        panic!("{:?}", profile.exports)
    };
    export
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key);
    found?.value.as_ref()?.value.as_ref()
}

fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn operations_arrive_as_spans_of_one_trace() {
    let backend = Backend::start();
    let (outcome, profile) = run(exporting(backend.otlp()), || {
        let handle = tracing::info_span!("handle", otel.kind = "server", otel.name = "GET /");
        handle.in_scope(|| {
            tracing::info_span!("query", rows = 17).in_scope(|| {
                tracing::error!(error = "no such table", "cannot read");
            });
        });
    });
    outcome.unwrap();
    let spans: HashMap<_, _> = backend
        .spans()
        .into_iter()
        .map(|span| (span.name.clone(), span))
        .collect();
    let (handle, query) = (&spans["GET /"], &spans["query"]);
    assert_eq!(handle.kind(), SpanKind::Server);
    assert!(handle.parent_span_id.is_empty());
    assert_eq!(query.kind(), SpanKind::Internal);
    assert_eq!(query.trace_id, handle.trace_id);
    assert_eq!(query.parent_span_id, handle.span_id);
    assert!(handle.start_time_unix_nano <= query.start_time_unix_nano);
    assert!(query.end_time_unix_nano <= handle.end_time_unix_nano);
    assert_eq!(attribute(query, "rows"), Some(&Value::IntValue(17)));
    let status = query.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "cannot read"));
    assert_eq!(query.events[0].name, "exception");
    assert_eq!(handle.status, None);

    let export = only(&profile);
    assert_eq!(
        (export.name.as_str(), export.exported, export.pending),
        ("otlp", 2, 0)
    );
    assert!(export.endpoint.starts_with(&backend.url), "{export:?}");
}

#[test]
fn the_last_metrics_are_sent_at_the_end() {
    let backend = Backend::start();
    let (outcome, profile) = run(exporting(backend.otlp().traces(false)), || {
        for _ in 0..3 {
            tracing::info_span!("query").in_scope(|| ());
        }
    });
    outcome.unwrap();
    let requests: Vec<_> = backend.requests.try_iter().collect();
    let [(path, body)] = &requests[..] else {
        panic!("{} requests", requests.len())
    };
    assert_eq!(path, "/v1/metrics");
    let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    assert!(
        metrics
            .iter()
            .any(|metric| metric.name == "traces.span.metrics.calls")
    );
    assert!(only(&profile).exported_points > 0);
    assert_eq!(only(&profile).exported, 0);
}

#[test]
fn what_sampling_leaves_out_is_counted_and_measured() {
    let backend = Backend::start();
    let otlp = backend.otlp().sample_ratio(0.0).keep_errors();
    let (outcome, profile) = run(exporting(otlp), || {
        for number in 0..10 {
            tracing::info_span!("handle").in_scope(|| {
                tracing::info_span!("query").in_scope(|| {
                    if number == 7 {
                        tracing::error!("gone");
                    }
                });
            });
        }
    });
    outcome.unwrap();
    assert_eq!(names(&backend.spans()), ["handle", "query"]);
    let export = only(&profile);
    assert_eq!((export.exported, export.sampled_out), (2, 18));
    assert!(profile.sites.iter().all(|row| row.stats.calls == 10));
}

#[test]
fn nothing_is_exported_where_nothing_is_sampled() {
    let backend = Backend::start();
    let otlp = backend.otlp().sampling(Sampling::AlwaysOff);
    let (outcome, profile) = run(exporting(otlp), || {
        tracing::info_span!("handle").in_scope(|| ());
    });
    outcome.unwrap();
    assert_eq!(names(&backend.spans()), [""; 0]);
    assert_eq!(only(&profile).sampled_out, 1);
}

#[test]
fn spans_that_nobody_takes_are_an_error_in_the_end_and_in_the_report() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let builder = exporting(Otlp::new(&url)).exit_deadline(Duration::from_secs(1));
    let (outcome, profile) = run(builder, || {
        for _ in 0..5 {
            tracing::info_span!("handle").in_scope(|| ());
        }
    });
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.contains("otlp") && text.contains("5 spans dropped"),
        "{text}"
    );
    let export = only(&profile);
    assert_eq!((export.exported, export.dropped, export.pending), (0, 5, 0));
    assert!(export.last_error.is_some());
}

#[test]
fn a_wrong_setting_is_an_error_before_anything_starts() {
    let error = exporting(Otlp::new("localhost:no-port"))
        .build()
        .unwrap_err();
    assert!(matches!(error, BuildError::Otlp(_)), "{error:?}");
    assert!(error.to_string().contains("localhost:no-port"), "{error}");
    let otlp = Otlp::new("http://localhost:4318").sample_ratio(1.5);
    let error = exporting(otlp).build().unwrap_err();
    assert!(error.to_string().contains("sample_ratio"), "{error}");
}

#[test]
fn an_export_of_nothing_is_none() {
    let otlp = Otlp::new("http://localhost:4318")
        .traces(false)
        .metrics(false);
    let (outcome, profile) = run(exporting(otlp), || ());
    outcome.unwrap();
    assert_eq!(profile.exports, []);
}
