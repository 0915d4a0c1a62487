//! Spans that are created once, stored, and entered on every call.

mod support;

use std::time::Duration;

use support::{Rig, assert_row, capture, capture_with};
use tracing::{Span, error, info_span};
use tracing_cortex::{Nanos, SpanKind};

fn millis(milliseconds: u64) -> Nanos {
    Nanos::from(Duration::from_millis(milliseconds))
}

/// A layer of a model, in the manner of candle.
struct Layer {
    span: Span,
    attention: Span,
}

impl Layer {
    fn new() -> Layer {
        Layer {
            span: info_span!("layer"),
            attention: info_span!("attention"),
        }
    }

    fn forward(&self, rig: &Rig) {
        let _span = self.span.enter();
        rig.ms(1);
        self.attention.in_scope(|| rig.ms(2));
    }
}

const BATCHES: u64 = 10;
const LAYERS: u64 = 4;

#[test]
fn each_enter_of_a_held_span_is_a_call_under_what_is_around_it() {
    let captured = capture(|rig| {
        rig.run(|| {
            let encoder = info_span!("encoder");
            let layers: Vec<_> = (0..LAYERS).map(|_| Layer::new()).collect();
            for _ in 0..BATCHES {
                let _batch = info_span!("batch").entered();
                rig.ms(10);
                let _encoder = encoder.enter();
                layers.iter().for_each(|layer| layer.forward(rig));
            }
        });
    });
    assert_row(captured.path("batch"), BATCHES, BATCHES, 220, 100);
    assert_row(captured.path("batch > encoder"), BATCHES, BATCHES, 120, 0);
    let layer = captured.path("batch > encoder > layer");
    assert_row(layer, 40, 40, 120, 40);
    assert_eq!(layer.spans, LAYERS);
    assert_row(
        captured.path("batch > encoder > layer > attention"),
        40,
        40,
        80,
        80,
    );
    assert_eq!(captured.profile.paths.len(), 4);
    assert!(
        captured
            .profile
            .sites
            .iter()
            .all(|row| !row.stats.is_async())
    );
    let records = captured.records.of("layer");
    assert_eq!(records.len(), 40);
    assert!(
        records.iter().all(|span| span.kind == SpanKind::Call),
        "{records:#?}"
    );
    let parents: std::collections::BTreeSet<_> = records.iter().map(|span| span.parent).collect();
    assert_eq!(parents.len(), 1, "the one encoder span is around them all");
}

#[test]
fn one_layer_used_several_times_in_a_pass_is_that_many_calls() {
    // ALBERT shares the weights of one layer among all steps.
    let captured = capture(|rig| {
        rig.run(|| {
            let layer = Layer::new();
            for _ in 0..3 {
                let _batch = info_span!("batch").entered();
                for _ in 0..12 {
                    layer.forward(rig);
                }
            }
        });
    });
    let layer = captured.path("batch > layer");
    assert_row(layer, 36, 36, 108, 36);
    assert_eq!(layer.spans, 1);
    assert_row(captured.path("batch > layer > attention"), 36, 36, 72, 72);
}

#[test]
fn a_held_span_called_from_two_places_counts_in_both() {
    let captured = capture(|rig| {
        rig.run(|| {
            let shared = info_span!("shared");
            for _ in 0..5 {
                info_span!("one").in_scope(|| shared.in_scope(|| rig.ms(1)));
                info_span!("two").in_scope(|| shared.in_scope(|| rig.ms(2)));
            }
        });
    });
    assert_row(captured.path("one > shared"), 5, 5, 5, 5);
    assert_row(captured.path("two > shared"), 5, 5, 10, 10);
    let site = captured.site("shared");
    assert_eq!((site.calls, site.spans), (10, 1));
}

