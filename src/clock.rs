//! Where time comes from: the processor's tick counter, or a clock that tests turn by hand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{Nanos, TickScale, WallAnchor};

/// The capture's clock.
///
/// Ticks are what the hot path stores: reading the counter takes half of what `Instant::now` takes. `quanta` reads the
/// TSC where it is invariant (the ARM system counter on aarch64) and falls back to the monotonic clock elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    source: Source,
    scale: TickScale,
    anchor: WallAnchor,
}

#[derive(Debug, Clone)]
enum Source {
    Counter(quanta::Clock),
    Manual(ManualClock),
}

impl Clock {
    /// Starts a clock; its origin is now.
    pub(crate) fn start() -> Clock {
        let counter = quanta::Clock::new();
        let scale = TickScale {
            origin: counter.raw(),
            nanos_per_4g_ticks: counter.delta_as_nanos(0, 1 << 32),
        };
        Clock {
            source: Source::Counter(counter),
            scale,
            anchor: anchor_now(),
        }
    }

    /// Follows a manual clock, whose ticks are nanoseconds.
    pub(crate) fn manual(clock: ManualClock) -> Clock {
        let scale = TickScale {
            origin: clock.read(),
            ..TickScale::nanoseconds()
        };
        Clock {
            source: Source::Manual(clock),
            scale,
            anchor: anchor_now(),
        }
    }

    /// Reads the counter.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        match &self.source {
            Source::Counter(counter) => counter.raw(),
            Source::Manual(clock) => clock.read(),
        }
    }

    /// Returns the CPU time of the calling thread in nanoseconds; `None` where the system does not tell.
    pub(crate) fn thread_cpu(&self) -> Option<u64> {
        match &self.source {
            Source::Counter(_) => thread_cpu(),
            Source::Manual(clock) => Some(clock.thread_cpu()),
        }
    }

    /// Returns the time since the origin.
    pub(crate) fn now(&self) -> Nanos {
        self.scale.at(self.tick())
    }

    /// Whether both count the same ticks.
    #[cfg(feature = "cuda")]
    pub(crate) fn counts_with(&self, other: &Clock) -> bool {
        match (&self.source, &other.source) {
            (Source::Counter(_), Source::Counter(_)) => true,
            (Source::Manual(this), Source::Manual(other)) => Arc::ptr_eq(&this.nanos, &other.nanos),
            _ => false,
        }
    }

    /// Whether somebody moves it by hand.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(_))
    }

    pub(crate) fn scale(&self) -> TickScale {
        self.scale
    }

    pub(crate) fn anchor(&self) -> WallAnchor {
        self.anchor
    }
}

/// Reads `CLOCK_THREAD_CPUTIME_ID`, which takes 260 ns. `getrusage` of the thread is faster and useless: it counts in ticks
/// of the scheduler on many kernels.
#[cfg(unix)]
fn thread_cpu() -> Option<u64> {
    use nix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(Nanos::from(Duration::from(time)).0)
}

#[cfg(not(unix))]
fn thread_cpu() -> Option<u64> {
    None
}

fn anchor_now() -> WallAnchor {
    // Before 1970 only where the machine's clock is unset; then timestamps start at the epoch.
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallAnchor {
        unix_ns: Nanos::from(unix).0,
    }
}

/// A clock that stands still until a test moves it, for exact expectations on durations.
///
/// ```
/// use std::time::Duration;
/// use tracing_cortex::{CortexLayer, ManualClock};
/// use tracing_subscriber::prelude::*;
///
/// let clock = ManualClock::new();
/// let (layer, guard) = CortexLayer::builder().manual_clock(&clock).build()?;
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///     let _span = tracing::info_span!("work").entered();
///     clock.advance(Duration::from_millis(5));
/// });
/// assert_eq!(guard.profile().sites[0].stats.busy.0, 5_000_000);
/// # Ok::<(), tracing_cortex::BuildError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
    /// The CPU time that threads were charged with.
    charged: Arc<Mutex<HashMap<ThreadId, u64>>>,
}

impl ManualClock {
    /// Returns a clock that stands at zero. Clones show the same time.
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves the clock forward and charges the calling thread with that much CPU time, as if it computed.
    pub fn work(&self, by: Duration) {
        self.charge(by);
        self.advance(by);
    }

    /// Charges the calling thread with CPU time, which it spends while another call moves the clock: where several threads
    /// compute at the same time.
    pub fn charge(&self, cpu: Duration) {
        let mut charged = lock(&self.charged);
        *charged.entry(std::thread::current().id()).or_default() += Nanos::from(cpu).0;
    }

    /// Moves the clock forward; the calling thread waits.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(Nanos::from(by).0, Ordering::Relaxed);
    }

    /// Sets the time since the clock's creation; may step back, as broken hardware does.
    pub fn set(&self, to: Duration) {
        self.nanos.store(Nanos::from(to).0, Ordering::Relaxed);
    }

    fn thread_cpu(&self) -> u64 {
        let charged = lock(&self.charged);
        let thread = std::thread::current().id();
        charged.get(&thread).copied().unwrap_or_default()
    }

    fn read(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }
}

/// What threads were charged with stays right if one of them panics in between.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
