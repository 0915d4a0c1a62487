//! Precedence, and every error text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exception for tests does not reach helpers"
)]

use std::error::Error;
use std::time::Duration;

use super::{Compression, Destination, Otlp, Protocol, Settings, Target, Temporality};
use crate::sink::otlp::sampling::Sampling;

fn env(variables: &[(&str, &str)]) -> Otlp {
    Otlp::from_lookup(&|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn resolved(otlp: Otlp) -> Settings {
    otlp.resolve().unwrap().expect("nothing is to be exported")
}

fn targets(otlp: Otlp) -> (Target, Target) {
    let settings = resolved(otlp);
    let Some(Destination::Receiver(traces)) = settings.traces else {
        panic!("spans go to {:?}", settings.traces);
    };
    (*traces, settings.metrics.unwrap())
}

fn endpoints(otlp: Otlp) -> (String, String) {
    let (traces, metrics) = targets(otlp);
    (traces.uri.to_string(), metrics.uri.to_string())
}

fn problem(otlp: Otlp) -> String {
    let error = otlp.resolve().expect_err("the settings are accepted");
    error.to_string()
}

#[test]
fn without_any_setting_protobuf_goes_to_port_4318_and_grpc_to_4317() {
    let (traces, metrics) = targets(env(&[]));
    assert_eq!(traces.uri, "http://localhost:4318/v1/traces");
    assert_eq!(metrics.uri, "http://localhost:4318/v1/metrics");
    assert_eq!(traces.protocol, Protocol::HttpProtobuf);
    assert_eq!(traces.timeout, Duration::from_secs(10));
    assert_eq!(traces.compression, Compression::None);
    let (traces, _) = targets(env(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]));
    assert_eq!(traces.uri, "http://localhost:4317/");
    let settings = resolved(env(&[]));
    assert_eq!(settings.schedule_delay, Duration::from_secs(1));
    assert_eq!(settings.max_batch_spans, 2048);
    assert_eq!(settings.metrics_interval, Duration::from_secs(60));
    assert_eq!(settings.max_queue_bytes, 64 << 20);
    assert_eq!(settings.temporality, Temporality::Cumulative);
}

#[test]
fn code_wins_over_the_signals_variable_which_wins_over_the_common_one() {
    let common = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://common:1/otlp/");
    let own = (
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "http://own:2/take/this",
    );
    assert_eq!(
        endpoints(env(&[common])),
        (
            "http://common:1/otlp/v1/traces".to_owned(),
            "http://common:1/otlp/v1/metrics".to_owned()
        )
    );
    assert_eq!(
        endpoints(env(&[common, own])),
        (
            "http://own:2/take/this".to_owned(),
            "http://common:1/otlp/v1/metrics".to_owned()
        )
    );
    assert_eq!(
        endpoints(env(&[common, own]).endpoint("http://code:3")),
        (
            "http://code:3/v1/traces".to_owned(),
            "http://code:3/v1/metrics".to_owned()
        )
    );
    let code = env(&[common, own])
        .metrics_endpoint("http://code:4/m")
        .endpoint("http://code:3?key=1");
    assert_eq!(
        endpoints(code),
        (
            "http://code:3/v1/traces?key=1".to_owned(),
            "http://code:4/m".to_owned()
        )
    );
}

#[test]
fn every_setting_of_a_signal_can_come_from_its_own_variable() {
    let (traces, metrics) = targets(env(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
            " b = two%20words , c=x=y, ",
        ),
    ]));
    assert_eq!(traces.protocol, Protocol::HttpJson);
    assert_eq!(metrics.protocol, Protocol::Grpc);
    assert_eq!(metrics.uri, "http://localhost:4317/");
    assert_eq!(traces.timeout, Duration::from_millis(250));
    assert_eq!(metrics.timeout, Duration::from_millis(1500));
    assert_eq!(traces.compression, Compression::None);
    assert_eq!(metrics.compression, Compression::Gzip);
    assert_eq!(traces.headers["a"], "1");
    assert!(metrics.headers.get("a").is_none());
    assert_eq!(metrics.headers["b"], "two words");
    assert_eq!(metrics.headers["c"], "x=y");
}

