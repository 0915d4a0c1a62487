//! W3C Trace Context: what is a valid header, and what becomes of one that is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::HashMap;

use proptest::prelude::*;
use tracing_cortex::{SpanId, TraceContext, TraceContextError, TraceId};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn context() -> TraceContext {
    PARENT.parse().unwrap()
}

fn read(headers: &[(&str, &str)]) -> Option<TraceContext> {
    let headers: HashMap<&str, &str> = headers.iter().copied().collect();
    TraceContext::from_headers(|name| headers.get(name).map(ToString::to_string))
}

#[test]
fn a_traceparent_gives_its_parts() {
    let context = context();
    assert_eq!(
        context.trace_id(),
        TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736)
    );
    assert_eq!(context.span_id(), SpanId(0x00f0_67aa_0ba9_02b7));
    assert!(context.sampled() && !context.random());
    assert_eq!(context.traceparent(), PARENT);
}

#[test]
fn flags_beyond_sampled_and_random_are_read_as_unset() {
    let flagged = |flags| PARENT.replace("-01", flags).parse::<TraceContext>();
    for (flags, sampled, random, sent) in [
        ("-00", false, false, "-00"),
        ("-02", false, true, "-02"),
        ("-03", true, true, "-03"),
        ("-fc", false, false, "-00"),
        ("-ff", true, true, "-03"),
    ] {
        let context = flagged(flags).unwrap();
        assert_eq!((context.sampled(), context.random()), (sampled, random));
        assert!(context.traceparent().ends_with(sent), "{flags}");
    }
}

#[test]
fn a_later_version_is_read_as_far_as_this_one_goes() {
    for later in [
        PARENT.replacen("00", "01", 1),
        PARENT.replacen("00", "fe", 1) + "-",
        PARENT.replacen("00", "cc", 1) + "-what-the-future-will-be-like",
    ] {
        assert_eq!(later.parse(), Ok(context()), "{later}");
    }
}

