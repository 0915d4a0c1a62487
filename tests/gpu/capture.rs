//! A capture that records GPUs, and what it knew in the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_cortex::gpu::Cuda;
use tracing_cortex::{CortexBuilder, CortexGuard, CortexLayer, Diagnosis, GpuBatch, GpuCall};
use tracing_cortex::{GpuKind, GpuProfile, GpuStats, GpuWork, Nanos, Profile, Sink, SinkError};
use tracing_cortex::{ThreadStats, Wants};
use tracing_subscriber::prelude::*;

use crate::gpu::Driver;

/// Everything that a sink was given.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    work: Arc<Mutex<Vec<GpuWork>>>,
    calls: Arc<Mutex<Vec<Arc<GpuCall>>>>,
}

impl Seen {
    pub(crate) fn work(&self) -> Vec<GpuWork> {
        self.work.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> Vec<Arc<GpuCall>> {
        self.calls.lock().unwrap().clone()
    }
}

impl Sink for Seen {
    fn name(&self) -> &str {
        "seen"
    }

    fn wants(&self) -> Wants {
        let mut wants = Wants::PROFILE;
        wants.gpu = true;
        wants
    }

    fn gpu(&mut self, batch: &GpuBatch<'_>) -> Result<(), SinkError> {
        self.work.lock().unwrap().extend_from_slice(batch.work);
        self.calls.lock().unwrap().extend_from_slice(batch.calls);
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A capture that is over.
pub(crate) struct Recorded {
    pub(crate) profile: Profile,
    pub(crate) work: Vec<GpuWork>,
    pub(crate) calls: Vec<Arc<GpuCall>>,
}

impl Recorded {
    pub(crate) fn gpu(&self) -> &GpuProfile {
        self.profile.gpu.as_ref().unwrap()
    }

    /// What the spans of a site had devices do; nothing where they had them do nothing.
    pub(crate) fn site(&self, name: &str) -> GpuStats {
        gpu_of(&self.profile, name)
    }

    pub(crate) fn thread(&self, name: &str) -> Option<&ThreadStats> {
        self.profile.threads.iter().find(|row| row.name == name)
    }

    /// Kernel and span of each work, by the name of the kernel.
    pub(crate) fn kernels(&self) -> Vec<(&str, &str)> {
        let named = self.work.iter().filter_map(|work| match &work.kind {
            GpuKind::Kernel(kernel) => Some((&*kernel.name, span_of(work))),
            _ => None,
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable();
        named
    }

    /// Fails if something is missing.
    pub(crate) fn assert_whole(&self) {
        let gpu = self.gpu();
        assert_eq!(gpu.notices, []);
        let lost = [
            gpu.unattributed,
            gpu.dropped_records,
            gpu.dropped_calls,
            gpu.unfinished,
            gpu.unknown_calls,
        ];
        assert_eq!(lost, [0; 5]);
    }
}

pub(crate) fn gpu_of(profile: &Profile, name: &str) -> GpuStats {
    let mut rows = profile.sites.iter();
    let row = rows.find(|row| row.site.name == name);
    let row = row.unwrap_or_else(|| panic!("no site is called {name}"));
    row.stats.gpu.as_deref().cloned().unwrap_or_default()
}

pub(crate) fn span_of(work: &GpuWork) -> &str {
    let caller = work.caller.as_ref();
    caller.map_or("-", |caller| caller.site.name)
}

/// When a call returned.
pub(crate) fn end_of(call: &GpuCall) -> Nanos {
    call.end.unwrap()
}

pub(crate) fn builder() -> CortexBuilder {
    CortexLayer::builder().cuda(Cuda::auto()).no_resources()
}

/// Runs a program under a layer that records GPUs; returns what it knows in the end.
pub(crate) fn record(program: impl FnOnce(Driver)) -> Recorded {
    record_with(builder(), |driver, _| program(driver))
}

/// The same with settings, for a program that holds the guard.
pub(crate) fn record_with(
    builder: CortexBuilder,
    program: impl FnOnce(Driver, &CortexGuard),
) -> Recorded {
    let seen = Seen::default();
    let (layer, guard) = builder.sink(seen.clone()).build().unwrap();
    let driver = Driver::ready();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        program(driver, &guard);
    });
    let profile = guard.finish().unwrap().profile().clone();
    Recorded {
        profile,
        work: seen.work(),
        calls: seen.calls(),
    }
}

/// Runs on a thread of its own, with this thread's subscriber.
pub(crate) fn on_thread<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> std::thread::JoinHandle<R> {
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || tracing::dispatcher::with_default(&dispatch, work))
        .unwrap()
}