#[test]
fn headers_of_the_code_join_those_of_the_environment_and_win() {
    let otlp = env(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=old,x=1")])
        .header("Authorization", "Bearer new");
    let (traces, _) = targets(otlp);
    assert_eq!(traces.headers["authorization"], "Bearer new");
    assert_eq!(traces.headers["x"], "1");
}

#[test]
fn secrets_are_not_in_debug_output() {
    let otlp = env(&[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hush1")])
        .endpoint("http://h/?key=hush2")
        .header("authorization", "hush3");
    let traces = targets(otlp.clone()).0;
    let shown = format!("{otlp:?} {traces:?} {}", traces.shown);
    assert!(!shown.contains("hush1"), "{shown}");
    assert!(!shown.contains("hush3"), "{shown}");
    assert!(!traces.shown.contains("hush2"), "{shown}");
}

#[test]
fn a_grpc_endpoint_needs_no_scheme() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    let (traces, _) = targets(env(&[grpc, insecure, endpoint]));
    assert_eq!(traces.uri, "http://collector:4317/");
    assert!(
        problem(env(&[endpoint])).starts_with(
            r#"OTEL_EXPORTER_OTLP_ENDPOINT is "collector:4317"; it takes a URL such as"#
        )
    );
}

#[test]
fn the_service_name_comes_from_the_strongest_source() {
    let name = |otlp| {
        let settings = resolved(otlp);
        settings.resource.text("service.name").unwrap().to_owned()
    };
    let attributes = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=weak,deployment.environment.name=a%2Cb",
    );
    let own = ("OTEL_SERVICE_NAME", "strong");
    assert!(name(env(&[])).starts_with("unknown_service:"));
    assert_eq!(name(env(&[attributes])), "weak");
    assert_eq!(name(env(&[attributes, own])), "strong");
    let code = env(&[attributes, own]).resource_attribute("service.name", "code");
    assert_eq!(name(code.clone()), "code");
    assert_eq!(name(code.service_name("named")), "named");
    let settings = resolved(env(&[attributes]));
    assert_eq!(
        settings.resource.text("deployment.environment.name"),
        Some("a,b")
    );
}

#[test]
fn signals_can_be_switched_off_and_the_sdk_as_a_whole() {
    let off = ("OTEL_TRACES_EXPORTER", "none");
    let settings = resolved(env(&[off]));
    assert!(settings.traces.is_none() && settings.metrics.is_some());
    assert!(resolved(env(&[off]).traces(true)).traces.is_some());
    let both = env(&[off, ("OTEL_METRICS_EXPORTER", "none")]);
    assert!(both.resolve().unwrap().is_none());
    let settings = resolved(env(&[("OTEL_METRICS_EXPORTER", "otlp,none")]).traces(false));
    assert!(settings.traces.is_none() && settings.metrics.is_some());
    // Disabled, nothing else is even looked at.
    let disabled = env(&[
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"),
    ]);
    assert!(disabled.resolve().unwrap().is_none());
}

#[test]
fn variables_without_a_value_are_not_set() {
    let (traces, _) = targets(env(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://common:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "  "),
        ("OTEL_SDK_DISABLED", ""),
    ]));
    assert_eq!(traces.uri, "http://common:1/v1/traces");
}

#[test]
fn numbers_and_the_sampler_come_from_the_environment() {
    let settings = resolved(env(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "LowMemory",
        ),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]));
    assert_eq!(settings.schedule_delay, Duration::from_millis(200));
    assert_eq!(settings.max_batch_spans, 64);
    assert_eq!(settings.metrics_interval, Duration::from_secs(5));
    assert_eq!(settings.temporality, Temporality::LowMemory);
    assert_eq!(settings.sampling.head, Sampling::Ratio(0.25));
}