#[test]
fn what_is_wrong_with_a_traceparent_is_said() {
    use TraceContextError::*;
    let length = |found| Length { found };
    let not_hex = |part| NotHex { part };
    for (header, error) in [
        (String::new(), length(0)),
        (PARENT[..54].to_owned(), length(54)),
        (format!("{PARENT}-"), length(56)),
        (format!("{PARENT}0"), length(56)),
        (format!(" {PARENT}"), Separator),
        (PARENT.replacen("00", "01", 1) + ".x", Separator),
        (PARENT.replace('-', "_"), Separator),
        (PARENT.replacen("00", "ff", 1), Version),
        (PARENT.replacen("00", "0A", 1), not_hex("version")),
        (PARENT.replace("4bf", "4BF"), not_hex("trace id")),
        (PARENT.replace("4bf", "+bf"), not_hex("trace id")),
        (PARENT.replace("00f0", "00g0"), not_hex("span id")),
        (PARENT.replace("-01", "-.1"), not_hex("flags")),
        (format!("00-{:032}-00f067aa0ba902b7-01", 0), ZeroTraceId),
        (
            PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            ZeroSpanId,
        ),
    ] {
        let found = header.parse::<TraceContext>();
        assert_eq!(found, Err(error.clone()), "{header}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn without_a_valid_traceparent_the_other_headers_mean_nothing() {
    let others = [("tracestate", "a=1"), ("baggage", "b=2")];
    assert_eq!(read(&others), None);
    let broken = [("traceparent", "00-0-0-00"), others[0], others[1]];
    assert_eq!(read(&broken), None);
}

#[test]
fn headers_that_are_read_are_the_headers_that_are_sent() {
    let headers = [
        ("traceparent", PARENT),
        ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("baggage", "user=Am%C3%A9lie;public,tenant=7"),
    ];
    let context = read(&headers).unwrap();
    let mut sent = Vec::new();
    context.for_each_header(|name, value| sent.push((name, value.to_owned())));
    let sent: Vec<_> = sent.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(sent, headers);

    let alone = read(&[("traceparent", &format!("\t{PARENT} "))]).unwrap();
    let mut names = Vec::new();
    alone.for_each_header(|name, _| names.push(name));
    assert_eq!(names, ["traceparent"]);
}

#[test]
fn a_tracestate_is_taken_as_a_whole_or_not_at_all() {
    let kept = |state: &str| {
        context()
            .with_trace_state(state)
            .trace_state()
            .map(String::from)
    };
    for (state, expected) in [
        ("a=1", Some("a=1")),
        (" a=1 ,\t,, b=2\t", Some("a=1,b=2")),
        ("0tenant@system/x*y=v v", Some("0tenant@system/x*y=v v")),
        ("a=1,b=2,a=3", Some("a=1,b=2")),
        ("", None),
        (" , ", None),
        ("a", None),
        ("a=", None),
        ("=1", None),
        ("A=1", None),
        ("a =1", None),
        ("a=1=2", None),
        ("a=1,b=\u{e9}", None),
        ("a=1,b=\r\nx: y", None),
    ] {
        assert_eq!(kept(state).as_deref(), expected, "{state:?}");
    }
    let members = |number: usize| {
        let members: Vec<_> = (0..number).map(|member| format!("k{member}=1")).collect();
        members.join(",")
    };
    assert_eq!(kept(&members(32)), Some(members(32)));
    assert_eq!(kept(&members(33)), None);
    assert_eq!(kept(&format!("{}=1", "k".repeat(257))), None);
    assert_eq!(kept(&format!("k={}", "v".repeat(257))), None);
}

#[test]
fn a_long_tracestate_loses_long_members_first_then_the_last() {
    let long = format!("long={}", "x".repeat(200));
    let short: Vec<_> = (0..10)
        .map(|n| format!("k{n}={}", "y".repeat(47)))
        .collect();
    let state = format!("{long},{}", short.join(","));
    assert_eq!(
        context().with_trace_state(&state).trace_state(),
        Some(short.join(",").as_str())
    );
    let state = format!("{},{}", short.join(","), short.join(",").replace('k', "l"));
    let kept = context().with_trace_state(&state);
    assert_eq!(kept.trace_state(), Some(short.join(",").as_str()));
}

#[test]
fn baggage_is_decoded_and_what_is_not_valid_is_left_out() {
    let context = context().with_baggage(
        "user=Am%C3%A9lie;public;ttl=3 , bad key=1,no value,odd=50%,  tenant = 7 ,half=%C3,quoted=\"x\",empty=",
    );
    let entries: Vec<_> = context.baggage_entries().collect();
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| (*key, &**value))
        .collect();
    assert_eq!(
        entries,
        [
            ("user", "Amélie"),
            ("odd", "50%"),
            ("tenant", "7"),
            ("half", "\u{fffd}"),
            ("empty", ""),
        ]
    );
    assert_eq!(context.clone().with_baggage(" , ").baggage(), None);
    assert_eq!(context.with_baggage("a=\r\nx: y").baggage(), None);
}

#[test]
fn baggage_has_at_most_180_members_and_8192_bytes() {
    let many: Vec<_> = (0..300).map(|member| format!("k{member}=1")).collect();
    let kept = context().with_baggage(&many.join(","));
    assert_eq!(kept.baggage_entries().count(), 180);
    let wide: Vec<_> = (0..100)
        .map(|n| format!("k{n:02}={}", "v".repeat(200)))
        .collect();
    let kept = context().with_baggage(&wide.join(","));
    assert_eq!(kept.baggage_entries().count(), 8192 / 205);
}

proptest! {
    #[test]
    fn every_context_survives_the_way_through_headers(
        trace in 1..=u128::MAX, span in 1..=u64::MAX, sampled: bool, random: bool,
    ) {
        let context = TraceContext::new(TraceId(trace), SpanId(span), sampled)
            .with_random(random)
            .with_trace_state("a=1,b=2")
            .with_baggage("c=3;d,e=%20");
        let mut headers = HashMap::new();
        context.for_each_header(|name, value| { headers.insert(name, value.to_owned()); });
        prop_assert_eq!(TraceContext::from_headers(|name| headers.get(name).cloned()), Some(context));
    }

    #[test]
    fn no_header_makes_reading_panic(parent: String, state: String, baggage: String) {
        let _ = parent.parse::<TraceContext>();
        let context = context().with_trace_state(&state).with_baggage(&baggage);
        context.baggage_entries().for_each(drop);
    }

    #[test]
    fn a_header_that_is_nearly_valid_is_read_or_refused_and_never_bends_the_limits(
        parent in "[0-9a-fA-F-]{50,60}",
        state in "([a-z@]{1,9}=[ -~]{0,40},? ?){0,40}",
        baggage in "([a-z]{1,9}=[ -~%]{0,99},? ?){0,200}",
    ) {
        if let Ok(read) = parent.parse::<TraceContext>() {
            prop_assert_eq!(&read.traceparent()[3..52], &parent[3..52]);
        }
        let context = context().with_trace_state(&state).with_baggage(&baggage);
        let state = context.trace_state().map(String::from);
        prop_assert!(state.iter().all(|state| state.len() <= 512));
        prop_assert!(context.baggage().iter().all(|baggage| baggage.len() <= 8192));
        // What was kept once is kept the next time.
        let again = context.clone().with_trace_state(state.as_deref().unwrap_or_default());
        let again = again.with_baggage(context.baggage().unwrap_or_default());
        prop_assert_eq!(again, context);
    }
}

#[cfg(feature = "otlp")]
mod opentelemetry_contexts {
    use super::*;
    use opentelemetry::Context;
    use opentelemetry::baggage::BaggageExt;
    use opentelemetry::trace::{SpanContext, TraceContextExt};

    #[test]
    fn become_ours_and_back_with_state_and_baggage() {
        let ours = context()
            .with_random(true)
            .with_trace_state("a=1")
            .with_baggage("user=Am%C3%A9lie");
        let theirs = Context::from(&ours);
        assert!(theirs.span().span_context().is_remote());
        assert_eq!(
            theirs.baggage().get("user").map(|v| v.as_str()),
            Some("Amélie")
        );
        assert_eq!(TraceContext::try_from(&theirs), Ok(ours.clone()));

        let span = SpanContext::from(&ours);
        assert_eq!(span.trace_id().to_string(), ours.trace_id().to_string());
        assert_eq!(
            TraceContext::try_from(&span).unwrap().trace_state(),
            Some("a=1")
        );
    }

    #[test]
    fn without_a_span_are_none_of_ours() {
        assert_eq!(
            TraceContext::try_from(&Context::new()),
            Err(TraceContextError::ZeroTraceId)
        );
    }
}
