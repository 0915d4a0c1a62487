//! Sinks that never return: they cost no other sink anything, and the program no more than the deadline.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tracing_cortex::{
    CortexLayer, Diagnosis, EventRecord, Profile, Sample, Sink, SinkError, SinkFailureKind,
    SpanRecord,
};

use crate::support::{Memory, assert_complete, failed, within};

/// What a slow machine may add to the deadline before a test says that it was not kept.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Spans,
    Events,
    Samples,
    Flush,
    Finish,
}

/// Never returns from one of its methods.
struct Hanging {
    method: Method,
    hangs: Sender<()>,
    /// Waited for before the first batch, so that the second call finds several batches under way.
    goes: Option<Receiver<()>>,
}

impl Hanging {
    fn call(&self, method: Method) -> Result<(), SinkError> {
        if method == self.method {
            let _ = self.hangs.send(());
            loop {
                std::thread::park();
            }
        }
        Ok(())
    }
}

impl Sink for Hanging {
    fn name(&self) -> &str {
        "hanging"
    }

    fn spans(&mut self, _: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        if let Some(goes) = self.goes.take() {
            return goes.recv().map_err(SinkError::other);
        }
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

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        self.call(Method::Finish)
    }
}

/// The methods hang at the same time, each in a capture of its own: the deadline leaves room for a machine under load.
#[test]
fn a_sink_that_hangs_in_any_method_is_named_at_the_deadline_and_the_others_are_complete() {
    std::thread::scope(|scope| {
        for method in [
            Method::Spans,
            Method::Events,
            Method::Samples,
            Method::Flush,
            Method::Finish,
        ] {
            scope.spawn(move || hangs_in(method));
        }
    });
}

fn hangs_in(method: Method) {
    const DEADLINE: Duration = Duration::from_secs(4);
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (Memory::default(), Memory::default());
    let ((hangs, has_hung), (go, goes)) = (channel(), channel());
    let (layer, guard) = CortexLayer::builder()
        .exit_deadline(DEADLINE)
        .sink(before.clone())
        .sink(Hanging {
            method,
            hangs,
            goes: Some(goes),
        })
        .sink(after.clone())
        .chrome(folder.path().join("trace.json"))
        .report_json(folder.path().join("report.json"))
        .report_text(folder.path().join("report.txt"))
        .build()
        .unwrap();
    // More than one batch is under way when the sink hangs, and more comes later.
    within(layer, || {
        let many = || {
            for _ in 0..2_000 {
                tracing::info_span!("work").in_scope(|| tracing::info!("an event"));
            }
        };
        many();
        go.send(()).unwrap();
        if method != Method::Finish {
            has_hung.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        many();
    });
    let began = Instant::now();
    let error = guard.finish().unwrap_err();
    let took = began.elapsed();
    assert!(took < DEADLINE + SLACK, "{method:?}: {took:?}");
    assert!(failed(&error).contains(&"hanging"), "{method:?}: {error}");
    let late = error
        .failures()
        .iter()
        .all(|failure| matches!(failure.kind, SinkFailureKind::Late(_)));
    assert!(late, "{method:?}: {error}");
    assert_eq!(
        error.summary().unwrap().profile().losses.dropped_records(),
        0
    );
    assert_complete(folder.path(), "work", 4_000);
    assert_eq!(
        before.count("work"),
        4_000,
        "{method:?}: the sink before it"
    );
    assert_eq!(after.count("work"), 4_000, "{method:?}: the sink after it");
}
