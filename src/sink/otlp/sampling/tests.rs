//! Which traces are kept, read from what is left in the batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;

use super::super::batch::Batch;
use super::super::encode::SpanEncoder;
use super::super::{Otlp, OtlpError};
use super::tail::{GRACE, MAX_DECISIONS};
use super::*;
use crate::model::{
    Bucket, Distribution, FieldWriter, Fields, Ids, Nanos, Operation, Profile, Site, SiteId,
    SiteStats, SpanId, SpanSeq, Stats, Thread, TraceId, Value, WallAnchor,
};

fn rules(set: impl FnOnce(Otlp) -> Otlp) -> Result<Rules, OtlpError> {
    set(Otlp::new("http://localhost"))
        .sampling
        .resolve(None, None)
}

fn from_env(sampler: &str, argument: Option<&str>) -> Result<Sampling, OtlpError> {
    let choice = Otlp::new("http://localhost").sampling;
    Ok(choice.resolve(Some(sampler), argument)?.head)
}

fn local(trace: u64) -> Ids {
    Ids::root(TraceId(trace.into()), SpanId(1))
}

fn remote(trace: u64, sampled: bool) -> Ids {
    Ids {
        parent: Some(SpanId(9)),
        parent_is_remote: true,
        remote_trace: true,
        sampled,
        ..local(trace)
    }
}

fn inner(trace: u64) -> Ids {
    Ids {
        parent: Some(SpanId(1)),
        ..local(trace)
    }
}

#[test]
fn the_variables_name_every_sampler_of_the_specification() {
    for (sampler, argument, expected) in [
        ("always_on", None, Sampling::AlwaysOn),
        ("always_off", Some("x"), Sampling::AlwaysOff),
        ("traceidratio", Some("0.25"), Sampling::Ratio(0.25)),
        ("traceidratio", None, Sampling::Ratio(1.0)),
        ("parentbased_always_on", None, Sampling::ParentOrAlwaysOn),
        ("PARENTBASED_ALWAYS_OFF", None, Sampling::ParentOrAlwaysOff),
        (
            "parentbased_traceidratio",
            Some(" 1 "),
            Sampling::ParentOrRatio(1.0),
        ),
    ] {
        assert_eq!(from_env(sampler, argument).unwrap(), expected, "{sampler}");
    }
    assert_eq!(rules(|otlp| otlp).unwrap().head, Sampling::ParentOrAlwaysOn);
}

