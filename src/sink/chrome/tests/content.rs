//! What each kind of record becomes, and the shape of the file around it.

use proptest::prelude::*;
use serde_json::json;

use super::golden::fill_with_everything;
use super::*;
use crate::model::{FOLLOWS_FROM_INDEX, Failure};

#[test]
fn the_file_is_an_array_while_streaming_and_an_object_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let mut sink = ChromeSink::create(path.clone(), &process(), ANCHOR).unwrap();
    let (site, main) = (site(1, "read"), thread(0, "main"));
    for round in 0..3 {
        let record = span(&site, &main, SpanKind::Whole, round * 10, round * 10 + 5);
        sink.spans(&[record]).unwrap();
        sink.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("               [\n"), "{text}");
        assert!(text.ends_with("}\n"), "{text}");
        let spans = array(&(text + "]"));
        assert_eq!(
            spans.iter().filter(|event| event["ph"] == "X").count() as u64,
            round + 1
        );
    }
    finish(&mut sink);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"traceEvents\":[\n"), "{text}");
    let object: Json = serde_json::from_str(&text).unwrap();
    let events = object["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), 3);
    assert_eq!(object["displayTimeUnit"], "ms");
    assert_eq!(
        object["otherData"]["started_unix_ns"],
        "1763700000123456789"
    );
    assert_eq!(object["otherData"]["losses"]["dropped_spans"], 0);
}

#[test]
fn every_cut_after_a_line_loads() {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    fill_with_everything(&mut sink);
    sink.flush().unwrap();
    let text = out.text();
    let mut cuts = 0;
    for (at, _) in text.match_indices('\n') {
        let events = array(&format!("{}]", &text[..=at]));
        let lanes = |phase| events.iter().filter(|event| event["ph"] == phase).count();
        assert_eq!(lanes("b"), lanes("e"), "a lane was cut in half");
        cuts += 1;
    }
    assert!(cuts > 30, "{cuts} lines");
}

#[test]
fn a_writer_that_cannot_seek_stays_an_array() {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    finish(&mut sink);
    let text = out.text();
    assert!(text.trim_start().starts_with('['), "{text}");
    assert_eq!(array(&text)[0]["args"]["name"], "indexer");
}

#[test]
fn a_full_buffer_is_written_without_a_flush() {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    let (site, main) = (site(1, "read"), thread(0, "main"));
    let batch: Vec<_> = (0..10_000)
        .map(|at| span(&site, &main, SpanKind::Whole, at, at + 1))
        .collect();
    sink.spans(&batch).unwrap();
    let text = out.text();
    assert!(text.len() > 256 * 1024);
    assert!(text.ends_with("}\n"));
}

#[test]
fn no_thread_has_the_id_zero() {
    let site = site(1, "read");
    let threads = [
        Thread::new(0, None, None),
        Thread::new(1, Some(0), Some("zero".into())),
        Thread::new(2, Some(77), Some("known".into())),
    ];
    let events = written(|sink| {
        for thread in &threads {
            sink.spans(&[span(&site, thread, SpanKind::Whole, 1, 2)])
                .unwrap();
        }
    });
    let ids: Vec<_> = events.iter().map(|event| event["tid"].as_u64()).collect();
    assert_eq!(ids, [Some(1_000_000), Some(1_000_001), Some(77)]);
}

#[test]
fn threads_are_introduced_once_and_before_their_first_span() {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    let (site, main) = (site(1, "read"), thread(0, "main"));
    let unnamed = Thread::new(1, None, None);
    for thread in [&main, &unnamed, &main, &unnamed] {
        sink.spans(&[span(&site, thread, SpanKind::Whole, 1, 2)])
            .unwrap();
    }
    finish(&mut sink);
    let shape: Vec<_> = array(&out.text())
        .iter()
        .map(|event| match event["name"].as_str() {
            Some(name @ ("process_name" | "thread_name")) => {
                format!("{name}={}", event["args"]["name"].as_str().unwrap())
            }
            name => name.unwrap().to_owned(),
        })
        .collect();
    assert_eq!(
        shape,
        [
            "process_name=indexer",
            "thread_name=main",
            "thread_sort_index",
            "read",
            "thread_name=thread-1",
            "thread_sort_index",
            "read",
            "read",
            "read"
        ]
    );
}

