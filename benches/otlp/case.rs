//! One measurement: one shape with one system in a process of its own.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::receiver::{Endpoints, Receiver};
use crate::shape::Shape;
use crate::system::System;

/// What is measured together in one fresh process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) system: System,
}

/// What one process measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Wall time of the thread that opens spans, pauses left out, per span.
    pub(crate) wall_ns: f64,
    /// CPU time of that thread, per span.
    pub(crate) cpu_ns: Option<f64>,
    /// CPU time of all threads of the process, from the first span until everything is exported.
    pub(crate) process_cpu_ms: Option<f64>,
    /// Wall time of the end: what is left is exported.
    pub(crate) finish_ms: f64,
    /// Spans opened in all.
    pub(crate) opened: u64,
    /// Spans that the receiver got; filled in by whoever has the receiver.
    pub(crate) exported: Option<u64>,
}

impl Measurement {
    /// Returns what a span costs its thread: CPU time, or wall time where that is not known.
    pub(crate) fn span_ns(&self) -> f64 {
        self.cpu_ns.unwrap_or(self.wall_ns)
    }

    /// Returns the CPU time of the process per span that was opened, or per exported span where spans are exported.
    pub(crate) fn process_span_ns(&self) -> Option<f64> {
        let spans = self.exported.unwrap_or(self.opened).max(1);
        Some(self.process_cpu_ms? * 1e6 / spans as f64)
    }

    pub(crate) fn lost(&self) -> Option<f64> {
        Some(self.opened as f64 - self.exported? as f64)
    }
}

impl Case {
    /// Measures in a child process, with a receiver in another one.
    pub(crate) fn spawn(self) -> Measurement {
        let receiver = Receiver::spawn();
        let endpoints = serde_json::to_string(&receiver.endpoints).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--case", self.shape.id(), self.system.id(), &endpoints])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{} with {} ended with {}",
            self.shape.id(),
            self.system.id(),
            output.status
        );
        let mut measurement: Measurement = serde_json::from_slice(&output.stdout).unwrap();
        let received = receiver.finish();
        measurement.exported = self.system.exports().then_some(received.spans);
        measurement
    }

    /// Measures in this process, which must not have a subscriber yet.
    pub(crate) fn run(self, endpoints: &Endpoints) -> Measurement {
        let finish = self.system.install(endpoints);
        let cpu_start = cpu::process_time();
        let timing = self.shape.run();
        let ended = Instant::now();
        finish();
        let process_cpu = cpu_start.and_then(|before| Some(cpu::process_time()? - before));
        let per_span = |seconds: f64| seconds * 1e9 / timing.spans as f64;
        Measurement {
            wall_ns: per_span(timing.wall.as_secs_f64()),
            cpu_ns: timing.cpu.map(|cpu| per_span(cpu.as_secs_f64())),
            process_cpu_ms: process_cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
            finish_ms: ended.elapsed().as_secs_f64() * 1e3,
            opened: self.shape.opened(),
            exported: None,
        }
    }
}
