//! Whatever the receiver does: the capture ends in time, and the account says of every span what became of it.
#![cfg(feature = "otlp")]
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on; the rig has more than one file uses"
)]

#[path = "support/otlp/mod.rs"]
mod otlp;
#[path = "support/otlp_rig.rs"]
mod rig;

use std::path::Path;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp::{Answer, Authority, ReceivedSpan, Receiver, Validity, spans_of};
use rig::{Ended, PROTOCOLS, SOON, assert_each_once, builder, otlp, run, within, work};
use tracing_cortex::Overflow;
use tracing_cortex::otlp::{Otlp, Protocol};

/// Long enough for some attempts, short enough to wait for.
const DEADLINE: Duration = Duration::from_secs(2);

const REAL: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

/// Runs a program against a receiver that answers only in this way.
fn answered(protocol: Protocol, answer: Answer, spans: u64) -> (Receiver, Ended) {
    let receiver = Receiver::start();
    receiver.answer(answer);
    let builder = builder().exit_deadline(DEADLINE);
    let ended = run(builder, otlp(&receiver, protocol), |_| work(spans));
    ended.assert_within(DEADLINE);
    (receiver, ended)
}

fn address(receiver: &Receiver, protocol: Protocol) -> String {
    let url = match protocol {
        Protocol::Grpc => receiver.grpc(),
        _ => receiver.http(),
    };
    url.split_once("://").unwrap().1.to_owned()
}

/// Reads a spill file as the collector does: a request on each line.
fn spilled(path: &Path) -> Vec<ReceivedSpan> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    let lines = text.lines().flat_map(|line| {
        let request: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
        spans_of(&request)
    });
    lines.collect()
}

#[test]
fn where_nobody_ever_listens_all_spans_are_dropped_in_time() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::down();
        let builder = builder().exit_deadline(DEADLINE);
        let ended = run(builder, otlp(&receiver, protocol), |_| work(100));
        ended.assert_within(DEADLINE);
        ended.assert_account(0, 0, 100, 0);
        let address = address(&receiver, protocol);
        assert!(ended.error().contains(&address), "{}", ended.error());
    }
}

#[test]
fn a_receiver_that_comes_up_later_gets_everything() {
    for protocol in PROTOCOLS {
        let mut receiver = Receiver::down();
        let ended = run(builder(), otlp(&receiver, protocol), |_| {
            work(1_000);
            // Time for an attempt that fails.
            std::thread::sleep(Duration::from_millis(300));
            receiver.restart();
            receiver.wait_for_spans(1_000, SOON);
        });
        ended.assert_account(1_000, 0, 0, 0);
        assert_each_once(&receiver.spans(), 1_000);
    }
}

#[test]
fn a_receiver_that_comes_up_at_the_end_gets_everything() {
    for protocol in REAL {
        let mut receiver = Receiver::down();
        let (layer, guard) = builder().otlp(otlp(&receiver, protocol)).build().unwrap();
        within(layer, || work(1_000));
        let ending = std::thread::spawn(move || Ended::finish(guard));
        std::thread::sleep(Duration::from_millis(300));
        receiver.restart();
        let ended = ending.join().unwrap();
        ended.assert_account(1_000, 0, 0, 0);
        assert_each_once(&receiver.spans(), 1_000);
    }
}

#[test]
fn a_receiver_that_dies_and_comes_back_gets_everything_once() {
    for protocol in PROTOCOLS {
        let mut receiver = Receiver::start();
        let ended = run(builder(), otlp(&receiver, protocol), |_| {
            let spans = |range: std::ops::Range<u64>| {
                for number in range {
                    tracing::info_span!("work", number).in_scope(|| ());
                }
            };
            spans(0..500);
            receiver.wait_for_spans(500, SOON);
            // It dies in the middle of a request that it has not taken yet.
            receiver.answer(Answer::Silence);
            spans(500..1_000);
            wait_until(|| {
                let requests = receiver.requests();
                requests
                    .iter()
                    .any(|request| request.answer == Answer::Silence)
            });
            receiver.stop();
            spans(1_000..1_500);
            receiver.answer(Answer::Accept);
            receiver.restart();
            receiver.wait_for_spans(1_500, SOON);
        });
        ended.assert_account(1_500, 0, 0, 0);
        assert_each_once(&receiver.spans(), 1_500);
    }
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < until, "waited for {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_receiver_that_never_answers_does_not_delay_the_end() {
    for protocol in PROTOCOLS {
        let (receiver, ended) = answered(protocol, Answer::Silence, 100);
        assert!(!receiver.requests().is_empty());
        ended.assert_account(0, 0, 100, 0);
        assert!(ended.error().contains("answer"), "{}", ended.error());
        let endpoint = &ended.account().endpoint;
        assert!(
            endpoint.contains(&address(&receiver, protocol)),
            "{endpoint}"
        );
    }
}

