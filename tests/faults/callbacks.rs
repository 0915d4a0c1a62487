//! Code of the program's that the capture calls, and that panics or errs.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tracing_cortex::{
    CortexLayer, Diagnosis, EventRecord, Profile, Readings, ResourceSource, Sample, Sink,
    SinkError, SinkFailureKind, SpanRecord, Unit,
};

use crate::support::{Memory, assert_complete, bars, failed, site, within};

struct Unprintable;

impl fmt::Debug for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a planted panic");
    }
}

#[test]
fn a_field_whose_debug_panics_is_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .chrome(&trace)
        .build()
        .unwrap();
    within(layer, || {
        let span = tracing::info_span!("work", before = 1, bad = ?Unprintable, after = 2);
        span.in_scope(|| tracing::info!(bad = ?Unprintable, "an event"));
    });
    let summary = guard.finish().unwrap();
    assert_eq!(summary.profile().losses.panicked_fields, 2);
    assert_eq!(site(summary.profile(), "work").stats.calls, 1);
    let bars = bars(&trace, "work");
    assert_eq!(
        bars[0]["args"],
        serde_json::json!({"before": 1, "after": 2})
    );
}

struct Failing;

impl ResourceSource for Failing {
    fn name(&self) -> &str {
        "failing"
    }

    fn sample(&mut self, _: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("no such device".into())
    }
}

struct Panicking;

impl ResourceSource for Panicking {
    fn name(&self) -> &str {
        "panicking"
    }

    fn sample(&mut self, _: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        panic!("a planted panic");
    }
}

#[test]
fn sources_that_fail_are_reported_once_each_and_the_others_go_on() {
    let (_layer, guard) = CortexLayer::builder()
        .resources(Duration::from_millis(10))
        .source(Failing)
        .source(Panicking)
        .gauge("broken", Unit::Count, || panic!("a planted panic"))
        .gauge("queue.depth", Unit::Count, || Some(3.0))
        .build()
        .unwrap();
    let summary = guard.finish().unwrap();
    let profile = summary.profile();
    for name in ["failing", "panicking", "broken"] {
        let failures = profile.losses.failures.iter();
        let of_name = failures.filter(|failure| failure.name == name);
        assert_eq!(of_name.count(), 1, "{:?}", profile.losses.failures);
    }
    let depth = profile
        .resources
        .iter()
        .find(|series| series.name == "queue.depth");
    let depth = depth.unwrap();
    assert!(depth.samples >= 1 && depth.min == 3.0 && depth.max == 3.0);
    assert!(
        profile
            .resources
            .iter()
            .all(|series| series.name != "broken")
    );
}

/// A method of [`Sink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Spans,
    Events,
    Samples,
    Flush,
    Tick,
    Finish,
}

struct Bad {
    /// What panics.
    method: Method,
}

impl Bad {
    fn call(&self, method: Method) -> Result<(), SinkError> {
        assert!(method != self.method, "a planted panic");
        Ok(())
    }
}

impl Sink for Bad {
    fn name(&self) -> &str {
        "bad"
    }

    fn spans(&mut self, _: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        self.call(Method::Spans)
    }

    fn events(&mut self, _: &[EventRecord<'_>]) -> Result<(), SinkError> {
        self.call(Method::Events)
    }

    fn samples(&mut self, _: &[Sample<'_>]) -> Result<(), SinkError> {
        self.call(Method::Samples)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.call(Method::Flush)
    }

    fn tick_period(&self) -> Option<Duration> {
        Some(Duration::from_nanos(1))
    }

    fn tick(&mut self, _: &Profile) -> Result<(), SinkError> {
        self.call(Method::Tick)
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        self.call(Method::Finish)
    }
}

#[test]
fn a_sink_that_panics_in_any_method_is_named_and_the_others_are_complete() {
    for method in [
        Method::Spans,
        Method::Events,
        Method::Samples,
        Method::Flush,
        Method::Tick,
        Method::Finish,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::default();
        let (layer, guard) = CortexLayer::builder()
            .sink(Bad { method })
            .sink(memory.clone())
            .chrome(folder.path().join("trace.json"))
            .report_json(folder.path().join("report.json"))
            .report_text(folder.path().join("report.txt"))
            .build()
            .unwrap();
        within(layer, || {
            for turn in 0..20 {
                tracing::info_span!("work").in_scope(|| tracing::info!("an event"));
                if turn == 10 {
                    // Everything is streamed, flushed and ticked while the program runs.
                    let _ = guard.flush(Duration::from_secs(30));
                }
            }
        });
        let error = guard.finish().unwrap_err();
        assert_eq!(failed(&error), ["bad"], "{method:?}");
        let kind = &error.failures()[0].kind;
        assert!(
            matches!(kind, SinkFailureKind::Panicked),
            "{method:?}: {kind:?}"
        );
        assert_complete(folder.path(), "work", 20);
        assert_eq!(memory.count("work"), 20, "{method:?}");
    }
}

#[test]
fn a_held_callback_that_panics_holds_nothing() {
    let memory = Memory::default();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .held(|_| panic!("a planted panic"))
        .sink(memory.clone())
        .build()
        .unwrap();
    within(layer, || {
        let span = tracing::info_span!("task");
        (0..3).for_each(|_| span.in_scope(|| ()));
    });
    let summary = guard.finish().unwrap();
    let stats = &site(summary.profile(), "task").stats;
    assert_eq!((stats.calls, stats.spans, stats.activations), (1, 1, 3));
    assert!(stats.is_async());
}
