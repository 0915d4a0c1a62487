//! Unusual subscribers around the layer, and layers that come late or outlive their capture.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Span, Subscriber, info_span};
use tracing_cortex::{CortexGuard, CortexLayer, ManualClock, SiteStats};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanData};

/// Gives out the smallest id that is free, and knows of a span no more than its metadata.
#[derive(Default)]
struct Host {
    spans: Mutex<Vec<Option<Open>>>,
    /// Ids are multiples of this.
    step: u64,
}

#[derive(Clone, Copy)]
struct Open {
    metadata: &'static Metadata<'static>,
    handles: usize,
}

impl Host {
    fn with_step(step: u64) -> Host {
        Host {
            step,
            ..Host::default()
        }
    }

    fn index(&self, id: &Id) -> usize {
        (id.into_u64() / self.step) as usize - 1
    }
}

impl Subscriber for Host {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut spans = self.spans.lock().unwrap();
        let open = Some(Open {
            metadata: attributes.metadata(),
            handles: 1,
        });
        let free = spans.iter().position(Option::is_none);
        let index = free.unwrap_or(spans.len());
        match free {
            Some(free) => spans[free] = open,
            None => spans.push(open),
        }
        Id::from_non_zero_u64(NonZeroU64::new((index as u64 + 1) * self.step).unwrap())
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn clone_span(&self, id: &Id) -> Id {
        let mut spans = self.spans.lock().unwrap();
        spans[self.index(id)].as_mut().unwrap().handles += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans.lock().unwrap();
        let slot = &mut spans[self.index(&id)];
        let open = slot.as_mut().unwrap();
        open.handles -= 1;
        let closed = open.handles == 0;
        if closed {
            *slot = None;
        }
        closed
    }
}

struct Data {
    id: Id,
    metadata: &'static Metadata<'static>,
}

impl SpanData<'_> for Data {
    fn id(&self) -> Id {
        self.id.clone()
    }

    fn metadata(&self) -> &'static Metadata<'static> {
        self.metadata
    }

    fn parent(&self) -> Option<&Id> {
        None
    }

    fn extensions(&self) -> Extensions<'_> {
        unimplemented!("this host has none")
    }

    fn extensions_mut(&self) -> ExtensionsMut<'_> {
        unimplemented!("this host has none")
    }
}

impl<'a> LookupSpan<'a> for Host {
    type Data = Data;

    fn span_data(&'a self, id: &Id) -> Option<Data> {
        let spans = self.spans.lock().unwrap();
        let open = (*spans.get(self.index(id))?)?;
        Some(Data {
            id: id.clone(),
            metadata: open.metadata,
        })
    }
}

fn plain() -> (CortexLayer, CortexGuard) {
    CortexLayer::builder().no_resources().build().unwrap()
}

fn site(guard: &CortexGuard, name: &str) -> SiteStats {
    let sites = guard.profile().sites;
    sites
        .into_iter()
        .find(|row| row.site.name == name)
        .unwrap_or_else(|| panic!("no site {name}"))
}

/// A thread that enters and leaves the spans it is given, then closes or returns them.
fn worker(dispatch: &Dispatch) -> (SyncSender<Span>, Receiver<()>, thread::JoinHandle<()>) {
    let (spans, inbox) = sync_channel::<Span>(0);
    let (reply, done) = sync_channel(0);
    let dispatch = dispatch.clone();
    let thread = thread::spawn(move || {
        tracing::dispatcher::with_default(&dispatch, || {
            for span in inbox {
                span.in_scope(|| ());
                drop(span);
                reply.send(()).unwrap();
            }
        });
    });
    (spans, done, thread)
}

#[test]
fn a_host_without_span_data_is_enough() {
    let (layer, guard) = plain();
    tracing::subscriber::with_default(Host::with_step(1).with(layer), || {
        for _ in 0..100 {
            let _outer = info_span!("outer").entered();
            info_span!("inner").in_scope(|| ());
        }
    });
    assert_eq!(site(&guard, "outer").stats.spans, 100);
    assert_eq!(site(&guard, "inner").stats.calls, 100);
    assert_eq!(guard.profile().losses.open_spans, 0);
}

/// All ids are multiples of the size of a thread's own table, so that all but one span are found elsewhere.
#[test]
fn ids_that_collide_cost_no_span() {
    let (layer, guard) = plain();
    tracing::subscriber::with_default(Host::with_step(128).with(layer), || {
        for _ in 0..10 {
            let open: Vec<_> = (0..200).map(|_| info_span!("open")).collect();
            for span in open.iter().rev() {
                span.in_scope(|| ());
            }
        }
    });
    let open = site(&guard, "open");
    assert_eq!((open.stats.spans, open.stats.activations), (2000, 2000));
    let losses = guard.profile().losses;
    assert_eq!((losses.open_spans, losses.untracked_spans), (0, 0));
}

