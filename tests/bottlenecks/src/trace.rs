//! The trace tier: the layer of the crate, on virtual time.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::Dispatch;
use tracing_cortex::{
    CortexLayer, ManualClock, Nanos, Overflow, ProfilingLevel, Thresholds, diagnose, report_json,
};
use tracing_subscriber::prelude::*;

use crate::interpret;
use crate::outcome::Outcome;
use crate::program::{Form, Program};
use crate::readings::{OfMachine, Readings};
use crate::virtual_time::{Machine, thread_name};
use crate::world::lock;

/// How often readings of resources are taken, of a program of milliseconds and of one of minutes.
const SHORT: Duration = Duration::from_millis(20);
/// How long a busy machine may take for what takes no virtual time.
const PATIENCE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_millis(250);

pub fn run(program: &Program) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    Ok(Outcome::read(&report(program)?)?)
}

/// Runs a program on threads of its own and returns the JSON report.
pub fn report(program: &Program) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    std::thread::scope(|scope| {
        let main = std::thread::Builder::new().name("main".to_owned());
        let main = main.spawn_scoped(scope, || on_this_thread(program))?;
        main.join().map_err(|_| "the program panicked")?
    })
}

fn on_this_thread(program: &Program) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let clock = ManualClock::new();
    let readings = Arc::new(Mutex::new(Readings::new(program)));
    let (layer, guard) = CortexLayer::builder()
        .manual_clock(&clock)
        .source(OfMachine(Arc::clone(&readings)))
        .level(ProfilingLevel::Detailed)
        .overflow(Overflow::Block)
        .build()?;
    let guard = Arc::new(Mutex::new(Some(guard)));
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    let (changed, read) = (Arc::clone(&readings), Arc::clone(&readings));
    let of_machine = Arc::clone(&guard);
    let workers = match program.form {
        Form::Sync => 0,
        Form::Tasks(workers) => workers,
    };
    let machine = Machine::start(
        &clock,
        &dispatch,
        program.cores,
        workers,
        move |reading, amount| lock(&changed).add(reading, amount),
        (
            if program.gauges.is_empty() {
                SHORT
            } else {
                LONG
            },
            Box::new(move |meter| {
                lock(&read).note(meter);
                if let Some(guard) = &*lock(&of_machine) {
                    // Without that it depended on the real machine when the collector gets to its records.
                    let _ = guard.flush(PATIENCE);
                    guard.sample_resources();
                }
            }),
        ),
    );
    interpret::run(program, Arc::new(Arc::clone(&machine)), dispatch.clone());
    let guard = lock(&guard).take().ok_or("the capture has ended")?;
    let mut profile = guard.finish()?.profile().clone();
    let (counters, of_threads) = machine.stop();
    // What the operating system of the simulated machine would say.
    profile.process.cores = u32::try_from(program.cores).ok();
    profile.process.cpu = Some(Nanos::from(counters.cpu));
    for (number, counters) in of_threads.iter().enumerate() {
        let name = thread_name(number);
        for row in profile.threads.iter_mut().filter(|row| row.name == name) {
            row.cpu = Some(Nanos::from(counters.cpu));
            row.run_queue = Some(Nanos::from(counters.queued));
        }
    }
    let mut thresholds = Thresholds::default();
    thresholds.targets = program.targets();
    let diagnosis = diagnose(&profile, &thresholds);
    let mut report = Vec::new();
    report_json(&profile, &diagnosis, &mut report)?;
    Ok(report)
}
