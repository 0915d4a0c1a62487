//! Events in which sqlx says how long a query took become operations of the sampled trees.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exceptions for tests do not reach helpers"
)]

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use support::Rig;
use tracing::{Instrument, debug, info_span};
use tracing_cortex::{Profile, ProfilingLevel, TreeSpan, TreeValue};

/// What sqlx emits at the end of a query, here of a long one: the summary is its first words.
fn query_ended(statement: &str, seconds: f64, rows: u64) {
    debug!(
        target: "sqlx::query",
        summary = "SELECT * FROM items \u{2026}",
        db.statement = format!("\n\n{statement}\n"),
        rows_affected = 0_u64,
        rows_returned = rows,
        elapsed = ?std::time::Duration::from_secs_f64(seconds),
        elapsed_secs = seconds,
    );
}

fn spans(profile: &Profile) -> &[TreeSpan] {
    let [group] = profile.trees.as_slice() else {
        panic!("one root site: {:?}", profile.trees.len());
    };
    &group.kept[0].tree.spans
}

fn field<'s>(span: &'s TreeSpan, name: &str) -> Option<&'s TreeValue> {
    let mut fields = span.fields.iter();
    fields
        .find(|field| field.name == name)
        .map(|field| &field.value)
}

const ITEMS: &str = "SELECT * FROM items\n  WHERE order_id = 17";

#[test]
fn a_query_event_is_an_operation_that_ends_at_it_and_began_as_long_before_as_it_took() {
    for streaming in [false, true] {
        let rig = Rig::new(streaming, |builder| builder);
        rig.run(|| {
            info_span!("list").in_scope(|| {
                rig.ms(5);
                query_ended(ITEMS, 0.003, 12);
                debug!(target: "sqlx::other", elapsed_secs = 0.001, "not a query");
                rig.ms(1);
            });
        });
        let captured = rig.finish();
        let spans = spans(&captured.profile);
        assert_eq!(spans.len(), 2, "streaming: {streaming}");
        let query = &spans[1];
        assert_eq!(
            query.site.name,
            "query: SELECT * FROM items WHERE order_id = ?"
        );
        assert_eq!(query.parent, Some(0));
        let ms = |at: tracing_cortex::Nanos| at.0 / 1_000_000;
        assert_eq!(
            (ms(query.start), ms(query.end), ms(spans[0].end)),
            (2, 5, 6)
        );
        assert_eq!(
            field(query, "db.query.text"),
            Some(&TreeValue::Text(
                "SELECT * FROM items WHERE order_id = ?".into()
            ))
        );
        assert_eq!(field(query, "rows"), Some(&TreeValue::Integer(12)));
        assert_eq!(
            captured.profile.sites.len(),
            1,
            "no callsite of the program"
        );
    }
}

#[test]
fn a_short_query_is_its_own_summary_and_nonsense_is_no_query() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        info_span!("root").in_scope(|| {
            rig.ms(1);
            let statement = String::new();
            debug!(target: "sqlx::query", summary = "DELETE FROM t", db.statement = statement, rows_affected = 3_u64, rows_returned = 0_u64, elapsed_secs = 0.0);
            debug!(target: "sqlx::query", summary = "SELECT 1", elapsed_secs = f64::NAN);
            debug!(target: "sqlx::query", summary = "SELECT 1", elapsed_secs = -1.0);
            debug!(target: "sqlx::query", summary = "SELECT 1");
            debug!(target: "sqlx::query", elapsed_secs = 0.001);
        });
        // Outside of any span there is no tree.
        query_ended(ITEMS, 0.001, 1);
    });
    let captured = rig.finish();
    let names: Vec<_> = spans(&captured.profile)
        .iter()
        .map(|span| span.site.name)
        .collect();
    assert_eq!(names, ["root", "query: DELETE FROM t"]);
    assert_eq!(
        field(&spans(&captured.profile)[1], "rows"),
        Some(&TreeValue::Integer(3))
    );
}

#[test]
fn without_trees_the_events_are_nothing() {
    let rig = Rig::new(false, |builder| builder.level(ProfilingLevel::Basic));
    rig.run(|| info_span!("root").in_scope(|| query_ended(ITEMS, 0.0, 1)));
    let captured = rig.finish();
    assert!(captured.profile.trees.is_empty());
    assert_eq!(captured.profile.losses.dropped_events, 0);
}

