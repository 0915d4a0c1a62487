//! Protobuf and JSON over HTTP.

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::receiver::{Receiver, Reply};

use super::{assert_counts, batch, fate, metrics, request, settles, soon, start};
use crate::sink::otlp::settings::{Compression, Otlp, Protocol};

#[test]
fn protobuf_arrives_byte_for_byte_with_its_headers() {
    let receiver = Receiver::start([]);
    let otlp = Otlp::new(receiver.url()).header("authorization", "Bearer 1");
    let exporter = start(otlp);
    exporter.send_spans(batch(3));
    exporter.send_metrics(metrics(), 5);
    exporter.finish(soon());
    let account = exporter.account();
    assert_counts(&account, [3, 0, 0, 0]);
    assert_eq!((account.exported_points, account.lost_points), (5, 0));
    assert_eq!(account.endpoint, format!("{}/v1/traces", receiver.url()));

    let mut received = receiver.received();
    received.sort_by(|a, b| b.path.cmp(&a.path));
    let [traces, of_metrics] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert_eq!(traces.path, "/v1/traces");
    assert_eq!(
        traces.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(traces.header("authorization"), Some("Bearer 1"));
    assert!(
        traces
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("tracing-cortex/"))
    );
    assert_eq!(traces.body, batch(3).request);
    assert_eq!(of_metrics.path, "/v1/metrics");
    assert_eq!(of_metrics.body, metrics());
}

#[test]
fn gzip_bodies_unpack_to_what_was_sent() {
    let receiver = Receiver::start([]);
    let export = fate(Otlp::new(receiver.url()).compression(Compression::Gzip));
    assert_counts(&export, [3, 0, 0, 0]);
    let received = &receiver.received()[0];
    assert_eq!(received.header("content-encoding"), Some("gzip"));
    let mut body = Vec::new();
    GzDecoder::new(received.body.as_slice())
        .read_to_end(&mut body)
        .unwrap();
    assert_eq!(body, batch(3).request);
}

#[test]
fn json_bodies_hold_the_same_request() {
    let receiver = Receiver::start([]);
    let export = fate(Otlp::new(receiver.url()).protocol(Protocol::HttpJson));
    assert_counts(&export, [3, 0, 0, 0]);
    let received = &receiver.received()[0];
    assert_eq!(received.header("content-type"), Some("application/json"));
    let text = String::from_utf8(received.body.clone()).unwrap();
    assert!(text.contains(&"07".repeat(16)), "{text}");
    let parsed: ExportTraceServiceRequest = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed, request(3, "work"));
}

#[test]
fn a_partial_success_is_counted_and_explained_in_protobuf_and_in_json() {
    let protobuf = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 2,
            error_message: "too old".to_owned(),
        }),
    };
    let json = br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#;
    for body in [protobuf.encode_to_vec(), json.to_vec()] {
        let receiver = Receiver::start([Reply::Status(200, "", body)]);
        let export = fate(Otlp::new(receiver.url()));
        assert_counts(&export, [1, 2, 0, 0]);
        let url = receiver.url();
        assert_eq!(
            export.last_error.unwrap(),
            format!("{url}/v1/traces refused a part of a request; it says: too old")
        );
        assert_eq!(receiver.received().len(), 1);
    }
}

#[test]
fn a_warning_about_spans_that_were_taken_is_no_error() {
    for body in [
        r#"{"partialSuccess":{"errorMessage":"use https"}}"#,
        "\u{a}\u{b}\u{12}\u{9}use https",
    ] {
        let receiver = Receiver::start([Reply::Status(200, "", body.into())]);
        let export = fate(Otlp::new(receiver.url()));
        assert_counts(&export, [3, 0, 0, 0]);
        assert_eq!(
            export.last_warning.unwrap(),
            format!(
                "{}/v1/traces took a request; it says: use https",
                receiver.url()
            )
        );
    }
}

