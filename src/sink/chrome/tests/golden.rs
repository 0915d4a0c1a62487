//! One trace with a little of everything, line by line.

use std::path::{Path, PathBuf};

use super::*;
use crate::model::{FOLLOWS_FROM_INDEX, Sample, Unit};

#[test]
fn the_trace_of_everything_is_as_agreed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let mut sink = ChromeSink::create(path.clone(), &process(), ANCHOR).unwrap();
    fill_with_everything(&mut sink);
    let mut profile = Profile::default();
    profile.losses.dropped_events = 3;
    profile.losses.open_spans = 1;
    sink.finish(&profile, &Diagnosis::default(), Duration::from_secs(1))
        .unwrap();
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    serde_json::from_str::<Json>(&text).unwrap();

    let golden = golden();
    if std::env::var_os("CORTEX_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    for (line, (expected, found)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", line + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chrome_trace.json")
}

/// A little of each shape; `.ci/viewers` opens the golden file that comes of it.
pub(super) fn fill_with_everything(sink: &mut ChromeSink) {
    const MS: u64 = 1_000_000;
    let [main, worker, unnamed] = [
        thread(0, "main"),
        thread(1, "index worker \"1\""),
        Thread::new(2, None, None),
    ];
    let run = site(1, "run");
    let read = site(2, "read").with_fields(["path", "bytes", "ok", "ratio", "big"]);
    let query = site(3, "query").with_fields(["text"]);
    let layer = site(4, "layer");
    let hostile = site(5, "</script>\u{2028}\"\\\u{1}\u{1f680}\n").with_fields(["\"key\"\t"]);
    let note = site(6, "event src/main.rs:9").with_fields(["message", "attempt"]);

    let read_fields = encode(&[
        (
            0,
            Value::Str {
                text: "src/\u{e9}t\u{e9}.rs",
                cut: true,
            },
        ),
        (1, Value::U64(4_096)),
        (2, Value::Bool(true)),
        (3, Value::F64(f64::NAN)),
        (4, Value::U128(u128::MAX)),
    ]);
    let query_fields = encode(&[
        (
            0,
            Value::Str {
                text: "error \u{2028} \"x\"",
                cut: false,
            },
        ),
        (FOLLOWS_FROM_INDEX, Value::U64(2)),
    ]);
    let hostile_fields = encode(&[(
        0,
        Value::Str {
            text: "</script><!--\u{0}\u{7f}",
            cut: false,
        },
    )]);
    let note_fields = encode(&[
        (
            0,
            Value::Str {
                text: "retrying",
                cut: false,
            },
        ),
        (1, Value::I64(-2)),
    ]);

    for round in 0..4 {
        let at = 10 * MS * round;
        sink.spans(&[
            SpanRecord {
                fields: Fields::new(&read, &read_fields),
                ..span(
                    &read,
                    &worker,
                    SpanKind::Whole,
                    at + 2 * MS,
                    at + 5 * MS + 1,
                )
            },
            SpanRecord {
                name: Some("read \"renamed\""),
                ..span(&read, &worker, SpanKind::Whole, at + MS, at + 5 * MS + 1)
            },
            span(&layer, &unnamed, SpanKind::Call, at + MS, at + 3 * MS),
            span(&layer, &unnamed, SpanKind::Call, at + 3 * MS, at + 4 * MS),
            span(&query, &main, SpanKind::Poll, at + MS, at + 2 * MS),
            span(&query, &worker, SpanKind::Poll, at + 6 * MS, at + 7 * MS),
            SpanRecord {
                span: SpanSeq(40 + round),
                fields: Fields::new(&query, &query_fields),
                ..span(
                    &query,
                    &worker,
                    SpanKind::Async {
                        busy: Nanos(2 * MS),
                        activations: 2,
                    },
                    at + MS,
                    at + 25 * MS,
                )
            },
        ])
        .unwrap();
        sink.events(&[event(
            &note,
            &worker,
            at + 3 * MS,
            Fields::new(&note, &note_fields),
        )])
        .unwrap();
        sink.samples(&[
            Sample::new("process.rss", Unit::Bytes, Nanos(at), 3e7 + at as f64),
            Sample::new("process.cpu", Unit::Percent, Nanos(at), 12.5 * round as f64),
        ])
        .unwrap();
    }
    let overlapping = |start, end| SpanRecord {
        overlapping: true,
        ..span(&layer, &main, SpanKind::Whole, start, end)
    };
    sink.spans(&[
        overlapping(40 * MS, 44 * MS),
        overlapping(42 * MS, 46 * MS),
        SpanRecord {
            fields: Fields::new(&hostile, &hostile_fields),
            ..span(&hostile, &main, SpanKind::Whole, 47 * MS, 48 * MS)
        },
        SpanRecord {
            unfinished: true,
            ..span(&run, &main, SpanKind::Whole, 0, 60 * MS)
        },
        SpanRecord {
            unfinished: true,
            span: SpanSeq(99),
            ..span(
                &query,
                &main,
                SpanKind::Async {
                    busy: Nanos(MS),
                    activations: 2,
                },
                50 * MS,
                60 * MS,
            )
        },
    ])
    .unwrap();
}
