//! Receivers that are not there, and what becomes of the spans then.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::receiver::{Receiver, Reply};

use super::{assert_counts, batch, metrics, request, settles, soon, start};
use crate::sink::otlp::settings::{Otlp, Protocol};

/// Returns a port on which nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn within(time: Duration) -> Instant {
    Instant::now() + time
}

#[test]
fn spans_wait_for_a_receiver_that_starts_late() {
    let port = free_port();
    let exporter = start(Otlp::new(format!("http://127.0.0.1:{port}")));
    for _ in 0..10 {
        exporter.send_spans(batch(3));
    }
    assert!(!settles(&exporter, within(Duration::from_millis(300))));
    assert_eq!(exporter.account().pending, 30);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let receiver = Receiver::on(listener, []);
    assert!(settles(&exporter, soon()));
    assert_counts(&exporter.account(), [30, 0, 0, 0]);
    assert_eq!(receiver.received().len(), 10);
}

#[test]
fn who_waits_does_not_wait_for_the_back_off() {
    let unavailable = || Reply::status(503);
    let receiver = Receiver::start(std::iter::repeat_with(unavailable).take(6));
    let exporter = start(Otlp::new(receiver.url()));
    exporter.send_spans(batch(3));
    // The next attempt is 1.6 s away or more.
    receiver.wait_for(6);
    let waits_since = Instant::now();
    while !exporter.is_settled() {
        exporter.hurry();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(waits_since.elapsed() < Duration::from_millis(1500));
    assert_counts(&exporter.account(), [3, 0, 0, 0]);
    assert_eq!(receiver.received().len(), 7);
}

#[test]
fn spans_survive_a_receiver_that_dies_in_the_middle() {
    let dying = std::iter::repeat_with(|| Reply::Cut).take(7);
    let receiver = Receiver::start([Reply::status(200)].into_iter().chain(dying));
    let exporter = start(Otlp::new(receiver.url()));
    for _ in 0..10 {
        exporter.send_spans(batch(3));
    }
    exporter.finish(soon());
    assert_counts(&exporter.account(), [30, 0, 0, 0]);
}

#[test]
fn without_a_receiver_the_end_comes_at_its_deadline_and_names_the_setting() {
    let url = format!("http://127.0.0.1:{}", free_port());
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let exporter = start(Otlp::new(&url).protocol(protocol));
        exporter.send_spans(batch(3));
        exporter.send_metrics(metrics(), 4);
        let began = Instant::now();
        exporter.finish(within(Duration::from_millis(400)));
        assert!(began.elapsed() < Duration::from_millis(900));
        let account = exporter.account();
        assert_counts(&account, [0, 0, 3, 0]);
        assert_eq!(account.lost_points, 4);
        for error in [account.last_error, account.last_points_error] {
            let error = error.unwrap();
            assert!(
                error.contains(&format!("cannot connect to {url}")),
                "{error}"
            );
            // Over gRPC both share a connection, and only one of them knows why there is none.
            let is_grpc = protocol == Protocol::Grpc;
            assert!(is_grpc || error.contains("refused"), "{error}");
            assert!(error.contains("correct Otlp::endpoint"), "{error}");
        }
    }
}

#[test]
fn a_receiver_that_never_answers_does_not_hold_up_the_end() {
    let receiver = Receiver::start([Reply::Silence, Reply::Silence, Reply::Silence]);
    let exporter = start(Otlp::new(receiver.url()));
    exporter.send_spans(batch(3));
    exporter.send_spans(batch(2));
    receiver.wait_for(2);
    let began = Instant::now();
    exporter.finish(within(Duration::from_millis(200)));
    assert!(began.elapsed() < Duration::from_millis(600));
    let account = exporter.account();
    assert_counts(&account, [0, 0, 5, 0]);
    assert_eq!(
        account.last_error.unwrap(),
        "the program ended before the receiver had answered"
    );
    // What comes after the end is counted as well.
    exporter.send_spans(batch(1));
    assert_counts(&exporter.account(), [0, 0, 6, 0]);
}

