//! Settings from the environment, and spans for each way in which a process can end.
//!
//! Every test runs this program once more as a child, which does what `CORTEX_OTLP_CHILD` says and sends to a receiver
//! here.
#![cfg(all(feature = "otlp", unix))]
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

#[path = "support/otlp/mod.rs"]
mod otlp;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use otlp::{Answer, Receiver, Signal};
use tracing_cortex::otlp::Otlp;
use tracing_cortex::{CortexGuard, CortexLayer};
use tracing_subscriber::prelude::*;

/// Names what the child does.
const VARIABLE: &str = "CORTEX_OTLP_CHILD";
/// Longer than any child takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The child's.
const DEADLINE: Duration = Duration::from_secs(2);

static KEPT: OnceLock<CortexGuard> = OnceLock::new();

/// The child; as a test of the parent it does nothing.
#[test]
fn child() {
    let Ok(how) = std::env::var(VARIABLE) else {
        return;
    };
    let builder = CortexLayer::builder()
        .no_resources()
        .exit_deadline(DEADLINE);
    let builder = match &*how {
        #[cfg(feature = "signals")]
        "signal" => builder.flush_on_signals(),
        _ => builder,
    };
    let (layer, guard) = match builder.otlp(Otlp::from_env()).build() {
        Ok(built) => built,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            return say(&text);
        }
    };
    tracing_subscriber::registry().with(layer).init();
    for number in 0..100 {
        tracing::info_span!("work", number).in_scope(|| ());
    }
    let _open = tracing::info_span!("open").entered();
    match &*how {
        "drop" => drop(guard),
        "finish" => {
            let summary = guard.finish().unwrap();
            let exports = summary.profile().exports.iter();
            let accounts = exports.map(|export| {
                let (exported, out) = (export.exported, export.sampled_out);
                format!("exported {exported} sampled_out {out}")
            });
            say(&accounts.collect::<Vec<_>>().join(", "));
        }
        "leaked" => {
            Box::leak(Box::new(guard));
        }
        "static" => KEPT.set(guard).unwrap(),
        "exit" => std::process::exit(7),
        "exit in a runtime" => {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(async { std::process::exit(7) }).await.unwrap();
            });
        }
        "signal" => {
            say("ready");
            loop {
                std::thread::park();
            }
        }
        "panic" => panic!("a planted panic"),
        other => panic!("there is no end called {other:?}"),
    }
}

/// Writes a line that the parent reads.
fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "child: {line}").unwrap();
    out.flush().unwrap();
}

struct Child {
    process: std::process::Child,
}

