//! What the capture tests share: a program under a manual clock, and what every capture must satisfy.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses a part; clippy's exceptions for tests do not reach helpers"
)]

mod invariants;
mod recording;

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::Dispatch;
use tracing_cortex::{CortexBuilder, CortexGuard, CortexLayer, ManualClock, Profile, Stats};
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

pub use invariants::check;
pub use recording::{Recorded, Recording, Records};

/// A capture on a clock that stands still, and the subscriber that feeds it.
pub struct Rig {
    pub clock: ManualClock,
    pub dispatch: Dispatch,
    pub guard: CortexGuard,
    records: Option<Records>,
}

impl Rig {
    /// Builds a capture; with a sink that keeps every record, or with statistics only.
    pub fn new(streaming: bool, configure: impl FnOnce(CortexBuilder) -> CortexBuilder) -> Rig {
        Rig::beside(Identity::new(), streaming, configure)
    }

    /// Builds a capture on a subscriber that has another layer too.
    pub fn beside(
        other: impl Layer<Registry> + Send + Sync,
        streaming: bool,
        configure: impl FnOnce(CortexBuilder) -> CortexBuilder,
    ) -> Rig {
        let clock = ManualClock::new();
        let mut builder = CortexLayer::builder().no_resources().manual_clock(&clock);
        let records = streaming.then(Records::default);
        if let Some(records) = &records {
            builder = builder.sink(Recording::into(records));
        }
        let (layer, guard) = configure(builder).build().unwrap();
        Rig {
            clock,
            dispatch: Dispatch::new(tracing_subscriber::registry().with(other).with(layer)),
            guard,
            records,
        }
    }

    /// Runs a part of the program on this thread.
    pub fn run<R>(&self, part: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch, part)
    }

    /// Runs a part of the program on a thread of its own, to its end.
    pub fn on_thread<R: Send + 'static>(
        &self,
        name: &str,
        part: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        self.spawn(name, part).join().unwrap()
    }

    /// Starts a thread on which the capture runs.
    pub fn spawn<R: Send + 'static>(
        &self,
        name: &str,
        part: impl FnOnce() -> R + Send + 'static,
    ) -> std::thread::JoinHandle<R> {
        let dispatch = self.dispatch.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || tracing::dispatcher::with_default(&dispatch, part))
            .unwrap()
    }

    /// Lets milliseconds pass.
    pub fn ms(&self, milliseconds: u64) {
        self.clock.advance(Duration::from_millis(milliseconds));
    }

    /// Ends the capture and checks what has to hold for all of them.
    pub fn finish(self) -> Captured {
        let profile = self.guard.finish().unwrap().profile().clone();
        let recorded = self.records.map(|records| records.take());
        check(&profile, recorded.as_ref());
        Captured {
            profile,
            records: recorded.unwrap_or_default(),
        }
    }
}

/// Runs a program twice, with and without a sink that streams, because the layer takes different ways; both must come
/// to the same statistics.
pub fn capture(program: impl Fn(&Rig)) -> Captured {
    capture_with(|builder| builder, program)
}

/// As [`capture`], with settings.
pub fn capture_with(
    configure: impl Fn(CortexBuilder) -> CortexBuilder,
    program: impl Fn(&Rig),
) -> Captured {
    let [plain, streamed] = [false, true].map(|streaming| {
        let rig = Rig::new(streaming, &configure);
        program(&rig);
        rig.finish()
    });
    assert_eq!(by_path(&plain.profile), by_path(&streamed.profile));
    streamed
}

/// The statistics of each path, by the names on it.
fn by_path(profile: &Profile) -> BTreeMap<String, Stats> {
    let named = (0..profile.paths.len()).map(|index| profile.names(index).join(" > "));
    named
        .zip(profile.paths.iter().map(|path| path.stats.clone()))
        .collect()
}

/// What a program did, as the capture tells it.
pub struct Captured {
    pub profile: Profile,
    pub records: Recorded,
}

impl Captured {
    #[track_caller]
    pub fn site(&self, name: &str) -> &Stats {
        site(&self.profile, name)
    }

    #[track_caller]
    pub fn path(&self, names: &str) -> &Stats {
        path(&self.profile, names)
    }
}

/// Returns the statistics of the only site with this name.
#[track_caller]
pub fn site<'p>(profile: &'p Profile, name: &str) -> &'p Stats {
    let mut rows = profile.sites.iter().filter(|row| row.site.name == name);
    match (rows.next(), rows.next()) {
        (Some(row), None) => &row.stats,
        (None, _) => panic!("no site {name}"),
        (Some(_), Some(_)) => panic!("several sites {name}"),
    }
}

/// Returns the statistics of the only path with these names, written `a > b > c`.
#[track_caller]
pub fn path<'p>(profile: &'p Profile, names: &str) -> &'p Stats {
    let all: Vec<_> = (0..profile.paths.len())
        .map(|index| profile.names(index).join(" > "))
        .collect();
    let mut found = all
        .iter()
        .zip(&profile.paths)
        .filter(|(path, _)| *path == names);
    match (found.next(), found.next()) {
        (Some((_, path)), None) => &path.stats,
        (None, _) => panic!("no path {names} in {all:?}"),
        (Some(_), Some(_)) => panic!("several paths {names}"),
    }
}

/// Asserts counts and times (in milliseconds) of one row.
#[track_caller]
pub fn assert_row(stats: &Stats, calls: u64, activations: u64, busy_ms: u64, self_ms: u64) {
    let row = (
        stats.calls,
        stats.activations,
        stats.busy.as_millis_f64(),
        stats.self_time.as_millis_f64(),
    );
    let expected = (calls, activations, busy_ms as f64, self_ms as f64);
    assert_eq!(row, expected, "(calls, activations, busy ms, self ms)");
}

/// Waits, at most 30 s, for something that another thread does in its own time.
#[track_caller]
pub fn wait_for(mut done: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < until, "waited for 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