#[test]
fn wrong_values_are_named_with_their_variable_and_what_it_takes() {
    for (variable, value, accepted) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "udp",
            "grpc, http/protobuf or http/json",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "zstd",
            "gzip or none",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "10s",
            "a whole number of milliseconds",
        ),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes", "true or false"),
        ("OTEL_SDK_DISABLED", "1", "true or false"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "both",
            "cumulative, delta or lowmemory",
        ),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1", "a whole number"),
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "1m",
            "a whole number of milliseconds",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name",
            "key=value, several of them with commas between, values percent-encoded",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "ftp://host",
            "a URL such as http://localhost:4318 or https://collector.example:4317",
        ),
    ] {
        assert_eq!(
            problem(env(&[(variable, value)])),
            format!("{variable} is {value:?}; it takes {accepted}")
        );
    }
    for url in [
        "",
        "localhost:4318",
        "http://",
        "http://:4318",
        "http://host:port",
        "http://host:0",
        "http://host:99999",
        "http://ho st",
        "/v1/traces",
    ] {
        let problem = problem(Otlp::new(url));
        assert!(
            problem.starts_with(&format!(
                "Otlp::endpoint is {url:?}; it takes a URL such as"
            )),
            "{problem}"
        );
    }
    for url in ["http://[::1]:4318", "http://[::1]", "https://h/p?q#f"] {
        let _ = url.parse::<http::Uri>().unwrap();
    }
    assert_eq!(
        endpoints(Otlp::new("http://[::1]")).0,
        "http://[::1]/v1/traces"
    );
}

#[test]
fn a_password_in_the_url_is_refused_without_showing_it() {
    let problem = problem(Otlp::new("http://me:hush@host:4318"));
    assert!(problem.contains("Otlp::endpoint"), "{problem}");
    assert!(problem.contains("authorization"), "{problem}");
    assert!(!problem.contains("hush"), "{problem}");
}

#[test]
fn numbers_out_of_range_are_named_with_their_method() {
    let otlp = || Otlp::new("http://h:1");
    for (otlp, expected) in [
        (
            otlp().timeout(Duration::ZERO),
            r#"Otlp::timeout is "0ns"; it takes more than zero, at most an hour"#,
        ),
        (
            otlp().max_batch_spans(0),
            r#"Otlp::max_batch_spans is "0"; it takes 1 to 65,536 spans"#,
        ),
        (
            otlp().max_queue_bytes(10),
            r#"Otlp::max_queue_bytes is "10"; it takes at least 65,536 bytes"#,
        ),
        (
            otlp().schedule_delay(Duration::MAX),
            r#"Otlp::schedule_delay is "18446744073709551615.999999999s"; it takes at most an hour"#,
        ),
        (
            otlp().metrics_interval(Duration::from_millis(1)),
            r#"Otlp::metrics_interval is "1ms"; it takes 10 ms to a day"#,
        ),
        (
            env(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0")]),
            r#"OTEL_EXPORTER_OTLP_TIMEOUT is "0ns"; it takes more than zero, at most an hour"#,
        ),
    ] {
        assert_eq!(problem(otlp), expected);
    }
}

#[test]
fn headers_that_cannot_be_sent_are_named_without_their_values() {
    let otlp = || Otlp::new("http://h:1");
    for (otlp, setting, header) in [
        (
            otlp().header("two words", "hush"),
            "Otlp::header",
            "two words",
        ),
        (otlp().header("x", "hush\nhush"), "Otlp::header", "x"),
        (otlp().header("Host", "hush"), "Otlp::header", "Host"),
        (
            otlp().header("grpc-timeout", "hush"),
            "Otlp::header",
            "grpc-timeout",
        ),
        (otlp().header("x-bin", "hush"), "Otlp::header", "x-bin"),
        (
            env(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=1,hush")]),
            "OTEL_EXPORTER_OTLP_HEADERS",
            "number 2",
        ),
        (
            env(&[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%ffhush")]),
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "number 1",
        ),
    ] {
        let problem = problem(otlp);
        assert!(
            problem.starts_with(&format!(
                "{setting} has a header {header:?} that cannot be sent; it takes "
            )),
            "{problem}"
        );
        assert!(!problem.contains("hush"), "{problem}");
    }
}

#[test]
fn a_wrong_value_that_code_overrides_is_no_error() {
    let otlp = env(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "udp")]).protocol(Protocol::Grpc);
    assert_eq!(targets(otlp).0.protocol, Protocol::Grpc);
}

#[test]
fn certificate_files_are_checked_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let otlp = || Otlp::new("https://h:1");

    let error = otlp().ca_certificate(&missing).resolve().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot read {}; correct the path or the permissions of Otlp::ca_certificate",
            missing.display()
        )
    );
    assert!(error.source().is_some());
    for file in [&empty, &broken] {
        assert_eq!(
            problem(otlp().ca_certificate(file)),
            format!(
                "{} has no usable certificate; Otlp::ca_certificate takes a PEM file with one",
                file.display()
            )
        );
    }
    let path = empty.to_str().unwrap();
    assert_eq!(
        problem(env(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h:1"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", path),
        ])),
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY is of no use alone; set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE as well"
    );
    assert_eq!(
        problem(env(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h:1"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", path),
        ])),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is of no use alone; set OTEL_EXPORTER_OTLP_CLIENT_KEY as well"
    );
}