/// Ready at the second poll.
async fn twice() {
    let mut asked = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut asked, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn a_loop_of_queries_in_a_handler_is_diagnosed_without_any_change_to_the_program() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        for _ in 0..4 {
            let handler = info_span!("list_orders");
            let work = async {
                for _ in 0..25 {
                    twice().await;
                    query_ended(ITEMS, 0.002, 1);
                }
            };
            let mut future = pin!(work.instrument(handler));
            let mut context = Context::from_waker(Waker::noop());
            while future.as_mut().poll(&mut context).is_pending() {
                rig.ms(2);
            }
            rig.ms(1);
        }
    });
    let captured = rig.finish();
    let diagnosis =
        tracing_cortex::diagnose(&captured.profile, &tracing_cortex::Thresholds::default());
    let finding = &diagnosis.findings[0];
    assert_eq!(
        (finding.rule, finding.site.as_str()),
        ("CTX410", "query: SELECT * FROM items WHERE order_id = ?"),
        "{:#?}",
        diagnosis.findings
    );
    assert!(
        finding.message.contains("`list_orders` ran"),
        "{}",
        finding.message
    );
    assert!(
        finding
            .location
            .as_ref()
            .unwrap()
            .contains("query_events.rs")
    );
    let tables = diagnosis.operations.unwrap();
    assert_eq!((tables.database[0].count, tables.exact), (100, true));
    let path = diagnosis.critical_path.unwrap();
    assert_eq!(path.sites[0].site, finding.site);
}

#[test]
fn a_query_that_a_thread_of_the_driver_runs_is_inside_the_span_that_asked_for_it() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let handler = info_span!("handler");
        let mut future = pin!(twice().instrument(handler.clone()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        rig.ms(3);
        // The driver's thread enters the span of whoever asked.
        let of_driver = handler.clone();
        rig.on_thread("driver", move || {
            of_driver.in_scope(|| query_ended(ITEMS, 0.003, 1));
        });
        assert!(future.as_mut().poll(&mut context).is_ready());
    });
    let captured = rig.finish();
    let spans = spans(&captured.profile);
    assert_eq!(spans.len(), 2, "{spans:#?}");
    assert_eq!(spans[1].parent, Some(0));
    assert_ne!(spans[1].thread, spans[0].thread);
    let path = tracing_cortex::diagnose(&captured.profile, &tracing_cortex::Thresholds::default())
        .critical_path
        .unwrap();
    assert_eq!(
        path.sites[0].site, spans[1].site.name,
        "the handler waited for it"
    );
}

#[test]
fn of_a_handler_with_many_polls_all_queries_are_on_the_critical_path() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let handler = info_span!("handler");
        handler.in_scope(|| rig.ms(1));
        for _ in 0..40 {
            rig.ms(2);
            let of_driver = handler.clone();
            rig.on_thread("driver", move || {
                of_driver.in_scope(|| query_ended(ITEMS, 0.001, 1));
            });
            handler.in_scope(|| rig.ms(1));
        }
    });
    let captured = rig.finish();
    let path = tracing_cortex::diagnose(&captured.profile, &tracing_cortex::Thresholds::default())
        .critical_path
        .unwrap();
    let query = path
        .sites
        .iter()
        .find(|site| site.site.starts_with("query"));
    assert_eq!(query.unwrap().time.0 / 1_000_000, 40);
}

#[test]
fn an_event_inside_a_span_that_is_a_query_itself_is_a_part_of_that_one() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        for _ in 0..30 {
            info_span!("root").in_scope(|| {
                info_span!(
                    "find",
                    db.query.text = "SELECT name FROM users WHERE id = 4"
                )
                .in_scope(|| {
                    rig.ms(2);
                    query_ended("SELECT name FROM users WHERE id = 4", 0.002, 1);
                });
            });
        }
    });
    let captured = rig.finish();
    let diagnosis =
        tracing_cortex::diagnose(&captured.profile, &tracing_cortex::Thresholds::default());
    let rows = diagnosis.operations.unwrap().database;
    assert_eq!((rows.len(), rows[0].count), (1, 30));
    assert!(rows[0].total.0 <= 62_000_000, "counted once: {:?}", rows[0]);
}