#[test]
fn a_request_without_an_answer_is_tried_again_after_its_timeout() {
    for protocol in REAL {
        let receiver = Receiver::start();
        receiver.script([Answer::Silence]);
        let otlp = otlp(&receiver, protocol).timeout(Duration::from_millis(300));
        let ended = run(builder(), otlp, |_| work(100));
        ended.assert_account(100, 0, 0, 0);
        assert_each_once(&receiver.spans(), 100);
    }
}

#[test]
fn a_late_answer_is_waited_for() {
    for protocol in REAL {
        let late = Answer::Delay(Duration::from_millis(500));
        let (receiver, ended) = answered(protocol, late, 100);
        ended.assert_account(100, 0, 0, 0);
        assert_each_once(&receiver.spans(), 100);
    }
}

#[test]
fn spans_refused_one_by_one_are_counted_with_the_reason() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        receiver.script([Answer::partial(7, "attributes are too long")]);
        let ended = run(builder(), otlp(&receiver, protocol), |_| work(100));
        ended.assert_account(93, 7, 0, 0);
        assert_eq!(receiver.span_count(), 93);
        assert!(
            ended.error().contains("attributes are too long"),
            "{}",
            ended.error()
        );
    }
}

#[test]
fn more_spans_refused_than_sent_are_no_more_than_sent() {
    for protocol in PROTOCOLS {
        let (_receiver, ended) = answered(protocol, Answer::partial(1_000_000, "all"), 10);
        ended.assert_account(0, 10, 0, 0);
    }
}

#[test]
fn a_refused_request_is_not_tried_again() {
    for protocol in PROTOCOLS {
        let (receiver, ended) = answered(protocol, Answer::bad_request(), 100);
        ended.assert_account(0, 100, 0, 0);
        let sent: usize = receiver.requests().iter().map(otlp::Request::len).sum();
        assert_eq!(sent, 100, "each once");
        assert!(ended.error().contains("no such field"), "{}", ended.error());
    }
}

#[test]
fn a_refused_token_names_the_setting_for_headers() {
    for protocol in PROTOCOLS {
        let (_receiver, ended) = answered(protocol, Answer::bad_token(), 100);
        ended.assert_account(0, 100, 0, 0);
        let error = ended.error();
        assert!(error.contains("Otlp::header"), "{error}");
        assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{error}");
    }
}

#[test]
fn a_cut_connection_is_tried_again() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        receiver.script([Answer::Cut, Answer::Cut]);
        let ended = run(builder(), otlp(&receiver, protocol), |_| work(100));
        ended.assert_account(100, 0, 0, 0);
        assert_each_once(&receiver.spans(), 100);
        assert!(receiver.connections() >= 3);
    }
}

#[test]
fn a_receiver_that_is_busy_gets_everything_when_it_is_not() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        receiver.script([Answer::unavailable(), Answer::unavailable()]);
        let ended = run(builder(), otlp(&receiver, protocol), |_| work(100));
        ended.assert_account(100, 0, 0, 0);
        assert_each_once(&receiver.spans(), 100);
    }
}

#[test]
fn too_many_requests_are_tried_again_and_too_large_ones_are_not() {
    let busy = Answer::refuse(429, tonic::Code::ResourceExhausted, "slow down");
    let receiver = Receiver::start();
    receiver.script([busy]);
    let ended = run(builder(), otlp(&receiver, Protocol::HttpProtobuf), |_| {
        work(100);
    });
    ended.assert_account(100, 0, 0, 0);

    let large = Answer::refuse(413, tonic::Code::ResourceExhausted, "too large");
    let (_receiver, ended) = answered(Protocol::HttpProtobuf, large, 100);
    ended.assert_account(0, 100, 0, 0);
}

#[test]
fn the_receiver_says_when_to_come_again() {
    const WAIT: Duration = Duration::from_secs(1);
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        receiver.script([Answer::RetryAfter(WAIT)]);
        let ended = run(builder(), otlp(&receiver, protocol), |_| work(100));
        ended.assert_account(100, 0, 0, 0);
        let requests = receiver.requests();
        let gap = requests[1].at - requests[0].at;
        // It counts from when the answer arrives; and no longer than has a reason.
        assert!(gap >= WAIT.mul_f64(0.95) && gap < 3 * WAIT, "{gap:?}");
    }
}

