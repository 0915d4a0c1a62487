//! The spans of a small post office in a tracing backend.
//!
//! ```text
//! cargo run --features otlp --example otlp
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run --features otlp --example otlp
//! ```
//!
//! Without the variable they go to a collector on this machine. If nobody listens, the program ends as quickly and says
//! how many spans were lost and why. `EXPECTED_SPANS=FILE` writes down which spans a backend should have,
//! `SPILL_FILE=FILE` keeps what could not be sent.

#![allow(
    clippy::print_stdout,
    reason = "what became of the spans belongs on standard output"
)]

#[path = "service/src/expected_spans.rs"]
mod expected_spans;

use std::error::Error;
use std::path::Path;
use std::time::Duration;
use std::{env, fmt};

use expected_spans::ExpectedSpans;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, info, info_span, instrument, warn};
use tracing_cortex::otlp::Otlp;
use tracing_cortex::{CortexLayer, CortexSpanExt, TextReport, TraceContext};
use tracing_subscriber::prelude::*;

const SERVICE: &str = "post-office";

fn main() -> Result<(), Box<dyn Error>> {
    let mut otlp = Otlp::from_env().service_name(SERVICE);
    if let Some(path) = env::var_os("SPILL_FILE") {
        otlp = otlp.spill(path);
    }
    let mut cortex = CortexLayer::builder()
        .otlp(otlp)
        .report_text(TextReport::Stderr)
        // Nobody wants to wait for a collector that is not there.
        .exit_deadline(Duration::from_millis(1_500));
    if let Some(path) = env::var_os("EXPECTED_SPANS") {
        cortex = cortex.sink(ExpectedSpans::create(Path::new(&path), SERVICE)?);
    }
    let (cortex, guard) = cortex.build()?;
    tracing_subscriber::registry().with(cortex).init();

    let trace = info_span!("day", letters = LETTERS.len()).in_scope(work)?;
    println!("trace {trace}");

    // A receiver that is not there is no failure of the post office.
    let finished = guard.finish();
    let summary = match &finished {
        Ok(summary) => Some(summary),
        Err(error) => error.summary(),
    };
    for export in summary
        .iter()
        .flat_map(|summary| &summary.profile().exports)
    {
        println!(
            "{} spans are at {}, {} were refused, {} dropped",
            export.exported, export.endpoint, export.refused, export.dropped
        );
        if let Some(error) = &export.last_error {
            println!("the last error: {error}");
        }
        if let Some(error) = &export.last_points_error {
            println!("the last error of metrics: {error}");
        }
    }
    Ok(())
}

/// Addresses and grams.
const LETTERS: [(&str, f64); 5] = [
    ("Amsterdam", 17.5),
    ("Bogotá", 20.0),
    ("nowhere", 12.25),
    ("Cairo", 480.0),
    ("Dakar", 55.0),
];

/// Takes the letters in and delivers those that can be; returns the id of the trace.
fn work() -> Result<String, Box<dyn Error>> {
    let scale = Scale::new();
    let mut accepted = Vec::new();
    for (address, grams) in LETTERS {
        match accept(&scale, address, grams) {
            Ok(letter) => accepted.push(letter),
            Err(error) => warn!(address, "returned to the sender: {error}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(deliver(&scale, accepted).in_current_span())?;
    let context = Span::current().trace_context();
    Ok(context.map_or_else(
        || "(none)".to_owned(),
        |context| context.trace_id().to_string(),
    ))
}

struct Letter {
    address: &'static str,
    grams: f64,
    accepted: Option<TraceContext>,
}

#[derive(Debug)]
struct UnknownAddress(&'static str);

impl fmt::Display for UnknownAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {}", self.0)
    }
}

impl Error for UnknownAddress {}

/// A plain function. Its error makes the span's status an error and is an event in it.
#[instrument(skip(scale), fields(registered = grams > 100.0, cents = Empty), err)]
fn accept(scale: &Scale, address: &'static str, grams: f64) -> Result<Letter, UnknownAddress> {
    let cents = scale.weigh(grams);
    Span::current().record("cents", cents);
    if address == "nowhere" {
        return Err(UnknownAddress(address));
    }
    let accepted = Span::current().trace_context();
    Ok(Letter {
        address,
        grams,
        accepted,
    })
}

/// Has one span for its whole life and enters it on every call, as models and other long-lived things do: each call is
/// a span for the backend, below whoever called.
struct Scale {
    span: Span,
}

impl Scale {
    fn new() -> Scale {
        Scale {
            span: info_span!("weigh", max_grams = 2_000_u64, offset = -3_i64),
        }
    }

    fn weigh(&self, grams: f64) -> u64 {
        let _weighing = self.span.enter();
        debug!(grams, "on the scale");
        if grams > 50.0 { 250 } else { 95 }
    }
}

/// An async function that waits; linked with the spans in which its letters were accepted.
#[instrument(skip_all, fields(otel.name = "deliver all", otel.kind = "producer", letters = letters.len()))]
async fn deliver(scale: &Scale, letters: Vec<Letter>) -> Result<(), Box<dyn Error>> {
    for accepted in letters.iter().filter_map(|letter| letter.accepted.as_ref()) {
        Span::current().add_link(accepted)?;
    }
    for letter in letters {
        let route = info_span!("route", to = letter.address, otel.status_code = Empty);
        async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            scale.weigh(letter.grams);
            tokio::task::yield_now().await;
            Span::current().record("otel.status_code", "OK");
        }
        .instrument(route.clone())
        .await;
        info!(to = letter.address, grams = letter.grams, "delivered");
    }
    Ok(())
}