#[test]
fn a_success_whose_body_makes_no_sense_is_a_success() {
    for body in ["{", "<html>", "\u{0}"] {
        let receiver = Receiver::start([Reply::Status(200, "", body.into())]);
        assert_counts(&fate(Otlp::new(receiver.url())), [3, 0, 0, 0]);
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    for reply in [
        Reply::status(429),
        Reply::status(502),
        Reply::status(503),
        Reply::status(504),
        Reply::Cut,
    ] {
        let receiver = Receiver::start([reply]);
        assert_counts(&fate(Otlp::new(receiver.url())), [3, 0, 0, 0]);
        let received = receiver.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[1].body, batch(3).request);
    }
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    let receiver = Receiver::start([Reply::Status(503, "retry-after: 1\r\n", Vec::new())]);
    let began = Instant::now();
    assert_counts(&fate(Otlp::new(receiver.url())), [3, 0, 0, 0]);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_receiver_that_asks_for_more_time_than_there_is_does_not_delay_the_end() {
    let receiver = Receiver::start([Reply::Status(503, "retry-after: 60\r\n", Vec::new())]);
    let began = Instant::now();
    let export = fate(Otlp::new(receiver.url()));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_counts(&export, [0, 0, 3, 0]);
    let error = export.last_error.unwrap();
    assert!(error.contains("asks to wait"), "{error}");
    assert!(error.contains("(503)"), "{error}");
}

#[test]
fn refusals_are_counted_once_and_say_what_to_change() {
    for (status, headers, body, expected) in [
        (
            401,
            "",
            "",
            "URL refused the token (401): check the header `authorization` in OTEL_EXPORTER_OTLP_HEADERS or Otlp::header",
        ),
        (
            403,
            "",
            r#"{"message":"no\nway"}"#,
            "URL does not allow this (403): check the header `authorization` in OTEL_EXPORTER_OTLP_HEADERS or \
             Otlp::header; it says: no way",
        ),
        (
            404,
            "",
            "<html>",
            "URL has nothing at this path (404): check the path of Otlp::endpoint; receivers of OTLP usually have \
             /v1/traces and /v1/metrics",
        ),
        (
            415,
            "",
            "unknown type",
            "URL does not take protobuf over HTTP (415): check OTEL_EXPORTER_OTLP_PROTOCOL or Otlp::protocol; it \
             says: unknown type",
        ),
        (
            301,
            "location: https://new.example\r\n",
            "",
            "URL has moved (301): set Otlp::endpoint to https://new.example",
        ),
        (
            400,
            "",
            "\u{8}\u{3}\u{12}\u{7}bad ids",
            "URL refused the request (400); it says: bad ids",
        ),
        (500, "", "", "URL refused the request (500)"),
    ] {
        let receiver = Receiver::start([Reply::Status(status, headers, body.into())]);
        let export = fate(Otlp::new(receiver.url()));
        assert_counts(&export, [0, 3, 0, 0]);
        assert_eq!(receiver.received().len(), 1);
        let url = format!("{}/v1/traces", receiver.url());
        assert_eq!(export.last_error.unwrap(), expected.replace("URL", &url));
    }
    let receiver = Receiver::start([Reply::status(413)]);
    let error = fate(Otlp::new(receiver.url())).last_error.unwrap();
    let length = batch(3).request.len();
    assert!(
        error.contains(&format!(
            "a request of {length} bytes too large (413): lower Otlp::max_batch_spans"
        )),
        "{error}"
    );
}

#[test]
fn a_receiver_without_a_place_for_metrics_gets_them_once() {
    for status in [404, 405] {
        let receiver = Receiver::start([Reply::status(status)]);
        let exporter = start(Otlp::new(receiver.url()));
        exporter.send_metrics(metrics(), 5);
        exporter.send_metrics(metrics(), 4);
        assert!(settles(&exporter, soon()));
        assert!(!exporter.takes_metrics());
        exporter.send_metrics(metrics(), 2);
        exporter.send_spans(batch(3));
        exporter.finish(soon());
        let account = exporter.account();
        assert_counts(&account, [3, 0, 0, 0]);
        assert_eq!((account.exported_points, account.lost_points), (0, 11));
        assert_eq!(exporter.unwanted_points(), 11);
        let url = receiver.url();
        assert_eq!(
            account.last_points_error.unwrap(),
            format!(
                "{url}/v1/metrics takes no metrics ({status}): switch them off with Otlp::metrics(false) or \
                 OTEL_METRICS_EXPORTER=none, or correct Otlp::endpoint"
            )
        );
        assert_eq!(receiver.received().len(), 2);
    }
}

#[test]
fn metrics_that_are_refused_for_what_is_in_them_are_sent_on() {
    let receiver = Receiver::start([Reply::status(400)]);
    let exporter = start(Otlp::new(receiver.url()));
    exporter.send_metrics(metrics(), 5);
    exporter.send_metrics(metrics(), 4);
    exporter.finish(soon());
    let account = exporter.account();
    assert_eq!((account.exported_points, account.lost_points), (4, 5));
    assert_eq!(exporter.unwanted_points(), 0);
    assert_eq!(account.last_error, None);
}

#[test]
fn several_requests_are_under_way_to_a_slow_receiver() {
    let slow = || Reply::Slow(Duration::from_millis(50));
    let receiver = Receiver::start(std::iter::repeat_with(slow).take(12));
    let exporter = start(Otlp::new(receiver.url()));
    for _ in 0..12 {
        exporter.send_spans(batch(1));
    }
    assert!(settles(&exporter, soon()));
    assert_counts(&exporter.account(), [12, 0, 0, 0]);
    assert_eq!(receiver.most_under_way(), 4);
}
