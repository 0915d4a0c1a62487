//! A program that exports to a [`Receiver`], and what its guard says in the end.

use std::time::{Duration, Instant};

use tracing_cortex::otlp::{Otlp, Protocol};
use tracing_cortex::{
    CortexBuilder, CortexGuard, CortexLayer, Export, FinishError, Profile, Summary,
};
use tracing_subscriber::prelude::*;

use crate::otlp::{Encoding, ReceivedSpan, Receiver};

/// More than a busy machine needs for anything here.
pub const SOON: Duration = Duration::from_secs(20);

/// What scheduling may add to a deadline.
pub const GRACE: Duration = Duration::from_secs(1);

pub const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

/// Spans only, to a receiver, with nothing to wait for.
pub fn otlp(receiver: &Receiver, protocol: Protocol) -> Otlp {
    let endpoint = match protocol {
        Protocol::Grpc => receiver.grpc(),
        _ => receiver.http(),
    };
    Otlp::new(endpoint)
        .protocol(protocol)
        .metrics(false)
        .service_name("test")
        .schedule_delay(Duration::from_millis(20))
}

pub fn encoding(protocol: Protocol) -> Encoding {
    match protocol {
        Protocol::Grpc => Encoding::Grpc,
        Protocol::HttpProtobuf => Encoding::HttpProtobuf,
        _ => Encoding::HttpJson,
    }
}

/// A capture without resource readings, and time enough to end it.
pub fn builder() -> CortexBuilder {
    CortexLayer::builder().no_resources().exit_deadline(SOON)
}

/// Runs a part of a program on this thread with the layer as the only one.
pub fn within<R>(layer: CortexLayer, program: impl FnOnce() -> R) -> R {
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, program)
}

/// Opens and closes so many spans called `work`, each with its number.
pub fn work(spans: u64) {
    for number in 0..spans {
        tracing::info_span!("work", number).in_scope(|| ());
    }
}

/// Runs a program with an exporter to its end.
pub fn run(builder: CortexBuilder, otlp: Otlp, program: impl FnOnce(&CortexGuard)) -> Ended {
    let (layer, guard) = builder.otlp(otlp).build().unwrap();
    within(layer, || program(&guard));
    Ended::finish(guard)
}

/// The end of a capture.
pub struct Ended {
    pub result: Result<Summary, FinishError>,
    pub took: Duration,
}

impl Ended {
    pub fn finish(guard: CortexGuard) -> Ended {
        let start = Instant::now();
        let result = guard.finish();
        let took = start.elapsed();
        Ended { result, took }
    }

    /// The results, which do not depend on the outputs.
    #[track_caller]
    pub fn profile(&self) -> &Profile {
        match &self.result {
            Ok(summary) => summary.profile(),
            Err(error) => error.summary().expect("a summary").profile(),
        }
    }

    /// The account of the only exporter.
    #[track_caller]
    pub fn account(&self) -> &Export {
        let exports = &self.profile().exports;
        assert_eq!(exports.len(), 1, "{exports:?}");
        &exports[0]
    }

    /// Why the last span was not exported.
    #[track_caller]
    pub fn error(&self) -> &str {
        let account = self.account();
        let error = account.last_error.as_deref();
        error.unwrap_or_else(|| panic!("no error in {account:?}"))
    }

    /// Asserts that the account says these numbers, and nothing is left on its way.
    #[track_caller]
    pub fn assert_account(&self, exported: u64, refused: u64, dropped: u64, spilled: u64) {
        let account = self.account();
        let found = (
            account.exported,
            account.refused,
            account.dropped,
            account.spilled,
        );
        let expected = (exported, refused, dropped, spilled);
        assert_eq!(
            found,
            expected,
            "(exported, refused, dropped, spilled) in {account:?}; {:?}",
            self.result.as_ref().err().map(ToString::to_string)
        );
        assert_eq!(account.pending, 0, "{account:?}");
    }

    /// Asserts that so many operations are in the account, each once.
    #[track_caller]
    pub fn assert_complete(&self, operations: u64) {
        let account = self.account();
        assert_eq!(fates(account), operations, "{account:?}");
        assert_eq!(account.pending, 0, "{account:?}");
    }

    /// Asserts that the end was not delayed beyond a deadline.
    #[track_caller]
    pub fn assert_within(&self, deadline: Duration) {
        assert!(
            self.took <= deadline + GRACE,
            "{:?} for {deadline:?}",
            self.took
        );
    }
}

/// How many spans the account has, whatever became of them.
pub fn fates(account: &Export) -> u64 {
    account.exported
        + account.refused
        + account.dropped
        + account.spilled
        + account.sampled_out
        + account.adopted
}

/// Asserts that the spans `work` are there with all numbers up to `count`, each once.
#[track_caller]
pub fn assert_each_once(spans: &[ReceivedSpan], count: u64) {
    let work = spans.iter().filter(|span| span.span.name == "work");
    let mut numbers: Vec<i64> = work.map(|span| span.int("number").unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len() as u64, count, "spans");
    let expected: Vec<i64> = (0..count as i64).collect();
    assert!(numbers == expected, "a span is missing and one there twice");
    let mut ids: Vec<_> = spans.iter().map(ReceivedSpan::span_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "ids of spans");
}