#[test]
fn a_receiver_that_wants_to_be_left_alone_for_an_hour_does_not_delay_the_end() {
    for protocol in REAL {
        let later = Answer::RetryAfter(Duration::from_secs(3_600));
        let (_receiver, ended) = answered(protocol, later, 100);
        ended.assert_account(0, 0, 100, 0);
    }
}

#[test]
fn a_burst_of_200_000_spans_arrives_completely() {
    const BURST: u64 = 200_000;
    let receiver = Receiver::start();
    let builder = builder().exit_deadline(Duration::from_secs(60));
    let builder = builder.overflow(Overflow::Block);
    let otlp = otlp(&receiver, Protocol::Grpc);
    let ended = run(builder, otlp, |_| work(BURST));
    assert_eq!(ended.profile().losses.dropped_records(), 0);
    ended.assert_account(BURST, 0, 0, 0);
    assert_each_once(&receiver.spans(), BURST);
}

#[test]
fn spans_of_many_threads_at_once_arrive_completely() {
    const THREADS: u64 = 8;
    const EACH: u64 = 5_000;
    let receiver = Receiver::start();
    let builder = builder().overflow(Overflow::Block);
    let ended = run(builder, otlp(&receiver, Protocol::HttpProtobuf), |_| {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let dispatch = dispatch.clone();
                scope.spawn(move || {
                    let _default = tracing::dispatcher::set_default(&dispatch);
                    for number in thread * EACH..(thread + 1) * EACH {
                        tracing::info_span!("work", number).in_scope(|| ());
                    }
                });
            }
        });
    });
    ended.assert_account(THREADS * EACH, 0, 0, 0);
    assert_each_once(&receiver.spans(), THREADS * EACH);
}

#[test]
fn with_a_full_queue_every_span_has_one_fate() {
    const SPANS: u64 = 20_000;
    for protocol in REAL {
        let receiver = Receiver::start();
        receiver.answer(Answer::Delay(Duration::from_millis(50)));
        let otlp = otlp(&receiver, protocol)
            .max_queue_bytes(64 << 10)
            .max_batch_spans(64);
        let builder = builder().overflow(Overflow::Block);
        let ended = run(builder, otlp, |_| work(SPANS));
        ended.assert_complete(SPANS);
        let account = ended.account();
        assert!(account.dropped > 0, "{account:?}");
        assert_eq!(account.exported, receiver.span_count() as u64);
        assert!(
            ended.error().contains("max_queue_bytes"),
            "{}",
            ended.error()
        );
    }
}

#[test]
fn what_cannot_be_sent_is_in_the_spill_file() {
    let folder = tempfile::tempdir().unwrap();
    for protocol in PROTOCOLS {
        let path = folder.path().join(format!("{protocol:?}.jsonl"));
        let receiver = Receiver::down();
        let otlp = otlp(&receiver, protocol).spill(&path);
        // Making JSON takes an unoptimised build on a busy machine a second.
        let deadline = 5 * DEADLINE;
        let ended = run(builder().exit_deadline(deadline), otlp, |_| work(1_000));
        ended.assert_within(deadline);
        ended.assert_account(0, 0, 0, 1_000);
        let spans = spilled(&path);
        assert_each_once(&spans, 1_000);
        assert_eq!(spans[0].resource_text("service.name"), Some("test"));
        assert_eq!(spans[0].scope.name, "tracing-cortex");
        assert_eq!(spans[0].trace_id().len(), 32);
    }
}

#[test]
fn every_span_is_received_or_spilled() {
    const SPANS: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    for protocol in REAL {
        let path = folder.path().join(format!("{protocol:?}.jsonl"));
        let receiver = Receiver::start();
        receiver.answer(Answer::Delay(Duration::from_millis(20)));
        let otlp = otlp(&receiver, protocol)
            .max_queue_bytes(64 << 10)
            .max_batch_spans(64)
            .spill(&path);
        let builder = builder().overflow(Overflow::Block);
        let ended = run(builder, otlp, |_| work(SPANS));
        let account = ended.account();
        assert!(account.spilled > 0, "{account:?}");
        ended.assert_account(account.exported, 0, 0, SPANS - account.exported);
        let mut all = receiver.spans();
        assert_eq!(all.len() as u64, account.exported);
        all.extend(spilled(&path));
        assert_each_once(&all, SPANS);
    }
}

