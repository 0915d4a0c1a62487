//! What the measured program does with spans.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::info_span;

use crate::cpu;

/// Spans between two pauses, a multiple of three: half a millisecond of work.
const PER_CHUNK: u64 = 2_100;

/// Chunks that are measured, and before them those in which caches, connections and batches settle.
const CHUNKS: u64 = 100;
const WARM_UP: u64 = 10;

/// Long enough for an exporter to keep up that takes 2 us of a core for a span.
const PAUSE: Duration = Duration::from_millis(5);

/// The spans of the burst: a hundred times the queue of a batch processor at its defaults.
const BURST: u64 = 200_000;

/// One way to use spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// One span without a parent.
    Flat,
    /// The same with a field.
    FlatField,
    /// Three nested spans.
    Nested,
    /// The same with a field on each.
    NestedField,
    /// `FlatField` without pauses.
    Burst,
}

/// What the thread that opened the spans saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) spans: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Option<Duration>,
}

impl Shape {
    pub(crate) const ALL: [Shape; 5] = [
        Shape::Flat,
        Shape::FlatField,
        Shape::Nested,
        Shape::NestedField,
        Shape::Burst,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Shape::Flat => "flat",
            Shape::FlatField => "flat-field",
            Shape::Nested => "nested",
            Shape::NestedField => "nested-field",
            Shape::Burst => "burst",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Shape::Flat => "one flat span",
            Shape::FlatField => "one flat span with a field",
            Shape::Nested => "depth 3",
            Shape::NestedField => "depth 3, a field on each",
            Shape::Burst => "200,000 spans with a field as fast as the thread can",
        }
    }

    pub(crate) fn parse(id: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.id() == id)
    }

    /// Returns how many spans are opened in all.
    pub(crate) fn opened(self) -> u64 {
        match self {
            Shape::Burst => BURST,
            _ => PER_CHUNK * (WARM_UP + CHUNKS),
        }
    }

    /// Opens all spans, and times what is no pause and no warm-up.
    pub(crate) fn run(self) -> Timing {
        let (warm_up, chunks, per_chunk) = match self {
            Shape::Burst => (0, 1, BURST),
            _ => (WARM_UP, CHUNKS, PER_CHUNK),
        };
        for _ in 0..warm_up {
            self.open(per_chunk);
            thread::sleep(PAUSE);
        }
        let mut timing = Timing {
            spans: chunks * per_chunk,
            wall: Duration::ZERO,
            cpu: Some(Duration::ZERO),
        };
        for _ in 0..chunks {
            let cpu_start = cpu::thread_time();
            let start = Instant::now();
            self.open(per_chunk);
            timing.wall += start.elapsed();
            timing.cpu = timing
                .cpu
                .and_then(|sum| Some(sum + (cpu::thread_time()? - cpu_start?)));
            if self != Shape::Burst {
                thread::sleep(PAUSE);
            }
        }
        timing
    }

    fn open(self, spans: u64) {
        match self {
            Shape::Flat => flat(spans),
            Shape::FlatField | Shape::Burst => flat_field(spans),
            Shape::Nested => nested(spans / 3),
            Shape::NestedField => nested_field(spans / 3),
        }
    }
}

fn flat(count: u64) {
    for _ in 0..count {
        let span = info_span!("flat").entered();
        black_box(&span);
    }
}

fn flat_field(count: u64) {
    for index in 0..count {
        let span = info_span!("flat", index = black_box(index)).entered();
        black_box(&span);
    }
}

fn nested(count: u64) {
    for _ in 0..count {
        let outer = info_span!("outer").entered();
        black_box(&outer);
        let middle = info_span!("middle").entered();
        black_box(&middle);
        let inner = info_span!("inner").entered();
        black_box(&inner);
    }
}

fn nested_field(count: u64) {
    for index in 0..count {
        let outer = info_span!("outer", route = black_box("/orders")).entered();
        black_box(&outer);
        let middle = info_span!("middle", even = black_box(index % 2 == 0)).entered();
        black_box(&middle);
        let inner = info_span!("inner", index = black_box(index)).entered();
        black_box(&inner);
    }
}
