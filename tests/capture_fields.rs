//! Fields, events, errors, names and links.

mod support;

use support::{capture, capture_with};
use tracing::field::Empty;
use tracing::{Instrument, debug, error, event, info, info_span, instrument, warn};
use tracing_cortex::{Level, SpanKind};

#[test]
fn fields_keep_their_types_and_those_recorded_late_come_too() {
    let captured = capture(|rig| {
        rig.run(|| {
            let span = info_span!("span", text = "a \"b\"\n", number = -3, large = u128::MAX, ratio = 0.5, yes = true, late = Empty, shown = ?Some(1));
            let _entered = span.enter();
            span.record("late", 7);
            span.record("late", 8);
        });
    });
    let span = captured.records.only("span");
    for (name, value) in [
        ("text", "a \"b\"\n"),
        ("number", "-3"),
        ("large", "340282366920938463463374607431768211455"),
        ("ratio", "0.5"),
        ("yes", "true"),
        ("late", "8"),
        ("shown", "Some(1)"),
    ] {
        assert_eq!(span.field(name), Some(value), "{name}");
    }
    assert_eq!(span.kind, SpanKind::Whole);
}

#[test]
fn a_dynamic_name_is_the_name_of_the_record_and_not_of_the_site() {
    let captured = capture(|rig| {
        rig.run(|| {
            info_span!("request", otel.name = "GET /users").in_scope(|| ());
            let late = info_span!("job", otel.name = Empty);
            late.record("otel.name", format!("job {}", 7));
            late.in_scope(|| ());
        });
    });
    assert_eq!(
        captured.records.only("request").name.as_deref(),
        Some("GET /users")
    );
    assert_eq!(captured.records.only("job").name.as_deref(), Some("job 7"));
    assert_eq!(captured.site("request").calls, 1);
}

#[test]
fn events_carry_level_time_fields_and_the_span_around_them() {
    let captured = capture(|rig| {
        rig.run(|| {
            info!("outside");
            let outer = info_span!("outer");
            let span = info_span!("span").entered();
            rig.ms(3);
            warn!(count = 4, "inside {}", "it");
            debug!(parent: &outer, "elsewhere");
            event!(parent: None, tracing::Level::TRACE, "nowhere");
            drop(span);
            outer.in_scope(|| ());
        });
    });
    let records = &captured.records;
    let events: Vec<_> = records
        .events
        .iter()
        .map(|event| (event.level, event.field("message").unwrap(), event.span))
        .collect();
    let inside = Some(records.only("span").seq);
    let elsewhere = Some(records.only("outer").seq);
    assert_eq!(
        events,
        [
            (Level::Info, "outside", None),
            (Level::Warn, "inside it", inside),
            (Level::Debug, "elsewhere", elsewhere),
            (Level::Trace, "nowhere", None),
        ]
    );
    assert_eq!(records.events[1].at, 3_000_000);
    assert_eq!(records.events[1].field("count"), Some("4"));
    assert_eq!(
        captured.profile.sites.len(),
        2,
        "an event is no site of its own"
    );
}

#[test]
fn an_error_event_fails_the_span_around_it_once() {
    let captured = capture(|rig| {
        rig.run(|| {
            error!("outside all spans");
            for number in 0..4 {
                let _outer = info_span!("outer").entered();
                let inner = info_span!("inner").entered();
                warn!("no error");
                if number == 1 {
                    error!("one");
                    error!("two");
                }
                drop(inner);
                if number == 2 {
                    error!("after");
                }
            }
        });
    });
    assert_eq!(captured.site("inner").errors, 1);
    assert_eq!(captured.site("outer").errors, 1);
}

#[test]
fn an_error_event_with_a_declared_parent_fails_that_span() {
    let captured = capture(|rig| {
        rig.run(|| {
            let task = info_span!("task");
            info_span!("other").in_scope(|| error!(parent: &task, "failed"));
            task.in_scope(|| ());
        });
    });
    assert_eq!(
        (captured.site("task").errors, captured.site("other").errors),
        (1, 0)
    );
}

#[instrument(err, skip_all)]
fn divide(by: i64) -> Result<i64, String> {
    if by == 0 {
        Err("by zero".to_owned())
    } else {
        Ok(10 / by)
    }
}

#[instrument(err, skip_all)]
async fn divide_later(by: i64) -> Result<i64, String> {
    tokio::task::yield_now().await;
    divide(by)
}