#[test]
fn an_async_span_gets_a_lane_of_its_own_beside_its_polls() {
    let (site, main, worker) = (site(1, "query"), thread(0, "main"), thread(1, "worker"));
    let whole = SpanKind::Async {
        busy: Nanos(20),
        activations: 2,
    };
    let events = written(|sink| {
        sink.spans(&[
            span(&site, &main, SpanKind::Poll, 100, 110),
            span(&site, &worker, SpanKind::Poll, 150, 160),
            SpanRecord {
                span: SpanSeq(31),
                ..span(&site, &worker, whole, 100, 170)
            },
        ])
        .unwrap();
    });
    let phases: Vec<_> = events.iter().map(|event| event["ph"].as_str()).collect();
    assert_eq!(phases, [Some("X"), Some("X"), Some("b"), Some("e")]);
    let (begin, end) = (&events[2], &events[3]);
    assert_eq!(begin["id2"], json!({"local": "0x1f"}));
    assert_eq!(begin["id2"], end["id2"]);
    assert_eq!(begin["args"], json!({"busy_ns": 20, "activations": 2}));
    assert_eq!((&begin["ts"], &end["ts"]), (&json!(0.1), &json!(0.17)));
}

#[test]
fn overlapping_activations_leave_the_thread_and_never_share_a_lane() {
    let (site, main) = (site(1, "guarded"), thread(0, "main"));
    let events = written(|sink| {
        let record = SpanRecord {
            overlapping: true,
            ..span(&site, &main, SpanKind::Call, 5, 9)
        };
        sink.spans(&[record.clone(), record]).unwrap();
    });
    let mut lanes: Vec<_> = events
        .iter()
        .filter(|event| event["ph"] == "b")
        .map(|event| event["id2"]["local"].as_str().unwrap())
        .collect();
    lanes.dedup();
    assert_eq!(lanes.len(), 2, "{events:?}");
    assert!(events.iter().all(|event| event["ph"] != "X"));
}

#[test]
fn of_two_bars_with_the_same_times_the_outer_comes_first() {
    let (outer, inner, main) = (site(1, "outer"), site(2, "inner"), thread(0, "main"));
    let events = written(|sink| {
        sink.spans(&[
            span(&inner, &main, SpanKind::Whole, 10, 20),
            span(&outer, &main, SpanKind::Whole, 10, 20),
        ])
        .unwrap();
    });
    assert_eq!(events[0]["name"], "outer");
    assert_eq!(events[1]["name"], "inner");
}

#[test]
fn bars_that_are_open_in_the_end_stop_one_after_the_other() {
    let (site, main) = (site(1, "nested"), thread(0, "main"));
    let open = |start| SpanRecord {
        unfinished: true,
        ..span(&site, &main, SpanKind::Whole, start, 9_000)
    };
    let ends = |batches: &[&[u64]]| {
        let events = written(|sink| {
            for starts in batches {
                let batch: Vec<_> = starts.iter().map(|&start| open(start)).collect();
                sink.spans(&batch).unwrap();
            }
        });
        let mut bars: Vec<_> = events
            .iter()
            .map(|event| {
                let nanos = |key: &str| (event[key].as_f64().unwrap() * 1e3).round() as u64;
                (nanos("ts"), nanos("ts") + nanos("dur"))
            })
            .collect();
        bars.sort();
        bars
    };
    let distinct = [(1_000, 9_002), (2_000, 9_001), (3_000, 9_000)];
    assert_eq!(ends(&[&[3_000, 2_000, 1_000]]), distinct);
    assert_eq!(ends(&[&[1_000, 2_000, 3_000]]), distinct);
    assert_eq!(ends(&[&[3_000], &[2_000], &[1_000]]), distinct);
    // In an order that the contract does not have, they still nest.
    let tied = [(1_000, 9_000), (2_000, 9_000), (3_000, 9_000)];
    assert_eq!(ends(&[&[1_000], &[2_000], &[3_000]]), tied);
}