#[test]
fn a_wrong_setting_is_named_with_what_it_takes() {
    for (outcome, setting) in [
        (
            from_env("jaeger_remote", None).map(drop),
            "OTEL_TRACES_SAMPLER",
        ),
        (
            from_env("traceidratio", Some("2")).map(drop),
            "OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            from_env("traceidratio", Some("NaN")).map(drop),
            "OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            from_env("parentbased_traceidratio", Some("half")).map(drop),
            "OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            rules(|otlp| otlp.sample_ratio(-0.1)).map(drop),
            "Otlp::sample_ratio",
        ),
        (
            rules(|otlp| otlp.sample_ratio(f64::NAN)).map(drop),
            "Otlp::sample_ratio",
        ),
        (
            rules(|otlp| otlp.max_tail_bytes(10)).map(drop),
            "Otlp::max_tail_bytes",
        ),
    ] {
        let error = outcome.unwrap_err();
        let OtlpError::Value { setting: named, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(named, setting);
        assert!(error.to_string().contains("it takes"), "{error}");
    }
}

#[test]
fn a_method_wins_over_a_variable_that_is_wrong() {
    let choice = Otlp::new("http://localhost").sample_ratio(0.5).sampling;
    let rules = choice.resolve(Some("nonsense"), Some("nonsense")).unwrap();
    assert_eq!(rules.head, Sampling::ParentOrRatio(0.5));
}

#[test]
fn what_began_elsewhere_follows_its_parent_and_what_began_here_does_not() {
    for (sampling, here, sampled_there, not_sampled_there) in [
        (Sampling::AlwaysOn, true, true, true),
        (Sampling::AlwaysOff, false, false, false),
        (Sampling::Ratio(0.0), false, false, false),
        (Sampling::Ratio(1.0), true, true, true),
        (Sampling::ParentOrAlwaysOn, true, true, false),
        (Sampling::ParentOrAlwaysOff, false, true, false),
        (Sampling::ParentOrRatio(0.0), false, true, false),
        (Sampling::ParentOrRatio(1.0), true, true, false),
    ] {
        assert_eq!(sampling.keeps(&local(7)), here, "{sampling:?}");
        assert_eq!(
            sampling.keeps(&remote(7, true)),
            sampled_there,
            "{sampling:?}"
        );
        assert_eq!(
            sampling.keeps(&remote(7, false)),
            not_sampled_there,
            "{sampling:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ratio_decides_as_the_opentelemetry_sdk_does(ratio in 0.0_f64..=1.0, trace in 1_u128..) {
        use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};
        use opentelemetry::trace::{SpanKind, TraceId as OtelTraceId};
        let theirs = Sampler::TraceIdRatioBased(ratio).should_sample(
            None, OtelTraceId::from_bytes(trace.to_be_bytes()), "x", &SpanKind::Internal, &[], &[]);
        let ids = Ids::root(TraceId(trace), SpanId(1));
        let ours = Sampling::Ratio(ratio).keeps(&ids);
        prop_assert_eq!(ours, theirs.decision == SamplingDecision::RecordAndSample);
    }

    #[test]
    fn every_operation_is_exported_left_out_or_pending(
        steps in prop::collection::vec((0_u64..20, any::<bool>(), 0_u64..4), 0..300),
    ) {
        let mut tail = Tester::new(|otlp| otlp.keep_errors().max_tail_bytes(64 << 10));
        for (at, (trace, is_root, kind)) in steps.iter().enumerate() {
            let ids = if *is_root { local(*trace) } else { inner(*trace) };
            tail.take(ids, "x", 1, *kind == 0);
            let counted = tail.batch.pending() + tail.tail.left_out() + tail.tail.pending();
            prop_assert_eq!(counted, at as u64 + 1);
        }
        tail.settle();
        tail.tail.finish();
        prop_assert_eq!(tail.tail.pending(), 0);
        prop_assert_eq!(tail.batch.pending() + tail.tail.left_out(), steps.len() as u64);
        prop_assert_eq!(tail.exported().len() as u64, steps.len() as u64 - tail.tail.left_out());
    }
}

struct Tester {
    tail: Tail,
    encoder: SpanEncoder,
    batch: Batch,
    now: Instant,
}

impl Tester {
    fn new(set: impl FnOnce(Otlp) -> Otlp) -> Tester {
        let rules = rules(set).unwrap();
        assert!(rules.has_tail());
        Tester {
            tail: Tail::new(rules),
            encoder: SpanEncoder::new(WallAnchor::default()),
            batch: Batch::new(Vec::new(), 100),
            now: Instant::now(),
        }
    }

    fn take(&mut self, ids: Ids, name: &'static str, took: u64, failed: bool) {
        let site = Site::new(SiteId(1), name, "app", None, None).with_fields(["error"]);
        let mut bytes = Vec::new();
        if failed {
            FieldWriter::new(&mut bytes, 10).write(0, Value::Bool(true));
        }
        let operation = Operation {
            ids,
            span: SpanSeq(1),
            site: &site,
            name: None,
            thread: &Thread::new(0, None, None),
            start: Nanos(0),
            end: Nanos(took),
            busy: Nanos(took),
            activations: 1,
            fields: Fields::new(&site, &bytes),
            events: &[],
            dropped_events: 0,
            unfinished: false,
        };
        self.tail
            .take(&operation, &mut self.encoder, &mut self.batch, self.now);
    }

    /// Lets time pass until all traces that have ended are decided.
    fn settle(&mut self) {
        self.now += GRACE;
        self.tail.settle(self.now);
    }

    /// Returns trace and length of what was kept since the last call, after all that has ended is decided.
    fn exported(&mut self) -> Vec<(u64, u64)> {
        self.settle();
        self.batch.close();
        let requests: Vec<_> = self.batch.take().collect();
        let spans = requests.iter().flat_map(|batch| {
            let request = ExportTraceServiceRequest::decode(batch.request.as_slice()).unwrap();
            request.resource_spans[0].scope_spans[0].spans.clone()
        });
        spans
            .map(|span| {
                let low = span.trace_id.last_chunk().unwrap();
                (u64::from_be_bytes(*low), span.end_time_unix_nano)
            })
            .collect()
    }
}

#[test]
fn a_trace_with_an_error_is_kept_as_a_whole() {
    let mut tail = Tester::new(Otlp::keep_errors);
    tail.take(inner(1), "x", 1, false);
    tail.take(inner(2), "x", 2, false);
    assert_eq!((tail.exported(), tail.tail.pending()), (vec![], 2));
    tail.take(inner(1), "x", 3, true);
    tail.take(inner(1), "x", 4, false);
    tail.take(local(1), "x", 5, false);
    tail.take(local(2), "x", 6, false);
    assert_eq!(tail.exported(), [(1, 1), (1, 3), (1, 4), (1, 5)]);
    assert_eq!((tail.tail.left_out(), tail.tail.pending()), (2, 0));
}

#[test]
fn what_ends_after_its_trace_follows_unless_it_failed_itself() {
    let mut tail = Tester::new(Otlp::keep_errors);
    tail.take(local(1), "x", 1, true);
    tail.take(local(2), "x", 2, false);
    tail.take(inner(1), "x", 3, false);
    tail.take(inner(2), "x", 4, false);
    assert_eq!(tail.exported(), [(1, 1), (1, 3)]);
    tail.take(inner(2), "x", 5, true);
    tail.take(inner(2), "x", 6, false);
    assert_eq!(tail.exported(), [(2, 5), (2, 6)]);
    assert_eq!((tail.tail.left_out(), tail.tail.pending()), (2, 0));
}

#[test]
fn the_last_span_below_a_remote_parent_decides() {
    let mut tail = Tester::new(Otlp::keep_errors);
    tail.take(inner(1), "x", 1, false);
    tail.take(remote(1, false), "x", 2, false);
    tail.settle();
    assert_eq!((tail.tail.left_out(), tail.tail.pending()), (2, 0));
}

#[test]
fn a_span_of_another_thread_counts_though_it_comes_after_the_outermost() {
    let mut tail = Tester::new(Otlp::keep_errors);
    tail.take(local(1), "x", 1, false);
    tail.now += GRACE / 2;
    tail.tail.settle(tail.now);
    tail.take(inner(1), "x", 2, true);
    assert_eq!(tail.exported(), [(1, 1), (1, 2)]);
}

#[test]
fn a_missed_target_keeps_the_trace() {
    let target = Duration::from_nanos(100);
    let mut tail = Tester::new(|otlp| otlp.keep_slower_than("checkout", target));
    tail.take(local(1), "checkout", 100, false);
    tail.take(local(2), "checkout", 101, false);
    tail.take(local(3), "search", 500, true);
    assert_eq!(tail.exported(), [(2, 101)]);
}

#[test]
fn slow_is_what_took_longer_than_99_of_100_before() {
    let profile = |calls| {
        let bucket = Bucket {
            value: Nanos(50),
            count: calls,
        };
        let stats = Stats {
            activation: Distribution::from_buckets(
                vec![bucket],
                Nanos(50 * calls),
                Nanos(50),
                Nanos(50),
                0,
            ),
            ..Stats::default()
        };
        let site = Arc::new(Site::new(SiteId(1), "x", "app", None, None));
        Profile {
            sites: vec![SiteStats::new(site, stats)],
            ..Profile::default()
        }
    };
    let mut tail = Tester::new(Otlp::keep_slow);
    tail.take(local(1), "x", 1_000, false);
    tail.tail.learn(&profile(99));
    tail.take(local(2), "x", 1_000, false);
    tail.tail.learn(&profile(100));
    tail.take(local(3), "x", 50, false);
    tail.take(local(4), "x", 51, false);
    tail.tail.learn(&Profile::default());
    tail.take(local(5), "x", 1_000, false);
    assert_eq!(tail.exported(), [(4, 51)]);
}

#[test]
fn beyond_the_memory_the_oldest_trace_is_left_out() {
    let mut tail = Tester::new(|otlp| otlp.keep_errors().max_tail_bytes(64 << 10));
    for trace in 0..1_000 {
        tail.take(inner(trace), "x", trace, false);
    }
    let (held, left_out) = (tail.tail.pending(), tail.tail.left_out());
    assert_eq!(held + left_out, 1_000);
    assert!((64..256).contains(&held), "{held}");
    tail.take(local(999), "x", 1, true);
    tail.take(local(0), "x", 1, false);
    assert_eq!(tail.exported(), [(999, 999), (999, 1)]);
    assert_eq!(tail.tail.left_out(), left_out + 1);

    // One trace alone fills it.
    for _ in 0..1_000 {
        tail.take(inner(5_000), "x", 1, false);
    }
    assert_eq!(tail.exported(), []);
    tail.tail.finish();
    assert_eq!(tail.tail.pending(), 0);
    assert_eq!(tail.tail.left_out(), 2_000);
}

#[test]
fn decisions_are_remembered_for_a_while() {
    let mut tail = Tester::new(Otlp::keep_errors);
    tail.take(local(0), "x", 1, true);
    for trace in 1..MAX_DECISIONS as u64 {
        tail.take(local(trace), "x", 1, false);
    }
    assert_eq!(tail.exported(), [(0, 1)]);
    tail.take(inner(0), "x", 2, false);
    assert_eq!(tail.exported(), [(0, 2)]);
    tail.take(local(MAX_DECISIONS as u64), "x", 1, false);
    tail.settle();
    tail.take(inner(0), "x", 3, false);
    assert_eq!((tail.exported(), tail.tail.pending()), (vec![], 1));
}
