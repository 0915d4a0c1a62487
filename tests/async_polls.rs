//! What the diagnosis says about polls that are too long, on a real runtime.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::task::{JoinSet, yield_now};
use tracing::instrument;
use tracing_cortex::{CortexGuard, CortexLayer, Diagnosis};
use tracing_subscriber::prelude::*;

#[instrument]
async fn block() {
    std::thread::sleep(Duration::from_millis(20));
    yield_now().await;
}

#[instrument]
async fn compute() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(20) {
        black_box(begin);
    }
    yield_now().await;
}

#[instrument]
async fn handle(blocks: bool) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    if blocks {
        block().await;
    } else {
        compute().await;
    }
}

/// Runs fifty tasks on two workers, which takes half a second.
fn serve(blocks: bool) {
    let mut builder = runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            tasks.spawn(handle(blocks));
        }
        tasks.join_all().await;
    });
}

/// Serves until the rules had enough samples to judge, which takes longer where the sampler itself waits for a core.
fn serve_until_judged(guard: &CortexGuard, blocks: bool) -> Diagnosis {
    let begin = Instant::now();
    loop {
        serve(blocks);
        let diagnosis = tracing_cortex::diagnose(&guard.profile(), &Default::default());
        let held_back = diagnosis.findings.iter().any(|f| f.rule == "CTX903");
        if !held_back || begin.elapsed() > Duration::from_secs(20) {
            return diagnosis;
        }
    }
}

fn rules_about(diagnosis: &Diagnosis, site: &str) -> Vec<&'static str> {
    let findings = diagnosis.findings.iter();
    let about = findings.filter(|finding| finding.site == site);
    about.map(|finding| finding.rule).collect()
}

/// One test, because the subscriber is global and the second part needs a fresh start.
#[test]
fn a_runtime_that_blocks_and_one_that_computes_are_told_apart() {
    let (cortex, guard) = CortexLayer::builder()
        .resources(Duration::from_millis(250))
        .build()
        .unwrap();
    tracing_subscriber::registry().with(cortex).init();

    let blocked = serve_until_judged(&guard, true);
    assert_eq!(rules_about(&blocked, "block"), ["CTX101"], "{blocked:#?}");
    assert!(
        blocked
            .headline
            .starts_with("`block` blocked an async worker for"),
        "{blocked:#?}"
    );

    guard.reset();
    serve_until_judged(&guard, false);
    let summary = guard.finish().unwrap();
    let computed = summary.diagnosis();
    assert_eq!(
        rules_about(computed, "compute"),
        ["CTX102"],
        "{computed:#?}"
    );
    assert!(
        computed
            .headline
            .starts_with("`compute` keeps a worker for"),
        "{computed:#?}"
    );
}