#[test]
fn a_field_that_was_recorded_twice_has_its_last_value() {
    let site = site(1, "read").with_fields(["a", "b", "c"]);
    let bytes = encode(&[
        (0, Value::I64(1)),
        (1, Value::Bool(true)),
        (0, Value::I64(2)),
        (2, Value::F64(0.5)),
        (0, Value::I64(3)),
    ]);
    let main = thread(0, "main");
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    let record = SpanRecord {
        fields: Fields::new(&site, &bytes),
        ..span(&site, &main, SpanKind::Whole, 1, 2)
    };
    sink.spans(&[record]).unwrap();
    sink.flush().unwrap();
    let text = out.text();
    assert!(
        text.contains(r#""args":{"b":true,"c":0.5,"a":3}}"#),
        "{text}"
    );
}

#[test]
fn all_spans_that_one_follows_from_are_listed() {
    let site = site(1, "join");
    let bytes = encode(&[
        (FOLLOWS_FROM_INDEX, Value::U64(7)),
        (FOLLOWS_FROM_INDEX, Value::U64(9)),
    ]);
    let main = thread(0, "main");
    let events = written(|sink| {
        sink.spans(&[SpanRecord {
            fields: Fields::new(&site, &bytes),
            ..span(&site, &main, SpanKind::Whole, 1, 2)
        }])
        .unwrap();
    });
    assert_eq!(events[0]["args"], json!({"follows_from": [7, 9]}));
}

#[test]
fn what_the_sink_adds_does_not_hide_a_field_of_the_same_name() {
    let site = site(1, "event").with_fields(["message", "level"]);
    let bytes = encode(&[
        (
            0,
            Value::Str {
                text: "tank",
                cut: false,
            },
        ),
        (1, Value::I64(3)),
    ]);
    let main = thread(0, "main");
    let events = written(|sink| {
        sink.events(&[event(&site, &main, 5, Fields::new(&site, &bytes))])
            .unwrap();
    });
    assert_eq!(events[0]["name"], "tank");
    assert_eq!(
        events[0]["args"],
        json!({"level": 3, "cortex.level": "INFO"})
    );
}

#[test]
fn a_long_message_is_cut_in_the_name_and_whole_in_the_arguments() {
    let site = site(1, "event").with_fields(["message"]);
    let long = "\u{e9}".repeat(500);
    let bytes = encode(&[(
        0,
        Value::Str {
            text: &long,
            cut: true,
        },
    )]);
    let main = thread(0, "main");
    let events = written(|sink| {
        sink.events(&[event(&site, &main, 5, Fields::new(&site, &bytes))])
            .unwrap();
    });
    let name = events[0]["name"].as_str().unwrap();
    assert_eq!(name, format!("{}\u{2026}", "\u{e9}".repeat(60)));
    assert_eq!(events[0]["args"]["message"], format!("{long}\u{2026}"));
}

#[test]
fn an_event_without_a_message_has_its_sites_name() {
    let site = site(1, "event src/main.rs:3").with_fields(["message"]);
    let bytes = encode(&[(0, Value::U64(4))]);
    let main = thread(0, "main");
    let events = written(|sink| {
        sink.events(&[
            event(&site, &main, 5, Fields::empty()),
            event(&site, &main, 6, Fields::new(&site, &bytes)),
        ])
        .unwrap();
    });
    assert_eq!(events[0]["name"], "event src/main.rs:3");
    assert_eq!(events[1]["name"], "event src/main.rs:3");
    assert_eq!(events[1]["args"], json!({"message": 4, "level": "INFO"}));
}

#[test]
fn what_was_lost_is_on_the_timeline_and_in_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let mut sink = ChromeSink::create(path.clone(), &process(), ANCHOR).unwrap();
    let mut profile = Profile::default();
    profile.losses.dropped_spans = 12;
    profile.losses.failures = vec![Failure::new("json", "disk full")];
    sink.finish(&profile, &Diagnosis::default(), Duration::ZERO)
        .unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let object: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(object["otherData"]["losses"]["dropped_spans"], 12);
    assert_eq!(
        object["traceEvents"][1]["args"],
        json!({"dropped_spans": 12, "failures": [{"name": "json", "message": "disk full"}]})
    );
}

#[test]
fn an_end_before_the_start_becomes_a_bar_without_length() {
    let (site, main) = (site(1, "stepped"), thread(0, "main"));
    let whole = SpanKind::Async {
        busy: Nanos(0),
        activations: 2,
    };
    let events = written(|sink| {
        sink.spans(&[
            span(&site, &main, SpanKind::Whole, 9_000, 5_000),
            span(&site, &main, whole, 9_000, 5_000),
        ])
        .unwrap();
    });
    let x = events.iter().find(|event| event["ph"] == "X").unwrap();
    assert_eq!(x["dur"], 0.0);
    let end = events.iter().find(|event| event["ph"] == "e").unwrap();
    assert_eq!(end["ts"], 9.0);
}

/// Reads `"KEY":123.456` as nanoseconds, without going through `f64`.
fn nanos_of(line: &str, key: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap();
    let number: String = rest
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .filter(char::is_ascii_digit)
        .collect();
    number.parse().unwrap()
}

proptest! {
    #[test]
    fn bars_nest_to_the_nanosecond(
        start in 0..u64::MAX / 4,
        lead in 0..3_000_u64,
        length in 0..u64::MAX / 4,
        trail in 0..3_000_u64,
    ) {
        let (outer, inner, main) = (site(1, "outer"), site(2, "inner"), thread(0, "main"));
        let (from, to) = (start + lead, start + lead + length);
        let out = Shared::default();
        let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
        sink.spans(&[
            span(&inner, &main, SpanKind::Whole, from, to),
            span(&outer, &main, SpanKind::Whole, start, to + trail),
        ]).unwrap();
        sink.flush().unwrap();
        let text = out.text();
        let read = |name: &str| {
            let line = text.lines().find(|line| line.contains(name)).unwrap();
            (nanos_of(line, "ts"), nanos_of(line, "ts") + nanos_of(line, "dur"))
        };
        prop_assert_eq!(read("\"inner\""), (from, to));
        prop_assert_eq!(read("\"outer\""), (start, to + trail));
    }
}