#[test]
fn refused_spans_are_not_spilled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    let receiver = Receiver::start();
    receiver.answer(Answer::bad_request());
    let otlp = otlp(&receiver, Protocol::HttpProtobuf).spill(&path);
    let ended = run(builder(), otlp, |_| work(10));
    ended.assert_account(0, 10, 0, 0);
    assert!(!path.exists(), "made when it is first needed");
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_the_spans_are_dropped_and_the_file_is_named() {
    let receiver = Receiver::down();
    let otlp = otlp(&receiver, Protocol::HttpProtobuf).spill("/dev/full");
    let ended = run(builder().exit_deadline(DEADLINE), otlp, |_| work(100));
    ended.assert_within(DEADLINE);
    ended.assert_account(0, 0, 100, 0);
    assert!(ended.error().contains("/dev/full"), "{}", ended.error());
}

#[test]
fn the_report_and_the_json_say_what_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (text, json) = (
        folder.path().join("report.txt"),
        folder.path().join("report.json"),
    );
    let receiver = Receiver::down();
    let builder = builder()
        .exit_deadline(DEADLINE)
        .report_text(text.as_path())
        .report_json(&json);
    run(builder, otlp(&receiver, Protocol::Grpc), |_| work(100));
    let address = address(&receiver, Protocol::Grpc);
    let text = std::fs::read_to_string(&text).unwrap();
    assert!(text.contains(&address) && text.contains("100"), "{text}");
    let json = std::fs::read_to_string(&json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["exports"][0]["dropped"], 100, "{}", json["exports"]);
    assert_eq!(json["exports"][0]["pending"], 0);
}

#[test]
fn other_outputs_are_complete_where_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let receiver = Receiver::down();
    let builder = builder().exit_deadline(DEADLINE).chrome(&trace);
    run(builder, otlp(&receiver, Protocol::Grpc), |_| work(100));
    let trace = std::fs::read_to_string(trace).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let bars = events.iter().filter(|event| event["ph"] == "X");
    assert_eq!(bars.count(), 100);
}

/// What `build` says to settings.
#[track_caller]
fn refused(otlp: Otlp) -> String {
    let error = builder().otlp(otlp).build().expect_err("a wrong setting");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[test]
fn a_wrong_setting_is_named_when_the_capture_is_built() {
    let new = || Otlp::new("http://127.0.0.1:4318");
    let missing = "/no/such/file.pem";
    let cases = [
        ("Otlp::endpoint", Otlp::new("no url")),
        ("Otlp::endpoint", Otlp::new("ftp://127.0.0.1")),
        ("Otlp::endpoint", Otlp::new("http://")),
        ("Otlp::traces_endpoint", new().traces_endpoint("::")),
        ("Otlp::header", new().header("with space", "x")),
        ("Otlp::header", new().header("x", "line\nbreak")),
        ("Otlp::max_queue_bytes", new().max_queue_bytes(1)),
        ("Otlp::max_batch_spans", new().max_batch_spans(0)),
        ("Otlp::timeout", new().timeout(Duration::ZERO)),
    ];
    for (setting, otlp) in cases {
        let message = refused(otlp);
        assert!(message.contains(setting), "{setting}: {message}");
    }
    install_crypto();
    let tls = || Otlp::new("https://127.0.0.1:4318");
    let message = refused(tls().ca_certificate(missing));
    assert!(message.contains("Otlp::ca_certificate"), "{message}");
    assert!(message.contains(missing), "{message}");
    let message = refused(tls().client_identity(missing, missing));
    assert!(message.contains("Otlp::client_identity"), "{message}");
}

#[test]
fn a_secret_header_is_in_no_error() {
    let otlp = Otlp::new("http://127.0.0.1:4318").header("authorization", "hunter2\n");
    let debug = format!("{otlp:?}");
    let message = refused(otlp);
    assert!(message.contains("authorization"), "{message}");
    assert!(!message.contains("hunter2") && !debug.contains("hunter2"));
}

#[test]
fn a_file_without_a_certificate_is_named() {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.pem");
    std::fs::write(&path, "nothing").unwrap();
    let message = refused(Otlp::new("https://127.0.0.1:1").ca_certificate(&path));
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains("Otlp::ca_certificate"), "{message}");
}

/// The program's own choice, which the feature `otlp` leaves to it.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a program that trusts `trusted` against a receiver with TLS.
fn over_tls(receiver: &Receiver, trusted: &Authority, protocol: Protocol) -> Ended {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, trusted.pem()).unwrap();
    let otlp = otlp(receiver, protocol).ca_certificate(path);
    let ended = run(builder().exit_deadline(DEADLINE), otlp, |_| work(100));
    ended.assert_within(DEADLINE);
    ended
}

