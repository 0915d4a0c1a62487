//! What the measured program does with spans.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::{Instrument, debug_span, info_span};

use crate::cpu;

/// One way to use spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Scenario {
    /// One span without a parent or fields, on one thread.
    #[serde(rename = "S1")]
    Flat,
    /// Three nested spans, the innermost with three fields.
    #[serde(rename = "S2")]
    Nested,
    /// `Flat` on one pinned thread.
    #[serde(rename = "S4x1")]
    OneThread,
    /// `Flat` on two pinned threads at once.
    #[serde(rename = "S4x2")]
    TwoThreads,
    /// One span around a future that is polled ten times.
    #[serde(rename = "S5")]
    Polled,
    /// One span that a global level filter disables.
    #[serde(rename = "S6")]
    Disabled,
    /// Two million spans shaped like `Nested`, from before the subscriber is built until everything is on disk.
    #[serde(rename = "S7")]
    Bulk,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 7] = [
        Scenario::Flat,
        Scenario::Nested,
        Scenario::OneThread,
        Scenario::TwoThreads,
        Scenario::Polled,
        Scenario::Disabled,
        Scenario::Bulk,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Scenario::Flat => "S1",
            Scenario::Nested => "S2",
            Scenario::OneThread => "S4x1",
            Scenario::TwoThreads => "S4x2",
            Scenario::Polled => "S5",
            Scenario::Disabled => "S6",
            Scenario::Bulk => "S7",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::Flat => "one flat span, one thread",
            Scenario::Nested => "depth 3, three fields on the inner one",
            Scenario::OneThread => "one flat span, one pinned thread",
            Scenario::TwoThreads => "one flat span, two pinned threads, each",
            Scenario::Polled => "one async span polled 10 times",
            Scenario::Disabled => "disabled by a global level filter",
            Scenario::Bulk => "2,000,000 spans, built to flushed",
        }
    }

    pub(crate) fn parse(id: &str) -> Option<Scenario> {
        Scenario::ALL
            .into_iter()
            .find(|scenario| scenario.id() == id)
    }

    /// Returns how many spans one measurement opens on each thread.
    pub(crate) fn spans(self) -> u64 {
        match self {
            Scenario::Flat | Scenario::Nested => 300_000,
            Scenario::OneThread | Scenario::TwoThreads => 500_000,
            Scenario::Polled => 100_000,
            Scenario::Disabled => 10_000_000,
            Scenario::Bulk => 2_000_000,
        }
    }

    pub(crate) fn threads(self) -> usize {
        match self {
            Scenario::TwoThreads => 2,
            _ => 1,
        }
    }

    /// Opens and closes `spans` spans, or up to two fewer where they come in threes.
    fn open(self, spans: u64) {
        match self {
            Scenario::Flat | Scenario::OneThread | Scenario::TwoThreads => flat(spans),
            Scenario::Nested | Scenario::Bulk => nested(spans / 3),
            Scenario::Polled => polled(spans),
            Scenario::Disabled => disabled(spans),
        }
    }
}

/// What one thread saw while it opened its spans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) wall: Duration,
    pub(crate) cpu: Option<Duration>,
    /// The fastest of the chunks, in nanoseconds per span: what is left when nothing else disturbs.
    pub(crate) best_ns: f64,
}

const CHUNKS: u64 = 20;

/// Opens spans and times it.
///
/// Never inlined, so that callgrind can switch its counters on and off by this name.
#[inline(never)]
pub(crate) fn measured(scenario: Scenario, spans: u64) -> Timing {
    let chunk = spans / CHUNKS / 3 * 3;
    let rest = spans - chunk * (CHUNKS - 1);
    let cpu_start = cpu::thread_time();
    let start = Instant::now();
    let mut best_ns = f64::INFINITY;
    let mut chunk_start = start;
    for index in 0..CHUNKS {
        let count = if index == 0 { rest } else { chunk };
        scenario.open(count);
        let now = Instant::now();
        best_ns = best_ns.min((now - chunk_start).as_secs_f64() * 1e9 / count as f64);
        chunk_start = now;
    }
    // The spans that do not fill a group of three, so that the bulk count is exact.
    if scenario == Scenario::Bulk {
        let left = rest % 3;
        let _outer = (left >= 1).then(|| info_span!("outer").entered());
        let _middle = (left == 2).then(|| info_span!("middle").entered());
    }
    Timing {
        wall: start.elapsed(),
        cpu: cpu_start.and_then(|before| Some(cpu::thread_time()? - before)),
        best_ns,
    }
}

/// Lets caches, branch predictors, thread-locals and lazily allocated pages settle.
pub(crate) fn warm_up(scenario: Scenario) {
    scenario.open(scenario.spans() / 10);
}

fn flat(count: u64) {
    for _ in 0..count {
        let span = info_span!("flat").entered();
        black_box(&span);
    }
}

fn nested(count: u64) {
    for index in 0..count {
        let outer = info_span!("outer").entered();
        black_box(&outer);
        let middle = info_span!("middle").entered();
        black_box(&middle);
        let inner = info_span!(
            "inner",
            index = black_box(index),
            even = black_box(index % 2 == 0),
            kind = black_box("request"),
        )
        .entered();
        black_box(&inner);
    }
}

fn polled(count: u64) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..count {
        let mut future = pin!(ReadyAtPoll { left: 10 }.instrument(info_span!("polled")));
        while black_box(future.as_mut().poll(&mut context)).is_pending() {}
    }
}

fn disabled(count: u64) {
    for index in 0..count {
        let span = debug_span!("disabled", index = black_box(index)).entered();
        black_box(&span);
    }
}

/// Is ready when it is polled for the `left`th time.
struct ReadyAtPoll {
    left: u32,
}

impl Future for ReadyAtPoll {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        self.left = black_box(self.left - 1);
        if self.left == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