impl Child {
    /// Starts the child with these variables and no others of OpenTelemetry.
    fn start(how: &str, variables: &[(&str, &str)]) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        let process = command
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, how)
            .env("OTEL_METRICS_EXPORTER", "none")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            // The planted panics are of no interest.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Child { process }
    }

    fn sending_to(receiver: &Receiver, how: &str) -> Child {
        Child::start(how, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.http())])
    }

    /// Reads what the child says.
    fn line(&mut self) -> String {
        let out = BufReader::new(self.process.stdout.take().expect("read once"));
        let mut lines = out.lines().map(Result::unwrap);
        let said = lines.find_map(|line| Some(line.split_once("child: ")?.1.to_owned()));
        said.expect("the child says something")
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the child does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asserts that the closed spans and the one that was open are there once the child is gone.
#[track_caller]
fn assert_arrived(receiver: &Receiver, is_unfinished: bool) {
    assert_eq!(receiver.spans_by_name("work").len(), 100);
    let open = receiver.span_by_name("open");
    let marked = open.attribute("cortex.unfinished").is_some();
    assert_eq!(marked, is_unfinished);
    assert_eq!(receiver.span_count(), 101);
}

#[test]
fn however_a_process_ends_by_itself_every_span_arrives() {
    for (how, code, is_unfinished) in [
        ("drop", 0, true),
        ("finish", 0, true),
        // The capture ends after the child's function, which closes its span.
        ("leaked", 0, false),
        ("static", 0, false),
        ("exit", 7, true),
        ("exit in a runtime", 7, true),
    ] {
        let receiver = Receiver::start();
        let mut child = Child::sending_to(&receiver, how);
        assert_eq!(child.wait().code(), Some(code), "{how}");
        assert_arrived(&receiver, is_unfinished);
    }
}

#[test]
fn a_panic_takes_no_span_along() {
    let receiver = Receiver::start();
    let mut child = Child::sending_to(&receiver, "panic");
    assert_eq!(child.wait().code(), Some(101));
    assert_eq!(receiver.spans_by_name("work").len(), 100);
    assert_eq!(
        receiver.spans_by_name("open").len(),
        1,
        "closed by unwinding"
    );
}

#[cfg(all(target_os = "linux", feature = "signals"))]
#[test]
fn a_handled_signal_takes_no_span_along() {
    use nix::sys::signal::{Signal::SIGTERM, kill};
    use std::os::unix::process::ExitStatusExt;
    let receiver = Receiver::start();
    let mut child = Child::sending_to(&receiver, "signal");
    assert_eq!(child.line(), "ready");
    let pid = nix::unistd::Pid::from_raw(child.process.id() as i32);
    kill(pid, SIGTERM).unwrap();
    assert_eq!(child.wait().signal(), Some(SIGTERM as i32));
    assert_arrived(&receiver, true);
}

#[test]
fn what_was_sent_before_sigkill_is_there_and_nothing_waits_for_the_end_to_be_sent() {
    let receiver = Receiver::start();
    let mut child = Child::sending_to(&receiver, "signal");
    assert_eq!(child.line(), "ready");
    receiver.wait_for_spans(100, PATIENCE);
    child.process.kill().unwrap();
    child.wait();
    assert_eq!(receiver.spans_by_name("work").len(), 100);
}

#[test]
fn no_end_waits_longer_than_the_deadline_for_a_receiver_that_is_silent_or_away() {
    let silent = Receiver::start();
    silent.answer(Answer::Silence);
    for receiver in [silent, Receiver::down()] {
        for how in ["drop", "leaked", "exit", "exit in a runtime"] {
            let start = Instant::now();
            let mut child = Child::sending_to(&receiver, how);
            child.wait();
            let took = start.elapsed();
            // One second for the deadline, one for starting the child.
            let limit = DEADLINE + Duration::from_secs(2);
            assert!(took <= limit, "{how}: {took:?}");
        }
    }
}

#[test]
fn the_environment_says_where_and_how_to_send() {
    let receiver = Receiver::start();
    let mut child = Child::start(
        "finish",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &receiver.grpc()),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20123,x-a=b",
            ),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "checkout"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,team=shop"),
        ],
    );
    assert_eq!(child.line(), "exported 101 sampled_out 0");
    assert_arrived(&receiver, true);
    let request = &receiver.requests()[0];
    assert_eq!(request.encoding, otlp::Encoding::Grpc);
    assert_eq!(request.header("authorization"), Some("Bearer 123"));
    assert_eq!(request.header("x-a"), Some("b"));
    assert_eq!(request.header("grpc-encoding"), Some("gzip"));
    let span = &receiver.spans()[0];
    assert_eq!(span.resource_text("service.name"), Some("checkout"));
    assert_eq!(span.resource_text("team"), Some("shop"));
}

#[test]
fn the_environment_asks_for_json() {
    let receiver = Receiver::start();
    let endpoint = receiver.http();
    let mut child = Child::start(
        "finish",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ],
    );
    child.wait();
    assert_arrived(&receiver, true);
    assert_eq!(receiver.requests()[0].encoding, otlp::Encoding::HttpJson);
}

#[test]
fn the_environment_switches_off() {
    let receiver = Receiver::start();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.http());
    for off in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let mut child = Child::start("finish", &[endpoint, off]);
        assert_eq!(child.wait().code(), Some(0), "{off:?}");
    }
    assert!(receiver.requests().is_empty());
}

#[test]
fn the_environment_chooses_the_sampler() {
    let receiver = Receiver::start();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.http());
    let sampler = |name| ("OTEL_TRACES_SAMPLER", name);
    let mut none = Child::start("finish", &[endpoint, sampler("always_off")]);
    assert_eq!(none.line(), "exported 0 sampled_out 101");
    assert!(receiver.requests_of(Signal::Traces).is_empty());
    let ratio = ("OTEL_TRACES_SAMPLER_ARG", "0.5");
    let half = sampler("parentbased_traceidratio");
    let mut half = Child::start("finish", &[endpoint, half, ratio]);
    half.wait();
    let count = receiver.span_count();
    assert!((20..=80).contains(&count), "{count}");
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "no url"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "no url"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier-pigeon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no value"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "lzma"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_TRACES_SAMPLER", "dice"),
        ("OTEL_RESOURCE_ATTRIBUTES", "no value"),
    ] {
        let said = Child::start("finish", &[(name, value)]).line();
        assert!(said.contains(name), "{name}={value}: {said}");
    }
    let tls = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1");
    let missing = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file.pem");
    let said = Child::start("finish", &[tls, missing]).line();
    assert!(
        said.contains(missing.0) && said.contains(missing.1),
        "{said}"
    );
}