#[test]
fn spans_travel_encrypted_to_a_receiver_of_a_known_authority() {
    for protocol in PROTOCOLS {
        let authority = Authority::new();
        let receiver = Receiver::with_tls(&authority, Validity::Now);
        let ended = over_tls(&receiver, &authority, protocol);
        ended.assert_account(100, 0, 0, 0);
        assert_each_once(&receiver.spans(), 100);
    }
}

#[test]
fn an_expired_certificate_is_named_and_the_program_runs_on() {
    for protocol in PROTOCOLS {
        let authority = Authority::new();
        let receiver = Receiver::with_tls(&authority, Validity::Expired);
        let ended = over_tls(&receiver, &authority, protocol);
        ended.assert_account(0, 0, 100, 0);
        assert!(ended.error().contains("expired"), "{}", ended.error());
        assert_eq!(ended.profile().sites[0].stats.calls, 100);
    }
}

#[test]
fn an_unknown_authority_is_named_and_the_program_runs_on() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::with_tls(&Authority::new(), Validity::Now);
        let ended = over_tls(&receiver, &Authority::new(), protocol);
        ended.assert_account(0, 0, 100, 0);
        assert!(ended.error().contains("certificate"), "{}", ended.error());
    }
}

#[test]
fn a_receiver_that_wants_a_certificate_of_the_client_gets_it() {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let authority = Authority::new();
    let (certificate, key) = authority.client();
    let (ca, certificate, key) = (
        file("ca.pem", &authority.pem()),
        file("client.pem", &certificate),
        file("client.key", &key),
    );
    for protocol in PROTOCOLS {
        let receiver = Receiver::with_client_certificates(&authority);
        let otlp = otlp(&receiver, protocol)
            .ca_certificate(&ca)
            .client_identity(&certificate, &key);
        run(builder(), otlp, |_| work(100)).assert_account(100, 0, 0, 0);
    }
    let receiver = Receiver::with_client_certificates(&authority);
    let otlp = otlp(&receiver, Protocol::HttpProtobuf).ca_certificate(&ca);
    let ended = run(builder().exit_deadline(DEADLINE), otlp, |_| work(10));
    ended.assert_account(0, 0, 10, 0);
    assert!(ended.error().contains("ertificate"), "{}", ended.error());
}

#[test]
fn metrics_that_are_refused_take_no_span_along() {
    let receiver = Receiver::start();
    receiver.answer_to(otlp::Signal::Metrics, Answer::bad_request());
    let otlp = otlp(&receiver, Protocol::HttpProtobuf).metrics(true);
    let ended = run(builder(), otlp, |_| work(100));
    ended.assert_account(100, 0, 0, 0);
    assert_eq!(ended.account().exported_points, 0);
    assert!(ended.account().lost_points > 0);
    assert_eq!(ended.account().last_error, None);
    assert!(ended.account().last_points_error.is_some());
    let error = ended.result.as_ref().unwrap_err().to_string();
    assert!(error.contains("metric points lost"), "{error}");
}

#[test]
fn a_receiver_of_spans_alone_is_no_failure_and_gets_metrics_once() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let no_metrics = Answer::refuse(404, tonic::Code::Unimplemented, "no such service");
        receiver.answer_to(otlp::Signal::Metrics, no_metrics);
        let otlp = otlp(&receiver, protocol)
            .metrics(true)
            .metrics_interval(Duration::from_millis(20));
        let ended = run(builder(), otlp, |guard| {
            work(100);
            guard.flush(SOON).unwrap();
        });
        ended.assert_account(100, 0, 0, 0);
        assert!(ended.result.is_ok(), "{:?}", ended.result);
        assert_eq!(ended.account().last_error, None);
        let error = ended.account().last_points_error.as_deref().unwrap();
        assert!(error.contains("takes no metrics"), "{error}");
        assert!(error.contains("OTEL_METRICS_EXPORTER=none"), "{error}");
    }
}

#[test]
fn metrics_go_over_the_connection_of_the_spans() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let otlp = otlp(&receiver, protocol).metrics(true);
        let ended = run(builder(), otlp, |_| work(100));
        ended.assert_account(100, 0, 0, 0);
        receiver.wait_for_metric("traces.span.metrics.calls", SOON);
        receiver.wait_for_metric("traces.span.metrics.duration", SOON);
        assert!(ended.account().exported_points > 0);
        assert_eq!(ended.account().lost_points, 0);
        assert!(receiver.connections() <= 4, "{}", receiver.connections());
    }
}