#[test]
fn a_request_without_an_answer_is_sent_again() {
    let receiver = Receiver::start([Reply::Silence]);
    let otlp = Otlp::new(receiver.url()).timeout(Duration::from_millis(100));
    let exporter = start(otlp);
    exporter.send_spans(batch(3));
    exporter.finish(soon());
    assert_counts(&exporter.account(), [3, 0, 0, 0]);
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn dropping_the_exporter_ends_it() {
    let receiver = Receiver::start([Reply::Silence]);
    let exporter = start(Otlp::new(receiver.url()));
    exporter.send_spans(batch(3));
    receiver.wait_for(1);
    let began = Instant::now();
    drop(exporter);
    assert!(began.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_full_queue_drops_the_oldest_and_counts_them() {
    let exporter =
        start(Otlp::new(format!("http://127.0.0.1:{}", free_port())).max_queue_bytes(64 << 10));
    let size = batch(100).request.len();
    let fit = (64 << 10) / size;
    for _ in 0..fit + 5 {
        exporter.send_spans(batch(100));
    }
    let account = exporter.account();
    assert_eq!(account.dropped, 500);
    assert_eq!(account.pending, fit as u64 * 100);
    let error = account.last_error.unwrap();
    assert!(
        error.starts_with("the queue of 65536 bytes is full: raise Otlp::max_queue_bytes"),
        "{error}"
    );
    // One that would not fit into the empty queue does not push out the others.
    exporter.send_spans(batch(5000));
    assert_eq!(exporter.account().dropped, 5500);
}

#[test]
fn what_cannot_be_sent_is_in_the_file_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    let url = format!("http://127.0.0.1:{}", free_port());
    for round in 1..=2 {
        let exporter = start(Otlp::new(&url).spill(&path));
        exporter.send_spans(batch(3));
        exporter.send_spans(batch(2));
        assert_eq!(path.exists(), round > 1, "made before it is needed");
        exporter.finish(within(Duration::from_millis(300)));
        let account = exporter.account();
        assert_counts(&account, [0, 0, 0, 5]);
        let error = account.last_error.unwrap();
        assert!(error.contains("cannot connect to"), "{error}");
    }
    let mut lines: Vec<ExportTraceServiceRequest> = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines.sort_by_key(|line| line.resource_spans[0].scope_spans[0].spans.len());
    let expected = [2, 2, 3, 3].map(|spans| request(spans, "work"));
    assert_eq!(lines, expected);
}

#[test]
fn a_full_queue_spills_and_the_silent_receiver_gets_its_share_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    let silent = std::iter::repeat_with(|| Reply::Silence).take(4);
    let receiver = Receiver::start(silent);
    let otlp = Otlp::new(receiver.url())
        .spill(&path)
        .max_queue_bytes(64 << 10);
    let exporter = start(otlp);
    // Few and long, because what takes time in the file is the number of values.
    for _ in 0..40 {
        exporter.send_spans(super::SpanBatch {
            request: request(1, &"x".repeat(6000)).encode_to_vec(),
            spans: 1,
        });
    }
    let spilled = exporter.account().spilled;
    assert!(spilled > 0);
    exporter.finish(within(Duration::from_millis(1000)));
    assert_counts(&exporter.account(), [0, 0, 0, 40]);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 40);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no").join("folder");
    let url = format!("http://127.0.0.1:{}", free_port());
    let exporter = start(Otlp::new(&url).spill(&path));
    exporter.send_spans(batch(3));
    exporter.finish(within(Duration::from_millis(200)));
    let account = exporter.account();
    assert_counts(&account, [0, 0, 3, 0]);
    let error = account.last_error.unwrap();
    assert!(error.contains("cannot connect to"), "{error}");
    assert!(
        error.contains(&format!("cannot write {}", path.display())),
        "{error}"
    );
    assert!(error.contains("Otlp::spill"), "{error}");
}

#[test]
fn refused_spans_are_not_spilled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsent.jsonl");
    let receiver = Receiver::start([Reply::status(400)]);
    let exporter = start(Otlp::new(receiver.url()).spill(&path));
    exporter.send_spans(batch(3));
    exporter.finish(soon());
    assert_counts(&exporter.account(), [0, 3, 0, 0]);
    assert!(!path.exists());
}

#[test]
fn a_finish_with_nothing_to_send_is_quick_and_a_second_one_too() {
    let exporter = start(Otlp::new("http://127.0.0.1:1"));
    let began = Instant::now();
    exporter.finish(soon());
    exporter.finish(soon());
    assert!(settles(&exporter, soon()));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_counts(&exporter.account(), [0, 0, 0, 0]);
}

#[test]
fn a_burst_of_200_000_spans_arrives_whole() {
    let receiver = Receiver::start([]);
    let exporter = start(Otlp::new(receiver.url()));
    let request = batch(2000).request;
    for _ in 0..100 {
        exporter.send_spans(super::SpanBatch {
            request: request.clone(),
            spans: 2000,
        });
    }
    exporter.finish(soon());
    assert_counts(&exporter.account(), [200_000, 0, 0, 0]);
    assert_eq!(receiver.received().len(), 100);
}