#[cfg(not(feature = "otlp-ring"))]
#[test]
fn tls_without_cryptography_says_how_to_get_it() {
    let problem = problem(Otlp::new("https://collector.example:4317"));
    assert!(problem.contains("otlp-ring"), "{problem}");
    assert!(problem.contains("CryptoProvider"), "{problem}");
}

#[derive(Debug)]
struct Exporter;

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(
        &self,
        _: Vec<opentelemetry_sdk::trace::SpanData>,
    ) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

#[test]
fn with_an_exporter_metrics_go_only_where_somebody_said_that_they_should() {
    let metrics = |otlp: Otlp| resolved(otlp.span_exporter(Exporter)).metrics;
    let endpoint = |otlp| metrics(otlp).map(|target| target.uri.to_string());
    assert!(metrics(env(&[])).is_none());
    let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/v1/traces");
    assert!(metrics(env(&[of_traces])).is_none());
    assert!(metrics(env(&[]).traces_endpoint("http://a/v1/traces")).is_none());
    for otlp in [
        env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")]),
        env(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a/v1/metrics")]),
        env(&[]).metrics_endpoint("http://a/v1/metrics"),
        Otlp::new("http://a"),
    ] {
        assert_eq!(endpoint(otlp.clone()).unwrap(), "http://a/v1/metrics");
        assert!(metrics(otlp.metrics(false)).is_none());
    }
    let default = "http://localhost:4318/v1/metrics";
    assert_eq!(endpoint(env(&[]).metrics(true)).unwrap(), default);
    let switched_on = env(&[("OTEL_METRICS_EXPORTER", "otlp")]);
    assert_eq!(endpoint(switched_on).unwrap(), default);
}

#[test]
fn an_exporter_has_the_timeout_of_a_request_and_needs_nothing_of_an_endpoint() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "no url"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "no header"),
    ];
    let settings = resolved(env(&variables).span_exporter(Exporter));
    let Some(Destination::Exporter(exporter, timeout)) = settings.traces else {
        panic!("spans go to {:?}", settings.traces);
    };
    assert_eq!(timeout, Duration::from_millis(1500));
    assert!(
        exporter.shown().ends_with("::Exporter"),
        "{}",
        exporter.shown()
    );
    let off = env(&[("OTEL_TRACES_EXPORTER", "none")]).span_exporter(Exporter);
    assert!(off.resolve().unwrap().is_none());
}

#[test]
fn an_exporter_cannot_be_given_twice() {
    let otlp = env(&[]).span_exporter(Exporter);
    resolved(otlp.clone());
    assert_eq!(
        problem(otlp),
        "Otlp::span_exporter has an exporter that another capture was built with before; make one for each capture"
    );
}
