//! A web service with a database, and its client: two processes, one trace.
//!
//! ```text
//! cargo run                                                 both, on a free port of this machine
//! cargo run -- server [--addr 127.0.0.1:3000]     ends on Ctrl-C and SIGTERM
//! cargo run -- client --base http://127.0.0.1:3000 [--visits 3]
//! ```
//!
//! Traces go where `OTEL_EXPORTER_OTLP_ENDPOINT` says, else to a collector on this machine if there is one. In a viewer
//! such as Jaeger or Tempo each visit of the client is one trace with the spans of both processes. `GET /orders/good`
//! asks the database once; `GET /orders/n-plus-1` gives the same answer with one more query for each order.
//!
//! `--out FOLDER` writes a Chrome trace and the report as JSON for each process, `EXPECTED_SPANS=FILE` the spans that
//! a backend should have (`expected_spans.rs`).

mod client;
mod expected_spans;
mod server;
mod shop;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use expected_spans::ExpectedSpans;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tracing::level_filters::LevelFilter;
use tracing_cortex::otlp::Otlp;
use tracing_cortex::{CortexGuard, CortexLayer, Overflow, TextReport};
use tracing_subscriber::prelude::*;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    let out = arguments.out.as_deref();
    match arguments.mode.as_str() {
        "server" => {
            let guard = observe("shop-server", out)?;
            server::run(&arguments.addr, arguments.until_stdin_closes).await?;
            finish(guard)
        }
        "client" => {
            let guard = observe("shop-client", out)?;
            client::run(&arguments.base, arguments.visits).await?;
            finish(guard)
        }
        _ => both(&arguments).await,
    }
}

/// Runs the server as a child process and the client in this one.
async fn both(arguments: &Arguments) -> Result<(), Failure> {
    let guard = observe("shop-client", arguments.out.as_deref())?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["server", "--addr", &arguments.addr, "--until-stdin-closes"]);
    if let Some(out) = &arguments.out {
        command.arg("--out").arg(out);
    }
    let mut server = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = server.stdout.take().ok_or("the server has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let base = lines.next_line().await?.ok_or("the server did not start")?;

    client::run(&base, arguments.visits).await?;

    drop(server.stdin.take());
    let status = server.wait().await?;
    if !status.success() {
        return Err(format!("the server ended with {status}").into());
    }
    finish(guard)
}

/// Starts to trace and to measure this process under the name of a service.
fn observe(service: &str, out: Option<&Path>) -> Result<CortexGuard, Failure> {
    let mut cortex = CortexLayer::builder()
        .otlp(Otlp::from_env().service_name(service))
        .report_text(TextReport::Stderr)
        // Nobody wants to wait for a collector that is not there.
        .exit_deadline(Duration::from_millis(1_500));
    if let Some(out) = out {
        fs::create_dir_all(out)?;
        cortex = cortex
            .chrome(out.join(format!("{service}.trace.json")))
            .report_json(out.join(format!("{service}.report.json")));
    }
    if let Some(path) = env::var_os("EXPECTED_SPANS") {
        // Spans that were dropped on the way would be expected by nobody, and not be missed.
        cortex = cortex
            .overflow(Overflow::Block)
            .sink(ExpectedSpans::create(Path::new(&path), service)?);
    }
    let (cortex, guard) = cortex.build()?;
    tracing_subscriber::registry()
        // DEBUG is where sqlx says what each query did.
        .with(LevelFilter::DEBUG)
        .with(cortex)
        .init();
    Ok(guard)
}

/// Ends the measurement. Nobody listening is no failure of the service: the report says where the spans went.
fn finish(guard: CortexGuard) -> Result<(), Failure> {
    if let Err(error) = guard.finish() {
        eprintln!("{error}");
    }
    Ok(())
}

struct Arguments {
    mode: String,
    addr: String,
    base: String,
    visits: u32,
    out: Option<PathBuf>,
    /// For the server as a child: a parent that is gone has closed the child's input.
    until_stdin_closes: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
        let mut arguments = Arguments {
            mode: "both".to_owned(),
            addr: "127.0.0.1:0".to_owned(),
            base: String::new(),
            visits: 3,
            out: None,
            until_stdin_closes: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "server" | "client" => arguments.mode = word,
                "--addr" => arguments.addr = value()?,
                "--base" => arguments.base = value()?,
                "--visits" => arguments.visits = value()?.parse()?,
                "--out" => arguments.out = Some(value()?.into()),
                "--until-stdin-closes" => arguments.until_stdin_closes = true,
                _ => {
                    return Err(format!(
                        "{word}: not one of server, client, --addr, --base, --visits, --out"
                    )
                    .into());
                }
            }
        }
        if arguments.mode == "client" && arguments.base.is_empty() {
            return Err("client needs --base http://HOST:PORT".into());
        }
        Ok(arguments)
    }
}