#[test]
fn a_root_that_is_entered_often_is_held_where_the_program_says_so() {
    let program = |rig: &Rig| {
        rig.run(|| {
            let model = info_span!("model");
            for _ in 0..7 {
                model.in_scope(|| rig.ms(3));
            }
        });
    };
    let told = capture_with(
        |builder| builder.held(|metadata| metadata.name() == "model"),
        program,
    );
    let model = told.site("model");
    assert_row(model, 7, 7, 21, 21);
    assert_eq!((model.spans, model.is_async()), (1, false));
    assert!(
        told.records
            .of("model")
            .iter()
            .all(|span| span.kind == SpanKind::Call)
    );

    let not_told = capture(program);
    let model = not_told.site("model");
    assert_eq!((model.calls, model.spans, model.activations), (1, 1, 7));
    assert!(model.is_async(), "looks like a task that was polled");
}

#[test]
fn an_open_root_with_many_activations_is_pointed_out() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let model = info_span!("model");
        for _ in 0..7 {
            model.in_scope(|| rig.ms(3));
        }
        let live = rig.guard.profile();
        assert_eq!(live.sites[0].open_root_activations, 7);
    });
}

#[test]
fn a_held_span_used_by_two_threads_counts_each_of_their_calls() {
    let captured = capture(|rig| {
        rig.ms(1);
        let layer = rig.run(|| info_span!("layer"));
        for name in ["one", "two"] {
            for _ in 0..5 {
                let (layer, clock) = (layer.clone(), rig.clock.clone());
                rig.on_thread(name, move || {
                    info_span!("batch").in_scope(|| {
                        layer.in_scope(|| clock.advance(Duration::from_millis(1)));
                    });
                });
            }
        }
        drop(layer);
    });
    let layer = captured.path("batch > layer");
    assert_row(layer, 10, 10, 10, 10);
    assert_eq!(layer.spans, 1);
    assert_eq!(captured.records.of("layer").len(), 10);
}

#[test]
fn a_held_span_under_a_polled_future_is_no_new_call_at_each_poll() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use tracing::Instrument;

    let captured = capture(|rig| {
        rig.run(|| {
            let mut polls = 0;
            let inner = std::future::poll_fn(|_| {
                rig.ms(1);
                polls += 1;
                if polls < 5 {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            });
            let outer = inner
                .instrument(info_span!("inner"))
                .instrument(info_span!("outer"));
            let mut outer = pin!(outer);
            let mut context = Context::from_waker(Waker::noop());
            while outer.as_mut().poll(&mut context).is_pending() {}
        });
    });
    let inner = captured.path("outer > inner");
    assert_eq!((inner.calls, inner.spans, inner.busy), (1, 1, millis(5)));
    assert!(inner.is_async());
}

#[test]
fn an_error_in_a_held_span_is_an_error_of_that_call() {
    let captured = capture(|rig| {
        rig.run(|| {
            let query = info_span!("query");
            for number in 0..6 {
                let _request = info_span!("request").entered();
                let _query = query.enter();
                if number % 2 == 1 {
                    error!("refused");
                    error!("and again");
                }
            }
        });
    });
    let query = captured.path("request > query");
    assert_eq!((query.calls, query.errors), (6, 3));
    assert_eq!(captured.site("request").errors, 0);
}

#[test]
fn fields_of_a_held_span_come_with_each_call() {
    let captured = capture(|rig| {
        rig.run(|| {
            let layer = info_span!("layer", width = 768);
            for _ in 0..3 {
                let _batch = info_span!("batch").entered();
                layer.in_scope(|| ());
            }
        });
    });
    let layers = captured.records.of("layer");
    assert_eq!(layers.len(), 3);
    assert!(layers.iter().all(|span| span.field("width") == Some("768")));
}

#[test]
fn a_live_profile_counts_the_call_of_a_held_span_that_goes_on() {
    let rig = Rig::new(false, |builder| builder);
    rig.run(|| {
        let batch = || info_span!("batch");
        let layer = info_span!("layer");
        for _ in 0..3 {
            batch().in_scope(|| layer.in_scope(|| rig.ms(1)));
        }
        let _batch = batch().entered();
        let _layer = layer.enter();
        rig.ms(5);
        let live = rig.guard.profile();
        support::check(&live, None);
        let stats = support::path(&live, "batch > layer");
        assert_eq!(
            (stats.calls, stats.spans, stats.activations, stats.busy),
            (4, 1, 4, millis(8))
        );
    });
}