#[test]
fn instrument_err_counts_calls_that_return_an_error() {
    let captured = capture(|rig| {
        rig.run(|| {
            let results: Vec<_> = [1, 0, 2, 0].map(divide).into_iter().collect();
            assert_eq!(results.iter().filter(|result| result.is_err()).count(), 2);
        });
    });
    let stats = captured.site("divide");
    assert_eq!((stats.calls, stats.errors), (4, 2));

    let captured = capture(|rig| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        rig.run(|| {
            runtime.block_on(async {
                for by in [0, 1, 0, 0] {
                    let _ = divide_later(by).await;
                }
            });
        });
    });
    let stats = captured.site("divide_later");
    assert_eq!((stats.calls, stats.errors), (4, 3));
    assert_eq!(captured.path("divide_later > divide").errors, 3);
}

#[test]
fn error_fields_and_status_codes_fail_a_span() {
    let captured = capture(|rig| {
        rig.run(|| {
            info_span!("by_field", error = "broken").in_scope(|| ());
            let late = info_span!("late", error = Empty);
            late.in_scope(|| late.record("error", tracing::field::debug("broken")));
            let _ = (0..2)
                .map(|number| {
                    let code = if number == 0 { "OK" } else { "ERROR" };
                    info_span!("by_code", otel.status_code = code).in_scope(|| ());
                })
                .count();
            info_span!("unset", error = Empty).in_scope(|| ());
            info_span!("other", errors = 3, message = "ERROR").in_scope(|| ());
        });
    });
    for (name, errors) in [
        ("by_field", 1),
        ("late", 1),
        ("by_code", 1),
        ("unset", 0),
        ("other", 0),
    ] {
        assert_eq!(captured.site(name).errors, errors, "{name}");
    }
}

#[test]
fn errors_in_async_spans_count_once_for_all_polls() {
    let captured = capture(|rig| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        rig.run(|| {
            runtime.block_on(async {
                for _ in 0..3 {
                    async {
                        error!("first poll");
                        tokio::task::yield_now().await;
                        error!("second poll");
                    }
                    .instrument(info_span!("task"))
                    .await;
                }
            });
        });
    });
    assert_eq!(
        (captured.site("task").calls, captured.site("task").errors),
        (3, 3)
    );
}

#[test]
fn what_a_span_follows_from_comes_with_its_record() {
    let captured = capture(|rig| {
        rig.run(|| {
            let cause = info_span!("cause");
            let effect = info_span!("effect");
            effect.follows_from(&cause);
            cause.in_scope(|| ());
            effect.in_scope(|| ());
        });
    });
    let cause = captured.records.only("cause").seq.0.to_string();
    let effect = captured.records.only("effect");
    assert_eq!(
        effect.field(tracing_cortex::FOLLOWS_FROM),
        Some(cause.as_str())
    );
}

#[test]
fn long_strings_are_cut_at_a_character_and_counted() {
    let captured = capture_with(
        |builder| builder.max_field_bytes(10),
        |rig| {
            rig.run(|| {
                let long = "\u{e9}".repeat(500_000);
                info_span!("long", text = long.as_str(), shown = ?long, short = "0123456789")
                    .in_scope(|| ());
            });
        },
    );
    let span = captured.records.only("long");
    assert_eq!(span.field("text"), Some("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"));
    assert!(span.field("shown").unwrap().len() <= 10);
    assert_eq!(span.field("short"), Some("0123456789"));
    assert_eq!(captured.profile.losses.cut_strings, 2);
}

struct Panics;

impl std::fmt::Debug for Panics {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::panic::resume_unwind(Box::new("on purpose"))
    }
}

#[test]
fn a_field_whose_debug_panics_is_left_out_and_counted() {
    let captured = capture(|rig| {
        rig.run(|| {
            info_span!("span", before = 1, bad = ?Panics, after = 2)
                .in_scope(|| info!(bad = ?Panics, "event"));
        });
    });
    let span = captured.records.only("span");
    assert_eq!(
        (span.field("before"), span.field("after")),
        (Some("1"), Some("2"))
    );
    assert_eq!(span.field("bad"), None);
    assert_eq!(captured.records.events[0].field("message"), Some("event"));
    assert_eq!(captured.profile.losses.panicked_fields, 2);
}