/// Every span has the same id and is entered by a thread that remembers where the last one was.
#[test]
fn an_id_used_again_is_another_span_for_other_threads_too() {
    const SPANS: u64 = 50;
    let (layer, guard) = plain();
    let dispatch = Dispatch::new(Host::with_step(1).with(layer));
    let (spans, done, thread) = worker(&dispatch);
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..SPANS {
            let span = info_span!("handed_over");
            spans.send(span.clone()).unwrap();
            done.recv().unwrap();
            drop(span);
        }
    });
    drop(spans);
    thread.join().unwrap();
    let stats = site(&guard, "handed_over").stats;
    assert_eq!((stats.spans, stats.activations), (SPANS, SPANS));
    assert_eq!(stats.latency.unwrap().count, SPANS);
}

/// That a span is the parent of one on another thread says nothing about where it runs itself.
#[test]
fn a_parent_of_spans_on_other_threads_stays_plain() {
    let (layer, guard) = plain();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..10 {
            let outer = info_span!("outer");
            let _entered = outer.enter();
            thread::scope(|scope| {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        info_span!(parent: &outer, "inner").in_scope(|| ());
                    });
                });
            });
        }
    });
    let outer = site(&guard, "outer").stats;
    assert_eq!((outer.spans, outer.calls), (10, 10));
    assert!(outer.latency.is_none(), "{:?}", outer.latency);
    assert!(site(&guard, "inner").stats.latency.is_none());
}

#[test]
fn a_layer_that_comes_late_counts_what_it_did_not_see_begin() {
    let (cortex, guard) = plain();
    let (layer, handle) = tracing_subscriber::reload::Layer::new(None::<CortexLayer>);
    // The level keeps spans enabled while there is no layer.
    let registry = tracing_subscriber::registry().with(LevelFilter::TRACE);
    tracing::subscriber::with_default(registry.with(layer), || {
        let entered = info_span!("entered_before").entered();
        let created = info_span!("created_before");
        handle.modify(|layer| *layer = Some(cortex)).unwrap();
        created.in_scope(|| info_span!("inner").in_scope(|| ()));
        drop(entered);
        drop(created);
        info_span!("after").in_scope(|| ());
    });
    assert_eq!(site(&guard, "created_before").stats.activations, 1);
    assert_eq!(site(&guard, "inner").stats.calls, 1);
    assert_eq!(site(&guard, "after").stats.calls, 1);
    let losses = guard.profile().losses;
    assert_eq!((losses.unknown_spans, losses.unbalanced_exits), (1, 1));
    assert_eq!(losses.open_spans, 0);
}

#[test]
fn spans_may_outlive_the_default_subscriber() {
    let (layer, guard) = plain();
    let mut open = Vec::new();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        open.extend((0..300).map(|_| info_span!("open")));
    });
    assert_eq!(guard.profile().losses.open_spans, 300);
    for span in &open {
        span.in_scope(|| ());
    }
    drop(open);
    assert_eq!(guard.profile().losses.open_spans, 0);
    assert_eq!(site(&guard, "open").stats.spans, 300);
}

#[test]
fn threads_inside_spans_may_leave_them_after_the_end() {
    const THREADS: usize = 4;
    let (layer, guard) = plain();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    let (inside, ended) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let summary = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                tracing::dispatcher::with_default(&dispatch, || {
                    let outer = info_span!("outer").entered();
                    let inner = info_span!("inner", late = tracing::field::Empty).entered();
                    inside.wait();
                    ended.wait();
                    inner.record("late", 1);
                    drop(inner);
                    info_span!("after").in_scope(|| ());
                    drop(outer);
                });
            });
        }
        inside.wait();
        let summary = guard.finish().unwrap();
        ended.wait();
        summary
    });
    let profile = summary.profile();
    assert_eq!(profile.losses.open_spans, 2 * THREADS as u64);
    let calls = |name| {
        let row = profile.sites.iter().find(|row| row.site.name == name);
        row.map(|row| row.stats.calls)
    };
    assert_eq!(calls("outer"), Some(THREADS as u64));
    assert_eq!(calls("inner"), Some(THREADS as u64));
    assert_eq!(calls("after"), None);
}

#[test]
fn a_first_call_at_tick_zero_is_a_first_call() {
    let clock = ManualClock::new();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .manual_clock(&clock)
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for millis in [7, 3] {
            let _work = info_span!("work").entered();
            clock.advance(Duration::from_millis(millis));
        }
    });
    let first = site(&guard, "work").stats.first;
    assert_eq!(first.map(|first| first.0), Some(7_000_000));
}
